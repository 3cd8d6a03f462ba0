//! Shapes against those that ONNX gives, for an input `x` of 1 x 3 x 8 x 6.

use super::*;
use crate::model::structure::sizes;

fn gives(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>, expected: &[u64]) {
    let last = nodes.last().unwrap();
    let (operator, output) = (last.op_type.clone(), last.output[0].clone());
    let mut model = model(nodes, tensors);
    graph(&mut model).input = vec![value("x", &[Some(1), Some(3), Some(8), Some(6)])];
    check(&model).unwrap();
    let facts = sizes::check(model.graph.as_ref().unwrap(), 13, &Limits::default()).unwrap();
    assert_eq!(facts[output.as_str()].extent.dims.as_deref(), Some(expected), "{operator}");
}

fn one(operator: &str, attributes: &[AttributeProto], expected: &[u64]) {
    gives(vec![node(operator, &["x"], "y", attributes)], vec![], expected);
}

fn with(operator: &str, tensor: TensorProto, attributes: &[AttributeProto], expected: &[u64]) {
    gives(vec![node(operator, &["x", "k"], "y", attributes)], vec![tensor], expected);
}

#[test]
fn of_one_input() {
    one("Relu", &[], &[1, 3, 8, 6]);
    one("Transpose", &[ints("perm", &[0, 2, 3, 1])], &[1, 8, 6, 3]);
    one("Transpose", &[], &[6, 8, 3, 1]);
    one("Flatten", &[int("axis", -2)], &[3, 48]);
    one("GlobalAveragePool", &[], &[1, 3, 1, 1]);
    one("ReduceMean", &[ints("axes", &[2, -1]), int("keepdims", 0)], &[1, 3]);
    one("ReduceMax", &[], &[1, 1, 1, 1]);
    one("ArgMax", &[int("axis", 1)], &[1, 1, 8, 6]);
    one("Squeeze", &[], &[3, 8, 6]);
    one("Shape", &[int("start", 1), int("end", -1)], &[2]);
    one("Split", &[int("axis", 2)], &[1, 3, 8, 6]);
    one("SpaceToDepth", &[int("blocksize", 2)], &[1, 12, 4, 3]);
    one("MaxPool", &[ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2])], &[1, 3, 3, 2]);
    one("MaxPool", &[ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)], &[1, 3, 4, 3]);
    one(
        "AveragePool",
        &[ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), text("auto_pad", "SAME_UPPER")],
        &[1, 3, 4, 3],
    );
}

#[test]
fn of_two_inputs() {
    let weights = |dims: &[i64]| {
        let elements = usize::try_from(dims.iter().product::<i64>()).unwrap();
        TensorProto::of_f32("k", dims, &vec![0.0; elements])
    };
    with("Conv", weights(&[5, 3, 3, 3]), &[ints("pads", &[1; 4]), ints("strides", &[2, 2])], &[1, 5, 4, 3]);
    with("Conv", weights(&[5, 3, 3, 3]), &[ints("dilations", &[2, 2])], &[1, 5, 4, 2]);
    with("ConvTranspose", weights(&[3, 2, 2, 2]), &[ints("strides", &[2, 2])], &[1, 2, 16, 12]);
    with("MatMul", weights(&[6, 9]), &[], &[1, 3, 8, 9]);
    with("MatMul", weights(&[6]), &[], &[1, 3, 8]);
    with("Add", weights(&[4, 1, 1, 6]), &[], &[4, 3, 8, 6]);
    with("Unsqueeze", i64s("k", &[0, -1]), &[], &[1, 1, 3, 8, 6, 1]);
    with("Reshape", i64s("k", &[0, -1, 6]), &[], &[1, 24, 6]);
    with("Gather", i64s("k", &[0, 2]), &[int("axis", 1)], &[1, 2, 8, 6]);
    with("Tile", i64s("k", &[1, 1, 2, 3]), &[], &[1, 3, 16, 18]);
    with("Expand", i64s("k", &[2, 1, 1, 1, 1]), &[], &[2, 1, 3, 8, 6]);
    with("Pad", i64s("k", &[0, 0, 1, 2, 0, 0, 3, -4]), &[], &[1, 3, 12, 4]);
    with("TopK", i64s("k", &[2]), &[], &[1, 3, 8, 2]);
    with("Concat", weights(&[1, 2, 8, 6]), &[int("axis", -3)], &[1, 5, 8, 6]);
    with("Einsum", weights(&[3, 7]), &[text("equation", "bchw, cd -> bdhw")], &[1, 7, 8, 6]);
}

#[test]
fn of_computed_sizes() {
    // As PyTorch writes view(batch, channels, -1) and a size that is scaled.
    let nodes = vec![
        node("Shape", &["x"], "s", &[]),
        node("Gather", &["s", "last"], "w", &[]),
        node("Cast", &["w"], "f", &[int("to", 1)]),
        node("Mul", &["f", "scale"], "g", &[]),
        node("Floor", &["g"], "h", &[]),
        node("Cast", &["h"], "i", &[int("to", 7)]),
        node("Concat", &["i", "i"], "n", &[int("axis", 0)]),
        node("ConstantOfShape", &["n"], "y", &[]),
    ];
    gives(nodes, vec![i64s("last", &[-1]), f32s("scale", &[1.6])], &[9, 9]);
    let nodes = vec![
        node("Slice", &["x", "a", "b", "axes", "steps"], "c", &[]),
        node("Resize", &["c", "", "scales"], "y", &[]),
    ];
    let tensors = vec![
        i64s("a", &[1]),
        i64s("b", &[i64::MAX]),
        i64s("axes", &[2]),
        i64s("steps", &[2]),
        f32s("scales", &[1.0, 1.0, 2.5, 0.5]),
    ];
    gives(nodes, tensors, &[1, 3, 10, 3]);
}
