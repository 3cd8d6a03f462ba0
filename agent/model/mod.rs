//! The model: a bundle on disk, vetted before ONNX Runtime sees a byte of it, and what one forward pass gives.

pub mod bundle;
pub mod decode;
pub mod extract;
pub mod golden;
pub mod onnx;
pub mod preprocess;
pub mod runtime;
pub mod structure;
#[cfg(test)]
mod tests;

/// A feature map of the network, channels first.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Network input pixels a cell.
    pub stride: usize,
    /// `channels * height * width` values.
    pub data: Vec<f32>,
}

/// A defect that the model names.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Index into the bundle's classes.
    pub class: usize,
    /// 0 to 1.
    pub score: f32,
    /// x0, y0, x1, y1.
    pub bbox: [f32; 4],
}
