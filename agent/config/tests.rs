use super::*;

const GOOD: &str = r#"
[gateway]
site = "s"
name = "g"
state_dir = "state"
[mqtt]
url = "mqtt://localhost"
[model]
bundle = "bundle"
[[cameras]]
name = "a"
source.synthetic = {}
"#;

fn mistake(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Config::parse(&GOOD.replacen(from, to, 1), "f.toml").unwrap_err().to_string()
}

#[test]
fn the_shipped_example_is_right_and_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/inspectd.toml");
    let config = Config::read(&path).unwrap();
    assert_eq!(config.cameras.len(), 6);
    assert!(config.model.bundle.join("bundle.json").is_file(), "paths are relative to the file's folder");
    // Every key of the schema is shown.
    let text = std::fs::read_to_string(&path).unwrap();
    let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
    let mut keys = Vec::new();
    collect(&schema, &mut keys);
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        assert!(text.contains(&key), "config/inspectd.toml does not show `{key}`");
    }
}

fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(serde_json::Value::as_object) {
        keys.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(map) => map.values().for_each(|v| collect(v, keys)),
        serde_json::Value::Array(list) => list.iter().for_each(|v| collect(v, keys)),
        _ => {}
    }
}

#[test]
fn a_mistake_is_named_with_file_line_key_and_what_is_right() {
    for (from, to, place, message) in [
        ("name = \"g\"", "name = \"taught\"", "f.toml:2:1: gateway.name", "must be none of blobs, model, taught"),
        (
            "name = \"a\"",
            "name = \"a\"\nfsp = 3",
            "f.toml:12:1: cameras[0].fsp",
            "unknown field `fsp`, expected one of",
        ),
        (
            "name = \"a\"",
            "name = \"a\"\nfps = -3.0",
            "f.toml:12:7: cameras[0].fps",
            "-3 is out of range: 0.001 to 1000",
        ),
        ("name = \"a\"", "name = \"a/b\"", "f.toml:11:8: cameras[0].name", "letters, digits"),
        ("mqtt://localhost", "localhost", "f.toml:7:7: mqtt.url", "write mqtt://HOST[:PORT]"),
        ("mqtt://localhost", "mqtt://u:p@localhost", "f.toml:7:7: mqtt.url: it is wrong", "`password_file`"),
        ("mqtt://localhost", "mqtt://localhost:99999", "f.toml:7:7: mqtt.url", "write mqtt://HOST[:PORT]"),
        ("[mqtt]", "[metrics]\nlisten = \"9464\"\n[mqtt]", "f.toml:7:10: metrics.listen", "write ADDRESS:PORT"),
        ("synthetic = {}", "synthetic = { width = 3 }", "f.toml:12:", "64 to 8192 px"),
        (
            "synthetic = {}",
            "synthetic = { scene = \"wood\" }",
            "f.toml:12:",
            "unknown variant `wood`, expected `steel` or `boards`",
        ),
        ("source.synthetic", "source.gige", "f.toml:12:", "unknown variant `gige`, expected one of"),
        ("name = \"a\"", "name = \"a\"\nroi = [0.5, 0.0, 0.2, 1.0]", "f.toml:12:7: cameras[0].roi", "x0 < x1"),
        (
            "name = \"a\"",
            "name = \"a\"\nroi = [[0, 0], [1, 1], [1, 0], [0, 1]]",
            "f.toml:12:7: cameras[0].roi",
            "crosses itself",
        ),
        (
            "name = \"a\"",
            "name = \"a\"\nmasks = [[0, 0, 2, 1]]",
            "f.toml:12:9: cameras[0].masks[0]",
            "2 is not a share",
        ),
        ("name = \"a\"", "name = \"a\"\nmasks = [[0, 0, 1, 1]]", "f.toml:11:8: cameras[0].masks", "they leave nothing"),
        ("name = \"a\"", "name = \"a\"\nrotate = 45", "f.toml:12:10: cameras[0].rotate", "none of 0, 90, 180, 270"),
        ("name = \"a\"", "name = \"a\"\nflip = \"both\"", "f.toml:12:8: cameras[0].flip", "unknown variant `both`"),
        (
            "name = \"a\"",
            "name = \"a\"\nlens = { size = [640, 480], matrix = [500, 500, 320, 240], distortion = [-0.9, 0, 0, 0] }",
            "f.toml:12:8: cameras[0].lens",
            "fold the picture over",
        ),
        (
            "name = \"a\"",
            "name = \"a\"\nlens = { size = [640, 480], matrix = [500, 500, 320, 240], k1 = 1 }",
            "f.toml:12:",
            "unknown field `k1`",
        ),
        ("site = \"s\"\n", "", "f.toml:2:1: gateway", "missing field `site`"),
        ("[model]", "[model", "f.toml:8:", "is not TOML"),
    ] {
        let found = mistake(from, to);
        assert!(found.starts_with(place), "{found}");
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn contradictions_are_refused() {
    let twice = format!("{GOOD}\n[[cameras]]\nname = \"a\"\nsource.synthetic = {{}}\n");
    let error = Config::parse(&twice, "f.toml").unwrap_err().to_string();
    assert!(error.starts_with("f.toml:15:8: cameras[1].name: two cameras are called \"a\""), "{error}");
    let hasty = format!("{GOOD}\n[alarm]\nraise_after = 5\n");
    let error = Config::parse(&hasty, "f.toml").unwrap_err().to_string();
    assert!(error.starts_with("f.toml:15:1: alarm.raise_after"), "{error}");
    let none = GOOD.replace("[[cameras]]\nname = \"a\"\nsource.synthetic = {}", "cameras = []");
    assert!(Config::parse(&none, "f.toml").is_err());
}

#[test]
fn addresses() {
    let url = |text: &str| value::BrokerUrl::new(text).map(|u| u.address());
    assert_eq!(url("mqtt://10.0.0.1:8883").unwrap(), ("10.0.0.1".into(), 8883));
    assert_eq!(url("mqtt://broker/").unwrap(), ("broker".into(), 1883));
    assert_eq!(url("mqtt://[::1]:1884").unwrap(), ("::1".into(), 1884));
    assert_eq!(url("mqtt://[::1]").unwrap(), ("::1".into(), 1883));
    assert!(url("mqtt://").is_err() && url("http://x").is_err());
}

#[test]
fn a_password_reaches_the_address_and_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "p@ss/word\nsecond line\n").unwrap();
    let source = RtspSource {
        url: value::RtspUrl::new("rtsp://cam:554/s").unwrap(),
        transport: RtspTransport::default(),
        user: Some("me".into()),
        password_file: Some(file),
        open_timeout_s: value::Seconds::of(1.0),
        read_timeout_s: value::Seconds::of(1.0),
    };
    assert_eq!(source.full_url().unwrap(), "rtsp://me:p%40ss%2Fword@cam:554/s");
    assert_eq!(source.host(), "cam:554");
    assert!(value::RtspUrl::new("rtsp://me:secret@cam/s").is_err());
}

