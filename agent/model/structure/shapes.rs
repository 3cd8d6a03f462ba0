//! Shapes that operators give.
//!
//! A shape is never smaller than what ONNX Runtime would give for the same inputs, except where an axis or a shape is
//! not known: then it is open and has the elements of the largest input. Shapes that do not fit each other are left to
//! ONNX Runtime; here the larger one counts.

use super::StructureError;
use super::attributes::{WINDOW, wrong};
use super::sizes::{Use, count, measure};
use super::values::place;
use super::windows;

/// Shape, where known, and number of elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Extent {
    pub(super) dims: Option<Vec<u64>>,
    pub(super) elements: u64,
}

impl Extent {
    pub(super) fn known(dims: Vec<u64>) -> Self {
        let elements = dims.iter().fold(1, |all: u64, dim| all.saturating_mul(*dim));
        Self { dims: Some(dims), elements }
    }

    pub(super) fn open(elements: u64) -> Self {
        Self { dims: None, elements }
    }
}

/// Characters of an equation.
const EQUATION: usize = 256;

type Found = Result<Extent, StructureError>;

/// One extent for each output.
pub(super) fn infer(usage: &Use) -> Result<Vec<Extent>, StructureError> {
    let outputs = usage.node.output.len();
    if usage.node.op_type == "Split" {
        return Ok(split(usage, outputs));
    }
    let extent = first(usage)?;
    Ok(vec![extent; outputs])
}

fn first(usage: &Use) -> Found {
    match usage.node.op_type.as_str() {
        "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Div" | "Equal" | "Greater"
        | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Mean" | "Min" | "Mod" | "Mul" | "Or" | "Pow"
        | "PRelu" | "Sub" | "Sum" | "Where" | "Xor" => Ok(broadcast_all(usage)),
        "Conv" | "ConvInteger" | "QLinearConv" | "ConvTranspose" | "AveragePool" | "LpPool" | "MaxPool" => {
            windows::infer(usage)
        }
        "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" => Ok(from_dims(usage, |dims| {
            dims.iter().enumerate().map(|(axis, dim)| if axis < 2 { *dim } else { 1 }).collect()
        })),
        "MatMul" | "MatMulInteger" => Ok(matmul(usage, 0, 1)),
        "QLinearMatMul" => Ok(matmul(usage, 0, 3)),
        "Gemm" => Ok(gemm(usage)),
        "Einsum" => einsum(usage),
        "Concat" => Ok(concat(usage)),
        "Transpose" => Ok(transpose(usage)),
        "Flatten" => Ok(from_dims(usage, |dims| {
            let (before, after) = dims.split_at(place(usage.node.int("axis").unwrap_or(1), dims.len()));
            vec![product(before), product(after)]
        })),
        "Squeeze" | "Unsqueeze" => Ok(squeeze(usage)),
        "Reshape" => reshape(usage),
        "Shape" => Ok(from_dims(usage, |dims| {
            let end = |name: &str, default| usage.node.int(name).map_or(default, |at| place(at, dims.len()));
            vec![end("end", dims.len()).saturating_sub(end("start", 0)) as u64]
        })),
        "Size" => Ok(Extent::known(vec![])),
        "Slice" => Ok(slice(usage)),
        "Gather" => Ok(gather(usage)),
        "GatherND" => Ok(gather_nd(usage)),
        "GatherElements" => Ok(like(usage, 1)),
        "TopK" => top_k(usage),
        "NonZero" => {
            let rank = usage.dims(0).map_or(1, |dims| dims.len().max(1) as u64);
            Ok(Extent::known(vec![rank, like(usage, 0).elements]))
        }
        "NonMaxSuppression" => Ok(Extent::known(vec![like(usage, 1).elements, 3])),
        "ArgMax" | "ArgMin" => Ok(reduce(usage, Some(vec![usage.node.int("axis").unwrap_or(0)]))),
        "Expand" | "Tile" | "ConstantOfShape" | "Range" | "Resize" | "Upsample" | "Pad" | "OneHot" | "DepthToSpace"
        | "SpaceToDepth" | "GridSample" | "RoiAlign" => super::growth::infer(usage),
        operator if operator.starts_with("Reduce") => Ok(reduce(usage, list(usage, "axes", 1))),
        _ => Ok(like(usage, 0)),
    }
}

pub(super) fn like(usage: &Use, index: usize) -> Extent {
    usage.input(index).map_or(Extent::open(1), |fact| fact.extent.clone())
}

