//! The cut: from the base graph to the graph of one size and some classes. Pure; same input, same bytes.
//!
//! The graph that comes out computes what the base network computes at that size: blocks are left out, weights lose the
//! channels and classes that are not wanted, each batch norm is the one that was trained for the size, and is then
//! multiplied into its convolution. What nothing reads any more is dropped.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};

use super::elastic::{Elastic, Size};
use crate::model::onnx::{DimensionValue, ModelProto, NodeProto, TensorProto, TypeValue, ValueInfoProto};

/// Cuts a size and classes (by number, in the order wanted) out of a base network. `scores` names the outputs that have a
/// channel a class.
///
/// # Errors
/// The description names something that the graph does not have, or has otherwise.
pub fn cut(
    model: &ModelProto,
    elastic: &Elastic,
    size: &Size,
    classes: &[usize],
    scores: &[&str],
) -> Result<ModelProto> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let tensors: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();

    let nodes = leave_out(&graph.node, elastic, size)?;
    let mut nodes = living(nodes, &outputs);
    for node in nodes.iter_mut().filter(|node| node.op_type == "BatchNormalization") {
        for name in node.input.iter_mut().skip(1) {
            *name = name.replace(&elastic.norm, &size.norm);
        }
    }
    let mut kept = BTreeMap::new();
    for name in nodes.iter().flat_map(|node| &node.input) {
        if let Some(tensor) = tensors.get(name.as_str()) {
            kept.insert(name.clone(), sliced(tensor, elastic, size.width, classes)?);
        }
    }
    regroup(&mut nodes, &kept);
    let nodes = fold(nodes, &mut kept, &outputs)?;
    let used: BTreeSet<&str> = nodes.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    kept.retain(|name, _| used.contains(name.as_str()));

    let mut out = model.clone();
    if let Some(cut) = &mut out.graph {
        cut.value_info.clear();
        for output in cut.output.iter_mut().filter(|output| scores.contains(&output.name.as_str())) {
            set_channels(output, classes.len() as i64);
        }
        cut.node = nodes;
        cut.initializer = kept.into_values().collect();
    }
    Ok(out)
}

/// Applies what each left-out block says of its values.
fn leave_out(nodes: &[NodeProto], elastic: &Elastic, size: &Size) -> Result<Vec<NodeProto>> {
    let mut instead: HashMap<String, Option<String>> = HashMap::new();
    for (dimension, blocks) in &elastic.depths {
        let depth = *size.depths.get(dimension).with_context(|| format!("{dimension} is missing"))?;
        for skip in blocks.iter().skip(depth).flatten() {
            ensure!(nodes.iter().any(|n| n.output.contains(&skip.to)), "the graph has no value {}", skip.to);
            instead.insert(skip.to.clone(), skip.from.clone());
        }
    }
    let mut out = Vec::with_capacity(nodes.len());
    // Nodes come in order, so that what a value is replaced by is known before it is read.
    for node in nodes {
        let mut node = node.clone();
        let mut gone = Vec::new();
        for (at, name) in node.input.iter_mut().enumerate() {
            let mut steps = 0;
            while let Some(other) = instead.get(name.as_str()) {
                let Some(other) = other else {
                    gone.push(at);
                    break;
                };
                name.clone_from(other);
                steps += 1;
                ensure!(steps <= nodes.len(), "what stands for {name} stands for itself");
            }
        }
        if gone.is_empty() {
            out.push(node);
            continue;
        }
        let sum = matches!(node.op_type.as_str(), "Add" | "Sum");
        ensure!(sum || gone == [0], "a {} cannot do without one of its inputs", node.op_type);
        let left: Vec<_> = if sum {
            node.input.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, name)| name.clone()).collect()
        } else {
            Vec::new()
        };
        let [output] = node.output.as_slice() else { bail!("a {} with several outputs", node.op_type) };
        match left.as_slice() {
            [] => drop(instead.entry(output.clone()).or_insert(None)),
            [only] => drop(instead.entry(output.clone()).or_insert_with(|| Some(only.clone()))),
            _ => {
                node.input = left;
                out.push(node);
            }
        }
    }
    Ok(out)
}

/// The nodes that an output needs.
fn living(nodes: Vec<NodeProto>, outputs: &[&str]) -> Vec<NodeProto> {
    let mut wanted: HashSet<String> = outputs.iter().map(|&name| name.to_owned()).collect();
    let mut kept = Vec::with_capacity(nodes.len());
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|name| wanted.contains(name)) {
            wanted.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}

/// A tensor at this width and with these classes.
fn sliced(tensor: &TensorProto, elastic: &Elastic, width: usize, classes: &[usize]) -> Result<TensorProto> {
    let name = &tensor.name;
    let wide = elastic.width.get(name);
    let by_class = elastic.classes.get(name);
    if wide.is_none() && by_class.is_none() {
        return Ok(tensor.clone());
    }
    let mut dims: Vec<usize> = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
    let mut values = tensor.to_f32s().with_context(|| format!("{name} holds no floats"))?;
    let first: Vec<usize> = (0..width).collect();
    let cuts = wide.into_iter().flatten().map(|&axis| (axis, first.as_slice()));
    for (axis, wanted) in cuts.chain(by_class.map(|&axis| (axis, classes))) {
        ensure!(
            dims.get(axis).is_some_and(|&d| wanted.iter().all(|&n| n < d)),
            "{name} of shape {dims:?} has not what is wanted of axis {axis}"
        );
        values = take(&values, &dims, axis, wanted);
        dims[axis] = wanted.len();
    }
    let dims: Vec<i64> = dims.into_iter().map(|d| d as i64).collect();
    Ok(TensorProto::of_f32(name, &dims, &values))
}

