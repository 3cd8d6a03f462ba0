//! Refusals for what a model is and what it points at.

use super::*;
use crate::model::onnx::{ElementType, FunctionProto, SparseTensorProto, TrainingInfoProto};

fn external(name: &str) -> TensorProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
    TensorProto {
        raw_data: None,
        external_data: vec![entry("location", "../../etc/shadow")],
        data_location: Some(1),
        ..f32s(name, &[0.0])
    }
}

fn inner() -> GraphProto {
    GraphProto { initializer: vec![external("inner")], ..GraphProto::default() }
}

#[test]
fn files_that_are_no_model() {
    let limits = Limits::default();
    assert_eq!(vet(b"", &limits), Err(StructureError::Empty));
    assert_eq!(vet(b"\x1c\0\0\0ORTM\0\0\0\0", &limits), Err(StructureError::OrtFormat));
    for bytes in [b"\x89PNG\r\n\x1a\n".as_slice(), b"PK\x03\x04", &[0xff; 64], b"\x3a\xff\xff\xff\xff\x0f", b"\x08"] {
        assert!(matches!(vet(bytes, &limits), Err(StructureError::NotOnnx(_))), "{bytes:?}");
    }
    assert_eq!(check(&ModelProto { ir_version: 8, ..ModelProto::default() }), Err(StructureError::NoGraph));
    let small = Limits { bytes: 10, ..Limits::default() };
    assert!(matches!(vet(&good(), &small), Err(StructureError::TooLarge { limit: 10, .. })));
}

#[test]
fn fields_that_onnx_does_not_define() {
    let mut bytes = plain().encode_to_vec();
    bytes.extend([0xfa, 0x01, 0x00]);
    assert!(matches!(vet(&bytes, &Limits::default()), Err(StructureError::NotOnnx(_))));
    // A group, and a known field of another wire type.
    for tail in [[0x0b, 0x0c], [0x0a, 0x00]] {
        let bytes = [plain().encode_to_vec(), tail.to_vec()].concat();
        assert!(matches!(vet(&bytes, &Limits::default()), Err(StructureError::NotOnnx(_))), "{tail:?}");
    }
}

#[test]
fn many_empty_messages() {
    let mut body = Vec::new();
    for _ in 0..2_000_000 {
        body.extend([0x0a, 0x00]);
    }
    let bytes = ModelProto::default().encode_to_vec();
    let mut bytes = [bytes, vec![0x3a]].concat();
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend(body);
    assert!(matches!(vet(&bytes, &Limits::default()), Err(StructureError::Memory { .. })));
}

