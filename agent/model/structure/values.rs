//! Small numbers that make up sizes: shapes, and what models reckon with them.
//!
//! Worked out in `f64`: exact for any size that could be allowed. A value that is not followed is `None`, never a
//! guess: neither an overflow nor a quotient that whole numbers would cut off is followed, since what ONNX Runtime makes
//! of them depends on the type.

use super::shapes::Extent;
use super::sizes::{FOLLOWED, Use, measure};
use crate::model::onnx::{TensorProto, data_type as dt};

/// Results over this may overflow in ONNX Runtime.
const LARGEST: f64 = 2_147_483_647.0;

/// The numbers of a tensor, where they are of a usual type.
#[allow(clippy::cast_precision_loss, reason = "sizes over 2^53 are refused anyway")]
pub(super) fn of(tensor: &TensorProto) -> Option<Vec<f64>> {
    if let Some(values) = tensor.to_i64s() {
        return Some(values.into_iter().map(|value| value as f64).collect());
    }
    Some(tensor.to_f32s()?.into_iter().map(f64::from).collect())
}

/// The numbers of the first output.
pub(super) fn evaluate(usage: &Use, extents: &[Extent]) -> Option<Vec<f64>> {
    let extent = extents.first()?;
    let length = usize::try_from(extent.elements).ok().filter(|length| *length <= FOLLOWED)?;
    let values = match usage.node.op_type.as_str() {
        "Shape" => shape(usage)?,
        "Size" => vec![measure(usage.input(0)?.extent.elements)],
        "Identity" | "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => usage.values(0)?.to_vec(),
        "Cast" => cast(usage)?,
        "Concat" => concat(usage)?,
        "Gather" => gather(usage)?,
        "Slice" => slice(usage)?,
        "ConstantOfShape" => {
            let filling = usage.node.named("value").map_or(Some(0.0), |it| of(it.t.as_deref()?)?.first().copied())?;
            extent.dims.as_ref()?;
            vec![filling; length]
        }
        "Range" => {
            let (start, step) = (*usage.values(0)?.first()?, *usage.values(2)?.first()?);
            let mut next = start - step;
            std::iter::repeat_with(|| {
                next += step;
                next
            })
            .take(length)
            .collect()
        }
        "Where" => {
            let yes =
                binary(usage.values(0)?, usage.values(1)?, |choice, yes| if choice == 0.0 { f64::NAN } else { yes })?;
            let no =
                binary(usage.values(0)?, usage.values(2)?, |choice, no| if choice == 0.0 { no } else { f64::NAN })?;
            binary(&yes, &no, |yes, no| if yes.is_nan() { no } else { yes })?
        }
        "ReduceProd" => vec![usage.values(0)?.iter().product()],
        operator => pairwise(operator, usage)?,
    };
    (values.len() == length).then_some(values)
}

fn pairwise(operator: &str, usage: &Use) -> Option<Vec<f64>> {
    let unary: Option<fn(f64) -> f64> = match operator {
        "Floor" => Some(f64::floor),
        "Ceil" => Some(f64::ceil),
        "Round" => Some(f64::round_ties_even),
        "Neg" => Some(|value| -value),
        "Abs" => Some(f64::abs),
        "Sqrt" => Some(f64::sqrt),
        _ => None,
    };
    if let Some(unary) = unary {
        return Some(usage.values(0)?.iter().map(|value| unary(*value)).collect());
    }
    let pair: fn(f64, f64) -> f64 = match operator {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| {
            let quotient = a / b;
            let cut = quotient.fract() != 0.0 && a.fract() == 0.0 && b.fract() == 0.0;
            if cut { f64::NAN } else { quotient }
        },
        "Max" => f64::max,
        "Min" => f64::min,
        "Equal" => |a, b| f64::from(u8::from((a - b).abs() < 0.5)),
        _ => return None,
    };
    let [_, _] = usage.inputs.as_slice() else { return None };
    let values = binary(usage.values(0)?, usage.values(1)?, pair)?;
    values.iter().all(|value| value.abs() <= LARGEST).then_some(values)
}

fn binary(a: &[f64], b: &[f64], pair: impl Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
    match (a, b) {
        ([a], _) => Some(b.iter().map(|b| pair(*a, *b)).collect()),
        (_, [b]) => Some(a.iter().map(|a| pair(*a, *b)).collect()),
        _ if a.len() == b.len() => Some(a.iter().zip(b).map(|(a, b)| pair(*a, *b)).collect()),
        _ => None,
    }
}

fn shape(usage: &Use) -> Option<Vec<f64>> {
    let dims = usage.dims(0)?;
    let end = |name: &str, default: usize| usage.node.int(name).map_or(default, |at| place(at, dims.len()));
    let (first, last) = (end("start", 0), end("end", dims.len()));
    Some(dims.get(first..last)?.iter().map(|dim| measure(*dim)).collect())
}

/// An index that may count from the end, kept within `0..=length`.
pub(super) fn place(at: i64, length: usize) -> usize {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let at = if at < 0 { at.saturating_add(length) } else { at };
    usize::try_from(at.clamp(0, length)).unwrap_or(0)
}

fn cast(usage: &Use) -> Option<Vec<f64>> {
    let to = usage.node.int("to")?;
    let fractions = [dt::FLOAT, dt::DOUBLE, dt::FLOAT16, dt::BFLOAT16].iter().any(|kind| i64::from(*kind) == to);
    let whole = [dt::INT32, dt::INT64].iter().any(|kind| i64::from(*kind) == to);
    let values = usage.values(0)?;
    match () {
        () if fractions => Some(values.to_vec()),
        () if whole => {
            let values: Vec<f64> = values.iter().map(|value| value.trunc()).collect();
            values.iter().all(|value| value.abs() <= LARGEST).then_some(values)
        }
        // A boolean, or a type that sizes may not fit.
        () if to == i64::from(dt::BOOL) => Some(values.iter().map(|it| f64::from(u8::from(*it != 0.0))).collect()),
        () => None,
    }
}

fn concat(usage: &Use) -> Option<Vec<f64>> {
    let mut all = Vec::new();
    for index in 0..usage.inputs.len() {
        // The order of numbers in a table is another one.
        if usage.dims(index)?.len() > 1 {
            return None;
        }
        all.extend_from_slice(usage.values(index)?);
        if all.len() > FOLLOWED {
            return None;
        }
    }
    Some(all)
}

fn gather(usage: &Use) -> Option<Vec<f64>> {
    let (data, indices) = (usage.values(0)?, usage.values(1)?);
    let pick = |index: &f64| {
        let index = if *index < 0.0 { *index + measure(data.len() as u64) } else { *index };
        data.get(usize::try_from(super::sizes::count(index)).ok()?).copied()
    };
    if usage.dims(0)?.len() == 1 { indices.iter().map(pick).collect() } else { None }
}

fn slice(usage: &Use) -> Option<Vec<f64>> {
    let data = usage.values(0)?;
    let [_] = usage.dims(0)? else { return None };
    let [(_, first, last, step)] = super::shapes::cuts(usage)?[..] else { return None };
    let (first, last) = (place(first, data.len()), place(last, data.len()));
    if step < 1 {
        return None;
    }
    Some(data.get(first..last.max(first))?.iter().step_by(usize::try_from(step).ok()?).copied().collect())
}