/// Of a row-major tensor the wanted places along an axis.
fn take(values: &[f32], dims: &[usize], axis: usize, wanted: &[usize]) -> Vec<f32> {
    let inner: usize = dims[axis + 1..].iter().product();
    let slab = dims[axis] * inner;
    values
        .chunks_exact(slab.max(1))
        .flat_map(|slab| wanted.iter().flat_map(move |&n| &slab[n * inner..][..inner]))
        .copied()
        .collect()
}

/// Depthwise convolutions have as many groups as channels.
fn regroup(nodes: &mut [NodeProto], tensors: &BTreeMap<String, TensorProto>) {
    for node in nodes.iter_mut().filter(|node| node.op_type == "Conv") {
        let dims = node.input.get(1).and_then(|name| tensors.get(name)).map(|weight| weight.dims.as_slice());
        let Some(&[channels, 1, ..]) = dims else { continue };
        if let Some(group) = node.attribute.iter_mut().find(|a| a.name == "group" && a.i() > 1) {
            group.i = Some(channels);
        }
    }
}

/// Multiplies each batch norm into the convolution before it. A weight that several convolutions share becomes one each.
fn fold(
    nodes: Vec<NodeProto>,
    tensors: &mut BTreeMap<String, TensorProto>,
    outputs: &[&str],
) -> Result<Vec<NodeProto>> {
    let mut readers: HashMap<&str, usize> = HashMap::new();
    for name in nodes.iter().flat_map(|node| &node.input).map(String::as_str).chain(outputs.iter().copied()) {
        *readers.entry(name).or_default() += 1;
    }
    let alone: HashSet<String> =
        readers.into_iter().filter(|(_, n)| *n == 1).map(|(name, _)| name.to_owned()).collect();
    let mut out: Vec<NodeProto> = Vec::with_capacity(nodes.len());
    for norm in nodes {
        let source = norm.input.first().filter(|name| norm.op_type == "BatchNormalization" && alone.contains(*name));
        let conv =
            source.and_then(|name| out.iter_mut().find(|n| n.op_type == "Conv" && n.output.first() == Some(name)));
        let Some(conv) = conv else {
            out.push(norm);
            continue;
        };
        let values = |name: Option<&String>| {
            let name = name.context("an input is missing")?;
            let tensor = tensors.get(name).with_context(|| format!("there is no tensor {name}"))?;
            tensor.to_f32s().with_context(|| format!("{name} holds no floats"))
        };
        let [scale, offset, mean, variance] = [1, 2, 3, 4].map(|n| values(norm.input.get(n)));
        let (scale, offset, mean, variance) = (scale?, offset?, mean?, variance?);
        let weight = values(conv.input.get(1))?;
        let dims = conv.input.get(1).and_then(|name| tensors.get(name)).map(|t| t.dims.clone()).unwrap_or_default();
        let channels = scale.len();
        let bias = if conv.input.len() > 2 { values(conv.input.get(2))? } else { vec![0.0; channels] };
        ensure!(
            dims.first().is_some_and(|&d| d == channels as i64 && d > 0)
                && [&offset, &mean, &variance, &bias].iter().all(|v| v.len() == channels),
            "{}: the batch norm has {channels} channels, its convolution {dims:?}",
            norm.name
        );
        let epsilon = norm.named("epsilon").map_or(1e-5, |a| f64::from(a.f()));
        let gain: Vec<f64> =
            (0..channels).map(|c| f64::from(scale[c]) / (f64::from(variance[c]) + epsilon).sqrt()).collect();
        let each = weight.len() / channels;
        let weight: Vec<f32> =
            weight.iter().enumerate().map(|(n, &w)| (f64::from(w) * gain[n / each]) as f32).collect();
        let bias: Vec<f32> = (0..channels)
            .map(|c| ((f64::from(bias[c]) - f64::from(mean[c])) * gain[c] + f64::from(offset[c])) as f32)
            .collect();
        let [weight_name, bias_name] = ["weight", "bias"].map(|part| format!("{}.{part}", norm.name));
        tensors.insert(weight_name.clone(), TensorProto::of_f32(&weight_name, &dims, &weight));
        tensors.insert(bias_name.clone(), TensorProto::of_f32(&bias_name, &[channels as i64], &bias));
        conv.input.truncate(1);
        conv.input.extend([weight_name, bias_name]);
        conv.output.clone_from(&norm.output);
    }
    Ok(out)
}

/// Sets the number of channels that the graph says of an output.
fn set_channels(output: &mut ValueInfoProto, channels: i64) {
    if let Some(TypeValue::Tensor(tensor)) = output.r#type.as_mut().and_then(|t| t.value.as_mut())
        && let Some(dimension) = tensor.shape.as_mut().and_then(|shape| shape.dim.get_mut(1))
    {
        dimension.value = Some(DimensionValue::Value(channels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_places_along_any_axis() {
        let values: Vec<f32> = (0..24_u8).map(f32::from).collect();
        assert_eq!(take(&values, &[2, 3, 4], 0, &[1])[..3], [12.0, 13.0, 14.0]);
        assert_eq!(
            take(&values, &[2, 3, 4], 1, &[2, 0]),
            [8.0, 9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 3.0, 20.0, 21.0, 22.0, 23.0, 12.0, 13.0, 14.0, 15.0]
        );
        assert_eq!(take(&values, &[2, 3, 4], 2, &[3]), [3.0, 7.0, 11.0, 15.0, 19.0, 23.0]);
    }
}
