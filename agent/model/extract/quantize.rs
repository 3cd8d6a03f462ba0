//! From float32 to 8 bits, in ONNX's own form (QDQ): ONNX Runtime makes integer kernels of it where it has them.
//!
//! Weights are symmetric, a scale a channel; activations are unsigned, a scale a value, between the limits that the
//! training side measured. The scheme is that of Jacob et al. 2018 ("Quantization and training of neural networks for
//! efficient integer-arithmetic-only inference"). A Clip to 0..=6 needs no work of its own: the 8 bits end there. The last
//! convolutions, which give scores and distances, stay float32.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, Result, ensure};

use crate::model::onnx::{AttributeProto, ModelProto, NodeProto, TensorProto, attribute_type, data_type};

/// Limits of values by name.
pub type Ranges = BTreeMap<String, [f32; 2]>;

/// How an activation is coded: `value = scale * (code - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Code {
    scale: f32,
    zero: u8,
}

impl Code {
    fn of([low, high]: [f32; 2]) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(1e-6);
        Self { scale, zero: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

/// Largest weight code. Processors without 8-bit dot products add pairs of products in 16 bits, which 7-bit weights cannot
/// overflow.
#[must_use]
pub fn weight_limit() -> f32 {
    #[cfg(target_arch = "x86_64")]
    {
        let whole = std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
        if whole { 127.0 } else { 63.0 }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        127.0
    }
}

/// Rewrites a network of folded convolutions. `ranges` has the limits of every value that is no Clip's.
///
/// # Errors
/// A value has no range, or a weight is no float tensor.
pub fn quantize(model: &ModelProto, ranges: &Ranges, limit: f32) -> Result<ModelProto> {
    let mut out = model.clone();
    let graph = out.graph.as_mut().context("the model has no graph")?;
    let nodes = std::mem::take(&mut graph.node);
    let tensors: HashMap<String, TensorProto> = graph.initializer.iter().map(|t| (t.name.clone(), t.clone())).collect();
    let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let plan = Plan::new(&nodes, &tensors, &outputs);
    let mut writer = Writer { nodes: Vec::new(), tensors: BTreeMap::new(), codes: HashMap::new() };
    for input in &graph.input {
        writer.activation(&input.name, &input.name, Code::of(limits(ranges, &input.name)?));
    }
    for node in &nodes {
        let Some(output) = node.output.first() else { continue };
        if plan.tail.contains(output) {
            // Scores and distances: from the last coded value on in float32.
            let mut node = node.clone();
            for name in &mut node.input {
                if let Some(decoded) = writer.decoded(name) {
                    *name = decoded;
                }
            }
            writer.nodes.push(node);
            continue;
        }
        if plan.clips.contains(output) {
            continue; // its input carries its name and its limits
        }
        let source = node.input.first().and_then(|name| writer.codes.get(name)).copied();
        let (name, code) = match (plan.clipped.get(output), source) {
            (Some(clip), _) => (clip.as_str(), Code::of([0.0, plan.most])),
            // Repeats codes as they are.
            (None, Some(source)) if node.op_type == "Resize" => (output.as_str(), source),
            (None, _) => (output.as_str(), Code::of(limits(ranges, output)?)),
        };
        let mut made = node.clone();
        let raw = format!("{name}/float");
        made.output = vec![raw.clone()];
        for at in 0..made.input.len() {
            if let Some(decoded) = writer.decoded(&made.input[at]) {
                made.input[at] = decoded;
            }
        }
        if node.op_type == "Conv" {
            writer.weights(&mut made, &tensors, source.context("an input has no code")?, limit)?;
        }
        writer.nodes.push(made);
        writer.activation(name, &raw, code);
    }
    let used: BTreeSet<String> = writer.nodes.iter().flat_map(|n| n.input.iter().cloned()).collect();
    let kept = tensors
        .into_iter()
        .filter(|(name, _)| used.contains(name) && !writer.tensors.contains_key(name))
        .collect::<BTreeMap<_, _>>();
    graph.initializer = kept.into_values().chain(writer.tensors.into_values()).collect();
    graph.node = writer.nodes;
    Ok(out)
}

fn limits(ranges: &Ranges, name: &str) -> Result<[f32; 2]> {
    let range = ranges
        .get(name)
        .with_context(|| format!("there is no range of {name}; this size was not measured for 8 bits"))?;
    ensure!(range.iter().all(|v| v.is_finite()) && range[0] <= range[1], "the range of {name} is {range:?}");
    Ok(*range)
}

/// Which nodes go which way.
struct Plan {
    /// Outputs of nodes that stay float32: what lies behind the last convolutions, and these.
    tail: HashSet<String>,
    /// Outputs of Clips that fall away.
    clips: HashSet<String>,
    /// Values whose only reader is such a Clip, and its output.
    clipped: HashMap<String, String>,
    /// Upper limit of these Clips.
    most: f32,
}

impl Plan {
    fn new(nodes: &[NodeProto], tensors: &HashMap<String, TensorProto>, outputs: &HashSet<&str>) -> Self {
        let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in nodes {
            for name in &node.input {
                readers.entry(name).or_default().push(node);
            }
        }
        let mut tail: HashSet<String> = HashSet::new();
        for node in nodes.iter().rev() {
            let Some(output) = node.output.first() else { continue };
            let behind = readers.get(output.as_str()).map_or(&[] as &[_], Vec::as_slice);
            let last = outputs.contains(output.as_str())
                || (!behind.is_empty()
                    && behind.iter().all(|r| r.op_type != "Conv" && r.output.iter().all(|name| tail.contains(name))));
            if last {
                tail.insert(output.clone());
            }
        }
        let scalar = |name: Option<&String>| {
            name.and_then(|n| tensors.get(n)).and_then(TensorProto::to_f32s).and_then(|v| v.first().copied())
        };
        let most = 6.0;
        let (mut clips, mut clipped) = (HashSet::new(), HashMap::new());
        for node in nodes.iter().filter(|n| n.op_type == "Clip") {
            let (Some(input), Some(output)) = (node.input.first(), node.output.first()) else { continue };
            let alone = readers.get(input.as_str()).is_some_and(|r| r.len() == 1) && !outputs.contains(input.as_str());
            let relu6 = scalar(node.input.get(1)) == Some(0.0) && scalar(node.input.get(2)) == Some(most);
            if alone && relu6 && !tail.contains(output) && !tail.contains(input) {
                clips.insert(output.clone());
                clipped.insert(input.clone(), output.clone());
            }
        }
        Self { tail, clips, clipped, most }
    }
}

struct Writer {
    nodes: Vec<NodeProto>,
    tensors: BTreeMap<String, TensorProto>,
    codes: HashMap<String, Code>,
}

impl Writer {
    /// The name under which a coded value can be read as floats.
    fn decoded(&self, name: &str) -> Option<String> {
        self.codes.contains_key(name).then(|| format!("{name}/decoded"))
    }

    /// Codes the value `raw` and decodes it again, under the name of `name`.
    fn activation(&mut self, name: &str, raw: &str, code: Code) {
        let (scale, zero, coded) = (format!("{name}/scale"), format!("{name}/zero"), format!("{name}/coded"));
        self.put(TensorProto::of_f32(&scale, &[], &[code.scale]));
        self.put(tensor(&zero, &[], data_type::UINT8, vec![code.zero]));
        self.node("QuantizeLinear", [raw, &scale, &zero], &coded, None);
        self.node("DequantizeLinear", [&coded, &scale, &zero], &format!("{name}/decoded"), None);
        self.codes.insert(name.to_owned(), code);
    }

    /// Codes a convolution's weight and bias.
    fn weights(
        &mut self,
        conv: &mut NodeProto,
        tensors: &HashMap<String, TensorProto>,
        source: Code,
        limit: f32,
    ) -> Result<()> {
        let named = |at: usize| conv.input.get(at).and_then(|name| tensors.get(name));
        let weight = named(1).with_context(|| format!("{} has no weight", conv.name))?;
        let values = weight.to_f32s().with_context(|| format!("{} holds no floats", weight.name))?;
        let channels = weight
            .dims
            .first()
            .and_then(|&d| usize::try_from(d).ok())
            .filter(|d| *d > 0)
            .context("a weight has no channels")?;
        let each = values.len() / channels;
        let scales: Vec<f32> = values
            .chunks(each.max(1))
            .map(|channel| (channel.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / limit).max(1e-9))
            .collect();
        let codes: Vec<u8> = values
            .iter()
            .enumerate()
            .map(|(n, v)| (v / scales[n / each.max(1)]).round().clamp(-limit, limit) as i8 as u8)
            .collect();
        let (name, dims) = (weight.name.clone(), weight.dims.clone());
        let bias = named(2).map(|bias| (bias.name.clone(), bias.to_f32s()));
        conv.input[1] = self.constant(&name, tensor("", &dims, data_type::INT8, codes), &scales, 1);
        if let Some((name, values)) = bias {
            let values = values.filter(|v| v.len() == channels).with_context(|| format!("{name} holds no floats"))?;
            let scales: Vec<f32> = scales.iter().map(|s| s * source.scale).collect();
            let codes = values
                .iter()
                .zip(&scales)
                .flat_map(|(v, s)| ((f64::from(*v) / f64::from(*s)).round() as i32).to_le_bytes());
            let codes = tensor("", &[channels as i64], data_type::INT32, codes.collect());
            conv.input[2] = self.constant(&name, codes, &scales, 4);
        }
        Ok(())
    }

    /// Puts codes of `width` bytes with a scale a channel, and gives the name under which they can be read as floats.
    fn constant(&mut self, name: &str, codes: TensorProto, scales: &[f32], width: usize) -> String {
        let [coded, scale, zero, decoded] = ["coded", "scale", "zero", "decoded"].map(|part| format!("{name}/{part}"));
        let rows = [scales.len() as i64];
        self.put(tensor(&zero, &rows, codes.data_type, vec![0; width * scales.len()]));
        self.put(TensorProto::of_f32(&scale, &rows, scales));
        self.put(TensorProto { name: coded.clone(), ..codes });
        self.node("DequantizeLinear", [&coded, &scale, &zero], &decoded, Some(0));
        decoded
    }

    fn put(&mut self, tensor: TensorProto) {
        self.tensors.insert(tensor.name.clone(), tensor);
    }

    fn node(&mut self, operator: &str, inputs: [&str; 3], output: &str, axis: Option<i64>) {
        if self.nodes.iter().any(|n| n.output.iter().any(|name| name == output)) {
            return; // a weight that several convolutions share
        }
        let attribute = axis.map(|axis| AttributeProto {
            name: "axis".into(),
            r#type: attribute_type::INT,
            i: Some(axis),
            ..AttributeProto::default()
        });
        self.nodes.push(NodeProto {
            op_type: operator.into(),
            name: output.into(),
            input: inputs.map(str::to_owned).into(),
            output: vec![output.to_owned()],
            attribute: attribute.into_iter().collect(),
            ..NodeProto::default()
        });
    }
}

fn tensor(name: &str, dims: &[i64], data_type: i32, raw: Vec<u8>) -> TensorProto {
    TensorProto { name: name.to_owned(), dims: dims.to_vec(), data_type, raw_data: Some(raw), ..TensorProto::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_code_holds_zero_exactly_and_its_limits_within_half_a_step(low in -100.0_f32..100.0, span in 0.01_f32..200.0) {
            let range = [low, low + span];
            let code = Code::of(range);
            let coded = |v: f32| (v / code.scale + f32::from(code.zero)).round().clamp(0.0, 255.0);
            let back = |v: f32| (coded(v) - f32::from(code.zero)) * code.scale;
            prop_assert_eq!(back(0.0), 0.0);
            for v in range {
                prop_assert!((back(v) - v).abs() <= code.scale * 0.51 + code.scale, "{v} {code:?}");
            }
        }
    }
}
