//! Whether a manifest makes sense by itself, and fits its network.

use anyhow::{Result, bail, ensure};

use super::{Fit, Format, InputSpec, Manifest, OutputKind, OutputSpec};
use crate::glob::glob;
use crate::model::onnx::data_type;
use crate::model::structure::Structure;

/// The largest stride of YOLOX, of which its input must be a multiple.
const YOLOX_STRIDE: u32 = 32;

impl Manifest {
    /// The format of the outputs that detections are read from; none where the network finds nothing by itself.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        let stated = self.detector.map(|d| d.format);
        stated.or_else(|| self.outputs.iter().any(|o| o.kind == OutputKind::Scores).then_some(Format::Fcos))
    }

    /// Whether the network feeds the anomaly check.
    #[must_use]
    pub fn has_features(&self) -> bool {
        self.outputs.iter().any(|o| o.kind == OutputKind::Features)
    }

    /// The numbers of the classes whose names match one of the patterns (`*` is any text); all where there is none.
    ///
    /// # Errors
    /// A pattern that no class matches.
    pub fn matching(&self, patterns: &[String]) -> Result<Vec<usize>> {
        let names: Vec<&str> = self.classes.iter().map(|c| c.name.as_str()).collect();
        if let Some(pattern) =
            patterns.iter().find(|pattern| *pattern != "*" && !names.iter().any(|name| glob(pattern, name)))
        {
            bail!("no class is called {pattern}; there are {}", names.join(", "));
        }
        let wanted = |name: &str| patterns.is_empty() || patterns.iter().any(|pattern| glob(pattern, name));
        Ok((0..names.len()).filter(|&n| wanted(names[n])).collect())
    }

    /// That a camera which looks for these classes finds something, with or without the anomaly check.
    ///
    /// # Errors
    /// A pattern that no class matches; or none, and no anomaly check.
    pub fn serves(&self, patterns: &[String], anomaly: bool) -> Result<()> {
        ensure!(
            !patterns.is_empty() || (anomaly && self.has_features()),
            "`classes = []` looks for no class, and there is no anomaly check: it would find nothing"
        );
        self.matching(patterns).map(drop)
    }

    pub(in crate::model) fn check(&self) -> Result<()> {
        ensure!(self.schema == "inspect.bundle/1", "schema {:?} is not inspect.bundle/1", self.schema);
        let is_version = self.version.split('.').count() == 3
            && self.version.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        ensure!(is_version, "version {:?} is not of the form 1.2.3", self.version);
        self.input.check()?;
        ensure!(!self.outputs.is_empty(), "outputs is empty: nothing of the network would be used");
        for (n, output) in self.outputs.iter().enumerate() {
            let twice = self.outputs[..n].iter().any(|o| o.name == output.name);
            ensure!(!twice, "output {} is listed twice", output.name);
            if output.kind.is_map() { self.check_map(output)? } else { no_map(output)? }
        }
        self.check_detector()?;
        for class in &self.classes {
            ensure!((0.0..=1.0).contains(&class.threshold), "class {}: threshold must be 0 to 1", class.name);
        }
        self.check_golden()
    }

    fn check_map(&self, output: &OutputSpec) -> Result<()> {
        let (name, channels, stride) = (&output.name, output.channels as usize, output.stride);
        ensure!(stride.is_power_of_two() && stride <= 128, "output {name}: odd stride {stride}");
        ensure!(
            self.input.multiple_of.is_multiple_of(stride),
            "output {name}: its stride {stride} does not divide input.multiple_of"
        );
        let classes = self.classes.len();
        match output.kind {
            OutputKind::Scores => {
                ensure!(channels == classes, "output {name}: {channels} channels for {classes} classes");
            }
            OutputKind::Distances => ensure!(channels == 4, "output {name}: {channels} channels, not 4"),
            _ => ensure!((1..=4096).contains(&channels), "output {name}: {channels} channels"),
        }
        Ok(())
    }

    fn check_detector(&self) -> Result<()> {
        let count = |kind| self.outputs.iter().filter(|o| o.kind == kind).count();
        let Some(format) = self.format() else {
            for kind in [OutputKind::Distances, OutputKind::Rows, OutputKind::Logits, OutputKind::Boxes] {
                ensure!(
                    count(kind) == 0,
                    "there are outputs of kind {kind}, but detector.format says nothing of their form"
                );
            }
            return Ok(());
        };
        let wanted = format.outputs();
        for kind in wanted {
            match count(*kind) {
                0 => bail!("detector.format {format} needs an output of kind {kind}"),
                n if n > 1 && format != Format::Fcos => {
                    bail!("detector.format {format} takes one output of kind {kind}, not {n}")
                }
                _ => {}
            }
        }
        let odd = self.outputs.iter().find(|o| o.kind != OutputKind::Features && !wanted.contains(&o.kind));
        if let Some(OutputSpec { name, kind, .. }) = odd {
            bail!("output {name}: detector.format {format} has no output of kind {kind}");
        }
        ensure!(!self.classes.is_empty(), "a detector needs classes, in the order of the network's scores");
        if format == Format::Fcos {
            let strides = |kind| {
                let mut strides: Vec<_> = self.outputs.iter().filter(|o| o.kind == kind).map(|o| o.stride).collect();
                strides.sort_unstable();
                strides
            };
            ensure!(
                strides(OutputKind::Scores) == strides(OutputKind::Distances),
                "every scores output needs a distances output of the same stride, and the other way round"
            );
        }
        ensure!(
            format != Format::Yolox || self.input.multiple_of.is_multiple_of(YOLOX_STRIDE),
            "detector.format {format} needs an input.multiple_of that {YOLOX_STRIDE} divides"
        );
        if let Some(overlap) = self.detector.and_then(|d| d.overlap) {
            ensure!(overlap > 0.0 && overlap <= 1.0, "detector.overlap must be over 0, to 1; it is {overlap}");
            ensure!(
                format.needs_suppression(),
                "detector.overlap is of no use: boxes of format {format} are not suppressed; leave it out"
            );
        }
        Ok(())
    }

    fn check_golden(&self) -> Result<()> {
        let tolerance = self.golden.tolerance;
        ensure!(tolerance > 0.0 && tolerance <= 0.5, "golden.tolerance must be over 0, to 0.5; it is {tolerance}");
        let (shape, input) = (&self.golden.input.shape, &self.input);
        let sides = |n: &usize| *n > 0 && n.is_multiple_of(input.multiple_of as usize);
        ensure!(
            shape.len() == 4 && shape[..2] == [1, 3] && shape[2..].iter().all(sides),
            "the golden input is {shape:?}, not (1, 3, height, width) in multiples of input.multiple_of"
        );
        ensure!(
            self.elastic.as_ref().is_none_or(|name| self.files.contains_key(name)),
            "the file that elastic names is not listed under files"
        );
        for output in &self.outputs {
            ensure!(self.golden.outputs.contains_key(&output.name), "output {} has no golden vector", output.name);
        }
        Ok(())
    }

    /// Whether inputs and outputs are there, of type float32, and of sizes that the manifest keeps to.
    pub(super) fn check_network(&self, found: &Structure) -> Result<()> {
        let input = &self.input;
        for output in &self.outputs {
            ensure!(
                found.outputs.contains(&output.name),
                "the network has no output called {}; it has {}",
                output.name,
                found.outputs.join(", ")
            );
        }
        let [(name, shape)] = found.inputs.as_slice() else {
            let names: Vec<_> = found.inputs.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "the network must have one input, called {}; it has {}: export it without its postprocessing",
                input.name,
                names.join(", ")
            );
        };
        ensure!(*name == input.name, "the network's input is called {name}, not {}", input.name);
        let used = |name: &str| name == input.name || self.outputs.iter().any(|o| o.name == name);
        if let Some((name, kind)) = found.types.iter().find(|(n, t)| used(n) && *t != data_type::FLOAT) {
            bail!(
                "{name} is {}; inputs and outputs must be float32: export the network without half precision, or with \
                 a cast at its ends",
                type_name(*kind)
            );
        }
        let size = |n: usize| shape.get(n).copied().flatten();
        ensure!(
            shape.len() == 4 && size(0).is_none_or(|n| n == 1) && size(1).is_none_or(|n| n == 3),
            "the network's input {name} is {}, not (1, 3, height, width)",
            sizes(shape)
        );
        let side = i64::from(input.size);
        let fixed = size(2).is_some() || size(3).is_some();
        ensure!(
            !fixed || input.fit != Fit::Aspect,
            "the network's input {name} is fixed at {}: input.fit must be stretch or a letterbox, or export it with open \
             sizes",
            sizes(shape)
        );
        let golden = &self.golden.input.shape;
        for n in [2, 3] {
            let Some(fixed) = size(n) else { continue };
            ensure!(fixed == side, "the network's input {name} is fixed at {}, but input.size is {side}", sizes(shape));
            ensure!(golden[n] as i64 == side, "the golden input is {golden:?}, not of the fixed side {side}");
        }
        Ok(())
    }
}

