//! Networks and bundles to order.
//!
//! A network looks for one channel of the picture and, where that is bright, gives the outputs that a test wants, in the
//! shape in which the family exports them.

use prost::Message;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::frame::{Image, PixelFormat};
use crate::model::onnx::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto, attribute_type as at, data_type as dt,
};

/// Side of the networks' input.
pub(super) const SIDE: usize = 64;

/// An output that is `dark` for a dark picture and `bright` for a bright one.
pub(super) struct Made {
    name: &'static str,
    kind: &'static str,
    shape: Vec<usize>,
    dark: Vec<f32>,
    /// Also the golden vector.
    pub(super) bright: Vec<f32>,
}

impl Made {
    /// Rows of boxes and scores; the scores are 0 for a dark picture.
    pub(super) fn rows<const N: usize>(rows: &[[f32; N]], by_column: bool) -> Self {
        let columns =
            |values: &[[f32; N]]| -> Vec<f32> { (0..N).flat_map(|c| values.iter().map(move |r| r[c])).collect() };
        let mut dark = rows.to_vec();
        dark.iter_mut().for_each(|row| row[4..].fill(0.0));
        let (shape, [dark, bright]) = if by_column {
            (vec![1, N, rows.len()], [columns(&dark), columns(rows)])
        } else {
            (vec![1, rows.len(), N], [dark.concat(), rows.concat()])
        };
        Self { name: "output0", kind: "rows", shape, dark, bright }
    }

    pub(super) fn queries<const N: usize>(dark: [f32; N], bright: &[[f32; N]], boxes: &[[f32; 4]]) -> Vec<Self> {
        let dark = dark.repeat(bright.len());
        let logits =
            Self { name: "logits", kind: "logits", shape: vec![1, bright.len(), N], dark, bright: bright.concat() };
        let shape = vec![1, boxes.len(), 4];
        vec![logits, Self { name: "pred_boxes", kind: "boxes", shape, dark: boxes.concat(), bright: boxes.concat() }]
    }
}

pub(super) fn value(name: &str, kind: i32, dims: &[usize]) -> ValueInfoProto {
    let dim = |n: &usize| Dimension { value: Some(DimensionValue::Value(*n as i64)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TensorType { elem_type: kind, shape: Some(shape) };
    let kind = TypeProto { value: Some(TypeValue::Tensor(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

/// A network that looks whether its input is `full` anywhere in a channel.
pub(super) fn network(outputs: &[Made], channel: usize, full: f32) -> ModelProto {
    let mut weights = [0.0; 3];
    weights[channel] = 1.0 / full;
    let mut initializer =
        vec![TensorProto::of_f32("w", &[1, 3, 1, 1], &weights), TensorProto::of_i64("one", &[3], &[1; 3])];
    let mut nodes = vec![
        node("Conv", &["images", "w"], "seen", vec![]),
        node("GlobalMaxPool", &["seen"], "peak", vec![]),
        node("Reshape", &["peak", "one"], "gate", vec![]),
    ];
    for output in outputs {
        let (gain, base, part) =
            (format!("{}.gain", output.name), format!("{}.base", output.name), format!("{}.part", output.name));
        // As the YOLO exports do it: computed by row, transposed at the end.
        let &[_, a, b] = output.shape.as_slice() else { panic!("three dimensions") };
        let turned = |values: &[f32]| -> Vec<f32> { (0..a * b).map(|n| values[n % a * b + n / a]).collect() };
        let (dark, bright) = (turned(&output.dark), turned(&output.bright));
        let more: Vec<f32> = bright.iter().zip(&dark).map(|(b, d)| b - d).collect();
        let dims = [1, b as i64, a as i64];
        initializer.extend([TensorProto::of_f32(&gain, &dims, &more), TensorProto::of_f32(&base, &dims, &dark)]);
        let perm = AttributeProto {
            name: "perm".to_owned(),
            r#type: at::INTS,
            ints: vec![0, 2, 1],
            ..AttributeProto::default()
        };
        nodes.push(node("Mul", &["gate", &gain], &part, vec![]));
        nodes.push(node("Add", &[&part, &base], &format!("{part}.turned"), vec![]));
        nodes.push(node("Transpose", &[&format!("{part}.turned")], output.name, vec![perm]));
    }
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(GraphProto {
            node: nodes,
            initializer,
            input: vec![value("images", dt::FLOAT, &[1, 3, SIDE, SIDE])],
            output: outputs.iter().map(|o| value(o.name, dt::FLOAT, &o.shape)).collect(),
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

pub(super) fn class(name: &str, threshold: f32) -> Value {
    json!({"name": name, "severity": "major", "threshold": threshold})
}

/// The manifest without its files; `edit` is merged over it, one level deep.
pub(super) fn manifest(outputs: &[Made], edit: &Value) -> Value {
    let mut all = json!({
        "schema": "inspect.bundle/1", "name": "foreign", "version": "1.0.0", "model": "model.onnx",
        "input": {"name": "images", "size": SIDE, "multiple_of": 32, "fit": "letterbox", "mean": [0.0, 0.0, 0.0], "std": [255.0, 255.0, 255.0]},
        "outputs": outputs.iter().map(|o| json!({"name": o.name, "kind": o.kind})).collect::<Vec<_>>(),
        "classes": [class("weld/pore", 0.5), class("weld/crack", 0.45)],
        "golden": {"tolerance": 1e-3, "input": {"file": "image.f32", "shape": [1, 3, SIDE, SIDE]}, "outputs": {}},
    });
    for o in outputs {
        all["golden"]["outputs"][o.name] = json!({"file": format!("{}.f32", o.name), "shape": o.shape});
    }
    for (key, value) in edit.as_object().unwrap() {
        match (all.get_mut(key).and_then(Value::as_object_mut), value.as_object()) {
            (Some(old), Some(new)) => old.extend(new.clone()),
            _ => all[key] = value.clone(),
        }
    }
    all
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Writes a bundle, with the outputs for a wholly bright picture as golden vectors.
pub(super) fn write(model: &ModelProto, outputs: &[Made], mut manifest: Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let full = manifest["input"]["std"][0].as_f64().map_or(1.0, |std| 255.0 / std as f32);
    let mut files = vec![
        ("model.onnx".to_owned(), model.encode_to_vec()),
        ("image.f32".to_owned(), bytes(&vec![full; 3 * SIDE * SIDE])),
    ];
    files.extend(outputs.iter().map(|o| (format!("{}.f32", o.name), bytes(&o.bright))));
    for (name, bytes) in files {
        manifest["files"][&name] = json!({"bytes": bytes.len(), "sha256": hex::encode(Sha256::digest(&bytes))});
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    std::fs::write(dir.path().join("bundle.json"), manifest.to_string()).unwrap();
    dir
}

/// A bundle of a network that looks at red, for pictures of 0 to 1.
pub(super) fn bundle(outputs: &[Made], edit: &Value) -> TempDir {
    write(&network(outputs, 0, 1.0), outputs, manifest(outputs, edit))
}

/// A frame of one colour.
pub(super) fn frame(width: u32, height: u32, rgb: [u8; 3]) -> Image {
    let pixels = rgb.repeat((width * height) as usize);
    Image { width, height, format: PixelFormat::Rgb8, pixels, origin: None, truth: None }
}

pub(super) const RED: [u8; 3] = [255, 0, 0];
pub(super) const BLUE: [u8; 3] = [0, 0, 255];
