//! Refusals for sizes: of tensors, and of what operators make of them.

use super::*;

const HUGE: i64 = i64::MAX;

fn too_large(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) {
    let operator = nodes.last().unwrap().op_type.clone();
    match check(&model(nodes, initializers)) {
        Err(StructureError::Size { .. }) => {}
        other => panic!("{operator}: {other:?}"),
    }
}

fn not_computed(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) {
    let operator = nodes.last().unwrap().op_type.clone();
    match check(&model(nodes, initializers)) {
        Err(StructureError::Computed { .. } | StructureError::Attribute { .. }) => {}
        other => panic!("{operator}: {other:?}"),
    }
}

fn fits(nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) {
    check(&model(nodes, initializers)).unwrap();
}

fn scalar(name: &str, value: i64) -> TensorProto {
    TensorProto::of_i64(name, &[], &[value])
}

#[test]
fn tensors_that_are_not_what_they_say() {
    let bad = [
        TensorProto { dims: vec![3], ..f32s("w", &[1.0, 2.0]) },
        TensorProto { dims: vec![1], ..f32s("w", &[1.0, 2.0]) },
        TensorProto { dims: vec![-2], ..f32s("w", &[1.0, 2.0]) },
        TensorProto { dims: vec![HUGE, HUGE, 4], ..f32s("w", &[]) },
        TensorProto { dims: vec![0, HUGE, HUGE], ..f32s("w", &[]) },
        TensorProto { dims: vec![1 << 40], ..f32s("w", &[]) },
        TensorProto { dims: vec![1; 17], ..f32s("w", &[1.0]) },
        TensorProto { raw_data: Some(vec![0; 5]), ..f32s("w", &[1.0]) },
        TensorProto { float_data: vec![1.0], ..f32s("w", &[1.0]) },
        TensorProto { raw_data: None, ..f32s("w", &[1.0]) },
        TensorProto { raw_data: None, int64_data: vec![1], ..f32s("w", &[1.0]) },
        TensorProto { raw_data: None, float_data: vec![1.0], int64_data: vec![1], ..f32s("w", &[1.0]) },
        TensorProto { data_type: dt::STRING, raw_data: None, string_data: vec![b"a".to_vec()], ..f32s("w", &[1.0]) },
        TensorProto { data_type: 0, ..f32s("w", &[1.0]) },
        TensorProto { data_type: 99, ..f32s("w", &[1.0]) },
        TensorProto { segment: Some(crate::model::onnx::Segment::default()), ..f32s("w", &[1.0]) },
    ];
    for tensor in bad {
        let text = format!("{tensor:?}");
        let mut held_one = plain();
        graph(&mut held_one).node.insert(0, node("Constant", &[], "c", &[held("value", tensor.clone())]));
        assert!(matches!(refused(&held_one), StructureError::Tensor { .. }), "{text}");
        let mut model = plain();
        graph(&mut model).initializer = vec![tensor];
        assert!(matches!(refused(&model), StructureError::Tensor { .. }), "{text}");
    }
    let mut model = plain();
    let typed = TensorProto { raw_data: None, int32_data: vec![1], data_type: dt::INT8, ..f32s("w", &[1.0]) };
    let packed = TensorProto { raw_data: Some(vec![0; 2]), data_type: dt::INT4, dims: vec![3], ..f32s("p", &[]) };
    graph(&mut model).initializer = vec![typed, packed];
    assert_eq!(check(&model).unwrap().parameters, 4);
    let sparse = crate::model::onnx::SparseTensorProto { dims: vec![HUGE], ..Default::default() };
    graph(&mut model).sparse_initializer = vec![sparse];
    says(&model, &["sparse"]);
}

