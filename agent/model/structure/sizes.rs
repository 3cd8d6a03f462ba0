//! How large every value becomes, worked out node by node.
//!
//! Open heights and widths are taken as [`Limits::side`], other open dimensions as 1. Small numbers are followed too, so
//! that a size which is computed is known ([`super::values`]). A size that cannot be followed is let pass only where it
//! comes from the shapes of other values and from small constants. So a model cannot name its own sizes; what
//! the sizes of a picture make of it is bounded for that side alone.

use std::collections::HashMap;

use super::shapes::{self, Extent};
use super::{Limits, StructureError, attributes, graph, short, values};
use crate::model::onnx::{GraphProto, NodeProto, TensorProto, TypeValue, ValueInfoProto};

/// Values of tensors up to this many elements are followed.
pub(super) const FOLLOWED: usize = 64;
/// Constants above this must not be mixed with a shape that cannot be followed.
const LARGEST: f64 = 65_536.0;

/// Where a value comes from. The greater one wins where two meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Constant,
    Shape,
    Data,
}

/// What is known of a value.
#[derive(Debug, Clone)]
pub(super) struct Fact {
    pub(super) extent: Extent,
    pub(super) values: Option<Vec<f64>>,
    origin: Origin,
    /// The largest constant that went into it.
    largest: f64,
}

impl Fact {
    fn constant(dims: Vec<u64>, values: Option<Vec<f64>>) -> Self {
        let largest = values.as_ref().map_or(f64::INFINITY, |values| values.iter().fold(0.0, |a, b| a.max(b.abs())));
        Self { extent: Extent::known(dims), values, origin: Origin::Constant, largest }
    }

    pub(super) fn tensor(tensor: &TensorProto) -> Self {
        let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(0)).collect();
        let small = tensor.elements().is_some_and(|elements| elements <= FOLLOWED as u64);
        Self::constant(dims, if small { values::of(tensor) } else { None })
    }

    fn input(input: &ValueInfoProto, limits: &Limits) -> Self {
        let shape = match input.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
            Some(TypeValue::Tensor(tensor)) => tensor.shape.as_ref().map(graph::dimensions),
            _ => None,
        };
        let size = |(axis, dim): (usize, Option<i64>)| {
            let open = if axis >= 2 { limits.side } else { 1 };
            dim.map_or(open, |dim| u64::try_from(dim).unwrap_or(0))
        };
        let extent = match shape {
            Some(shape) => Extent::known(shape.into_iter().enumerate().map(size).collect()),
            None => Extent::open(1),
        };
        Self { extent, values: None, origin: Origin::Data, largest: 0.0 }
    }
}

/// A node with what is known of its inputs.
pub(super) struct Use<'a> {
    pub(super) node: &'a NodeProto,
    pub(super) opset: i64,
    pub(super) inputs: Vec<Option<&'a Fact>>,
}

impl Use<'_> {
    pub(super) fn input(&self, index: usize) -> Option<&Fact> {
        self.inputs.get(index).copied().flatten()
    }

    pub(super) fn dims(&self, index: usize) -> Option<&[u64]> {
        self.input(index)?.extent.dims.as_deref()
    }

    pub(super) fn values(&self, index: usize) -> Option<&[f64]> {
        self.input(index)?.values.as_deref()
    }

    /// Whether an input is the same for every picture.
    pub(super) fn fixed(&self, index: usize) -> bool {
        self.input(index).is_none_or(|fact| fact.origin == Origin::Constant)
    }

    pub(super) fn error(&self, why: impl Into<String>) -> StructureError {
        StructureError::Computed { operator: self.node.op_type.clone(), node: short(&self.node.name), why: why.into() }
    }

    /// Numbers that set a size. `None` where they are not known but harmless.
    pub(super) fn measures(&self, index: usize) -> Result<Option<&[f64]>, StructureError> {
        let fact = self.input(index).ok_or_else(|| self.error("has no size"))?;
        if let Some(values) = &fact.values {
            return match values.iter().find(|value| !value.is_finite()) {
                Some(value) => Err(self.error(format!("has the size {value}"))),
                None => Ok(Some(values)),
            };
        }
        match fact.origin {
            Origin::Shape if fact.largest <= LARGEST => Ok(None),
            Origin::Shape => Err(self.error("has a size that is computed with large numbers")),
            Origin::Constant => Err(self.error("has a size that is computed in a way that cannot be followed")),
            Origin::Data => Err(self.error("has a size that is computed from the picture")),
        }
    }

    /// Like [`Self::measures`], for counts. A negative one is an error, or 0 where it comes from a shape: the real one
    /// is another.
    pub(super) fn counts(&self, index: usize) -> Result<Option<Vec<u64>>, StructureError> {
        let Some(values) = self.measures(index)? else { return Ok(None) };
        let fixed = self.fixed(index);
        match values.iter().find(|value| fixed && **value < 0.0) {
            Some(value) => Err(self.error(format!("has the size {value}"))),
            None => Ok(Some(values.iter().map(|value| count(*value)).collect())),
        }
    }
}

