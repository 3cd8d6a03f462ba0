//! What must not brick a gateway: kills at every step of an update, models that are signed and bad, damaged slots.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use inspectd::model::bundle::Bundle;
use inspectd::model::onnx::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use inspectd::mqtt::link::{Event, Link, LinkOptions};
use inspectd::update::index::{self, Digest as Sha};
use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::session::{options, runtime};
use crate::support::plant::{Plant, said};
use crate::support::{bundle, eventually, soak};

/// Each point at which an update can be cut off, and at which of its times.
const POINTS: [&str; 22] = [
    "ledger.before:1",
    "ledger.after:1",
    "chunk.before:1",
    "chunk.after:1",
    "chunk.after:2",
    "assemble.cleared",
    "assemble.written:1",
    "assemble.synced:4",
    "assemble.before_rename",
    "assemble.between_renames",
    "assemble.after_rename",
    "ledger.before:2",
    "ledger.after:2",
    "ledger.before:3",
    "ledger.after:3",
    "ledger.after:4",
    "floor.before",
    "floor.after",
    "ledger.before:5",
    "ledger.after:5",
    "ledger.before:6",
    "ledger.after:6",
];

/// The bundle that a gateway has started with, by its log.
fn started_with(log: &str) -> Option<String> {
    let at = log.find("answers its golden vectors")?;
    let line = &log[log[..at].rfind('\n').unwrap_or(0)..];
    Some(line.split("version=").nth(1)?.split_whitespace().next()?.to_owned())
}

#[test]
fn killed_at_any_step_it_has_the_old_or_the_new_bundle_and_goes_on() {
    let plant = Plant::new();
    let points: Vec<&str> = if soak() {
        POINTS.to_vec()
    } else {
        vec!["chunk.after:1", "assemble.between_renames", "floor.after", "ledger.after:6"]
    };
    let mut old = "1.1.0".to_owned();
    for (n, point) in points.iter().enumerate() {
        let new = format!("1.2.{n}");
        let bundle = plant.bundle(&new, |_| {});
        let release = plant.sign(&bundle, &(n + 1).to_string(), &[]);
        let daemon = plant.ready_with("", &[("INSPECTD_FAIL_AT", point)]);
        let mut push = plant.pushing(&release, &bundle);
        daemon.wait_for_end(60, point);
        let daemon = plant.gateway("");
        let version = eventually(30, "it starts", || started_with(&daemon.log()));
        assert!(version == old || version == new, "{point}: {version}, neither {old} nor {new}");
        eventually(90, point, || {
            let reported = plant.reported();
            (reported["phase"] == "committed" && reported["active"]["version"] == *new).then_some(())
        });
        let _ = (push.kill(), push.wait());
        assert!(daemon.terminate(5).success());
        assert!(!plant.path("state/model/a.new").exists() && !plant.path("state/model/b.old").exists());
        old = new;
    }
    println!("{} points", points.len());
}

#[test]
fn killed_at_random_it_has_the_old_or_the_new_bundle() {
    let kills = if soak() { 500 } else { 6 };
    let plant = Plant::new();
    let (mut rng, mut old, mut updates, mut killed) = (StdRng::seed_from_u64(4), "1.1.0".to_owned(), 0, 0);
    let begun = Instant::now();
    while killed < kills {
        updates += 1;
        let new = format!("1.3.{updates}");
        let bundle = plant.bundle(&new, |_| {});
        let release = plant.sign(&bundle, &updates.to_string(), &[]);
        let mut daemon = plant.gateway("");
        daemon.wait_for_log(30, "connected");
        let mut push = plant.pushing(&release, &bundle);
        let mut tries = 0;
        while plant.reported()["active"]["version"] != *new || plant.reported()["phase"] != "committed" {
            // After the third start on trial it would be given up, as it should.
            if killed < kills && tries < 2 {
                std::thread::sleep(Duration::from_millis(rng.random_range(0..3500)));
                daemon.kill();
                (killed, tries) = (killed + 1, tries + 1);
                daemon = plant.gateway("");
                let version = eventually(30, "it starts", || started_with(&daemon.log()));
                assert!(version == old || version == new, "{version}, neither {old} nor {new}");
            } else {
                std::thread::sleep(Duration::from_millis(300));
            }
            assert!(begun.elapsed() < Duration::from_secs(if soak() { 7200 } else { 200 }), "{}", daemon.log());
        }
        let _ = (push.kill(), push.wait());
        assert!(daemon.terminate(5).success());
        let _ = std::fs::remove_dir_all(&bundle);
        old = new;
        if updates % 50 == 0 {
            println!("{killed} kills, {updates} updates, {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    println!("{killed} kills in {updates} updates: always the old or the new bundle");
}

/// Nodes and weights by which a model is spoiled.
type Spoiled = (Vec<NodeProto>, Vec<TensorProto>);

fn node(op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("bad_{output}"),
        op_type: op.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 7, ints: values.to_vec(), ..AttributeProto::default() }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: 2, i: Some(value), ..AttributeProto::default() }
}

fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    TensorProto {
        dims: dims.to_vec(),
        data_type: 7,
        name: name.into(),
        raw_data: raw_data.into(),
        ..TensorProto::default()
    }
}

