//! What `bundle.json` may say. What fits together is for `check` to say.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Severity;

/// `bundle.json`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `inspect.bundle/1`
    pub schema: String,
    /// What the bundle is called.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// The network's file.
    pub model: String,
    /// What the network takes.
    pub input: InputSpec,
    /// What the network gives.
    pub outputs: Vec<OutputSpec>,
    /// What a detection can be, in the order of the network's score channels; empty for a network that only gives
    /// features.
    pub classes: Vec<ClassSpec>,
    /// Vectors that prove that this runtime computes what was trained.
    pub golden: GoldenSpec,
    /// Every file of the bundle but `bundle.json`.
    pub files: BTreeMap<String, FileSpec>,
    /// File that says what can be left out of the network; none where nothing can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<String>,
    /// How detections are read from the outputs; none where there are no detections, or all is at its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<DetectorSpec>,
}

/// The network's input: one picture, `(1, 3, height, width)` float32, `(value - mean) / std` of 0..=255.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Its name in the graph.
    pub name: String,
    /// Side in pixels of a square picture; other shapes get about the same area.
    pub size: u32,
    /// Sides are multiples of this.
    pub multiple_of: u32,
    /// How a picture of another shape is brought in.
    pub fit: Fit,
    /// Per channel in the network's order, in units of 0..=255.
    pub mean: [f32; 3],
    /// Per channel in the network's order, in units of 0..=255.
    pub std: [f32; 3],
    /// Standard deviation of the pixels below which a dull picture's contrast is raised before normalisation, by the
    /// root of what it falls short, at most twofold; none where the network was made without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f32>,
    /// A small picture is brought in at most this many times its own size, with `aspect`; any where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<f32>,
    /// Order of the channels.
    #[serde(default, skip_serializing_if = "ChannelOrder::is_rgb")]
    pub channel_order: ChannelOrder,
}

/// Order of the input's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: networks that were trained on pictures as OpenCV reads them.
    Bgr,
}

impl ChannelOrder {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }
}

/// How a picture of another shape is brought into the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// To `size * size`, whatever the shape.
    Stretch,
    /// To about the area of `size * size` with the picture's own shape, rounded to `multiple_of`.
    Aspect,
    /// Into `size * size` with the picture's own shape, in the middle, the rest grey of value 114 (Ultralytics).
    Letterbox,
    /// As `letterbox`, in the upper left corner (YOLOX).
    LetterboxCorner,
}

/// One output of the network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// Its name in the graph.
    pub name: String,
    /// What it means.
    pub kind: OutputKind,
    /// Network input pixels a cell; only `features`, `scores` and `distances` have it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stride: u32,
    /// Its second dimension; only `features`, `scores` and `distances` have it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channels: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What an output means. The first three are `(1, channels, height / stride, width / stride)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// A feature map for the anomaly check.
    Features,
    /// A probability per class and cell, 0 to 1.
    Scores,
    /// Distances from the cell's centre to the left, upper, right and lower side, in strides (FCOS, Tian et al. 2019).
    Distances,
    /// A candidate a row: box, scores. `(1, rows, columns)` or `(1, columns, rows)`, as `detector.format` says.
    Rows,
    /// Class logits of a transformer's queries: `(1, queries, classes)`, or one more for "no object".
    Logits,
    /// Boxes of the same queries: `(1, queries, 4)`, centre and size as a share of the input.
    Boxes,
}

impl OutputKind {
    /// Whether the output is a map of cells, with a stride and channels.
    #[must_use]
    pub fn is_map(self) -> bool {
        matches!(self, Self::Features | Self::Scores | Self::Distances)
    }
}

/// How detections are read from the outputs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// Which family's form the outputs have.
    pub format: Format,
    /// Overlap (intersection over union) over which the weaker of two boxes of a class is left out; 0.6 where nothing is
    /// said. Not for formats that need no suppression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f32>,
}

/// The form of a detector's outputs. All scores are 0 to 1 already, but for the two of the DETR family, which give
/// logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Pairs of `scores` and `distances`: inspectd's own.
    Fcos,
    /// A row: centre x, y, width, height in input pixels, a score per class (Ultralytics YOLOv8, YOLO11).
    Yolov8,
    /// A row: centre x, y, width, height in input pixels, objectness, a score per class (Ultralytics YOLOv5).
    Yolov5,
    /// As `yolov5`, with the boxes as the head gives them: centre from the cell's corner in strides, logarithm of the
    /// size in strides; cells of stride 8, 16, 32, each from left to right and from the top (YOLOX as it exports itself).
    Yolox,
    /// As `yolov5`: YOLOX exported with `--decode_in_inference`.
    YoloxDecoded,
    /// A row: x0, y0, x1, y1 in input pixels, score, class (YOLOv10, YOLO26).
    EndToEnd,
    /// `logits` of classes and a last "no object", softmax; `boxes` (DETR).
    Detr,
    /// `logits` of classes, sigmoid; `boxes` (Deformable DETR, RT-DETR, RF-DETR). A last channel more is not looked at.
    RtDetr,
}

impl Format {
    /// Whether overlapping boxes of a class are one thing seen twice, to be suppressed.
    #[must_use]
    pub fn needs_suppression(self) -> bool {
        !matches!(self, Self::EndToEnd | Self::Detr | Self::RtDetr)
    }

    /// Whether the candidates' order says nothing, since the network sorts them by score itself.
    #[must_use]
    pub fn is_unordered(self) -> bool {
        !self.needs_suppression()
    }

    /// What the outputs of a detector of this format are, besides features.
    #[must_use]
    pub fn outputs(self) -> &'static [OutputKind] {
        match self {
            Self::Fcos => &[OutputKind::Scores, OutputKind::Distances],
            Self::Detr | Self::RtDetr => &[OutputKind::Logits, OutputKind::Boxes],
            _ => &[OutputKind::Rows],
        }
    }
}

/// A class that detections can carry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// With its domain: `steel/patches`.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// Score from which on it counts.
    pub threshold: f32,
}

/// Golden vectors: little-endian float32 without header.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// Largest allowed difference, as a share of the largest absolute value of the output, or of its boxes and scores
    /// each.
    pub tolerance: f32,
    /// The input.
    pub input: TensorSpec,
    /// By output name.
    pub outputs: BTreeMap<String, TensorSpec>,
}

/// A tensor in a file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// The file.
    pub file: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
}

/// A file of the bundle.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

impl std::fmt::Display for OutputKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
