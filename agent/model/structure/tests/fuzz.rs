//! Damaged models: no panic, a quick answer.

use std::time::{Duration, Instant};

use super::*;

/// Xorshift with a fixed seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

fn damage(good: &[u8], rounds: usize, seed: u64) -> usize {
    let mut dice = Dice(seed);
    let mut refused = 0;
    for round in 0..rounds {
        let mut bytes = good.to_vec();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            match dice.roll(3) {
                0 => bytes[at] ^= 1 << dice.roll(8),
                1 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                _ => bytes[at] = [0x00, 0xff, 0x7f, 0x80][dice.roll(4)],
            }
        }
        if dice.roll(4) == 0 {
            bytes.truncate(dice.roll(bytes.len()));
        }
        let start = Instant::now();
        refused += usize::from(vet(&bytes, &Limits::default()).is_err());
        assert!(start.elapsed() < Duration::from_secs(5), "round {round} of seed {seed}");
    }
    refused
}

/// The good model with next to no weights, so that damage hits its structure.
fn slim() -> Vec<u8> {
    let mut model = ModelProto::decode(good().as_slice()).unwrap();
    // Weights alone: scales of a Resize and the like say what sizes come out.
    for tensor in graph(&mut model).initializer.iter_mut().filter(|tensor| tensor.dims.len() > 1) {
        let count = tensor.dims.first().copied().unwrap_or(1);
        tensor.dims.iter_mut().skip(1).for_each(|dim| *dim = 1);
        tensor.raw_data = Some(vec![0; 4 * usize::try_from(count).unwrap()]);
    }
    model.encode_to_vec()
}

#[test]
fn damage_anywhere_is_survived() {
    damage(&good(), 200, 0x5eed);
    let slim = slim();
    assert!(vet(&slim, &Limits::default()).is_ok());
    assert!(damage(&slim, 3000, 0xcafe) > 1000);
}

#[test]
fn damage_of_growing_operators_is_survived() {
    let nodes = vec![
        node("Shape", &["x"], "s", &[]),
        node("Slice", &["s", "a", "b"], "hw", &[]),
        node("Mul", &["hw", "b"], "h2", &[]),
        node("Concat", &["a", "h2"], "t", &[int("axis", 0)]),
        node("Tile", &["x", "r"], "t1", &[]),
        node("Resize", &["t1", "", "scales"], "t2", &[]),
        node("Pad", &["t2", "p"], "t3", &[]),
        node("Range", &["n0", "n9", "n1"], "t4", &[]),
        node("Einsum", &["t3", "t3"], "t5", &[text("equation", "abcd,abcd->abcd")]),
        node("Reshape", &["t5", "t"], "y", &[]),
    ];
    let scalar = |name: &str, value| TensorProto::of_i64(name, &[], &[value]);
    let tensors = vec![
        i64s("a", &[2]),
        i64s("b", &[4]),
        i64s("r", &[1, 1, 2, 2]),
        i64s("p", &[0, 0, 1, 1, 0, 0, 1, 1]),
        f32s("scales", &[1.0, 1.0, 2.0, 0.5]),
        scalar("n0", 0),
        scalar("n9", 9),
        scalar("n1", 1),
    ];
    let good = model(nodes, tensors);
    check(&good).unwrap();
    let bytes = good.encode_to_vec();
    assert!(damage(&bytes, 20_000, 0xf00d) > 5000);
    for length in 0..bytes.len() {
        // A cut between two fields of the file may leave a whole model.
        let _ = vet(&bytes[..length], &Limits::default());
    }
}
