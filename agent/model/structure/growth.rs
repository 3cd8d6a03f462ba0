//! Shapes of operators that are told how large to become: the ones that make bombs of a few bytes.
//!
//! The number that tells must be known or come from a shape, see [`Use::measures`].

use super::StructureError;
use super::attributes::wrong;
use super::shapes::{Extent, broadcast, like, list, open, scaled};
use super::sizes::{Use, count, measure};
use super::values::place;

type Found = Result<Extent, StructureError>;

pub(super) fn infer(usage: &Use) -> Found {
    match usage.node.op_type.as_str() {
        "Expand" => Ok(match (usage.counts(1)?, usage.dims(0)) {
            (Some(shape), Some(dims)) => Extent::known(broadcast(dims, &shape)),
            (Some(shape), None) => {
                let asked = Extent::known(shape).elements;
                Extent::open(asked.max(like(usage, 0).elements))
            }
            (None, _) => open(usage),
        }),
        "Tile" => tile(usage),
        "ConstantOfShape" => Ok(usage.counts(0)?.map_or_else(|| open(usage), Extent::known)),
        "Range" => range(usage),
        "OneHot" => one_hot(usage),
        "Pad" => pad(usage),
        "Resize" | "Upsample" => resize(usage),
        "DepthToSpace" | "SpaceToDepth" => Ok(blocks(usage)),
        "GridSample" => {
            let (Some([batch, channels, ..]), Some([_, grid @ .., _])) = (usage.dims(0), usage.dims(1)) else {
                return Ok(open(usage));
            };
            Ok(Extent::known([&[*batch, *channels], grid].concat()))
        }
        "RoiAlign" => {
            let side = |name: &str| usage.node.int(name).and_then(|side| u64::try_from(side).ok()).unwrap_or(1);
            let regions = usage.dims(1).and_then(|dims| dims.first()).copied().unwrap_or(1);
            let channels = usage.dims(0).and_then(|dims| dims.get(1)).copied().unwrap_or(1);
            Ok(Extent::known(vec![regions, channels, side("output_height"), side("output_width")]))
        }
        _ => Ok(like(usage, 0)),
    }
}

fn times(extent: &Extent, factors: &[f64]) -> Extent {
    match &extent.dims {
        Some(dims) if dims.len() == factors.len() => {
            Extent::known(dims.iter().zip(factors).map(|(dim, factor)| scaled(*dim, *factor)).collect())
        }
        _ => Extent::open(factors.iter().fold(extent.elements, |all, factor| scaled(all, factor.max(1.0)))),
    }
}

fn tile(usage: &Use) -> Found {
    let Some(repeats) = usage.counts(1)? else { return Ok(open(usage)) };
    Ok(times(&like(usage, 0), &repeats.iter().map(|count| measure(*count)).collect::<Vec<_>>()))
}

fn range(usage: &Use) -> Found {
    let mut numbers = [0.0; 3];
    for (index, number) in numbers.iter_mut().enumerate() {
        match usage.measures(index)? {
            Some([value]) => *number = *value,
            Some(_) => return Err(usage.error("needs single numbers")),
            None => return Ok(open(usage)),
        }
    }
    let [start, limit, step] = numbers;
    if step == 0.0 {
        return Err(usage.error("has a step of zero"));
    }
    Ok(Extent::known(vec![count(((limit - start) / step).ceil())]))
}

fn one_hot(usage: &Use) -> Found {
    let depth = match usage.counts(1)?.as_deref() {
        Some([depth]) => *depth,
        Some(_) => return Err(usage.error("needs one depth")),
        None => 1,
    };
    let Some(dims) = usage.dims(0) else {
        return Ok(Extent::open(like(usage, 0).elements.saturating_mul(depth)));
    };
    let mut dims = dims.to_vec();
    dims.insert(place(usage.node.int("axis").unwrap_or(-1), dims.len() + 1).min(dims.len()), depth);
    Ok(Extent::known(dims))
}

