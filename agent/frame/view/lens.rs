//! How a lens bends the picture.
//!
//! Model: Brown and Conrady, as OpenCV has it in `calibrateCamera` (and ROS as `plumb_bob` and `rational_polynomial`), with the
//! coefficients in OpenCV's order. It says where a point of the straight picture lies in the captured one; the other direction has
//! no formula and is found by Newton's method. A [`Lens`] that was accepted does both, everywhere in the frame, within 0.01 px.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pictures of another shape than the calibration's by more than this were cut by the camera: other numbers hold for them.
const SHAPE: f64 = 0.01;
/// Points along each side of the frame, at which coefficients are tried.
const LATTICE: u32 = 32;
/// An area is not made larger or smaller than this many times.
const STRETCH: f64 = 10.0;
/// Steps of Newton's method; three or four are taken.
const STEPS: usize = 30;

/// `lens`: what a calibration with a chessboard gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LensKeys {
    /// Width and height of the pictures of the calibration. The camera's own may be larger or smaller, in the same shape.
    pub size: [u32; 2],
    /// The camera matrix: fx, fy, cx, cy in pixels, or all nine numbers row by row.
    pub matrix: Vec<f64>,
    /// k1, k2, p1, p2, and if given k3, and if given k4, k5, k6.
    pub distortion: Vec<f64>,
}

/// A calibrated lens that folds nothing over within the frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "LensKeys", into = "LensKeys")]
pub struct Lens {
    keys: LensKeys,
    calibrated: Optics,
}

impl From<Lens> for LensKeys {
    fn from(lens: Lens) -> Self {
        lens.keys
    }
}

impl TryFrom<LensKeys> for Lens {
    type Error = String;

    fn try_from(keys: LensKeys) -> Result<Self, String> {
        let [width, height] = keys.size.map(f64::from);
        if width < 1.0 || height < 1.0 {
            return Err("size is the width and height of the calibration's pictures, for instance [1920, 1080]".into());
        }
        let [fx, fy, cx, cy] = match keys.matrix[..] {
            [fx, fy, cx, cy] => [fx, fy, cx, cy],
            [fx, skew, cx, zero, fy, cy, a, b, one] if [skew, zero, a, b, one] == [0.0, 0.0, 0.0, 0.0, 1.0] => {
                [fx, fy, cx, cy]
            }
            _ => {
                return Err("matrix is [fx, fy, cx, cy], or [fx, 0, cx, 0, fy, cy, 0, 0, 1] as OpenCV prints it".into());
            }
        };
        let usual = |focal: f64, side: f64| (0.1 * side..=100.0 * side).contains(&focal);
        if !(usual(fx, width) && usual(fy, height) && cx.is_finite() && cy.is_finite()) {
            return Err(format!(
                "matrix: fx {fx}, fy {fy}, cx {cx}, cy {cy} are no pixels of a picture of {width}x{height}"
            ));
        }
        let mut k = [0.0; 8];
        match keys.distortion.len() {
            n @ (4 | 5 | 8) => k[..n].copy_from_slice(&keys.distortion),
            n => {
                return Err(format!("distortion has {n} numbers: k1, k2, p1, p2, with k3 five, with k4, k5, k6 eight"));
            }
        }
        if k.iter().any(|k| !k.is_finite()) {
            return Err("distortion holds what is no number".into());
        }
        // OpenCV counts from the middle of the first pixel, boxes from its corner.
        let centre = [cx + 0.5, cy + 0.5];
        let calibrated = Optics { focal: [fx, fy], centre, k, reach: f64::INFINITY }.tried(width, height)?;
        Ok(Self { keys, calibrated })
    }
}

impl Lens {
    /// The lens for frames of this size.
    ///
    /// # Errors
    /// They are of another shape than the calibration's.
    pub fn at(&self, width: u32, height: u32) -> Result<Optics, String> {
        let by = [f64::from(width) / f64::from(self.keys.size[0]), f64::from(height) / f64::from(self.keys.size[1])];
        if (by[0] / by[1] - 1.0).abs() > SHAPE.max(2.0 / f64::from(width.min(height))) {
            let [w, h] = self.keys.size;
            return Err(format!(
                "the picture has {width}x{height} px, and the lens was calibrated at {w}x{h}, another shape: calibrate it as \
                 the camera is set"
            ));
        }
        let Optics { focal, centre, k, reach } = self.calibrated;
        Ok(Optics { focal: pair(|n| focal[n] * by[n]), centre: pair(|n| centre[n] * by[n]), k, reach })
    }
}

