//! What a network costs before it runs: multiply-accumulates and parameters.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use crate::model::onnx::{ModelProto, NodeProto, TensorProto};

/// What a network costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-accumulates of the convolutions for one picture.
    pub macs: u64,
    /// Values of all tensors.
    pub parameters: u64,
}

/// The cost of a network of convolutions for an input of `height` x `width`.
///
/// # Errors
/// A convolution's weight is missing.
pub fn cost(model: &ModelProto, height: u64, width: u64) -> Result<Cost> {
    let graph = model.graph.as_ref().context("the model has no graph")?;
    let tensors: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let mut sides: HashMap<&str, (u64, u64)> = graph.input.iter().map(|i| (i.name.as_str(), (height, width))).collect();
    let mut macs = 0_u64;
    for node in &graph.node {
        let Some(&(rows, columns)) = node.input.iter().find_map(|name| sides.get(name.as_str())) else { continue };
        let size = match node.op_type.as_str() {
            "Conv" => {
                let weight = node.input.get(1).and_then(|name| tensors.get(name.as_str())).copied();
                let weight = weight.with_context(|| format!("{} has no weight", node.name))?;
                let out = (along(node, weight, 0, rows)?, along(node, weight, 1, columns)?);
                let taps = weight.elements().unwrap_or(u64::MAX);
                macs = macs.saturating_add(taps.saturating_mul(out.0.saturating_mul(out.1)));
                out
            }
            "Resize" => {
                let scales = node.input.get(2).and_then(|name| tensors.get(name.as_str())).and_then(|t| t.to_f32s());
                let scales = scales.filter(|s| s.len() == 4).with_context(|| format!("{} has no scales", node.name))?;
                ((rows as f32 * scales[2]) as u64, (columns as f32 * scales[3]) as u64)
            }
            _ => (rows, columns),
        };
        sides.extend(node.output.iter().map(|name| (name.as_str(), size)));
    }
    Ok(Cost { macs, parameters: graph.initializer.iter().filter_map(TensorProto::elements).sum() })
}

/// The output's length of a convolution along an axis.
fn along(node: &NodeProto, weight: &TensorProto, axis: usize, length: u64) -> Result<u64> {
    let at = |name: &str, n: usize, default: i64| node.ints(name).and_then(|v| v.get(n)).copied().unwrap_or(default);
    let kernel = weight.dims.get(axis + 2).copied().unwrap_or(1);
    let (stride, padded) = (at("strides", axis, 1), at("pads", axis, 0).saturating_add(at("pads", axis + 2, 0)));
    let room = length as i64 + padded - kernel;
    ensure!(stride > 0 && room >= 0, "{}: a kernel of {kernel} does not fit into {length}", node.name);
    Ok((room / stride + 1) as u64)
}