#[test]
fn deep_nesting() {
    let mut kind = TypeProto::default();
    for _ in 0..40 {
        let inside = ElementType { elem_type: Some(Box::new(kind)) };
        kind = TypeProto { value: Some(TypeValue::Sequence(inside)), ..TypeProto::default() };
    }
    let mut model = plain();
    graph(&mut model).value_info = vec![ValueInfoProto { r#type: Some(kind), ..value("v", &[]) }];
    assert_eq!(refused(&model), StructureError::TooDeep { limit: 16 });
}

#[test]
fn external_data_anywhere() {
    let holder = |change: &dyn Fn(&mut ModelProto)| {
        let mut model = plain();
        change(&mut model);
        assert_eq!(refused(&model), StructureError::ExternalData { tensor: "inner".to_owned() });
    };
    let on_node = |it: AttributeProto| move |model: &mut ModelProto| graph(model).node[0].attribute = vec![it.clone()];
    let tensor = || Some(Box::new(external("inner")));
    let sparse = SparseTensorProto { values: Some(Box::default()), indices: tensor(), dims: vec![1] };
    holder(&|model| graph(model).initializer = vec![external("inner")]);
    holder(&|model| graph(model).sparse_initializer = vec![sparse.clone()]);
    holder(&on_node(AttributeProto { t: tensor(), ..attribute("t", at::TENSOR) }));
    holder(&on_node(AttributeProto { tensors: vec![external("inner")], ..attribute("t", at::TENSORS) }));
    holder(&on_node(AttributeProto {
        sparse_tensor: Some(Box::new(sparse.clone())),
        ..attribute("t", at::SPARSE_TENSOR)
    }));
    holder(&on_node(AttributeProto { sparse_tensors: vec![sparse.clone()], ..attribute("t", at::SPARSE_TENSORS) }));
    holder(&on_node(AttributeProto { g: Some(Box::new(inner())), ..attribute("body", at::GRAPH) }));
    holder(&on_node(AttributeProto { graphs: vec![inner()], ..attribute("body", at::GRAPHS) }));
    holder(&|model| {
        let node = node("Constant", &[], "c", &[held("value", external("inner"))]);
        model.functions = vec![FunctionProto { node: vec![node], ..FunctionProto::default() }];
    });
    holder(&|model| {
        let default = held("value", external("inner"));
        model.functions = vec![FunctionProto { attribute_proto: vec![default], ..FunctionProto::default() }];
    });
    holder(&|model| {
        model.training_info =
            vec![TrainingInfoProto { algorithm: Some(Box::new(inner())), ..TrainingInfoProto::default() }];
    });
    // Either half of the mark is enough.
    holder(&|model| graph(model).initializer = vec![TensorProto { data_location: None, ..external("inner") }]);
    holder(&|model| graph(model).initializer = vec![TensorProto { external_data: vec![], ..external("inner") }]);
}

#[test]
fn a_later_field_does_not_hide_an_external_one() {
    // In one tensor: location 1, then location 0.
    let tensor = [0x70, 0x01, 0x70, 0x00];
    let graph = [[0x2a, 4].as_slice(), &tensor].concat();
    let bytes = [plain().encode_to_vec(), vec![0x3a, 6], graph].concat();
    assert!(matches!(vet(&bytes, &Limits::default()), Err(StructureError::ExternalData { .. })));
}

#[test]
fn memory_addresses() {
    let mut model = plain();
    model.doc_string = "*/_ORT_MEM_ADDR_/*".to_owned();
    assert_eq!(refused(&model), StructureError::MemoryAddress);
    graph(&mut model).initializer = vec![f32s("w", &[1.0])];
    model.doc_string.clear();
    graph(&mut model).initializer[0].raw_data = Some(b"_ORT_MEM_ADDR_".to_vec());
    assert_eq!(refused(&model), StructureError::MemoryAddress);
    for at in 0..40 {
        let text = [vec![b'_'; at], b"_ORT_MEM_ADDR_".to_vec(), vec![b'_'; 40 - at]].concat();
        assert!(super::super::wire::contains(&text, b"_ORT_MEM_ADDR_"), "{at}");
    }
    assert!(!super::super::wire::contains(b"_ORT_MEM_ADDR", b"_ORT_MEM_ADDR_"));
}

#[test]
fn domains_functions_training_and_settings() {
    let mut model = plain();
    graph(&mut model).node[0].domain = "com.evil".to_owned();
    let expected = StructureError::Domain { domain: "com.evil".to_owned(), operator: "Relu".to_owned() };
    assert_eq!(refused(&model), expected);
    let mut model = plain();
    model.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".to_owned(), version: 1 });
    says(&model, &["com.microsoft"]);
    let mut model = plain();
    model.functions = vec![FunctionProto { name: "Relu".to_owned(), ..FunctionProto::default() }];
    says(&model, &["function", "Relu"]);
    let mut model = plain();
    model.training_info = vec![TrainingInfoProto::default()];
    says(&model, &["training"]);
    let mut model = plain();
    model.metadata_props = vec![StringStringEntryProto { key: "ort_config".to_owned(), value: "{}".to_owned() }];
    says(&model, &["ort_config"]);
    let mut model = plain();
    graph(&mut model).node[0].domain = "ai.onnx".to_owned();
    check(&model).unwrap();
}

#[test]
fn versions() {
    for (version, fits) in [(6, false), (7, true), (23, true), (24, false), (-1, false), (i64::MAX, false)] {
        let mut model = plain();
        model.opset_import[0].version = version;
        assert_eq!(check(&model).is_ok(), fits, "{version}");
    }
    let mut model = plain();
    model.opset_import.push(OperatorSetIdProto { domain: "ai.onnx".to_owned(), version: 7 });
    assert!(matches!(refused(&model), StructureError::Opset { .. }));
    model.opset_import.clear();
    assert!(matches!(refused(&model), StructureError::Opset { .. }));
    for version in [0, 2, 14, i64::MIN] {
        assert_eq!(
            refused(&ModelProto { ir_version: version, ..plain() }),
            StructureError::IrVersion { found: version }
        );
    }
}

#[test]
fn operators_that_are_not_listed() {
    for operator in ["Loop", "If", "Scan", "SequenceMap", "StringNormalizer", "RandomUniform", "relu", ""] {
        let model = model(vec![node(operator, &["x"], "y", &[])], vec![]);
        let expected = StructureError::Operator { operator: operator.to_owned(), node: "make_y".to_owned() };
        assert_eq!(refused(&model), expected);
    }
    let mut model = plain();
    graph(&mut model).node[0].overload = "mine".to_owned();
    assert!(matches!(refused(&model), StructureError::Operator { .. }));
    let mut model = plain();
    let body = GraphProto { name: "body".to_owned(), ..GraphProto::default() };
    graph(&mut model).node[0].attribute =
        vec![AttributeProto { g: Some(Box::new(body)), ..attribute("body", at::GRAPH) }];
    says(&model, &["subgraph"]);
}

#[test]
fn attributes_out_of_range() {
    let bad = [
        ints("kernel_shape", &[65, 1]),
        ints("kernel_shape", &[0, 1]),
        ints("strides", &[0, 1]),
        ints("strides", &[1, 65]),
        ints("dilations", &[i64::MAX, 1]),
        ints("pads", &[-1, 0, 0, 0]),
        ints("pads", &[0, 0, 0, 65]),
        int("group", 0),
        int("group", -1),
        int("group", i64::MAX),
        ints("pads", &[0; 64]),
        AttributeProto { r#type: at::INT, ..ints("strides", &[1, 1]) },
        AttributeProto { r#type: at::UNDEFINED, ..ints("strides", &[1, 1]) },
        AttributeProto { f: Some(1.0), ..int("group", 1) },
        AttributeProto { ref_attr_name: "outer".to_owned(), ..int("group", 1) },
        AttributeProto { strings: vec![b"a".to_vec()], ..attribute("names", at::STRINGS) },
    ];
    for it in bad {
        let model = model(vec![node("Conv", &["x", "x"], "y", std::slice::from_ref(&it))], vec![]);
        assert!(matches!(refused(&model), StructureError::Attribute { .. }), "{it:?}");
    }
    let twice = model(vec![node("Conv", &["x", "x"], "y", &[int("group", 1), int("group", 3)])], vec![]);
    says(&twice, &["group", "twice"]);
    says(&model(vec![node("Cast", &["x"], "y", &[int("to", 8)])], vec![]), &["to", "data type 8"]);
    let weights = TensorProto::of_f32("w", &[1, 3, 65, 1], &[0.0; 195]);
    says(&model(vec![node("Conv", &["x", "w"], "y", &[])], vec![weights]), &["kernel_shape", "65"]);
}

#[test]
fn names_twice_missing_or_in_a_circle() {
    let twice = model(vec![node("Relu", &["x"], "y", &[]), node("Abs", &["x"], "y", &[])], vec![]);
    assert_eq!(refused(&twice), StructureError::Duplicate { name: "y".to_owned() });
    let twice = model(vec![node("Relu", &["x"], "y", &[])], vec![f32s("w", &[1.0]), f32s("w", &[1.0])]);
    assert_eq!(refused(&twice), StructureError::Duplicate { name: "w".to_owned() });
    let shadow = model(vec![node("Relu", &["x"], "x", &[])], vec![]);
    assert_eq!(refused(&shadow), StructureError::Duplicate { name: "x".to_owned() });
    let circle = model(vec![node("Relu", &["b"], "a", &[]), node("Relu", &["a"], "b", &[])], vec![]);
    says(&circle, &["\"b\"", "make_a"]);
    let itself = model(vec![node("Relu", &["y"], "y", &[])], vec![]);
    says(&itself, &["\"y\""]);
    let mut missing = plain();
    graph(&mut missing).output = vec![value("nowhere", &[])];
    says(&missing, &["nowhere"]);
    let mut inputs = plain();
    graph(&mut inputs).input.push(value("x", &[]));
    assert_eq!(refused(&inputs), StructureError::Duplicate { name: "x".to_owned() });
}

#[test]
fn inputs_and_outputs() {
    let changed = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = plain();
        change(graph(&mut model));
        assert!(matches!(refused(&model), StructureError::Interface { .. }));
    };
    changed(&|graph| graph.input.clear());
    changed(&|graph| graph.output.clear());
    changed(&|graph| graph.input[0].r#type = None);
    changed(&|graph| {
        let kind = Some(TypeValue::Sequence(ElementType::default()));
        graph.input[0].r#type = Some(TypeProto { value: kind, ..TypeProto::default() });
    });
    changed(&|graph| {
        let kind = Some(TypeValue::Tensor(TensorType { elem_type: dt::STRING, shape: None }));
        graph.input[0].r#type = Some(TypeProto { value: kind, ..TypeProto::default() });
    });
    changed(&|graph| graph.input[0] = value("x", &[Some(-1), None]));
    changed(&|graph| graph.input[0] = value("x", &[Some(i64::MAX), Some(i64::MAX)]));
    changed(&|graph| graph.input[0].name = "x\n".to_owned());
    changed(&|graph| graph.value_info = vec![value("v", &[Some(1 << 40)])]);
    // A graph that only has constants asks for nothing.
    changed(&|graph| graph.initializer = vec![TensorProto { name: "x".to_owned(), ..f32s("", &[1.0]) }]);
}

#[test]
fn messages_do_not_repeat_a_long_or_odd_name() {
    let mut model = plain();
    graph(&mut model).node[0].op_type = "\x1b[2J\n".repeat(1000);
    let message = refused(&model).to_string();
    assert!(message.len() < 1000 && !message.contains(['\n', '\x1b']), "{message}");
}
