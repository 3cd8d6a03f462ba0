//! The good model passes; everything else is refused for the right reason.

use prost::Message;

use super::{Limits, Structure, StructureError, vet};
use crate::model::onnx::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto,
    attribute_type as at, data_type as dt,
};

mod bombs;
mod fuzz;
mod refusals;
mod shapes;

fn good() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default/model.onnx")).unwrap()
}

fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    let dim = |size: &Option<i64>| Dimension {
        value: Some(size.map_or_else(|| DimensionValue::Param("open".to_owned()), DimensionValue::Value)),
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorType { elem_type: dt::FLOAT, shape: Some(shape) };
    let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[AttributeProto]) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        name: format!("make_{output}"),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute: attributes.to_vec(),
        ..NodeProto::default()
    }
}

fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind, ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, at::INT) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, at::INTS) }
}

fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, at::FLOATS) }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.into()), ..attribute(name, at::STRING) }
}

fn held(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(Box::new(tensor)), ..attribute(name, at::TENSOR) }
}

fn i64s(name: &str, values: &[i64]) -> TensorProto {
    TensorProto::of_i64(name, &[i64::try_from(values.len()).unwrap()], values)
}

fn f32s(name: &str, values: &[f32]) -> TensorProto {
    TensorProto::of_f32(name, &[i64::try_from(values.len()).unwrap()], values)
}

/// One picture `x` of open sides; the output is that of the last node.
fn model(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> ModelProto {
    let last = nodes.last().unwrap().output[0].clone();
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(GraphProto {
            node: nodes,
            initializer: initializers,
            input: vec![value("x", &[Some(1), Some(3), None, None])],
            output: vec![value(&last, &[])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// A relu, for tests that change something else.
fn plain() -> ModelProto {
    model(vec![node("Relu", &["x"], "y", &[])], vec![])
}

fn graph(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

fn check(model: &ModelProto) -> Result<Structure, StructureError> {
    vet(&model.encode_to_vec(), &Limits::default())
}

fn refused(model: &ModelProto) -> StructureError {
    check(model).expect_err("must be refused")
}

/// Refused with all of these words in the message.
fn says(model: &ModelProto, words: &[&str]) {
    let message = refused(model).to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn the_default_model_passes() {
    let found = vet(&good(), &Limits::default()).unwrap();
    assert_eq!(found.inputs, [("image".to_owned(), vec![Some(1), Some(3), None, None])]);
    let heads = ["stage2", "stage4", "scores8", "distances8", "scores16", "distances16", "scores32", "distances32"];
    assert_eq!(found.outputs, heads);
    assert_eq!(found.opset, 13);
    assert!((100..400).contains(&found.nodes), "{}", found.nodes);
    assert!((200_000..4_000_000).contains(&found.parameters), "{}", found.parameters);
}

#[test]
fn the_default_model_survives_decoding_and_encoding() {
    let bytes = good();
    let first = ModelProto::decode(bytes.as_slice()).unwrap();
    let again = first.encode_to_vec();
    assert_eq!(ModelProto::decode(again.as_slice()).unwrap(), first);
    assert_eq!(vet(&again, &Limits::default()), vet(&bytes, &Limits::default()));
}

#[test]
fn usual_operators_with_computed_sizes_pass() {
    // Upsampling to the size of the picture, as PyTorch exports it.
    let nodes = vec![
        node("Conv", &["x", "w"], "c", &[ints("strides", &[2, 2]), ints("pads", &[1; 4])]),
        node("Shape", &["x"], "s", &[]),
        node("Constant", &[], "two", &[held("value", i64s("", &[2]))]),
        node("Constant", &[], "end", &[held("value", i64s("", &[i64::MAX]))]),
        node("Constant", &[], "zero", &[held("value", i64s("", &[0]))]),
        node("Slice", &["s", "two", "end", "zero"], "hw", &[]),
        node("Concat", &["head", "hw"], "size", &[int("axis", 0)]),
        node("Resize", &["c", "", "", "size"], "up", &[text("mode", "linear")]),
        node("Split", &["up"], "left", &[int("axis", 1)]),
        node("ConstantOfShape", &["size"], "ones", &[]),
        node("Expand", &["left", "size"], "wide", &[]),
        node("Add", &["wide", "ones"], "y", &[]),
    ];
    let mut model = model(nodes, vec![TensorProto::of_f32("w", &[8, 3, 3, 3], &[0.5; 216]), i64s("head", &[1, 8])]);
    graph(&mut model).node[8].output.push("right".to_owned());
    let found = check(&model).unwrap();
    assert_eq!((found.parameters, found.nodes), (216 + 2 + 3, 12));
}

#[test]
fn an_input_with_an_initializer_is_not_asked_for() {
    let mut model = model(vec![node("Mul", &["x", "k"], "y", &[])], vec![f32s("k", &[2.0])]);
    graph(&mut model).input.push(value("k", &[Some(1)]));
    assert_eq!(check(&model).unwrap().inputs.len(), 1);
}

#[test]
fn the_list_of_operators_is_sorted() {
    assert!(super::operators::ALLOWED.is_sorted());
    for operator in ["If", "Loop", "Scan", "RandomNormal", "StringConcat", "SequenceMap", "ImageDecoder"] {
        assert!(!super::operators::ALLOWED.contains(&operator), "{operator}");
    }
}

#[test]
fn no_message_takes_more_than_is_reckoned() {
    let sizes = [
        size_of::<ModelProto>(),
        size_of::<GraphProto>(),
        size_of::<NodeProto>(),
        size_of::<AttributeProto>(),
        size_of::<TensorProto>(),
        size_of::<ValueInfoProto>(),
        size_of::<crate::model::onnx::FunctionProto>(),
        size_of::<crate::model::onnx::TrainingInfoProto>(),
        size_of::<TypeProto>(),
        size_of::<StringStringEntryProto>(),
    ];
    assert!(sizes.iter().all(|size| *size as u64 <= super::wire::MESSAGE_COST), "{sizes:?}");
}