#[test]
fn weights_and_nodes_in_all() {
    let limits = Limits { bytes: 700, ..Limits::default() };
    let typed = |name: &str| TensorProto { raw_data: None, int64_data: vec![0; 64], ..i64s(name, &[0; 64]) };
    let bytes = model(vec![node("Relu", &["x"], "y", &[])], vec![typed("a"), typed("b")]).encode_to_vec();
    assert!(bytes.len() < 700);
    assert_eq!(vet(&bytes, &limits), Err(StructureError::Weights { limit: 700 }));
    let mut many = plain();
    graph(&mut many).node[0].output.extend((0..80_000).map(|place| format!("v{place}")));
    assert!(matches!(refused(&many), StructureError::Values { what: "outputs of nodes", .. }));
    let limits = Limits { nodes: 0, ..Limits::default() };
    assert_eq!(vet(&plain().encode_to_vec(), &limits), Err(StructureError::Nodes { found: 1, limit: 0 }));
}

#[test]
fn expand_tile_and_constant_of_shape() {
    for dims in [[1, 1 << 14, 1 << 14].as_slice(), &[HUGE], &[HUGE, HUGE, HUGE]] {
        let fixed = || vec![i64s("n", dims), f32s("one", &[1.0])];
        too_large(vec![node("Expand", &["one", "n"], "y", &[])], fixed());
        too_large(vec![node("ConstantOfShape", &["n"], "y", &[])], fixed());
        let by_node = node("Constant", &[], "n", &[held("value", i64s("", dims))]);
        too_large(vec![by_node, node("ConstantOfShape", &["n"], "y", &[])], vec![]);
        let by_list = node("Constant", &[], "n", &[ints("value_ints", dims)]);
        too_large(vec![by_list, node("Expand", &["x", "n"], "y", &[])], vec![]);
    }
    too_large(vec![node("Tile", &["x", "n"], "y", &[])], vec![i64s("n", &[1, 1, 1 << 12, 1 << 12])]);
    too_large(vec![node("Tile", &["x", "n"], "y", &[])], vec![i64s("n", &[HUGE; 4])]);
    not_computed(vec![node("Tile", &["x", "n"], "y", &[])], vec![i64s("n", &[1, 1, -1, 1])]);
    not_computed(vec![node("ConstantOfShape", &["n"], "y", &[])], vec![i64s("n", &[-5])]);
    not_computed(vec![node("Expand", &["x"], "y", &[])], vec![]);
    fits(vec![node("Tile", &["x", "n"], "y", &[])], vec![i64s("n", &[1, 1, 2, 2])]);
}

#[test]
fn sizes_that_are_computed() {
    let data = |operator: &str| vec![node("Cast", &["x"], "n", &[int("to", 7)]), node(operator, &["x", "n"], "y", &[])];
    not_computed(data("Expand"), vec![]);
    not_computed(data("Tile"), vec![]);
    not_computed(data("OneHot"), vec![]);
    not_computed(data("Pad"), vec![]);
    not_computed(vec![node("Cast", &["x"], "n", &[int("to", 7)]), node("ConstantOfShape", &["n"], "y", &[])], vec![]);
    not_computed(vec![node("Cast", &["x"], "n", &[int("to", 7)]), node("Range", &["n", "n", "n"], "y", &[])], vec![]);
    // Arithmetic is followed, and what is not followed is refused.
    let product =
        |operator: &str| vec![node(operator, &["k", "k"], "n", &[]), node("ConstantOfShape", &["n"], "y", &[])];
    too_large(product("Mul"), vec![i64s("k", &[30_000])]);
    not_computed(product("Mul"), vec![i64s("k", &[1 << 40])]);
    not_computed(product("Pow"), vec![i64s("k", &[9])]);
    let by_shape =
        |first: NodeProto| vec![node("Shape", &["x"], "s", &[]), first, node("ConstantOfShape", &["n"], "y", &[])];
    fits(by_shape(node("Identity", &["s"], "n", &[])), vec![]);
    too_large(by_shape(node("Mul", &["s", "k"], "n", &[])), vec![i64s("k", &[100])]);
    not_computed(by_shape(node("Mul", &["s", "k"], "n", &[])), vec![i64s("k", &[1 << 40])]);
    not_computed(by_shape(node("Pow", &["s", "k"], "n", &[])), vec![i64s("k", &[1 << 40])]);
    // A fraction that whole numbers round away must not shrink what is followed.
    let small = vec![i64s("k", &[99_999]), i64s("l", &[100_000]), i64s("one", &[1])];
    let tricky = vec![
        node("Div", &["k", "l"], "q", &[]),
        node("Sub", &["one", "q"], "d", &[]),
        node("Mul", &["d", "l"], "n", &[]),
        node("ConstantOfShape", &["n"], "y", &[]),
    ];
    not_computed(tricky, small);
}

