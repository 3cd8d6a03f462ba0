//! Bundles that are whole, changed, or wrong.

use super::*;

/// The bundle that ships.
pub fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default")
}

fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("golden")).unwrap();
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(shipped().join("bundle.json")).unwrap()).unwrap();
    for name in manifest.files.keys().map(String::as_str).chain(["bundle.json"]) {
        std::fs::copy(shipped().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn refused(dir: &Path) -> String {
    format!("{:#}", Bundle::open(dir).unwrap_err())
}

#[test]
fn the_shipped_bundle_is_good() {
    let bundle = Bundle::open(&shipped()).unwrap();
    assert_eq!(bundle.tensor(&bundle.manifest.golden.input).unwrap().len(), 3 * 64 * 96);
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed() {
    let dir = copy();
    let names: Vec<_> = Bundle::open(dir.path()).unwrap().manifest.files.into_keys().collect();
    for name in names {
        let path = dir.path().join(&name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&path, bad).unwrap();
        assert!(refused(dir.path()).contains("was changed"));
        std::fs::write(&path, &good[1..]).unwrap();
        assert!(refused(dir.path()).contains("bytes, not"));
        std::fs::write(&path, good).unwrap();
    }
}

#[test]
fn bad_manifests_are_named() {
    let dir = copy();
    let path = dir.path().join("bundle.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let manifest = Bundle::open(dir.path()).unwrap().manifest;
    let (size, version) = (format!("\"size\": {}", manifest.input.size), format!("{:?}", manifest.version));
    for (from, to, expected) in [
        ("\"inspect.bundle/1\"", "\"inspect.bundle/2\"", "is not inspect.bundle/1"),
        (size.as_str(), "\"size\": 250", "must divide"),
        (version.as_str(), "\"one\"", "1.2.3"),
        ("\"model\": \"model.onnx\"", "\"model\": \"other.onnx\"", "not listed"),
        ("\"CARD.md\": {", "\"../CARD.md\": {", "leads out"),
        ("\"name\": \"stage4\"", "\"name\": \"stage9\"", "stage9"),
        ("\"kind\": \"features\"", "\"kind\": \"distances\"", "not 4"),
        ("\"schema\"", "\"shema\"", "unknown field `shema`"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let message = refused(dir.path());
        assert!(message.contains(expected), "{to}: {message}");
    }
}

#[test]
fn a_link_in_the_place_of_a_file_is_refused() {
    let dir = copy();
    std::fs::remove_file(dir.path().join("CARD.md")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("CARD.md")).unwrap();
    assert!(refused(dir.path()).contains("no plain file"));
}