/// Open, with the elements of the largest input.
pub(super) fn open(usage: &Use) -> Extent {
    Extent::open(usage.inputs.iter().flatten().map(|fact| fact.extent.elements).max().unwrap_or(1))
}

fn from_dims(usage: &Use, make: impl FnOnce(&[u64]) -> Vec<u64>) -> Extent {
    usage.dims(0).map_or_else(|| open(usage), |dims| Extent::known(make(dims)))
}

fn product(dims: &[u64]) -> u64 {
    dims.iter().fold(1, |all: u64, dim| all.saturating_mul(*dim))
}

pub(super) fn broadcast(a: &[u64], b: &[u64]) -> Vec<u64> {
    let rank = a.len().max(b.len());
    let at = |dims: &[u64], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    (0..rank).map(|axis| at(a, axis).max(at(b, axis))).collect()
}

fn broadcast_all(usage: &Use) -> Extent {
    let mut all = Vec::new();
    for fact in usage.inputs.iter().flatten() {
        let Some(dims) = &fact.extent.dims else { return open(usage) };
        all = broadcast(&all, dims);
    }
    Extent::known(all)
}

fn matmul(usage: &Use, left: usize, right: usize) -> Extent {
    let (Some(a), Some(b)) = (usage.dims(left), usage.dims(right)) else { return open(usage) };
    let (rows, batch_a) = match a {
        [batch @ .., rows, _] => (Some(*rows), batch),
        _ => (None, [].as_slice()),
    };
    let (columns, batch_b) = match b {
        [batch @ .., _, columns] => (Some(*columns), batch),
        _ => (None, [].as_slice()),
    };
    let mut dims = broadcast(batch_a, batch_b);
    dims.extend(rows.into_iter().chain(columns));
    Extent::known(dims)
}

fn gemm(usage: &Use) -> Extent {
    let (Some([a, b]), Some([c, d])) = (usage.dims(0), usage.dims(1)) else { return open(usage) };
    let flag = |name: &str| usage.node.int(name).unwrap_or(0) != 0;
    Extent::known(vec![if flag("transA") { *b } else { *a }, if flag("transB") { *c } else { *d }])
}

/// An ellipsis is refused: what it stands for takes more rules than it is worth.
fn einsum(usage: &Use) -> Found {
    let unknown = || wrong(usage.node, "equation", "is not understood; an explicit output and no \"...\" is needed");
    let equation = usage.node.text("equation").filter(|text| text.len() <= EQUATION).ok_or_else(unknown)?;
    let equation: String = equation.split_whitespace().collect();
    let (terms, output) = equation.split_once("->").ok_or_else(unknown)?;
    if !equation.chars().all(|it| it.is_ascii_alphabetic() || ",->".contains(it)) {
        return Err(unknown());
    }
    let mut sizes = [1_u64; 128];
    for (index, term) in terms.split(',').enumerate() {
        let Some(dims) = usage.dims(index) else { return Ok(open(usage)) };
        if dims.len() != term.len() {
            return Err(unknown());
        }
        for (letter, dim) in term.bytes().zip(dims) {
            let size = sizes.get_mut(usize::from(letter)).ok_or_else(unknown)?;
            *size = (*size).max(*dim);
        }
    }
    Ok(Extent::known(output.bytes().filter_map(|letter| sizes.get(usize::from(letter)).copied()).collect()))
}

fn concat(usage: &Use) -> Extent {
    let axis = usage.node.int("axis").unwrap_or(1);
    let elements = usage.inputs.iter().flatten().fold(0, |all: u64, fact| all.saturating_add(fact.extent.elements));
    let Some(mut all) = usage.dims(0).map(<[u64]>::to_vec) else { return Extent::open(elements) };
    let axis = place(axis, all.len());
    for index in 1..usage.inputs.len() {
        let Some(dims) = usage.dims(index) else { return Extent::open(elements) };
        for (at, (size, dim)) in all.iter_mut().zip(dims).enumerate() {
            *size = if at == axis { size.saturating_add(*dim) } else { (*size).max(*dim) };
        }
    }
    Extent::known(all)
}

fn transpose(usage: &Use) -> Extent {
    from_dims(usage, |dims| match usage.node.ints("perm") {
        Some(order) if order.len() == dims.len() => order
            .iter()
            .map(|axis| usize::try_from(*axis).ok().and_then(|axis| dims.get(axis)).map_or(1, |it| *it))
            .collect(),
        _ => dims.iter().rev().copied().collect(),
    })
}

