//! The harness: children that end with their test, whatever happens.

pub mod broker;
pub mod browser;
pub mod console;
pub mod daemon;
#[cfg(feature = "genicam")]
pub mod genicam;
pub mod plant;
pub mod proxy;
pub mod rtsp;
pub mod scripted;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The binary under test.
pub const INSPECTD: &str = env!("CARGO_BIN_EXE_inspectd");

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The bundle that ships.
pub fn bundle() -> PathBuf {
    root().join("models/default")
}

/// What `inspectd schema` prints.
pub fn schema(name: &str) -> serde_json::Value {
    let out = std::process::Command::new(INSPECTD).args(["schema", name]).output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `f` gives something; fails with `what` after `seconds`.
#[track_caller]
pub fn eventually<T>(seconds: u64, what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = f() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// The folder of real pictures, if there is one.
pub fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("INSPECTD_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no real pictures at {} (INSPECTD_DATA)", dir.display());
    None
}

/// Whether the long forms are wanted.
pub fn soak() -> bool {
    std::env::var_os("INSPECTD_SOAK").is_some()
}

/// Writes a grey JPEG with some texture, and a dark blot if `defect`.
pub fn picture(path: &Path, seed: u32, defect: bool) {
    use inspectd::frame::{Image, PixelFormat, jpeg};
    let (width, height) = (320_u32, 240_u32);
    let mut pixels = Vec::with_capacity((width * height) as usize);
    for y in 0..height {
        for x in 0..width {
            let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ seed.wrapping_mul(97)) >> 7 & 15;
            let blot = defect && x.abs_diff(200) < 30 && y.abs_diff(100) < 25;
            pixels.push(if blot { 20 } else { 120 + noise as u8 + ((y / 8) % 2 * 12) as u8 });
        }
    }
    let image = Image { width, height, format: PixelFormat::Mono8, pixels, origin: None, truth: None };
    std::fs::write(path, jpeg::encode(&image, 92).unwrap()).unwrap();
}
