//! Names of a graph: inputs, outputs, and nodes in topological order.
//!
//! A name is given once and used after it was given, so there are no circles. Shapes are judged by their own numbers
//! only; [`super::sizes`] works out what becomes of them.

use std::collections::HashSet;

use super::attributes::RANK;
use super::{Limits, Shape, StructureError, short, tensors};
use crate::model::onnx::{DimensionValue, GraphProto, TensorShapeProto, TypeValue, ValueInfoProto, tensor};

/// Names of inputs and outputs go to logs and configuration.
const NAME: usize = 256;

/// Refuses graphs of so many names that looking at them takes much memory. Few nodes may have many outputs.
pub(super) fn counts(graph: &GraphProto, limits: &Limits) -> Result<(), StructureError> {
    let (values, uses) = (limits.nodes.saturating_mul(4), limits.nodes.saturating_mul(16));
    let counts = [
        ("initializers", graph.initializer.len(), values),
        ("inputs", graph.input.len(), values),
        ("outputs", graph.output.len(), values),
        ("typed values", graph.value_info.len(), values),
        ("outputs of nodes", graph.node.iter().map(|node| node.output.len()).sum(), values),
        ("inputs of nodes", graph.node.iter().map(|node| node.input.len()).sum(), uses),
    ];
    match counts.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(StructureError::Values { what, found, limit }),
        None => Ok(()),
    }
}

/// Inputs that the caller must give: those with an initializer have a value already.
pub(super) fn inputs(graph: &GraphProto, limits: &Limits) -> Result<Vec<(String, Shape)>, StructureError> {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut found = Vec::new();
    for input in &graph.input {
        let shape = interface(input, "input", limits)?;
        if !constants.contains(input.name.as_str()) {
            let shape = shape.ok_or_else(|| wrong("input", &input.name, "has no shape"))?;
            found.push((input.name.clone(), shape));
        }
    }
    if found.is_empty() {
        return Err(StructureError::Interface { side: "inputs".to_owned(), why: "are missing".to_owned() });
    }
    Ok(found)
}

/// Outputs. Shapes of values in between are checked here too: ONNX Runtime plans memory by them.
pub(super) fn outputs(graph: &GraphProto, limits: &Limits) -> Result<Vec<String>, StructureError> {
    if graph.output.is_empty() {
        return Err(StructureError::Interface { side: "outputs".to_owned(), why: "are missing".to_owned() });
    }
    for output in &graph.output {
        interface(output, "output", limits)?;
    }
    for value in graph.value_info.iter().filter(|value| value.r#type.is_some()) {
        tensor_shape(value, "value", limits)?;
    }
    Ok(graph.output.iter().map(|output| output.name.clone()).collect())
}

/// Data types of inputs and outputs, by name.
pub(super) fn types(graph: &GraphProto) -> Vec<(String, i32)> {
    let of = |value: &ValueInfoProto| match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(it) => Some((value.name.clone(), it.elem_type)),
        _ => None,
    };
    graph.input.iter().chain(&graph.output).filter_map(of).collect()
}

fn interface(value: &ValueInfoProto, side: &str, limits: &Limits) -> Result<Option<Shape>, StructureError> {
    let name = &value.name;
    if name.is_empty() || name.len() > NAME || name.chars().any(char::is_control) {
        return Err(wrong(side, name, "has no usable name"));
    }
    tensor_shape(value, side, limits)
}

fn tensor_shape(value: &ValueInfoProto, side: &str, limits: &Limits) -> Result<Option<Shape>, StructureError> {
    let Some(TypeValue::Tensor(it)) = value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Err(wrong(side, &value.name, "is no tensor"));
    };
    if !tensors::is_allowed(it.elem_type) {
        return Err(wrong(side, &value.name, &format!("has the data type {}, which is no plain number", it.elem_type)));
    }
    let Some(shape) = it.shape.as_ref().map(dimensions) else { return Ok(None) };
    if shape.len() > RANK {
        return Err(wrong(side, &value.name, "has too many dimensions"));
    }
    let fixed: Vec<i64> = shape.iter().copied().flatten().collect();
    if tensor::elements(&fixed).is_none_or(|elements| elements > limits.elements) {
        return Err(wrong(side, &value.name, &format!("has a negative or too large shape {fixed:?}")));
    }
    Ok(Some(shape))
}

/// A size that is left out, or has a name, is open.
pub(super) fn dimensions(shape: &TensorShapeProto) -> Shape {
    let size = |value: &DimensionValue| match value {
        DimensionValue::Value(size) => Some(*size),
        DimensionValue::Param(_) => None,
    };
    shape.dim.iter().map(|dim| dim.value.as_ref().and_then(size)).collect()
}

fn wrong(side: &str, name: &str, why: &str) -> StructureError {
    StructureError::Interface { side: format!("{side} {:?}", short(name)), why: why.to_owned() }
}

/// Checks that names are unique and given before they are used.
pub(super) fn order(graph: &GraphProto) -> Result<(), StructureError> {
    let twice = |name: &str| StructureError::Duplicate { name: short(name) };
    let mut inputs = HashSet::new();
    let mut given: HashSet<&str> = HashSet::new();
    for input in &graph.input {
        if !inputs.insert(input.name.as_str()) {
            return Err(twice(&input.name));
        }
    }
    for tensor in &graph.initializer {
        if tensor.name.is_empty() || !given.insert(&tensor.name) {
            return Err(twice(&tensor.name));
        }
    }
    given.extend(inputs);
    for node in &graph.node {
        for name in node.input.iter().filter(|name| !name.is_empty()) {
            if !given.contains(name.as_str()) {
                return Err(StructureError::Undefined { name: short(name), user: short(&node.name) });
            }
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !given.insert(name) {
                return Err(twice(name));
            }
        }
    }
    let mut outputs = HashSet::new();
    for output in &graph.output {
        if !given.contains(output.name.as_str()) {
            return Err(StructureError::Undefined { name: short(&output.name), user: "the graph's output".to_owned() });
        }
        if !outputs.insert(output.name.as_str()) {
            return Err(twice(&output.name));
        }
    }
    Ok(())
}