fn pad(usage: &Use) -> Found {
    let pads = match usage.node.ints("pads").or_else(|| usage.node.ints("paddings")) {
        Some(pads) => pads.to_vec(),
        None if usage.measures(1)?.is_none() => return Ok(open(usage)),
        None => list(usage, "pads", 1).unwrap_or_default(),
    };
    let largest = pads.iter().copied().max().unwrap_or(0);
    let Some(mut dims) = usage.dims(0).map(<[u64]>::to_vec) else {
        return Ok(Extent::open(like(usage, 0).elements.saturating_mul(u64::try_from(largest).unwrap_or(0).max(1))));
    };
    let axes = match usage.input(3) {
        Some(_) => list(usage, "axes", 3).ok_or_else(|| usage.error("has axes that are not fixed"))?,
        None => (0..i64::try_from(dims.len()).unwrap_or(0)).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(usage.error("has paddings that do not fit the axes"));
    }
    for (at, axis) in axes.iter().enumerate() {
        let place = place(*axis, dims.len());
        let Some(dim) = dims.get_mut(place) else { return Err(usage.error("has an axis that is not there")) };
        *dim = dim.saturating_add_signed(pads[at]).saturating_add_signed(pads[at + axes.len()]);
    }
    Ok(Extent::known(dims))
}

/// Scales are the second input of the oldest `Resize` and of `Upsample`, the third from operator set 11.
fn resize(usage: &Use) -> Found {
    let input = like(usage, 0);
    let listed =
        usage.node.named("scales").map(|it| it.floats.iter().map(|scale| f64::from(*scale)).collect::<Vec<_>>());
    let at = if usage.node.op_type == "Upsample" || usage.opset < 11 { 1 } else { 2 };
    // An empty tensor of scales is the usual way to leave them out.
    let given = usage.input(at).filter(|fact| fact.values.as_ref().is_none_or(|values| !values.is_empty()));
    let (scales, sizes) = match (listed, given) {
        (Some(scales), _) => (Some(scales), None),
        (None, Some(_)) => (usage.measures(at)?.map(<[f64]>::to_vec), None),
        (None, None) => (None, usage.counts(3)?),
    };
    let Some(rank) = input.dims.as_ref().map(Vec::len) else {
        let asked = sizes.map_or(1, |sizes| Extent::known(sizes).elements);
        return Ok(Extent::open(times(&input, &checked(usage, scales.unwrap_or_default())?).elements.max(asked)));
    };
    let axes = match usage.node.ints("axes") {
        Some(axes) => axes.iter().map(|axis| place(*axis, rank)).collect(),
        None => (0..rank).collect::<Vec<_>>(),
    };
    if let Some(scales) = scales {
        let scales = checked(usage, scales)?;
        let mut factors = vec![1.0; rank];
        for (axis, scale) in axes.iter().zip(&scales) {
            *factors.get_mut(*axis).ok_or_else(|| usage.error("has an axis that is not there"))? = *scale;
        }
        return Ok(times(&input, &factors));
    }
    let (Some(mut dims), Some(sizes)) = (input.dims, sizes) else { return Ok(open(usage)) };
    // Other policies give all axes one scale. The largest is at least as large as theirs.
    let stretches = usage.node.text("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch");
    let mut largest = 0.0_f64;
    for (axis, size) in axes.iter().zip(&sizes) {
        let dim = dims.get_mut(*axis).ok_or_else(|| usage.error("has an axis that is not there"))?;
        largest = largest.max(measure(*size) / measure((*dim).max(1)));
        if stretches {
            *dim = *size;
        }
    }
    if !stretches {
        for axis in &axes {
            dims[*axis] = scaled(dims[*axis], largest).saturating_add(1);
        }
    }
    Ok(Extent::known(dims))
}

fn checked(usage: &Use, scales: Vec<f64>) -> Result<Vec<f64>, StructureError> {
    match scales.iter().find(|scale| !scale.is_finite() || **scale <= 0.0) {
        Some(scale) => Err(wrong(usage.node, "scales", format!("has the value {scale}"))),
        None => Ok(scales),
    }
}

fn blocks(usage: &Use) -> Extent {
    let block = usage.node.int("blocksize").and_then(|block| u64::try_from(block).ok()).unwrap_or(1).max(1);
    let area = block.saturating_mul(block);
    match usage.dims(0) {
        Some([batch, depth, height, width]) if usage.node.op_type == "DepthToSpace" => {
            Extent::known(vec![*batch, depth.div_ceil(area), height.saturating_mul(block), width.saturating_mul(block)])
        }
        Some([batch, depth, height, width]) => {
            Extent::known(vec![*batch, depth.saturating_mul(area), height.div_ceil(block), width.div_ceil(block)])
        }
        _ => open(usage),
    }
}