fn genicam(keys: &str) -> Result<GenicamSource, String> {
    let text = GOOD.replace("source.synthetic = {}", &format!("source.genicam = {{ camera = \"T1\"{keys} }}"));
    match Config::parse(&text, "f.toml").map_err(|e| e.to_string())?.cameras.remove(0).source {
        SourceConfig::Genicam(genicam) => Ok(*genicam),
        other => Err(other.kind().to_owned()),
    }
}

#[test]
fn genicam_features_keep_their_order() {
    let found = genicam(", features = { UserSetSelector = \"Default\", GammaEnable = true, Gamma = 0.7, Alpha = 3 }");
    let names: Vec<String> = found.unwrap().features.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["UserSetSelector=\"Default\"", "GammaEnable=true", "Gamma=0.7", "Alpha=3"]);
    let plain = genicam("").unwrap();
    assert_eq!(
        (plain.trigger, plain.packet_size, plain.resend),
        (TriggerMode::FreeRun, genicam::PacketSize::Auto, true)
    );
    assert_eq!(genicam(", packet_size = 9000").unwrap().packet_size, genicam::PacketSize::Bytes(9000));
}

#[test]
fn genicam_contradictions_are_refused() {
    for (keys, message) in [
        (
            ", exposure_us = 100, exposure_auto = \"continuous\"",
            "cameras[0].source.genicam.exposure_us: the camera cannot",
        ),
        (", gain = 3.0, gain_auto = \"once\"", "genicam.gain: "),
        (", trigger = \"line\"", "genicam.trigger_source: is missing"),
        (", trigger_source = \"Line0\"", "are for trigger = \"line\""),
        (", trigger = \"software\", frame_rate = 5.0", "the trigger sets the pace"),
        (", packet_size = 100", "576 to 16000"),
        (", packet_size = \"big\"", "\"auto\", or"),
        (", pixel_format = \"Mono 8\"", "as GenICam spells it"),
        (", exposure_us = 0.0", "0.1 to 1000000000 microseconds"),
        (", features = { Gamma = [1] }", "true, false, a number or a text"),
        (", triger = \"line\"", "unknown field `triger`"),
    ] {
        let found = genicam(keys).unwrap_err();
        assert!(found.contains(message), "{keys}: {found}");
    }
}
