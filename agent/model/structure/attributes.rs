//! Attributes of nodes: of one kind, given once, in a sane range.
//!
//! Whether an operator knows an attribute of that name is left to ONNX Runtime, which checks it against its schemas.

use std::collections::HashSet;

use super::{StructureError, short, tensors};
use crate::model::onnx::{AttributeProto, NodeProto, attribute_type as at};

/// Kernels, strides, dilations and paddings of windows end here.
pub(super) const WINDOW: i64 = 64;
/// The largest rank that anything may have.
pub(super) const RANK: usize = 16;
const GROUPS: i64 = 65_536;
const ROI_SIDE: i64 = 1024;
/// A `Constant` may list its values in the attribute.
const LIST: usize = 1 << 20;

/// Refuses attributes that cannot be right.
pub(super) fn check(node: &NodeProto) -> Result<(), StructureError> {
    let mut names = HashSet::new();
    for attribute in &node.attribute {
        if !names.insert(attribute.name.as_str()) {
            return Err(wrong(node, &attribute.name, "is given twice"));
        }
        kind(node, attribute)?;
        range(node, attribute)?;
    }
    Ok(())
}

pub(super) fn wrong(node: &NodeProto, attribute: &str, why: impl Into<String>) -> StructureError {
    StructureError::Attribute {
        operator: short(&node.op_type),
        node: short(&node.name),
        attribute: short(attribute),
        why: why.into(),
    }
}

/// One member may be filled, and it must be the one that `type` says: readers choose by either.
fn kind(node: &NodeProto, it: &AttributeProto) -> Result<(), StructureError> {
    if it.g.is_some() || !it.graphs.is_empty() {
        return Err(wrong(node, &it.name, "is a subgraph, which is not allowed"));
    }
    if it.sparse_tensor.is_some() || !it.sparse_tensors.is_empty() {
        return Err(wrong(node, &it.name, "is a sparse tensor, which is not allowed"));
    }
    if !it.ref_attr_name.is_empty() {
        return Err(wrong(node, &it.name, "refers to an attribute of a function"));
    }
    if !it.strings.is_empty() || !it.tensors.is_empty() || it.tp.is_some() || !it.type_protos.is_empty() {
        return Err(wrong(node, &it.name, "is of a kind that no allowed operator takes"));
    }
    let filled = [
        (it.f.is_some_and(|value| value != 0.0), at::FLOAT),
        (it.i.is_some_and(|value| value != 0), at::INT),
        (it.s.as_ref().is_some_and(|value| !value.is_empty()), at::STRING),
        (it.t.is_some(), at::TENSOR),
        (!it.floats.is_empty(), at::FLOATS),
        (!it.ints.is_empty(), at::INTS),
    ];
    let known = filled.iter().any(|(_, kind)| *kind == it.r#type);
    if !known || filled.iter().any(|(filled, kind)| *filled && *kind != it.r#type) {
        return Err(wrong(node, &it.name, format!("is not of the type that it gives ({})", it.r#type)));
    }
    if it.r#type == at::TENSOR && it.t.is_none() {
        return Err(wrong(node, &it.name, "has no tensor"));
    }
    if node.op_type == "Constant" && it.name.starts_with("value_string") {
        return Err(wrong(node, &it.name, "is a string, which is not allowed"));
    }
    Ok(())
}

fn range(node: &NodeProto, it: &AttributeProto) -> Result<(), StructureError> {
    let list = if node.op_type == "Constant" { LIST } else { 2 * RANK };
    // Split names its parts one by one, and each of them is an output of the node.
    if it.ints.len().max(it.floats.len()) > list.max(node.output.len()) {
        return Err(wrong(node, &it.name, "has too many values"));
    }
    // Window operators alone: Pad has paddings of its own, which count by the size that they give.
    let paddings = if node.op_type == "Pad" { i64::MIN..=i64::MAX } else { 0..=WINDOW };
    let (values, allowed) = match it.name.as_str() {
        "kernel_shape" | "strides" | "dilations" => (it.ints.as_slice(), 1..=WINDOW),
        "pads" => (it.ints.as_slice(), paddings),
        "output_padding" => (it.ints.as_slice(), 0..=WINDOW),
        "output_shape" => (it.ints.as_slice(), 1..=i64::from(u32::MAX)),
        "blocksize" => (it.i.as_slice(), 1..=WINDOW),
        "size" if node.op_type == "LRN" => (it.i.as_slice(), 1..=GROUPS),
        "group" | "num_groups" | "num_outputs" => (it.i.as_slice(), 1..=GROUPS),
        "output_height" | "output_width" => (it.i.as_slice(), 1..=ROI_SIDE),
        "sampling_ratio" => (it.i.as_slice(), 0..=WINDOW),
        "to" | "dtype" | "output_dtype" | "stash_type" => {
            // 0 is "as it is" for QuantizeLinear's output_dtype.
            let kind = i32::try_from(it.i()).ok().filter(|kind| *kind == 0 || tensors::is_allowed(*kind));
            return kind.map(|_| ()).ok_or_else(|| wrong(node, &it.name, format!("names the data type {}", it.i())));
        }
        _ => return Ok(()),
    };
    match values.iter().find(|value| !allowed.contains(*value)) {
        Some(value) => {
            let why = format!("has the value {value}, allowed are {} to {}", allowed.start(), allowed.end());
            Err(wrong(node, &it.name, why))
        }
        None => Ok(()),
    }
}
