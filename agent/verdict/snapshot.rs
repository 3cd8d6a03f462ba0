//! The picture that goes with an alarm: the frame as captured, with a box around each finding, and a tint where nobody knows
//! what is strange.

use anyhow::Result;

use super::heat::Heat;
use crate::frame::{Image, PixelFormat, jpeg};
use crate::mqtt::payload::{AlarmKind, Finding};

/// A dark rim keeps the line readable on any ground and for any eye.
const RIM: [u8; 3] = [20, 20, 20];
const DEFECT: [u8; 3] = [230, 60, 30];
const ANOMALY: [u8; 3] = [255, 190, 0];

/// Draws heat and findings and encodes to at most `max_bytes`.
///
/// # Errors
/// Sides over 65,535 px.
pub fn render(image: &Image, findings: &[Finding], heat: Option<&Heat>, max_bytes: usize) -> Result<Vec<u8>> {
    let mut picture = to_rgb(image);
    if let Some(heat) = heat {
        heat.tint(&mut picture);
    }
    let thickness = i64::from(image.width.max(image.height) / 320).max(1);
    for finding in findings {
        let colour = if finding.kind == AlarmKind::Anomaly { ANOMALY } else { DEFECT };
        let [x0, y0, x1, y1] = finding.bbox.map(|v| v.round() as i64);
        frame(&mut picture, [x0, y0, x1, y1], 2 * thickness, thickness, RIM);
        frame(&mut picture, [x0, y0, x1, y1], thickness, 0, colour);
    }
    jpeg::encode_within(&picture, max_bytes)
}

fn to_rgb(image: &Image) -> Image {
    let mut pixels = image.pixels.clone();
    match image.format {
        PixelFormat::Rgb8 => {}
        PixelFormat::Bgr8 => pixels.chunks_exact_mut(3).for_each(|p| p.swap(0, 2)),
        PixelFormat::Mono8 => pixels = pixels.iter().flat_map(|&v| [v; 3]).collect(),
    }
    Image { pixels, format: PixelFormat::Rgb8, width: image.width, height: image.height, origin: None, truth: None }
}

/// A rectangle's outline from `outer` pixels outside its box to `inner` pixels outside of it.
fn frame(image: &mut Image, [x0, y0, x1, y1]: [i64; 4], outer: i64, inner: i64, colour: [u8; 3]) {
    let (width, height) = (i64::from(image.width), i64::from(image.height));
    for y in (y0 - outer).max(0)..(y1 + outer).min(height) {
        let edge_row = y < y0 - inner || y >= y1 + inner;
        for x in (x0 - outer).max(0)..(x1 + outer).min(width) {
            if edge_row || x < x0 - inner || x >= x1 + inner {
                let at = 3 * (y * width + x) as usize;
                image.pixels[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;
    use crate::frame::still;

    #[test]
    fn the_box_is_drawn_around_the_finding_and_not_over_it() {
        let image = Image {
            width: 100,
            height: 80,
            format: PixelFormat::Mono8,
            pixels: vec![128; 8000],
            origin: None,
            truth: None,
        };
        let finding = |bbox| Finding {
            kind: AlarmKind::Anomaly,
            class: "unknown".into(),
            severity: Severity::Major,
            score: 0.9,
            bbox,
            look: None,
            appearance: None,
        };
        // One in the middle, and one that reaches over the frame's edge.
        let findings = [finding([40.0, 30.0, 60.0, 50.0]), finding([-20.0, -5.0, 9.0, 500.0])];
        let back = still::decode(&render(&image, &findings, None, 100_000).unwrap(), 10_000).unwrap();
        let pixel = |x: usize, y: usize| &back.pixels[3 * (y * 100 + x)..][..3];
        assert!(pixel(39, 40)[0] > 180 && pixel(39, 40)[2] < 110, "{:?}", pixel(39, 40));
        assert!(pixel(50, 40).iter().all(|v| v.abs_diff(128) < 12), "{:?}", pixel(50, 40));
        assert!(pixel(80, 40).iter().all(|v| v.abs_diff(128) < 12));
    }
}
