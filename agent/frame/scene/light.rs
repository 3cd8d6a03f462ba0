//! Light and sensor: from the brightness of a surface to grey levels.

use super::{GREY, Rng, SceneConfig, Stream, smooth};

/// Fractional bits of gains.
const GAIN_BITS: u32 = 12;

const NOISE_RING: usize = 1 << 15;

/// The lamp and the camera's sensor.
pub struct Light {
    seed: u64,
    width: usize,
    height: u32,
    /// How uneven the lamp is, over the picture and in time; 1 is an ordinary lamp.
    uneven: f32,
    /// A ring of sensor noise, unrolled by the width of a row.
    noise: Vec<i8>,
    /// The lamp is a little darker towards the left and right end.
    column_gain: Vec<i32>,
}

impl Light {
    /// Draws the noise.
    pub fn new(config: &SceneConfig, uneven: f32) -> Self {
        let SceneConfig { width, height, seed, .. } = *config;
        let column_gain = (0..width).map(|x| gain(1.0 - 0.05 * uneven * squared_from_middle(x, width))).collect();
        let noise = sensor_noise(seed, width as usize);
        Self { seed, width: width as usize, height, uneven, noise, column_gain }
    }

    /// From the surface, in 1/[`GREY`] of a grey level, to RGB8, in which `tint` gives the colour of a grey level.
    pub fn expose(&self, frame: u64, surface: &[i16], tint: &[[u8; 3]; 256]) -> Vec<u8> {
        let light = light(self.seed, frame, self.uneven);
        let mut pixels = vec![0; surface.len() * 3];
        let rows = surface.chunks_exact(self.width).zip(pixels.chunks_exact_mut(self.width * 3));
        let mut starts = Rng::new(self.seed, Stream::SensorRow, frame);
        for (y, (row, out)) in (0..).zip(rows) {
            let row_gain = gain(light * (1.0 - 0.04 * self.uneven * squared_from_middle(y, self.height)));
            let start = starts.bits() as usize % NOISE_RING;
            let noise = &self.noise[start..start + self.width];
            let inputs = row.iter().zip(noise).zip(&self.column_gain);
            for (((&value, &noise), &column_gain), out) in inputs.zip(out.chunks_exact_mut(3)) {
                let lit = ((i32::from(value) * row_gain) >> GAIN_BITS) * column_gain;
                let grey = ((lit >> GAIN_BITS) + i32::from(noise) + GREY / 2) / GREY;
                out.copy_from_slice(&tint[grey.clamp(0, 255) as usize]);
            }
        }
        pixels
    }
}

/// Brightness of the lamp in a frame: a slow drift, a faster one and some flicker, together at most 4 % if `uneven` is 1.
fn light(seed: u64, frame: u64, uneven: f32) -> f32 {
    let drift = |period: u64, stream: u64| {
        let knot = |n: u64| Rng::new(seed ^ stream, Stream::Light, n).signed();
        let (from, to) = (knot(frame / period), knot((frame / period).wrapping_add(1)));
        from + (to - from) * smooth((frame % period) as f32 / period as f32)
    };
    1.0 + uneven * 0.022 * drift(90, 1) + uneven * 0.012 * drift(13, 2) + uneven * 0.004 * drift(1, 3)
}

fn sensor_noise(seed: u64, width: usize) -> Vec<i8> {
    let mut rng = Rng::new(seed, Stream::Sensor, 0);
    let once: Vec<i8> = (0..NOISE_RING).map(|_| (rng.normal() * 1.5 * GREY as f32) as i8).collect();
    once.iter().copied().cycle().take(NOISE_RING + width).collect()
}

fn gain(factor: f32) -> i32 {
    (factor * (1 << GAIN_BITS) as f32) as i32
}

/// 0 in the middle, 1 at both ends.
fn squared_from_middle(at: u32, length: u32) -> f32 {
    let from_middle = 2.0 * (at as f32 + 0.5) / length as f32 - 1.0;
    from_middle * from_middle
}