#[test]
fn range_and_one_hot() {
    let range = |limit: i64, step: i64| {
        let tensors = vec![scalar("a", 0), scalar("b", limit), scalar("c", step)];
        (vec![node("Range", &["a", "b", "c"], "y", &[])], tensors)
    };
    let (nodes, tensors) = range(HUGE, 1);
    too_large(nodes, tensors);
    let (nodes, tensors) = range(i64::MIN, -1);
    too_large(nodes, tensors);
    let (nodes, tensors) = range(10, 0);
    not_computed(nodes, tensors);
    let (nodes, tensors) = range(10, 3);
    fits(nodes, tensors);
    let float = |name: &str, value: f32| TensorProto::of_f32(name, &[], &[value]);
    let nodes = || vec![node("Range", &["a", "b", "c"], "y", &[])];
    not_computed(nodes(), vec![float("a", 0.0), float("b", f32::INFINITY), float("c", 1.0)]);
    too_large(nodes(), vec![float("a", 0.0), float("b", 1.0), float("c", 1e-30)]);
    let hot = |depth: i64| {
        (vec![node("OneHot", &["x", "d", "v"], "y", &[])], vec![scalar("d", depth), f32s("v", &[0.0, 1.0])])
    };
    let (nodes, tensors) = hot(1 << 20);
    too_large(nodes, tensors);
    let (nodes, tensors) = hot(-1);
    not_computed(nodes, tensors);
    let (nodes, tensors) = hot(8);
    fits(nodes, tensors);
}

#[test]
fn resize_and_upsample() {
    let resize = |tensor: TensorProto, sizes: bool| {
        let inputs = if sizes { ["x", "", "", "k"].as_slice() } else { &["x", "", "k"] };
        (vec![node("Resize", inputs, "y", &[])], vec![tensor])
    };
    for scales in [[1.0, 1.0, 1e4, 1e4], [f32::MAX; 4], [1.0, 1e9, 1.0, 1.0]] {
        let (nodes, tensors) = resize(f32s("k", &scales), false);
        too_large(nodes, tensors);
    }
    for scale in [f32::NAN, f32::INFINITY, 0.0, -2.0] {
        let (nodes, tensors) = resize(f32s("k", &[1.0, 1.0, scale, 1.0]), false);
        not_computed(nodes, tensors);
    }
    for sizes in [[1, 3, 1 << 15, 1 << 15], [HUGE; 4]] {
        let (nodes, tensors) = resize(i64s("k", &sizes), true);
        too_large(nodes, tensors);
    }
    let (nodes, tensors) = resize(i64s("k", &[1, 3, -1, 8]), true);
    not_computed(nodes, tensors);
    let (nodes, tensors) = resize(f32s("k", &[1.0, 1.0, 2.0, 2.0]), false);
    fits(nodes, tensors);
    too_large(vec![node("Upsample", &["x", "k"], "y", &[])], vec![f32s("k", &[1.0, 1.0, 1e4, 1e4])]);
    too_large(vec![node("Upsample", &["x"], "y", &[floats("scales", &[1.0, 1.0, 1e4, 1e4])])], vec![]);
    not_computed(vec![node("Upsample", &["x"], "y", &[floats("scales", &[1.0, 1.0, f32::NAN, 1.0])])], vec![]);
    let policy = [text("keep_aspect_ratio_policy", "not_smaller")];
    let wide = node("Resize", &["x", "", "", "wide"], "w", &[]);
    let tall = node("Resize", &["w", "", "", "tall"], "y", &policy);
    too_large(vec![wide, tall], vec![i64s("wide", &[1, 1, 1, 1 << 16]), i64s("tall", &[1, 1, 1 << 16, 1])]);
    let mut old = model(vec![node("Resize", &["x", "k"], "y", &[])], vec![f32s("k", &[1.0, 1.0, 1e4, 1e4])]);
    old.opset_import[0].version = 10;
    assert!(matches!(refused(&old), StructureError::Size { .. }));
}