fn floats(name: &str, dims: &[i64], value: f32) -> TensorProto {
    let n = dims.iter().product::<i64>() as usize;
    let raw_data = value.to_le_bytes().repeat(n);
    TensorProto {
        dims: dims.to_vec(),
        data_type: 1,
        name: name.into(),
        raw_data: raw_data.into(),
        ..TensorProto::default()
    }
}

/// Puts nodes in front of the output `scores8`, which get it as `raw`, and `live`, which is 1 for pictures larger than the golden
/// one and else 0.
fn spoil(dir: &Path, nodes: Vec<NodeProto>, weights: Vec<TensorProto>) {
    let path = dir.join("model.onnx");
    let mut model = ModelProto::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
    let graph = model.graph.as_mut().unwrap();
    for node in &mut graph.node {
        for name in node.output.iter_mut().chain(&mut node.input).filter(|name| *name == "scores8") {
            *name = "raw".into();
        }
    }
    graph.initializer.extend([integers("bad_three", &[1], &[3]), integers("bad_size", &[1], &[200])]);
    graph.initializer.extend(weights);
    graph.node.push(node("Shape", &["image"], "bad_shape", vec![]));
    graph.node.push(node("Gather", &["bad_shape", "bad_three"], "bad_width", vec![int("axis", 0)]));
    graph.node.push(node("Greater", &["bad_width", "bad_size"], "bad_larger", vec![]));
    graph.node.push(node("Cast", &["bad_larger"], "live", vec![int("to", 1)]));
    graph.node.extend(nodes);
    let bytes = model.encode_to_vec();
    std::fs::write(&path, &bytes).unwrap();
    let path = dir.join("bundle.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["files"]["model.onnx"]["bytes"] = bytes.len().into();
    manifest["files"]["model.onnx"]["sha256"] = hex::encode(Sha256::digest(&bytes)).into();
    std::fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    Bundle::open(dir).unwrap();
}

/// A chain of convolutions over the picture, brought to zero and added.
fn slow(convolutions: usize) -> Spoiled {
    let pads = || vec![ints("pads", &[1, 1, 1, 1])];
    let mut nodes = vec![node("Conv", &["image", "bad_first"], "bad_c0", pads())];
    for n in 0..convolutions {
        nodes.push(node("Conv", &[&format!("bad_c{n}"), "bad_weight"], &format!("bad_c{}", n + 1), pads()));
    }
    nodes.push(node("ReduceMax", &[&format!("bad_c{convolutions}")], "bad_most", vec![int("keepdims", 0)]));
    nodes.push(node("Mul", &["bad_most", "bad_zero"], "bad_nothing", vec![]));
    nodes.push(node("Add", &["raw", "bad_nothing"], "scores8", vec![]));
    let weights = vec![
        floats("bad_first", &[64, 3, 3, 3], 1e-3),
        floats("bad_weight", &[64, 64, 3, 3], 1e-3),
        floats("bad_zero", &[], 0.0),
    ];
    (nodes, weights)
}

#[test]
fn models_that_are_signed_and_bad_are_given_up_while_the_old_one_inspects() {
    let plant = Plant::new();
    let daemon = plant.ready("max_memory_mib = 600\n");
    let results = plant.broker.subscribe("inspect/v1/test/gw/cameras/boards/results");
    let nan = || {
        let nodes = vec![
            node("Neg", &["live"], "bad_negative", vec![]),
            node("Sqrt", &["bad_negative"], "bad_nan", vec![]),
            node("Add", &["raw", "bad_nan"], "scores8", vec![]),
        ];
        (nodes, Vec::new())
    };
    let shapes = || {
        let nodes = vec![
            node("Cast", &["live"], "bad_one", vec![int("to", 7)]),
            node("Sub", &["bad_channels", "bad_one"], "bad_end", vec![]),
            node("Slice", &["raw", "bad_begin", "bad_end", "bad_axis"], "scores8", vec![]),
        ];
        let weights = vec![
            integers("bad_channels", &[1], &[23]),
            integers("bad_begin", &[1], &[0]),
            integers("bad_axis", &[1], &[1]),
        ];
        (nodes, weights)
    };
    let memory = || {
        let wide = |n: usize| node("Conv", &["image", "bad_wide"], &format!("bad_w{n}"), vec![int("group", 1)]);
        let names: Vec<String> = (0..4).map(|n| format!("bad_w{n}")).collect();
        let mut nodes: Vec<NodeProto> = (0..4).map(wide).collect();
        for (n, name) in names.iter().enumerate() {
            // Each differs, so that none is taken for another.
            let scale = format!("bad_s{n}");
            nodes.push(node("Mul", &[name, &scale], &format!("bad_v{n}"), vec![]));
        }
        nodes.push(node("Add", &["bad_v0", "bad_v1"], "bad_a", vec![]));
        nodes.push(node("Add", &["bad_v2", "bad_v3"], "bad_b", vec![]));
        nodes.push(node("Add", &["bad_a", "bad_b"], "bad_c", vec![]));
        nodes.push(node("ReduceMax", &["bad_c"], "bad_most", vec![int("keepdims", 0)]));
        nodes.push(node("Mul", &["bad_most", "bad_zero"], "bad_nothing", vec![]));
        nodes.push(node("Add", &["raw", "bad_nothing"], "scores8", vec![]));
        let mut weights: Vec<TensorProto> = (0..4).map(|n| floats(&format!("bad_s{n}"), &[], n as f32 + 1.0)).collect();
        weights.extend([floats("bad_wide", &[800, 3, 1, 1], 1e-3), floats("bad_zero", &[], 0.0)]);
        (nodes, weights)
    };
    let cases: [(&str, Spoiled, &[&str], &str); 7] = [
        ("2.0.0", nan(), &[], "beside the active one"),
        ("2.0.1", shapes(), &[], "beside the active one"),
        ("2.0.2", slow(12), &[], "times as slow as the active one"),
        ("2.0.3", slow(400), &[], "within 20 s|over 10 s for a frame"),
        ("2.0.4", memory(), &[], "beside the active one|ended its process"),
        ("2.0.5", nan(), &["--shadow-frames", "0"], "on trial it fails on"),
        ("2.0.6", slow(12), &["--shadow-frames", "0"], "on trial it is"),
    ];
    for (n, (version, (nodes, weights), more, reason)) in cases.into_iter().enumerate() {
        let bundle = plant.bundle(version, |_| {});
        spoil(&bundle, nodes, weights);
        let release = plant.sign(&bundle, &(n + 1).to_string(), more);
        let begun = Instant::now();
        let out = plant.push(&release, &bundle);
        let text = said(&out);
        println!(
            "{version}: {:.1} s, {}",
            begun.elapsed().as_secs_f64(),
            text.lines().find(|l| l.contains("failed,")).unwrap_or(&text)
        );
        assert!(reason.split('|').any(|reason| text.contains(reason)), "{version}: {text}\n{}", daemon.log());
        let reported = plant.reported();
        assert_eq!(
            (reported["phase"].as_str(), &reported["active"]["version"]),
            (Some("rolled_back"), &"1.1.0".into()),
            "{version}"
        );
        let seen = results.messages().len();
        eventually(5, "the old one inspects", || (results.messages().len() > seen + 5).then_some(()));
    }
    assert!(daemon.terminate(5).success());
}

#[test]
fn a_bundle_that_ends_the_agent_again_and_again_is_given_up() {
    let plant = Plant::new();
    let bundle = plant.bundle("1.2.0", |_| {});
    let release = plant.sign(&bundle, "1", &["--trial-frames", "1000000"]);
    let daemon = plant.ready("");
    let mut push = plant.pushing(&release, &bundle);
    plant.wait_for("trial", |r| r["phase"] == "trial");
    daemon.kill(); // as a crash would
    for _ in 0..3 {
        let daemon = plant.gateway("");
        let version = eventually(30, "it starts", || started_with(&daemon.log()));
        assert_eq!(version, "1.2.0");
        daemon.kill();
    }
    let daemon = plant.gateway("");
    assert_eq!(eventually(30, "it starts", || started_with(&daemon.log())), "1.1.0");
    let reported = plant.wait_for("it says so", |r| r["phase"] == "rolled_back");
    assert_eq!(reported["reason"], "it ended the agent 3 times");
    let _ = (push.kill(), push.wait());
}

#[test]
fn a_slot_that_was_damaged_or_wiped_gives_way_and_nothing_older_is_taken() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let bundle = plant.bundle("1.2.0", |_| {});
    let first = plant.sign(&bundle, "7", &[]);
    assert!(plant.push(&first, &bundle).status.success());
    assert!(daemon.terminate(5).success());
    let mut rng = StdRng::seed_from_u64(1);
    let model = plant.path("state/model/a/model.onnx");
    let good = std::fs::read(&model).unwrap();
    for _ in 0..if soak() { 10_000 } else { 200 } {
        let mut bad = good.clone();
        let at = rng.random_range(0..bad.len());
        bad[at] ^= 1 << rng.random_range(0..8);
        std::fs::write(&model, &bad).unwrap();
        let error = format!("{:#}", Bundle::open(&plant.path("state/model/a")).unwrap_err());
        assert!(error.contains("model.onnx was changed"), "{error}");
    }
    let daemon = plant.gateway("");
    assert_eq!(eventually(30, "it starts", || started_with(&daemon.log())), "1.1.0");
    assert!(daemon.log().contains("model.onnx was changed"), "{}", daemon.log());
    assert!(daemon.terminate(5).success());
    // Slots and ledger wiped: an older release is still refused.
    std::fs::remove_dir_all(plant.path("state/model")).unwrap();
    std::fs::remove_dir_all(plant.path("state/update")).unwrap();
    let _daemon = plant.ready("");
    let older = plant.sign(&bundle, "6", &[]);
    plant.desired(&std::fs::read(plant.path(&older).join("desired.json")).unwrap());
    plant.wait_for("refusal", |r| r["reason"] == "its counter 6 is older than 7, which was taken already");
}