/// Rounds down; negative is 0, and too large is the largest.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is wanted")]
pub(super) fn count(value: f64) -> u64 {
    value as u64
}

/// Exact up to 2^53, far over any limit.
#[allow(clippy::cast_precision_loss, reason = "sizes over 2^53 are refused anyway")]
pub(super) fn measure(value: u64) -> f64 {
    value as f64
}

/// Follows the graph and gives what is known of each value. Names must be in order, see [`graph::order`].
pub(super) fn check<'a>(
    graph: &'a GraphProto,
    opset: i64,
    limits: &Limits,
) -> Result<HashMap<&'a str, Fact>, StructureError> {
    let mut facts: HashMap<&str, Fact> = HashMap::new();
    for input in &graph.input {
        facts.insert(&input.name, Fact::input(input, limits));
    }
    for tensor in &graph.initializer {
        facts.insert(&tensor.name, Fact::tensor(tensor));
    }
    let mut folded = 0_u64;
    for node in &graph.node {
        for (name, fact) in node.output.iter().zip(follow(node, &facts, opset, limits)?) {
            if fact.origin < Origin::Data && node.op_type != "Constant" {
                folded = folded.saturating_add(fact.extent.elements);
            }
            if folded > limits.folded_elements {
                return Err(StructureError::Folded { limit: limits.folded_elements });
            }
            facts.insert(name, fact);
        }
    }
    Ok(facts)
}

/// One fact for each output.
fn follow(
    node: &NodeProto,
    facts: &HashMap<&str, Fact>,
    opset: i64,
    limits: &Limits,
) -> Result<Vec<Fact>, StructureError> {
    let inputs = node.input.iter().map(|name| facts.get(name.as_str())).collect();
    let usage = Use { node, opset, inputs };
    if node.op_type == "Constant" {
        return Ok(vec![constant(&usage)?]);
    }
    // ONNX Runtime ends the process when it divides a whole number by zero.
    let divides = matches!(node.op_type.as_str(), "Div" | "Mod");
    if divides && usage.values(1).is_some_and(|values| values.contains(&0.0)) {
        return Err(usage.error("divides by zero"));
    }
    let extents = shapes::infer(&usage)?;
    for extent in &extents {
        if extent.elements > limits.elements {
            return Err(StructureError::Size {
                operator: node.op_type.clone(),
                node: short(&node.name),
                elements: extent.elements,
                limit: limits.elements,
            });
        }
        if extent.dims.as_ref().is_some_and(|dims| dims.len() > attributes::RANK) {
            return Err(usage.error("gives too many dimensions"));
        }
    }
    let known = usage.inputs.iter().flatten();
    let shape = matches!(node.op_type.as_str(), "Shape" | "Size");
    let origin = known.clone().map(|fact| fact.origin).max().unwrap_or(Origin::Constant);
    let origin = if shape { origin.min(Origin::Shape) } else { origin };
    // Indices choose among numbers and are none of them: an end of i64::MAX is usual.
    let chooses = matches!(
        node.op_type.as_str(),
        "Gather"
            | "GatherElements"
            | "GatherND"
            | "Reshape"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Transpose"
            | "Unsqueeze"
    );
    let operands = known.take(if chooses { 1 } else { usize::MAX }).map(|fact| fact.largest);
    let filling = node.named("value").and_then(|it| it.t.as_deref()).map(|tensor| Fact::tensor(tensor).largest);
    let largest = if shape { 0.0 } else { operands.chain(filling).fold(0.0, f64::max) };
    let mut followed = values::evaluate(&usage, &extents);
    let facts = extents.into_iter().map(|extent| Fact { extent, values: followed.take(), origin, largest });
    Ok(facts.collect())
}

fn constant(usage: &Use) -> Result<Fact, StructureError> {
    let [it] = usage.node.attribute.as_slice() else { return Err(usage.error("must have one value")) };
    #[allow(clippy::cast_precision_loss, reason = "sizes over 2^53 are refused anyway")]
    let list = |values: &[i64]| values.iter().map(|value| *value as f64).collect::<Vec<f64>>();
    let (dims, values) = match it.name.as_str() {
        "value" => match &it.t {
            Some(tensor) => return Ok(Fact::tensor(tensor)),
            None => return Err(usage.error("must have a tensor")),
        },
        "value_int" => (vec![], list(&[it.i()])),
        "value_float" => (vec![], vec![f64::from(it.f())]),
        "value_ints" => (vec![it.ints.len() as u64], list(&it.ints)),
        "value_floats" => (vec![it.floats.len() as u64], it.floats.iter().map(|value| f64::from(*value)).collect()),
        _ => return Err(usage.error("has a value of an unknown kind")),
    };
    let small = values.len() <= FOLLOWED;
    Ok(Fact::constant(dims, small.then_some(values)))
}