#[test]
fn pad_and_reshape() {
    let pad = |pads: &[i64]| (vec![node("Pad", &["x", "p"], "y", &[])], vec![i64s("p", pads)]);
    for pads in [[0, 0, 1 << 14, 0, 0, 0, 0, 1 << 14], [HUGE; 8]] {
        let (nodes, tensors) = pad(&pads);
        too_large(nodes, tensors);
        too_large(vec![node("Pad", &["x"], "y", &[ints("pads", &pads)])], vec![]);
    }
    let (nodes, tensors) = pad(&[0, 0, 1, 1, 0, 0, -1, 1]);
    fits(nodes, tensors);
    let (nodes, tensors) = pad(&[1, 2, 3]);
    not_computed(nodes, tensors);
    let reshape = |dims: &[i64]| (vec![node("Reshape", &["x", "n"], "y", &[])], vec![i64s("n", dims)]);
    let (nodes, tensors) = reshape(&[HUGE, HUGE]);
    too_large(nodes, tensors);
    for dims in [[-2, 4], [-1, -1], [i64::MIN, 1]] {
        let (nodes, tensors) = reshape(&dims);
        not_computed(nodes, tensors);
    }
    let (nodes, tensors) = reshape(&[0, 3, -1]);
    fits(nodes, tensors);
}

#[test]
fn growth_of_harmless_operators() {
    // Doubling, 40 times over.
    let mut nodes = vec![node("Concat", &["x", "x"], "v0", &[int("axis", 1)])];
    for step in 1..40 {
        let (from, to) = (format!("v{}", step - 1), format!("v{step}"));
        nodes.push(node("Concat", &[&from, &from], &to, &[int("axis", 1)]));
    }
    too_large(nodes, vec![]);
    let tall = || {
        vec![
            TensorProto::of_f32("a", &[10_000, 1], &[0.0; 10_000]),
            TensorProto::of_f32("b", &[1, 10_000], &[0.0; 10_000]),
        ]
    };
    too_large(vec![node("Add", &["a", "b"], "y", &[])], tall());
    too_large(vec![node("MatMul", &["a", "b"], "y", &[])], tall());
    too_large(vec![node("Gemm", &["b", "a"], "y", &[int("transA", 1), int("transB", 1)])], tall());
    too_large(vec![node("Einsum", &["a", "b"], "y", &[text("equation", "ij,jk->ik")])], tall());
    let long = format!("ij,jk->{}", "i".repeat(1 << 20));
    not_computed(vec![node("Einsum", &["a", "b"], "y", &[text("equation", &long)])], tall());
    not_computed(vec![node("Einsum", &["a", "b"], "y", &[text("equation", "...j,j...->...")])], tall());
    too_large(
        vec![node("Gather", &["a", "i"], "y", &[])],
        vec![TensorProto::of_f32("a", &[1, 20_000], &[0.0; 20_000]), i64s("i", &[0; 20_000])],
    );
    let window = vec![node("ConvTranspose", &["x", "w"], "y", &[ints("strides", &[64, 64])])];
    too_large(window, vec![TensorProto::of_f32("w", &[3, 1, 1, 1], &[0.0; 3])]);
    let window = vec![node("ConvTranspose", &["x", "w"], "y", &[ints("output_shape", &[1 << 20, 1 << 20])])];
    too_large(window, vec![TensorProto::of_f32("w", &[3, 1, 1, 1], &[0.0; 3])]);
}

#[test]
fn folded_constants_in_all() {
    let mut nodes = Vec::new();
    for step in 0..20 {
        nodes.push(node("ConstantOfShape", &["n"], &format!("v{step}"), &[]));
    }
    let model = model(nodes, vec![i64s("n", &[4 << 20])]);
    assert!(matches!(refused(&model), StructureError::Folded { .. }));
}

#[test]
fn division_by_a_constant_zero() {
    not_computed(vec![node("Div", &["x", "k"], "y", &[])], vec![i64s("k", &[0])]);
}
