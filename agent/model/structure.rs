//! What is refused before ONNX Runtime sees the bytes of a model.
//!
//! Guarantees of a model that passes: it is one file that points at nothing outside itself, in a form that every reader
//! understands alike; it uses only operators of a closed list, no subgraphs, no functions; its names are unique and its
//! nodes in order; every weight has as much data as its shape says; and no value grows over the limits at load, or
//! for pictures of about [`Limits::side`] pixels a side.
//!
//! It does not guarantee that ONNX Runtime accepts the model, that its numbers make sense, how long a run takes, or how
//! much memory a larger picture needs: whoever runs it sets limits of time and memory for the process.
//!
//! How: look at the bytes (`wire`), decode, then look at the tensors, the operators, the names and last the sizes.
//! No step trusts one that comes later.

use std::ops::RangeInclusive;

use prost::Message;
use thiserror::Error;

use crate::model::onnx::{ModelProto, OperatorSetIdProto};

mod attributes;
mod graph;
mod growth;
mod operators;
mod shapes;
mod sizes;
mod tensors;
#[cfg(test)]
mod tests;
mod values;
mod windows;
mod wire;

/// ONNX Runtime reads an address in its own memory from a tensor that bears this mark.
const MEMORY_MARK: &[u8] = b"_ORT_MEM_ADDR_";
/// Session settings that ONNX Runtime can be told to take from the model.
const SETTINGS_KEY: &str = "ort_config";
/// The IR versions whose fields `wire` knows. Before 3 initializers and inputs were something else.
const IR_VERSIONS: RangeInclusive<i64> = 3..=13;

/// Limits of a model.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of the file, and of all weights together. 256 MiB.
    pub bytes: u64,
    /// Bytes that the decoded messages may take, by a cautious estimate. 512 MiB.
    pub decoded_bytes: u64,
    /// Nodes. 20,000. Initializers, outputs of nodes and typed values may be four times as many, uses 16 times.
    pub nodes: usize,
    /// Elements of any one value. 64 Mi, which is 256 MiB of floats.
    pub elements: u64,
    /// Elements of all values together that can be worked out when the model is loaded. 64 Mi.
    pub folded_elements: u64,
    /// Versions of the operator set `ai.onnx`. 7 to 23.
    pub opset: RangeInclusive<i64>,
    /// How deep messages may be nested. 16; a usual model needs 6.
    pub nesting: usize,
    /// What an open height or width is taken as when sizes are worked out. 256 pixels.
    pub side: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            decoded_bytes: 512 << 20,
            nodes: 20_000,
            elements: 64 << 20,
            folded_elements: 64 << 20,
            opset: 7..=23,
            nesting: 16,
            side: 256,
        }
    }
}

/// A shape; `None` is an open dimension.
pub type Shape = Vec<Option<i64>>;

/// What the rest of the agent needs to know of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Inputs without an initializer, by name, with their shapes.
    pub inputs: Vec<(String, Shape)>,
    /// Outputs, by name.
    pub outputs: Vec<String>,
    /// ONNX data types of inputs and outputs, by name.
    pub types: Vec<(String, i32)>,
    /// Elements of all initializers and constants.
    pub parameters: u64,
    /// Version of the operator set `ai.onnx`.
    pub opset: i64,
    /// Number of nodes.
    pub nodes: usize,
}

/// Why a model is refused. Names from the model are shortened and escaped, so that they may go to a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StructureError {
    /// No bytes.
    #[error("the model file is empty; copy it again")]
    Empty,
    /// A large file.
    #[error("the model has {bytes} bytes, the limit is {limit}; use a smaller or quantized model")]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A flatbuffer.
    #[error("the model is in ORT format, which cannot be checked; supply the .onnx file that it was made from")]
    OrtFormat,
    /// No protobuf of ONNX's kind.
    #[error("this is no ONNX model: {0}; copy the file again or export it again")]
    NotOnnx(String),
    /// Decoding would take much memory.
    #[error("the model would take over {limit} bytes when decoded; export it again without unused parts")]
    Memory {
        /// Bytes allowed.
        limit: u64,
    },
    /// Deep nesting.
    #[error("the model is nested over {limit} levels deep; export it again without subgraphs")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// A tensor outside the file.
    #[error("tensor {tensor:?} has its data outside the model file; export the model as one file")]
    ExternalData {
        /// Its name.
        tensor: String,
    },
    /// The mark of a tensor that lies in memory.
    #[error("the model points into the memory of the program; do not use it and ask who supplied it")]
    MemoryAddress,
    /// No graph.
    #[error("the model file has no graph; export the model again")]
    NoGraph,
    /// An IR version that is not known.
    #[error("the model has IR version {found}, known are {} to {}; export it again", IR_VERSIONS.start(), IR_VERSIONS.end())]
    IrVersion {
        /// The version.
        found: i64,
    },
    /// The operator set is missing, given twice or out of range.
    #[error("the model needs one operator set ai.onnx of version {low} to {high}, it has {found:?}; export it again")]
    Opset {
        /// Versions given.
        found: Vec<i64>,
        /// Lowest allowed.
        low: i64,
        /// Highest allowed.
        high: i64,
    },
    /// A node of another domain.
    #[error("operator {operator:?} is of domain {domain:?}; only ai.onnx is allowed, export without custom operators")]
    Domain {
        /// Its domain.
        domain: String,
        /// The operator.
        operator: String,
    },
    /// Another operator set.
    #[error("the model imports operators of domain {domain:?}; only ai.onnx is allowed, export without them")]
    DomainImport {
        /// The domain.
        domain: String,
    },
    /// Something that no inspection model needs.
    #[error("the model has {what}, which is not allowed; export it for inference, without it")]
    Forbidden {
        /// What it is.
        what: String,
    },
    /// An operator that is not on the list.
    #[error("operator {operator:?} (node {node:?}) is not on the list of allowed operators; export without it")]
    Operator {
        /// The operator.
        operator: String,
        /// The node.
        node: String,
    },
    /// Many nodes.
    #[error("the model has {found} nodes, the limit is {limit}; simplify it")]
    Nodes {
        /// Nodes.
        found: usize,
        /// Nodes allowed.
        limit: usize,
    },
    /// Many values.
    #[error("the model has {found} {what}, the limit is {limit}; simplify it")]
    Values {
        /// Which kind.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A tensor that is not what it says.
    #[error("tensor {tensor:?} {why}; export the model again")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong.
        why: String,
    },
    /// All weights together.
    #[error("the weights take over {limit} bytes; use a smaller or quantized model")]
    Weights {
        /// Bytes allowed.
        limit: u64,
    },
    /// An attribute out of range.
    #[error("{operator} (node {node:?}): attribute {attribute:?} {why}; export the model again")]
    Attribute {
        /// The operator.
        operator: String,
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// What is wrong.
        why: String,
    },
    /// A value that grows over the limit.
    #[error("{operator} (node {node:?}) gives {elements} elements, the limit is {limit}; export for smaller pictures")]
    Size {
        /// The operator.
        operator: String,
        /// The node.
        node: String,
        /// Elements, at most `u64::MAX`.
        elements: u64,
        /// Elements allowed.
        limit: u64,
    },
    /// All values together that are worked out at load.
    #[error("constants that are worked out at load have over {limit} elements; simplify the model")]
    Folded {
        /// Elements allowed.
        limit: u64,
    },
    /// A size that is no size.
    #[error("{operator} (node {node:?}) {why}; export the model again with fixed sizes")]
    Computed {
        /// The operator.
        operator: String,
        /// The node.
        node: String,
        /// What is wrong.
        why: String,
    },
    /// A name given twice.
    #[error("the name {name:?} is given twice; export the model again")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A value that nothing before it gives: missing, out of order or in a circle.
    #[error("{user:?} uses {name:?}, which nothing before it gives; export the model again")]
    Undefined {
        /// The value.
        name: String,
        /// The node, or the graph.
        user: String,
    },
    /// No inputs, no outputs, or one of the wrong kind.
    #[error("the model's {side} {why}; export it with tensors for inputs and outputs")]
    Interface {
        /// Input or output, and its name.
        side: String,
        /// What is wrong.
        why: String,
    },
}

