//! `inspectd teach`: a class from a few pictures, offline. It writes a lesson, which one retained message makes known to a
//! whole site.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;

use crate::anomaly::memory::Mark;
use crate::config::{ClassName, Severity};
use crate::durable;
use crate::exit::{Exit, OrExit};
use crate::frame::view::View;
use crate::frame::{Image, still};
use crate::inspector::Inspector;
use crate::inspector::UNKNOWN;
use crate::model::bundle::Bundle;
use crate::model::preprocess::Placement;
use crate::model::{golden, runtime};
use crate::outbox;
use crate::taught::{EXAMPLES, Lesson, Look, SCHEMA, School};

/// Arguments of `teach`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the bundle whose features the gateways use.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// What such a region is called: letters, digits, '.', '-' and '_', with '/' between its parts.
    #[arg(long, value_name = "NAME", value_parser = ClassName::new)]
    class: ClassName,
    /// How bad it is.
    #[arg(long, value_name = "SEVERITY", default_value = "major", value_parser = severity)]
    severity: Severity,
    /// Such a region is fine: no alarm.
    #[arg(long, conflicts_with = "severity")]
    harmless: bool,
    /// Where the lesson goes; the class with '-' for '/', and .lesson.json, where nothing is said.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    out: Option<PathBuf>,
    /// State folder of a gateway that is not running: it knows the class from its next start on.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Pictures, or regions of pictures in pixels.
    #[arg(required = true, value_name = "IMAGE[@x0,y0,x1,y1]")]
    examples: Vec<String>,
}

fn severity(text: &str) -> Result<Severity, String> {
    serde_json::from_value(text.into()).map_err(|_| "there are info, minor, major and critical".to_owned())
}

/// Writes the lesson.
///
/// # Errors
/// A picture, a region or the bundle cannot be used, or the lesson cannot be written.
pub fn run(args: &Args) -> Result<()> {
    if args.class.as_str() == UNKNOWN {
        return Err(anyhow!("{UNKNOWN} is what nobody has named; give it a name with --class")).or_exit(Exit::Usage);
    }
    let count = args.examples.len();
    if count > EXAMPLES {
        return Err(anyhow!("{count} examples are too many; a lesson keeps {EXAMPLES}")).or_exit(Exit::Usage);
    }
    let examples: Vec<(PathBuf, Option<[f32; 4]>)> =
        args.examples.iter().map(|text| example(text)).collect::<Result<_>>().or_exit(Exit::Usage)?;
    let bundle = Bundle::open(&args.bundle).or_exit(Exit::Data)?;
    let features = bundle.manifest.has_features();
    let without = "this bundle gives no features, by which regions could be known again";
    features.then_some(()).context(without).or_exit(Exit::Data)?;
    let mut session =
        runtime::Session::new(&runtime::load(None).or_exit(Exit::Unavailable)?, &bundle).or_exit(Exit::Data)?;
    golden::verify(&bundle, &mut session).or_exit(Exit::Data)?;
    let mark = Mark::of(&golden::features(&bundle, &mut session).or_exit(Exit::Data)?);
    let mut inspector = Inspector::new(session, &bundle);
    let mut looks = Vec::new();
    for (path, bbox) in &examples {
        let seen = look(&mut inspector, path, *bbox).with_context(|| path.display().to_string());
        looks.push(seen.or_exit(Exit::NoInput)?.values().to_vec());
    }
    let lesson = Lesson {
        schema: SCHEMA.into(),
        class: args.class.clone(),
        severity: args.severity,
        harmless: args.harmless,
        examples: looks,
        mark,
        at: Timestamp::now(),
        by: "inspectd teach".into(),
    };
    if let Some(state) = &args.state {
        let _lock = outbox::lock(state).with_context(|| format!("{}", state.display())).or_exit(Exit::CannotCreate)?;
        let school = School::open(state, lesson.mark.clone());
        let (lesson, clash) = school.teach(lesson).or_exit(Exit::CannotCreate)?;
        println!("{}: {} example(s), in force from the next start on", lesson.class, lesson.examples.len());
        if let Some(clash) = clash {
            eprintln!("warning: regions may be taken for {}, which is {:.2} away", clash.class, clash.distance);
        }
        return Ok(());
    }
    let usual = || PathBuf::from(format!("{}.lesson.json", args.class.as_str().replace('/', "-")));
    let out = args.out.clone().unwrap_or_else(usual);
    durable::write(&out, &serde_json::to_vec(&lesson)?).or_exit(Exit::CannotCreate)?;
    println!(
        "{}: {} example(s) of {}. Every gateway of a site learns it by\n  mosquitto_pub -r -q 1 -t \
         inspect/v1/SITE/taught/{} -f {}",
        out.display(),
        lesson.examples.len(),
        lesson.class,
        lesson.class,
        out.display()
    );
    Ok(())
}

/// A path, and what stands behind its last `@` where that is a region.
fn example(text: &str) -> Result<(PathBuf, Option<[f32; 4]>)> {
    let Some((path, region)) = text.rsplit_once('@').filter(|_| !Path::new(text).is_file()) else {
        return Ok((text.into(), None));
    };
    let numbers: Vec<f32> = region.split(',').map_while(|n| n.trim().parse().ok()).collect();
    let bbox =
        <[f32; 4]>::try_from(numbers).ok().filter(|b| b.iter().all(|v| v.is_finite()) && b[2] > b[0] && b[3] > b[1]);
    let bbox = bbox.ok_or_else(|| anyhow!("{text}: write PICTURE@x0,y0,x1,y1 in pixels, x1 over x0 and y1 over y0"))?;
    Ok((path.into(), Some(bbox)))
}

fn look(inspector: &mut Inspector, path: &Path, bbox: Option<[f32; 4]>) -> Result<Look> {
    let image = still::read(path, still::LARGEST).map_err(|e| anyhow!("{e}"))?;
    let placement = inspector.look(&image, &View::default())?;
    let bbox = bbox.unwrap_or([0.0, 0.0, image.width as f32, image.height as f32]);
    Look::of(&inspector.forward.features, within(&image, &placement, bbox)?).context("the network sees nothing there")
}

/// A box of the picture in pixels of the input.
fn within(image: &Image, placement: &Placement, bbox: [f32; 4]) -> Result<[f32; 4]> {
    let (width, height) = (image.width as f32, image.height as f32);
    let inside = bbox[0] < width && bbox[1] < height && bbox[2] > 0.0 && bbox[3] > 0.0;
    ensure!(inside, "the region lies outside the picture of {}x{}", image.width, image.height);
    Ok(placement.to_input(bbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_read() {
        assert_eq!(example("a.png").unwrap(), ("a.png".into(), None));
        assert_eq!(example("a@b.png@1, 2,3.5,4").unwrap(), ("a@b.png".into(), Some([1.0, 2.0, 3.5, 4.0])));
        for wrong in ["a.png@1,2,3", "a.png@3,2,1,4", "a.png@x", "a.png@1,2,3,4,5", "a.png@1,2,nan,4"] {
            assert!(example(wrong).unwrap_err().to_string().contains("PICTURE@x0,y0,x1,y1"), "{wrong}");
        }
    }
}