/// How a model is made evil.
type Change = fn(&mut ModelProto);

/// A release that `model sign` would refuse to make: signed by hand, over whatever the folder holds.
fn signed_by_hand(plant: &Plant, bundle: &Path, counter: u64) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let (mut files, mut chunks, mut blobs) = (serde_json::Map::new(), Vec::new(), Vec::new());
    let manifest: Value = serde_json::from_slice(&std::fs::read(bundle.join("bundle.json")).unwrap()).unwrap();
    let names: BTreeSet<&str> =
        manifest["files"].as_object().unwrap().keys().map(String::as_str).chain(["bundle.json"]).collect();
    for name in names {
        let bytes = std::fs::read(bundle.join(name)).unwrap();
        let sha = Sha::of(&bytes);
        let (mut offset, cut) = (0, index::cut(&bytes));
        for (n, chunk) in cut.iter().enumerate() {
            let topic = format!("inspect/v1/test/blobs/{sha}/{n}");
            blobs.push((topic, bytes[offset..offset + chunk.bytes].to_vec()));
            offset += chunk.bytes;
        }
        chunks.extend(cut);
        files.insert(name.into(), json!({ "bytes": bytes.len(), "sha256": sha.to_string() }));
    }
    let index = index::encode(chunks.iter());
    let sha = Sha::of(&index);
    blobs.push((format!("inspect/v1/test/blobs/{sha}/0"), index.clone()));
    let release = json!({
        "schema": "inspect.release/1", "name": "evil", "version": "1.0.0", "counter": counter, "sites": ["*"], "gateways": ["*"],
        "expires": "2099-01-01T00:00:00Z", "files": files, "index": { "bytes": index.len(), "sha256": sha.to_string() },
    });
    let text = release.to_string();
    let key = std::fs::read_to_string(plant.path("line.key")).unwrap();
    let key = minisign::SecretKeyBox::from_string(&key).unwrap().into_unencrypted_secret_key().unwrap();
    let signature = minisign::sign(None, &key, text.as_bytes(), None, None).unwrap().to_string();
    let desired = json!({ "schema": "inspect.desired/1", "release": text, "signature": signature });
    (desired.to_string().into_bytes(), blobs)
}

