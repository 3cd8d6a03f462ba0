//! Shapes that convolutions and pools give.
//!
//! The ranges of kernels, strides and paddings are checked in [`super::attributes`]; here they are only reckoned with.

use super::StructureError;
use super::shapes::{self, Extent};
use super::sizes::Use;

pub(super) fn infer(usage: &Use) -> Result<Extent, StructureError> {
    let operator = usage.node.op_type.as_str();
    let weights = match operator {
        "Conv" | "ConvInteger" | "ConvTranspose" => Some(usage.dims(1)),
        "QLinearConv" => Some(usage.dims(3)),
        _ => None,
    };
    shapes::kernel(usage, weights.flatten())?;
    let Some([batch, channels, spatial @ ..]) = usage.dims(0) else { return Ok(shapes::open(usage)) };
    let channels = match weights {
        None => *channels,
        Some(None) => return Ok(shapes::open(usage)),
        Some(Some(dims)) if operator == "ConvTranspose" => {
            dims.get(1).map_or(1, |dim| dim.saturating_mul(at(usage, "group", 0, 1)))
        }
        Some(Some(dims)) => dims.first().copied().unwrap_or(1),
    };
    let kernel = |axis: usize| {
        let by_weights = weights.flatten().and_then(|dims| dims.get(axis + 2)).copied();
        at(usage, "kernel_shape", axis, by_weights.unwrap_or(1))
    };
    let sides = spatial.iter().enumerate().map(|(axis, size)| {
        let reach = at(usage, "dilations", axis, 1).saturating_mul(kernel(axis).saturating_sub(1)).saturating_add(1);
        if operator == "ConvTranspose" {
            wider(usage, axis, *size, reach)
        } else {
            narrower(usage, axis, *size, reach, spatial.len())
        }
    });
    Ok(Extent::known([*batch, channels].into_iter().chain(sides).collect()))
}

fn at(usage: &Use, name: &str, axis: usize, default: u64) -> u64 {
    let listed = usage.node.ints(name).and_then(|list| list.get(axis)).copied().or_else(|| usage.node.int(name));
    listed.and_then(|value| u64::try_from(value).ok()).unwrap_or(default)
}

fn automatic(usage: &Use) -> bool {
    usage.node.text("auto_pad").is_some_and(|mode| mode.starts_with("SAME"))
}

/// Rounded up, as `ceil_mode` may ask for.
fn narrower(usage: &Use, axis: usize, size: u64, reach: u64, rank: usize) -> u64 {
    let stride = at(usage, "strides", axis, 1).max(1);
    if automatic(usage) {
        return size.div_ceil(stride);
    }
    let padded = size.saturating_add(at(usage, "pads", axis, 0)).saturating_add(at(usage, "pads", axis + rank, 0));
    let steps = padded.saturating_sub(reach);
    let steps = if at(usage, "ceil_mode", 0, 0) > 0 { steps.div_ceil(stride) } else { steps / stride };
    steps.saturating_add(1)
}

/// Paddings make it smaller; they are left out where the mode is automatic.
fn wider(usage: &Use, axis: usize, size: u64, reach: u64) -> u64 {
    let stride = at(usage, "strides", axis, 1);
    let rank = usage.dims(0).map_or(0, |dims| dims.len().saturating_sub(2));
    let fixed = at(usage, "output_shape", axis, 0);
    if fixed > 0 {
        return fixed;
    }
    if automatic(usage) {
        return size.saturating_mul(stride);
    }
    let pads = at(usage, "pads", axis, 0).saturating_add(at(usage, "pads", axis + rank, 0));
    let whole = stride.saturating_mul(size.saturating_sub(1)).saturating_add(reach);
    whole.saturating_add(at(usage, "output_padding", axis, 0)).saturating_sub(pads)
}
