//! Initializers and the tensors of attributes: as much data as the shape says, in one place, of a plain type.
//!
//! The numbers themselves are not looked at.

use super::attributes::RANK;
use super::{Limits, StructureError, short};
use crate::model::onnx::{GraphProto, TensorProto, data_type as dt, tensor};

/// Whether values of this type may appear: numbers and booleans, no strings, no complex numbers.
pub(super) fn is_allowed(data_type: i32) -> bool {
    tensor::bits(data_type).is_some()
}

/// Checks every tensor and counts their elements.
pub(super) fn check(graph: &GraphProto, limits: &Limits) -> Result<u64, StructureError> {
    // A few bytes of a sparse tensor stand for a dense one of any size.
    if !graph.sparse_initializer.is_empty() {
        return Err(StructureError::Forbidden { what: "sparse initializers".to_owned() });
    }
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let in_attributes = attributes.clone().filter_map(|attribute| attribute.t.as_deref());
    let lists: usize = attributes.map(|attribute| attribute.ints.len() + attribute.floats.len()).sum();
    let (mut parameters, mut bytes) = (0_u64, (lists as u64).saturating_mul(8));
    for tensor in graph.initializer.iter().chain(in_attributes) {
        let elements = one(tensor, limits)?;
        parameters = parameters.saturating_add(elements);
        bytes = bytes.saturating_add(bytes_of(tensor.data_type, elements).unwrap_or(u64::MAX));
    }
    if bytes > limits.bytes {
        return Err(StructureError::Weights { limit: limits.bytes });
    }
    Ok(parameters)
}

fn one(tensor: &TensorProto, limits: &Limits) -> Result<u64, StructureError> {
    let wrong = |why: String| StructureError::Tensor { tensor: short(&tensor.name), why };
    if tensor.data_location.unwrap_or(0) != 0 || !tensor.external_data.is_empty() {
        return Err(StructureError::ExternalData { tensor: short(&tensor.name) });
    }
    if tensor.segment.is_some() {
        return Err(wrong("is a part of a larger tensor".to_owned()));
    }
    if !is_allowed(tensor.data_type) {
        return Err(wrong(format!("has the data type {}, which is no plain number", tensor.data_type)));
    }
    if tensor.dims.len() > RANK {
        return Err(wrong(format!("has {} dimensions, allowed are {RANK}", tensor.dims.len())));
    }
    let elements = tensor.elements().ok_or_else(|| wrong("has a negative or impossibly large dimension".to_owned()))?;
    if elements > limits.elements {
        return Err(wrong(format!("has {elements} elements, allowed are {}", limits.elements)));
    }
    let stored = [
        tensor.float_data.len(),
        tensor.int32_data.len(),
        tensor.int64_data.len(),
        tensor.double_data.len(),
        tensor.uint64_data.len(),
    ];
    let typed: u64 = stored.iter().map(|length| *length as u64).sum();
    if !tensor.string_data.is_empty() || (tensor.raw_data.is_some() && typed > 0) {
        return Err(wrong("has data in more than one place".to_owned()));
    }
    let (found, needed) = match &tensor.raw_data {
        Some(raw) => (raw.len() as u64, bytes_of(tensor.data_type, elements)),
        None => (stored[member(tensor.data_type)] as u64, Some(entries_of(tensor.data_type, elements))),
    };
    if Some(found) != needed || (tensor.raw_data.is_none() && typed != found) {
        return Err(wrong(format!("has data of another length than its shape {:?} says", tensor.dims)));
    }
    Ok(elements)
}

/// Place in the list of typed members.
fn member(data_type: i32) -> usize {
    match data_type {
        dt::FLOAT => 0,
        dt::INT64 => 2,
        dt::DOUBLE => 3,
        dt::UINT32 | dt::UINT64 => 4,
        _ => 1,
    }
}

/// Two values of four bits share a byte, or an entry.
fn entries_of(data_type: i32, elements: u64) -> u64 {
    if tensor::bits(data_type) == Some(4) { elements.div_ceil(2) } else { elements }
}

fn bytes_of(data_type: i32, elements: u64) -> Option<u64> {
    let bits = tensor::bits(data_type)?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}