/// Whole numbers from an attribute or, in later operator sets, from an input.
#[allow(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
pub(super) fn list(usage: &Use, name: &str, index: usize) -> Option<Vec<i64>> {
    match usage.node.ints(name) {
        Some(list) => Some(list.to_vec()),
        None => usage.values(index).map(|values| values.iter().map(|value| *value as i64).collect()),
    }
}

fn squeeze(usage: &Use) -> Extent {
    let elements = like(usage, 0).elements;
    let Some(dims) = usage.dims(0) else { return Extent::open(elements) };
    let Some(axes) = list(usage, "axes", 1) else {
        let squeezed = usage.node.op_type == "Squeeze" && usage.inputs.len() < 2;
        let without_ones = || Extent::known(dims.iter().filter(|dim| **dim != 1).copied().collect());
        return if squeezed { without_ones() } else { Extent::open(elements) };
    };
    let grows = usage.node.op_type == "Unsqueeze";
    let rank = if grows { dims.len() + axes.len() } else { dims.len() };
    let axes: Vec<usize> = axes.iter().map(|axis| place(*axis, rank)).collect();
    if !grows {
        let kept = dims.iter().enumerate().filter(|(axis, dim)| !axes.contains(axis) || **dim > 1);
        return Extent::known(kept.map(|(_, dim)| *dim).collect());
    }
    let mut rest = dims.iter().copied();
    let shape = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { rest.next().unwrap_or(1) });
    Extent::known(shape.collect())
}

fn reshape(usage: &Use) -> Found {
    let input = like(usage, 0);
    let Some(target) = list(usage, "shape", 1) else { return Ok(Extent::open(input.elements)) };
    if target.iter().any(|dim| *dim < -1) || target.iter().filter(|dim| **dim == -1).count() > 1 {
        // With the sizes of a real picture it may be possible.
        if !usage.fixed(1) {
            return Ok(Extent::open(input.elements));
        }
        return Err(usage.error(format!("has the impossible shape {:?}", &target[..target.len().min(8)])));
    }
    let zero_keeps = usage.node.int("allowzero").unwrap_or(0) == 0;
    let mut dims = Vec::with_capacity(target.len());
    for (axis, dim) in target.iter().enumerate() {
        let kept = input.dims.as_ref().and_then(|dims| dims.get(axis)).copied();
        match (*dim, kept) {
            (0, None) if zero_keeps => return Ok(Extent::open(input.elements)),
            (0, Some(kept)) if zero_keeps => dims.push(kept),
            (dim, _) => dims.push(u64::try_from(dim).unwrap_or(1)),
        }
    }
    if let Some(open) = target.iter().position(|dim| *dim == -1) {
        dims[open] = input.elements.div_ceil(product(&dims).max(1)).max(1);
    }
    Ok(Extent::known(dims))
}

/// Axis, start, end and step of each cut.
pub(super) fn cuts(usage: &Use) -> Option<Vec<(usize, i64, i64, i64)>> {
    let rank = usage.dims(0)?.len();
    let (starts, ends) = (list(usage, "starts", 1)?, list(usage, "ends", 2)?);
    let optional = |name: &str, index: usize, default: Vec<i64>| match usage.input(index) {
        Some(_) => list(usage, name, index),
        None => Some(usage.node.ints(name).map_or(default, <[i64]>::to_vec)),
    };
    let axes = optional("axes", 3, (0..i64::try_from(starts.len()).ok()?).collect())?;
    let steps = optional("steps", 4, vec![1; starts.len()])?;
    if [ends.len(), axes.len(), steps.len()].iter().any(|length| *length != starts.len()) {
        return None;
    }
    let cuts = starts.iter().zip(&ends).zip(&axes).zip(&steps);
    Some(cuts.map(|(((start, end), axis), step)| (place(*axis, rank), *start, *end, *step)).collect())
}

fn slice(usage: &Use) -> Extent {
    let (Some(dims), Some(cuts)) = (usage.dims(0), cuts(usage)) else { return like(usage, 0) };
    let mut dims = dims.to_vec();
    for (axis, start, end, step) in cuts {
        let Some(dim) = dims.get_mut(axis) else { continue };
        // Steps backwards keep the whole axis: the larger one counts.
        if let (Ok(step @ 1..), Ok(length)) = (u64::try_from(step), usize::try_from(*dim)) {
            *dim = (place(end, length).saturating_sub(place(start, length)) as u64).div_ceil(step);
        }
    }
    Extent::known(dims)
}

