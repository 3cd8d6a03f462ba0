//! Numbers that look random and are the same everywhere.

/// Different things that are drawn from the same seed.
#[derive(Clone, Copy)]
pub enum Stream {
    Brush = 1,
    Grain,
    Streak,
    Shading,
    Light,
    Sensor,
    SensorRow,
    Defect,
    Layout,
    Etching,
    BoardDefect,
}

/// From 0 to 1 without corners.
pub fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// `SplitMix64`: any two different states give unrelated sequences, so that a place can be a state.
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64, stream: Stream, place: u64) -> Self {
        let mut stream = Self(seed ^ (stream as u64) << 56);
        Self(stream.bits() ^ Self(place).bits())
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 to below 1; 24 bits, which is what an `f32` holds exactly.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// From -1 to 1.
    pub fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// From `low` to `high`, both included.
    pub fn count(&mut self, low: u32, high: u32) -> u32 {
        low + (self.bits() % u64::from(high - low + 1)) as u32
    }

    pub fn chance(&mut self, share: f32) -> bool {
        self.unit() < share
    }

    /// Mean 0, deviation 1, never beyond 3.5: the sum of four 16 bit numbers.
    pub fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|n| bits >> (16 * n) & 0xFFFF).sum();
        // Each has a variance of 2^32 / 12.
        (sum as f32 - 131_070.0) / 37_837.0
    }
}

/// A cloudy field from -1 to 1, with lumps of about a unit.
#[derive(Clone, Copy)]
pub struct Cloud(u64);

impl Cloud {
    pub fn new(rng: &mut Rng) -> Self {
        Self(rng.bits())
    }

    pub fn at(self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (right, down) = (smooth(x - column), smooth(y - row));
        let corner = |dx: i64, dy: i64| {
            let place = (column as i64 + dx) as u64 & 0xFFFF | ((row as i64 + dy) as u64 & 0xFFFF) << 16;
            Rng(self.0 ^ place << 8).signed()
        };
        let mix = |from: f32, to: f32, share: f32| from + (to - from) * share;
        mix(mix(corner(0, 0), corner(1, 0), right), mix(corner(0, 1), corner(1, 1), right), down)
    }

    /// With lumps on the lumps; each layer lies at another angle, or its grid would show.
    pub fn rough(self, x: f32, y: f32) -> f32 {
        0.65 * self.at(0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x)
            + 0.45 * self.at(2.3 * x - 1.3 * y + 31.0, 2.3 * y + 1.3 * x)
    }
}