fn pair(f: impl FnMut(usize) -> f64) -> [f64; 2] {
    std::array::from_fn(f)
}

/// A lens in pixels of the frame, from the corner of its first pixel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optics {
    /// Focal lengths.
    pub focal: [f64; 2],
    /// Where the axis of the lens meets the picture.
    pub centre: [f64; 2],
    /// k1, k2, p1, p2, k3, k4, k5, k6.
    pub k: [f64; 8],
    /// Squared distance from the axis, in focal lengths, that no point of the frame lies beyond; farther out the polynomials
    /// mean nothing.
    pub reach: f64,
}

impl Optics {
    /// Where a point of the straight picture lies in the captured one; a point beyond the reach as if it lay there.
    #[must_use]
    pub fn bend(&self, straight: [f64; 2]) -> [f64; 2] {
        let mut at = self.normal(straight);
        let square = at[0] * at[0] + at[1] * at[1];
        if square > self.reach {
            at = at.map(|v| v * (self.reach / square).sqrt());
        }
        self.pixels(self.model(at).0)
    }

    /// Whether a point of the straight picture can be in the frame.
    #[must_use]
    pub fn reaches(&self, straight: [f64; 2]) -> bool {
        let [x, y] = self.normal(straight);
        x * x + y * y <= self.reach
    }

    /// Where a point of the captured picture lies in the straight one.
    #[must_use]
    pub fn straighten(&self, captured: [f64; 2]) -> [f64; 2] {
        let wanted = self.normal(captured);
        let mut at = wanted;
        for _ in 0..STEPS {
            let (here, [[a, b], [c, d]]) = self.model(at);
            let miss = [wanted[0] - here[0], wanted[1] - here[1]];
            let det = a * d - b * c;
            if miss[0].abs().max(miss[1].abs()) < 1e-10 || det.abs() < 1e-9 {
                break;
            }
            at[0] += (d * miss[0] - b * miss[1]) / det;
            at[1] += (a * miss[1] - c * miss[0]) / det;
        }
        self.pixels(at)
    }

    /// How much the captured picture's x and y grow with those of the straight one.
    #[must_use]
    pub fn growth(&self, straight: [f64; 2]) -> [f64; 2] {
        let (_, [[a, _], [_, d]]) = self.model(self.normal(straight));
        [a, d]
    }

    fn normal(&self, point: [f64; 2]) -> [f64; 2] {
        pair(|n| (point[n] - self.centre[n]) / self.focal[n])
    }

    fn pixels(&self, normal: [f64; 2]) -> [f64; 2] {
        pair(|n| normal[n] * self.focal[n] + self.centre[n])
    }

    /// The model in focal lengths, and its derivatives: rows are the captured x and y.
    fn model(&self, [x, y]: [f64; 2]) -> ([f64; 2], [[f64; 2]; 2]) {
        let [k1, k2, p1, p2, k3, k4, k5, k6] = self.k;
        let r = x * x + y * y;
        let (over, under) = (1.0 + r * (k1 + r * (k2 + r * k3)), 1.0 + r * (k4 + r * (k5 + r * k6)));
        let (over_by, under_by) = (k1 + r * (2.0 * k2 + r * 3.0 * k3), k4 + r * (2.0 * k5 + r * 3.0 * k6));
        let (radial, by) = (over / under, (over_by * under - over * under_by) / (under * under));
        let bent = [
            x * radial + 2.0 * p1 * x * y + p2 * (r + 2.0 * x * x),
            y * radial + p1 * (r + 2.0 * y * y) + 2.0 * p2 * x * y,
        ];
        let across = 2.0 * x * y * by + 2.0 * p1 * x + 2.0 * p2 * y;
        let derivatives = [
            [radial + 2.0 * x * x * by + 2.0 * p1 * y + 6.0 * p2 * x, across],
            [across, radial + 2.0 * y * y * by + 6.0 * p1 * y + 2.0 * p2 * x],
        ];
        (bent, derivatives)
    }