fn gather(usage: &Use) -> Extent {
    let (Some(data), Some(indices)) = (usage.dims(0), usage.dims(1)) else { return open(usage) };
    let axis = place(usage.node.int("axis").unwrap_or(0), data.len());
    let after = data.get(axis + 1..).unwrap_or_default();
    Extent::known([&data[..axis], indices, after].concat())
}

fn gather_nd(usage: &Use) -> Extent {
    let (Some(data), Some([indices @ .., last])) = (usage.dims(0), usage.dims(1)) else { return open(usage) };
    let batch = place(usage.node.int("batch_dims").unwrap_or(0), data.len());
    let skipped = usize::try_from(*last).unwrap_or(usize::MAX).saturating_add(batch);
    Extent::known([indices, data.get(skipped..).unwrap_or_default()].concat())
}

fn top_k(usage: &Use) -> Found {
    let Some(mut dims) = usage.dims(0).map(<[u64]>::to_vec) else { return Ok(open(usage)) };
    let axis = place(usage.node.int("axis").unwrap_or(-1), dims.len());
    let k = match usage.node.int("k") {
        Some(k) => Some(u64::try_from(k).map_err(|_| wrong(usage.node, "k", "is negative"))?),
        None => usage.values(1).and_then(|values| values.first()).map(|value| count(*value)),
    };
    if let (Some(k), Some(dim)) = (k, dims.get_mut(axis)) {
        *dim = (*dim).min(k);
    }
    Ok(Extent::known(dims))
}

fn reduce(usage: &Use, axes: Option<Vec<i64>>) -> Extent {
    let Some(dims) = usage.dims(0) else { return Extent::open(like(usage, 0).elements) };
    let keeps = usage.node.int("keepdims").unwrap_or(1) != 0;
    let unknown = axes.is_none() && usage.inputs.len() > 1 && usage.input(1).is_some();
    let unchanged = axes.as_ref().is_none_or(Vec::is_empty) && usage.node.int("noop_with_empty_axes").unwrap_or(0) != 0;
    if unknown || unchanged {
        return if unchanged || keeps { like(usage, 0) } else { Extent::open(product(dims)) };
    }
    let axes = axes.filter(|axes| !axes.is_empty());
    let axes = axes.map(|axes| axes.iter().map(|axis| place(*axis, dims.len())).collect::<Vec<_>>());
    let gone = |axis: &usize| axes.as_ref().is_none_or(|axes| axes.contains(axis));
    let shape = dims.iter().enumerate().filter(|(axis, _)| keeps || !gone(axis));
    Extent::known(shape.map(|(axis, dim)| if gone(&axis) { 1 } else { *dim }).collect())
}

fn split(usage: &Use, outputs: usize) -> Vec<Extent> {
    let Some(dims) = usage.dims(0) else { return vec![open(usage); outputs] };
    let axis = place(usage.node.int("axis").unwrap_or(0), dims.len());
    let parts = list(usage, "split", 1);
    let sized = parts.is_some() || usage.input(1).is_none();
    let part = |output: usize| {
        let mut dims = dims.to_vec();
        let Some(dim) = dims.get_mut(axis).filter(|_| sized) else { return Extent::known(dims) };
        let given = parts.as_ref().and_then(|parts| parts.get(output)).and_then(|part| u64::try_from(*part).ok());
        *dim = given.map_or(dim.div_ceil((outputs as u64).max(1)), |given| given.min(*dim));
        Extent::known(dims)
    };
    (0..outputs).map(part).collect()
}

/// Refuses a kernel that is larger than any window may be.
pub(super) fn kernel(usage: &Use, weights: Option<&[u64]>) -> Result<(), StructureError> {
    let sides = weights.and_then(|dims| dims.get(2..)).unwrap_or_default();
    match sides.iter().find(|side| **side > WINDOW.unsigned_abs()) {
        Some(side) => Err(wrong(usage.node, "kernel_shape", format!("has the value {side} by its weights"))),
        None => Ok(()),
    }
}

/// A size times a scale, rounded down.
pub(super) fn scaled(size: u64, scale: f64) -> u64 {
    count(measure(size) * scale)
}