impl InputSpec {
    fn check(&self) -> Result<()> {
        ensure!((32..=4096).contains(&self.size), "input.size must be 32 to 4096, it is {}", self.size);
        ensure!(
            (1..=128).contains(&self.multiple_of) && self.size.is_multiple_of(self.multiple_of),
            "input.multiple_of must divide input.size"
        );
        ensure!(
            self.std.iter().all(|s| s.is_finite() && *s > 0.0) && self.mean.iter().all(|m| m.is_finite()),
            "input.mean and input.std must be finite, std above 0"
        );
        ensure!(self.upscale.is_none_or(|u| (1.0..=16.0).contains(&u)), "input.upscale must be 1 to 16");
        ensure!(
            self.upscale.is_none() || self.fit == Fit::Aspect,
            "input.upscale is of no use: only pictures of fit aspect are brought in at a size of their own"
        );
        ensure!(self.contrast.is_none_or(|c| (1.0..=128.0).contains(&c)), "input.contrast must be 1 to 128");
        Ok(())
    }
}

fn no_map(output: &OutputSpec) -> Result<()> {
    let OutputSpec { name, kind, stride, channels } = output;
    ensure!(*stride == 0 && *channels == 0, "output {name}: kind {kind} has neither stride nor channels");
    Ok(())
}

/// A shape with `?` for what is open.
fn sizes(shape: &[Option<i64>]) -> String {
    let sizes: Vec<_> = shape.iter().map(|n| n.map_or_else(|| "?".to_owned(), |n| n.to_string())).collect();
    format!("({})", sizes.join(", "))
}

fn type_name(kind: i32) -> String {
    match kind {
        data_type::FLOAT16 => "float16".to_owned(),
        data_type::BFLOAT16 => "bfloat16".to_owned(),
        data_type::DOUBLE => "float64".to_owned(),
        data_type::INT64 => "int64".to_owned(),
        data_type::INT32 => "int32".to_owned(),
        data_type::UINT8 => "uint8".to_owned(),
        data_type::INT8 => "int8".to_owned(),
        other => format!("of ONNX data type {other}"),
    }
}