    /// Tries it all over a frame, and finds its reach.
    fn tried(mut self, width: f64, height: f64) -> Result<Self, String> {
        let mut reach = 0.0_f64;
        for n in 0..=LATTICE * (LATTICE + 2) {
            let share = [n % (LATTICE + 1), n / (LATTICE + 1)].map(|k| f64::from(k) / f64::from(LATTICE));
            let captured = [share[0] * width, share[1] * height];
            let straight = self.straighten(captured);
            let back = self.bend(straight);
            let at = self.normal(straight);
            // The way there from the axis must not fold either: behind a fold is a second point that bends to the same place.
            let sound = |step: u32| {
                let [[a, b], [c, d]] = self.model(at.map(|v| v * f64::from(step) / 16.0)).1;
                a > 0.0 && d > 0.0 && (1.0 / STRETCH..=STRETCH).contains(&(a * d - b * c))
            };
            let found = (back[0] - captured[0]).hypot(back[1] - captured[1]) < 0.01;
            if !(found && (0..=16).all(sound)) {
                let [x, y] = captured.map(f64::round);
                return Err(format!(
                    "the coefficients fold the picture over, or stretch it more than {STRETCH} times, near {x},{y} px: calibrate \
                     again, with the chessboard also in the corners of the picture, and with fewer coefficients"
                ));
            }
            reach = reach.max(at[0] * at[0] + at[1] * at[1]);
        }
        self.reach = reach * 1.001;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lens(matrix: &[f64], distortion: &[f64]) -> Result<Lens, String> {
        LensKeys { size: [1920, 1080], matrix: matrix.into(), distortion: distortion.into() }.try_into()
    }

    const MATRIX: [f64; 4] = [1400.0, 1390.0, 951.3, 547.8];

    /// Points, and what OpenCV 5.0.0 makes of them: `undistortPoints(points, K, D, P=K)`, 200 steps, and `projectPoints` of the
    /// same points as straight ones. Its pixels are counted from the middle of the first one.
    #[test]
    fn agrees_with_opencv_itself() {
        type Row = ([f64; 2], [f64; 2], [f64; 2]);
        let barrel: [Row; 5] = [
            ([0.0, 0.0], [-244.918, -135.920], [138.553, 76.800]),
            ([1919.0, 0.0], [2154.969, -132.666], [1784.416, 75.622]),
            ([1919.0, 1079.0], [2156.238, 1214.159], [1783.808, 1001.891]),
            ([960.0, 270.0], [959.932, 267.258], [960.066, 272.659]),
            ([100.0, 1030.0], [-65.894, 1124.702], [204.887, 970.102]),
        ];
        let rational: [Row; 5] = [
            ([0.0, 0.0], [-242.492, -184.032], [106.777, 80.829]),
            ([1279.0, 0.0], [1562.665, -205.686], [1161.803, 84.960]),
            ([1279.0, 959.0], [1565.495, 1171.126], [1160.326, 870.839]),
            ([640.0, 240.0], [640.247, 235.799], [639.766, 243.984]),
            ([896.0, 288.0], [906.043, 281.107], [886.985, 294.187]),
        ];
        let of = |size, matrix: [f64; 4], k: &[f64]| {
            let keys = LensKeys { size, matrix: matrix.into(), distortion: k.into() };
            Lens::try_from(keys).unwrap().at(size[0], size[1]).unwrap()
        };
        let k = [-0.28, 0.09, 0.0007, -0.0004, -0.015];
        let five = of([1920, 1080], [1400.0, 1390.0, 968.5, 531.25], &k);
        let k = [-0.3, 0.05, 0.001, -0.0012, 0.01, 0.02, -0.01, 0.004];
        let eight = of([1280, 960], [1000.0, 1005.0, 630.0, 470.0], &k);
        for (optics, rows) in [(five, barrel), (eight, rational)] {
            for (point, straight, bent) in rows {
                let is_near = |got: [f64; 2], wanted: [f64; 2]| {
                    assert!((got[0] - 0.5 - wanted[0]).abs() < 1e-3, "{point:?}: {got:?}, {wanted:?}");
                    assert!((got[1] - 0.5 - wanted[1]).abs() < 1e-3, "{point:?}: {got:?}, {wanted:?}");
                };
                let ours = point.map(|v| v + 0.5);
                is_near(optics.straighten(ours), straight);
                is_near(optics.bend(ours), bent);
            }
        }
    }

    #[test]
    fn bends_as_opencv_does() {
        // The formula as OpenCV's documentation of calibrateCamera has it, at the point (-0.5, 0.3, 1).
        let optics = lens(&MATRIX, &[-0.31, 0.12, 0.001, -0.0005, -0.02]).unwrap().at(1920, 1080).unwrap();
        let by_hand = |[x, y]: [f64; 2], k: [f64; 8]| {
            let r2 = x * x + y * y;
            let radial = (1.0 + k[0] * r2 + k[1] * r2 * r2 + k[4] * r2.powi(3))
                / (1.0 + k[5] * r2 + k[6] * r2 * r2 + k[7] * r2.powi(3));
            [
                x * radial + 2.0 * k[2] * x * y + k[3] * (r2 + 2.0 * x * x),
                y * radial + k[2] * (r2 + 2.0 * y * y) + 2.0 * k[3] * x * y,
            ]
        };
        let k = [-0.31, 0.12, 0.001, -0.0005, -0.02, 0.0, 0.0, 0.0];
        let [x, y] = by_hand([-0.5, 0.3], k);
        let got = optics.bend([-0.5 * 1400.0 + 951.8, 0.3 * 1390.0 + 548.3]);
        assert!((got[0] - (x * 1400.0 + 951.8)).abs() < 1e-9 && (got[1] - (y * 1390.0 + 548.3)).abs() < 1e-9);
        let nine = [1400.0, 0.0, 951.3, 0.0, 1390.0, 547.8, 0.0, 0.0, 1.0];
        assert_eq!(lens(&nine, &[-0.31, 0.12, 0.001, -0.0005, -0.02]).unwrap().at(1920, 1080).unwrap(), optics);
    }

    #[test]
    fn derivatives_are_those_of_the_model() {
        let k = [-0.31, 0.12, 0.01, -0.005, -0.02, 0.05, 0.02, -0.01];
        let optics = Optics { focal: [1.0; 2], centre: [0.0; 2], k, reach: f64::INFINITY };
        let (at, h) = ([0.4, -0.3], 1e-6);
        let (_, rows) = optics.model(at);
        for n in 0..2 {
            let mut beside = at;
            beside[n] += h;
            let slope = pair(|row| (optics.model(beside).0[row] - optics.model(at).0[row]) / h);
            assert!((rows[0][n] - slope[0]).abs() < 1e-5 && (rows[1][n] - slope[1]).abs() < 1e-5, "{rows:?} {slope:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (matrix, distortion, words) in [
            (&MATRIX[..], &[-0.9, 0.0, 0.0, 0.0][..], "fold the picture over"),
            (&MATRIX, &[0.0, -2.0, 0.0, 0.0], "fold the picture over"),
            (&MATRIX, &[0.0, 0.0, 3.0, 0.0], "fold the picture over"),
            (&MATRIX, &[0.0, 0.0, 0.0, 0.0, 0.0, -5.0, 0.0, 0.0], "fold the picture over"),
            (&MATRIX, &[0.1], "distortion has 1 numbers"),
            (&MATRIX, &[f64::NAN; 4], "no number"),
            (&[0.73, 1.29, 0.5, 0.5], &[0.0; 4], "are no pixels of a picture of 1920x1080"),
            (&MATRIX[..3], &[0.0; 4], "matrix is [fx, fy, cx, cy]"),
        ] {
            let message = lens(matrix, distortion).unwrap_err();
            assert!(message.contains(words), "{distortion:?}: {message}");
        }
        let lens = lens(&MATRIX, &[-0.3, 0.1, 0.0, 0.0]).unwrap();
        assert!(lens.at(640, 480).unwrap_err().contains("calibrated at 1920x1080, another shape"));
        assert!(lens.at(960, 540).is_ok() && lens.at(1366, 768).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_accepted_goes_there_and_back(
            k in (-0.45_f64..0.45, -0.2_f64..0.2, -0.005_f64..0.005, -0.005_f64..0.005, -0.05_f64..0.05),
            focal in 900.0_f64..3000.0, share in prop::array::uniform2(0.0_f64..1.0), by in 1_u32..4,
        ) {
            if let Ok(lens) = lens(&[focal, focal, 951.3, 547.8], &[k.0, k.1, k.2, k.3, k.4]) {
                let (width, height) = (1920 * by / 2, 1080 * by / 2);
                let optics = lens.at(width, height).unwrap();
                let captured = [share[0] * f64::from(width), share[1] * f64::from(height)];
                let straight = optics.straighten(captured);
                let back = optics.bend(straight);
                prop_assert!(optics.reaches(straight));
                prop_assert!((back[0] - captured[0]).hypot(back[1] - captured[1]) < 0.01, "{captured:?} {back:?}");
            }
        }

        #[test]
        fn no_numbers_panic(numbers in prop::collection::vec(any::<f64>(), 15)) {
            let optics = Optics {
                focal: [numbers[0], numbers[1]], centre: [numbers[2], numbers[3]],
                k: std::array::from_fn(|n| numbers[4 + n]), reach: numbers[12],
            };
            let _ = (optics.bend([numbers[13], numbers[14]]), optics.straighten([numbers[13], numbers[14]]));
            let _ = lens(&numbers[..4], &numbers[4..12]);
        }
    }
}