fn publish(plant: &Plant, messages: &[(String, Vec<u8>)]) {
    runtime().block_on(async {
        let options = LinkOptions { lasting: false, max_packet: 16 << 20, ..options(&plant.broker.url(), "attacker") };
        let mut link = Link::connect(&options).await.unwrap();
        for (topic, payload) in messages {
            link.publish(topic, payload.clone(), 1, true, None).unwrap();
            assert!(matches!(link.next().await, Event::Acknowledged(_)));
        }
        link.disconnect().await;
    });
}

#[test]
fn what_is_signed_and_evil_does_not_reach_the_runtime_and_what_lies_on_the_broker_does_no_harm() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let shipped = std::fs::read(bundle().join("model.onnx")).unwrap();
    let cases: [(&str, Change); 4] = [
        ("external data", |m| {
            let tensor = &mut m.graph.as_mut().unwrap().initializer[0];
            tensor.raw_data = None;
            tensor.data_location = Some(1);
            let entry = StringStringEntryProto { key: "location".into(), value: "../../../etc/passwd".into() };
            tensor.external_data = vec![entry];
        }),
        ("an address in memory", |m| {
            let tensor = &mut m.graph.as_mut().unwrap().initializer[0];
            tensor.raw_data = None;
            tensor.data_location = Some(1);
            let entry = StringStringEntryProto { key: "location".into(), value: "*/_ORT_MEM_ADDR_/*".into() };
            tensor.external_data = vec![entry];
        }),
        ("an unknown domain", |m| m.graph.as_mut().unwrap().node[0].domain = "com.example".into()),
        ("a subgraph's operator", |m| m.graph.as_mut().unwrap().node[0].op_type = "Loop".into()),
    ];
    let mut counter = 0;
    for (what, change) in cases {
        counter += 1;
        let dir = plant.bundle(&format!("3.0.{counter}"), |_| {});
        let mut model = ModelProto::decode(&shipped[..]).unwrap();
        change(&mut model);
        let bytes = model.encode_to_vec();
        std::fs::write(dir.join("model.onnx"), &bytes).unwrap();
        let path = dir.join("bundle.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let hash = hex::encode(Sha256::digest(&bytes));
        manifest["files"]["model.onnx"] = json!({ "bytes": bytes.len(), "sha256": hash });
        std::fs::write(&path, manifest.to_string()).unwrap();
        let (desired, blobs) = signed_by_hand(&plant, &dir, counter);
        publish(&plant, &blobs);
        plant.desired(&desired);
        let floor = |r: &Value| r["floor"] == 0 && r["phase"] == "rolled_back";
        let sha = Sha::of(serde_json::from_slice::<Value>(&desired).unwrap()["release"].as_str().unwrap().as_bytes());
        let reported = plant.wait_for(what, |r| r["wanted"] == *sha.to_string() && floor(r));
        println!("{what}: {}", reported["reason"]);
        assert!(!daemon.log().contains("proved itself"), "{what}");
    }
    // Another chunk's content, far too large, none at all, and more than there are: it waits, and goes on when they are put right.
    let new = plant.bundle("1.2.0", |m| m["name"] = "x".repeat(100).into());
    let release = plant.sign(&new, "9", &[]);
    let manifest = std::fs::read(new.join("bundle.json")).unwrap();
    let topic = format!("inspect/v1/test/blobs/{}/", Sha::of(&manifest));
    let rubbish: Vec<(String, Vec<u8>)> =
        (0..50).map(|n| (format!("{topic}{n}"), vec![7; if n == 0 { 1000 } else { 1 << 20 }])).collect();
    publish(&plant, &rubbish);
    let index = std::fs::read(plant.path(&release).join("release.index")).unwrap();
    publish(&plant, &[(format!("inspect/v1/test/blobs/{}/0", Sha::of(&index)), index)]);
    plant.desired(&std::fs::read(plant.path(&release).join("desired.json")).unwrap());
    daemon.wait_for_log(30, "is something else");
    assert_eq!(plant.reported()["phase"], "receiving");
    publish(&plant, &[(format!("{topic}0"), manifest)]);
    plant.wait_for("put right", |r| r["phase"] == "committed" && r["floor"] == 9);
}

#[test]
fn a_bundle_that_hangs_on_trial_ends_the_process_which_comes_back_with_the_one_before() {
    let plant = Plant::new();
    let daemon = plant.ready("");
    let bundle = plant.bundle("2.1.0", |_| {});
    let (nodes, weights) = slow(600);
    spoil(&bundle, nodes, weights);
    let release = plant.sign(&bundle, "1", &["--shadow-frames", "0"]);
    let mut push = plant.pushing(&release, &bundle);
    let begun = Instant::now();
    daemon.wait_for_end(60, "it ends");
    let daemon = plant.gateway("");
    assert_eq!(eventually(30, "it starts", || started_with(&daemon.log())), "1.1.0");
    plant.wait_for("it says so", |r| r["phase"] == "rolled_back" && r["reason"] == "on trial it hangs");
    println!("back after {:.1} s", begun.elapsed().as_secs_f64());
    let _ = (push.kill(), push.wait());
}
