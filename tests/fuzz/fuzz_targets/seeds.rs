//! Writes what each target begins with, out of what is in the repository: `seeds REPOSITORY CORPUS_DIR`.

use std::error::Error;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, RgbImage};
use inspectd::frame::{Image, PixelFormat, jpeg};
use inspectd::model::onnx::ModelProto;
use inspectd::model::onnx::tensor::bits;
use prost::Message as _;

type Done = Result<(), Box<dyn Error>>;

const COMMANDS: [(&str, &str); 14] = [
    ("changeover", r#"{"camera":"line-1","product":"plate-4"}"#),
    ("products", r#"{"camera":"line-1"}"#),
    ("relearn", r#"{"camera":"line-1","product":"plate-4"}"#),
    ("teach", r#"{"class":"steel/dent","alarms":["01a20fab-5cd3-7000-8000-000000000000"],"severity":"minor","by":"mk"}"#),
    ("forget", r#"{"class":"steel/dent"}"#),
    ("ack", r#"{"alarm":"01a20fab-5cd3-7000-8000-000000000000","by":"mk","comment":"seen"}"#),
    ("comment", r#"{"alarm":"01a20fab-5cd3-7000-8000-000000000000","by":"mk","comment":"seen"}"#),
    ("shelve", r#"{"alarm":"01a20fab-5cd3-7000-8000-000000000000","by":"mk","minutes":30}"#),
    ("suppress", r#"{"cameras":["line-*"],"classes":["steel/*"],"by":"mk"}"#),
    ("out_of_service", r#"{"cameras":["line-1"],"by":"mk","until":"2026-11-27T00:00:00Z"}"#),
    ("approve", r#"{}"#),
    ("rollback", r#"{"by":"mk"}"#),
    ("trigger", r#"{"camera":"line-1","picture":true}"#),
    ("snapshot", r#"{"camera":"line-1"}"#),
];

const EVENT: &str = r#"{"schema":"inspect.event/1","id":"01a20fab-5cd3-7000-8000-000000000000","seq":17,"at":"2026-11-24T22:58:18.388Z","site":"demo","gateway":"gateway-1","camera":"line-1","alarm":"01a20fab-5cd3-7000-8000-000000000001","transition":"raised","state":"unacknowledged","kind":"anomaly","class":"unknown","severity":"major","score":0.98,"box":[533.3,171.4,640.0,308.6],"frame":{"seq":291,"captured_at":"2026-11-24T22:58:18.301Z","width":640,"height":480},"image":null,"model":{"name":"inspectd-base-full-320","version":"1.1.0","sha256":"00"},"replayed":false}"#;
const STATE: &str = r#"{"schema":"inspect.state/1","online":true,"agent":"0.1.0","uptime_s":3,"bundle":{"name":"a","version":"1.0.0","sha256":"00"},"outbox":{"appended":1,"delivered":1,"dropped":0,"dead":0,"queued":0},"cameras":["line-1"]}"#;
const RELEASE: &str = r#"{"schema":"inspect.release/1","name":"line-4","version":"1.2.3","counter":7,"sites":["plant-*"],"gateways":["*"],"expires":"2030-01-01T00:00:00Z","files":{"bundle.json":{"bytes":100,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"model.onnx":{"bytes":100,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"}},"index":{"bytes":72,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"}}"#;
const SIGNATURE: &str = "untrusted comment: x\nRUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\ntrusted comment: y\nwLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";

fn main() -> Done {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (root, corpus) = (arguments.next().ok_or("REPOSITORY")?, arguments.next().ok_or("CORPUS_DIR")?);
    let put = |target: &str, name: &str, bytes: &[u8]| -> Done {
        let dir = corpus.join(target);
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join(name), bytes)?)
    };
    for bundle in ["base", "default"] {
        put("manifest", bundle, &fs::read(root.join("models").join(bundle).join("bundle.json"))?)?;
    }
    let config = fs::read_to_string(root.join("config/inspectd.toml"))?;
    put("config", "all", config.as_bytes())?;
    put("config", "all-of-it", config.replace("\n# ", "\n").as_bytes())?;
    let head = config.split("[[cameras]]").next().unwrap_or_default();
    for (n, camera) in config.split("[[cameras]]").skip(1).enumerate() {
        put("config", &format!("camera-{n}"), format!("{head}[[cameras]]{camera}").as_bytes())?;
    }
    for (name, payload) in COMMANDS {
        put("command", name, format!("{name}\n{payload}").as_bytes())?;
    }
    let desired = serde_json::json!({ "schema": "inspect.desired/1", "release": RELEASE, "signature": SIGNATURE });
    put("desired", "message", desired.to_string().as_bytes())?;
    put("desired", "signed", format!("{RELEASE}\n{SIGNATURE}").as_bytes())?;
    // Two chunks of 100 bytes, one a file.
    let chunk = [&100_u32.to_le_bytes()[..], &[0; 32]].concat();
    put("desired", "indexed", &[format!("{RELEASE}\n").as_bytes(), &chunk, &chunk].concat())?;
    let letters = [("events", EVENT), ("state", STATE), ("replies/a", r#"{"id":"a","ok":true,"result":{}}"#), ("model/reported", "{}")];
    for (n, (topic, payload)) in letters.into_iter().enumerate() {
        put("letter", &n.to_string(), format!("inspect/v1/demo/gateway-1/{topic}\n{payload}").as_bytes())?;
    }
    pictures(&put)?;
    networks(&root, &put)
}

fn pictures(put: &impl Fn(&str, &str, &[u8]) -> Done) -> Done {
    let (width, height) = (24, 16);
    let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 10) as u8, (y * 15) as u8, (x * y) as u8]));
    let whole = DynamicImage::ImageRgb8(picture);
    for (grey, whole) in [("colour", whole.clone()), ("grey", DynamicImage::ImageLuma8(whole.to_luma8())), ("deep", DynamicImage::ImageRgb16(whole.to_rgb16()))] {
        for (name, format) in [("png", ImageFormat::Png), ("bmp", ImageFormat::Bmp), ("tiff", ImageFormat::Tiff), ("pnm", ImageFormat::Pnm)] {
            let mut bytes = Cursor::new(Vec::new());
            if whole.write_to(&mut bytes, format).is_ok() {
                put("still", &format!("{grey}.{name}"), bytes.get_ref())?;
            }
        }
    }
    for (name, format, pixels) in [("colour", PixelFormat::Rgb8, whole.to_rgb8().into_raw()), ("grey", PixelFormat::Mono8, whole.to_luma8().into_raw())] {
        let image = Image { width, height, format, pixels, origin: None, truth: None };
        put("still", &format!("{name}.jpg"), &jpeg::encode(&image, 90)?)?;
    }
    Ok(())
}

/// The shipped networks with their first nodes alone and with small tensors.
fn networks(root: &Path, put: &impl Fn(&str, &str, &[u8]) -> Done) -> Done {
    let bytes = fs::read(root.join("models/default/model.onnx"))?;
    for nodes in [1, 3, 10, 40, 1000] {
        let mut model = ModelProto::decode(&bytes[..])?;
        let graph = model.graph.as_mut().ok_or("a graph")?;
        graph.node.truncate(nodes);
        let used: Vec<String> = graph.node.iter().flat_map(|node| node.input.clone()).collect();
        graph.initializer.retain(|tensor| used.contains(&tensor.name));
        for tensor in &mut graph.initializer {
            let bits = bits(tensor.data_type).unwrap_or(32);
            if let Some(raw) = tensor.raw_data.as_mut().filter(|raw| raw.len() > 256) {
                raw.truncate(256);
                tensor.dims = vec![256 * 8 / bits as i64];
            }
        }
        put("structure", &format!("{nodes}-nodes"), &model.encode_to_vec())?;
    }
    Ok(())
}
