//! The synthetic camera: [`Scene`] as a source, with ground truth in every frame.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::scene::{Scene, SceneConfig};
use super::source::{FrameSource, Next};
use super::{Image, PixelFormat};
use crate::config::SyntheticSource;

/// An endless strip or panel under a camera.
pub struct Synthetic {
    scene: Scene,
    size: (u32, u32),
    pace: Duration,
    frame: u64,
}

impl Synthetic {
    /// Builds the scene.
    #[must_use]
    pub fn new(config: &SyntheticSource) -> Self {
        let scene = Scene::new(SceneConfig {
            kind: config.scene,
            width: config.width.get(),
            height: config.height.get(),
            seed: config.seed,
            speed: config.speed.get() as f32,
            defects_per_frame: config.defects_per_frame.get() as f32,
        });
        let pace = Duration::from_secs_f64(1.0 / config.rate.get());
        Self { scene, size: (config.width.get(), config.height.get()), pace, frame: 0 }
    }
}

impl FrameSource for Synthetic {
    fn next(&mut self, _due: Instant) -> Result<Next> {
        let (pixels, truth) = self.scene.render(self.frame);
        self.frame += 1;
        let (width, height) = self.size;
        let format = PixelFormat::Rgb8;
        Ok(Image { width, height, format, pixels, origin: None, truth: Some(truth) }.into())
    }

    fn pace(&self) -> Option<Duration> {
        Some(self.pace)
    }
}