/// Looks over a model. Nothing of it is run.
///
/// # Errors
/// [`StructureError`]: the first reason found to refuse it.
pub fn vet(bytes: &[u8], limits: &Limits) -> Result<Structure, StructureError> {
    let size = bytes.len() as u64;
    if bytes.is_empty() {
        return Err(StructureError::Empty);
    }
    if size > limits.bytes {
        return Err(StructureError::TooLarge { bytes: size, limit: limits.bytes });
    }
    if bytes.get(4..8) == Some(b"ORTM") {
        return Err(StructureError::OrtFormat);
    }
    if wire::contains(bytes, MEMORY_MARK) {
        return Err(StructureError::MemoryAddress);
    }
    wire::walk(bytes, limits)?;
    let model = ModelProto::decode(bytes).map_err(|error| StructureError::NotOnnx(error.to_string()))?;
    let graph = model.graph.as_ref().ok_or(StructureError::NoGraph)?;
    header(&model)?;
    if graph.node.len() > limits.nodes {
        return Err(StructureError::Nodes { found: graph.node.len(), limit: limits.nodes });
    }
    graph::counts(graph, limits)?;
    for node in &graph.node {
        operators::check(node)?;
        attributes::check(node)?;
    }
    let opset = opset(&model.opset_import, limits)?;
    let parameters = tensors::check(graph, limits)?;
    let inputs = graph::inputs(graph, limits)?;
    let outputs = graph::outputs(graph, limits)?;
    graph::order(graph)?;
    sizes::check(graph, opset, limits)?;
    let types = graph::types(graph);
    Ok(Structure { inputs, outputs, types, parameters, opset, nodes: graph.node.len() })
}

fn header(model: &ModelProto) -> Result<(), StructureError> {
    if !IR_VERSIONS.contains(&model.ir_version) {
        return Err(StructureError::IrVersion { found: model.ir_version });
    }
    let forbidden = |what: String| Err(StructureError::Forbidden { what });
    if let Some(function) = model.functions.first() {
        return forbidden(format!("the function {:?} of its own", short(&function.name)));
    }
    if !model.training_info.is_empty() {
        return forbidden("training information".to_owned());
    }
    if !model.configuration.is_empty() {
        return forbidden("a configuration of devices".to_owned());
    }
    if model.metadata_props.iter().any(|entry| entry.key == SETTINGS_KEY) {
        return forbidden(format!("settings for ONNX Runtime ({SETTINGS_KEY})"));
    }
    Ok(())
}

fn opset(imports: &[OperatorSetIdProto], limits: &Limits) -> Result<i64, StructureError> {
    if let Some(other) = imports.iter().find(|import| !operators::is_standard(&import.domain)) {
        return Err(StructureError::DomainImport { domain: short(&other.domain) });
    }
    match imports {
        [only] if limits.opset.contains(&only.version) => Ok(only.version),
        _ => Err(StructureError::Opset {
            found: imports.iter().take(8).map(|import| import.version).collect(),
            low: *limits.opset.start(),
            high: *limits.opset.end(),
        }),
    }
}

/// A name fit for a message: an attacker chooses its length.
fn short(name: &str) -> String {
    const MOST: usize = 80;
    let mut text: String = name.chars().take(MOST).collect();
    if text.len() < name.len() {
        text.push('…');
    }
    text
}
