//! A release for many gateways: simulated ones that admit, fetch and assemble as the agent does, on one real mosquitto.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inspectd::model::bundle::Bundle;
use inspectd::model::onnx::ModelProto;
use inspectd::mqtt::link::{Event, Link, LinkOptions};
use inspectd::mqtt::payload::ModelRef;
use inspectd::mqtt::topics::Topics;
use inspectd::update::admission::{self, Circumstances, Floor};
use inspectd::update::index::{self, Chunk};
use inspectd::update::ledger::Phase;
use inspectd::update::reported::{Reported, SCHEMA};
use inspectd::update::store::{Store, Wanted};
use inspectd::update::transfer::Transfer;
use inspectd::update::trust::{Keyring, public_key};

use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::session::options;
use crate::support::bundle;
use crate::support::plant::{Plant, said};
use crate::support::soak;

/// A release that is taken: the chunks, the recipes once they are known, what is asked for, and since when.
type Work = (admission::Admitted, Store, Option<Vec<index::Recipe>>, Transfer, Instant);

/// What a fleet has cost.
#[derive(Default)]
struct Cost {
    bytes: AtomicU64,
    /// Seconds from the wish to the bundle, by gateway.
    seconds: Mutex<BTreeMap<usize, f64>>,
}

/// What a gateway reports that has taken nothing yet.
fn idle() -> Reported {
    Reported {
        schema: SCHEMA.into(),
        phase: Phase::Idle,
        progress: 0.0,
        reason: None,
        active: ModelRef { name: "old".into(), version: "1.0.0".into(), sha256: String::new() },
        release: None,
        wanted: None,
        candidate: None,
        received: 0,
        needed: 0,
        shadow: None,
        floor: 0,
    }
}

/// One gateway: takes what is wanted, and reports; `fails` is whether its bundle does not prove itself.
async fn gateway(url: String, n: usize, key: String, dir: PathBuf, fails: bool, cost: Arc<Cost>) {
    let name = format!("gw-{n}");
    let topics = Topics::new("test", &name);
    let options = LinkOptions { lasting: false, ..options(&url, &format!("fleet-{n}")) };
    let mut link = Link::connect(&options).await.unwrap();
    link.subscribe(&topics.desired()[0]).unwrap();
    let state = json!({
        "schema": "inspect.state/1", "online": true, "agent": "0.1.0", "uptime_s": 1, "cameras": [],
        "bundle": { "name": "old", "version": "1.0.0", "sha256": "" },
        "outbox": { "appended": 0, "delivered": 0, "dropped": 0, "dead": 0, "queued": 0 },
    });
    link.publish(&topics.state(), state.to_string().into_bytes(), 1, true, None).unwrap();
    let idle = idle();
    link.publish(&topics.reported(), serde_json::to_vec(&idle).unwrap(), 1, true, None).unwrap();
    let keys = Keyring::new(vec![public_key(&key).unwrap()], Vec::new());
    let here = Circumstances {
        site: "test".into(),
        gateway: name.clone(),
        hardware: std::env::consts::ARCH.into(),
        agent: "0.1.0".parse().unwrap(),
        now: jiff::Timestamp::now(),
        floor: Floor::default(),
        active: None,
        max_bytes: 1 << 30,
        disk: (1 << 40, 1 << 41),
        keep_free: 0.05,
    };
    let mut work: Option<Work> = None;
    loop {
        let event = tokio::time::timeout(Duration::from_millis(20), link.next()).await;
        match event {
            Ok(Event::Message { topic, payload, .. })
                if topic == topics.desired()[0] && !payload.is_empty() && work.is_none() =>
            {
                let admitted = admission::admit(&payload, &keys, &here).unwrap();
                let index = admitted.release.index.unwrap();
                let chunk = Chunk { bytes: index.bytes as usize, sha256: index.sha256 };
                let wanted = Wanted { blob: index.sha256, n: 0, chunk };
                let store = Store::open(&dir.join("chunks"), &[]).unwrap();
                work = Some((admitted, store, None, Transfer::new(vec![wanted], 8e6), Instant::now()));
            }
            Ok(Event::Message { topic, payload, .. }) => {
                if let Some((_, store, _, transfer, _)) = &mut work
                    && let Some(wanted) = transfer.asked(&topic)
                {
                    store.put(&wanted.chunk, &payload).unwrap();
                    cost.bytes.fetch_add(payload.len() as u64, Ordering::Relaxed);
                    transfer.came(&topic);
                    link.unsubscribe(&topic);
                }
            }
            Ok(event) if event.is_last() => return,
            _ => {}
        }
        let Some((admitted, store, recipes, transfer, begun)) = &mut work else { continue };
        let release = &admitted.release;
        if transfer.is_done() {
            if let Some(recipes) = recipes {
                let slot = dir.join("a");
                store.assemble(release, recipes, &slot).unwrap();
                let bundle = Bundle::open(&slot).unwrap();
                cost.seconds.lock().unwrap().insert(n, begun.elapsed().as_secs_f64());
                let reported = Reported {
                    phase: if fails { Phase::RolledBack } else { Phase::Committed },
                    progress: 1.0,
                    reason: fails.then(|| "it does not prove itself".to_owned()),
                    active: ModelRef::of(&bundle),
                    release: Some(admitted.sha256).filter(|_| !fails),
                    wanted: Some(admitted.sha256),
                    floor: release.counter,
                    ..idle
                };
                link.publish(&topics.reported(), serde_json::to_vec(&reported).unwrap(), 1, true, None).unwrap();
                let _ = std::fs::remove_dir_all(&dir); // two hundred of them are large
                tokio::time::sleep(Duration::from_secs(3)).await;
                return;
            }
            let chunk = Chunk { bytes: release.index.unwrap().bytes as usize, sha256: release.index.unwrap().sha256 };
            let index = store.get(&chunk).unwrap();
            let found = index::decode(release, &index).unwrap();
            *transfer = Transfer::new(store.missing(release, &found), 8e6);
            *recipes = Some(found);
        }
        for topic in transfer.ask(|wanted| topics.blob(&wanted.blob.to_string(), wanted.n)) {
            link.subscribe(&topic).unwrap();
        }
    }
}

/// Pushes to so many gateways, every `failing`-th of which fails: what the push says, and the cost.
fn roll_out(gateways: usize, failing: usize, waves: &str) -> (bool, String, Arc<Cost>, f64) {
    let plant = Plant::new();
    let release = plant.sign(&bundle(), "1", &[]);
    let cost = Arc::new(Cost::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for n in 0..gateways {
        let dir = plant.path(&format!("gateway-{n}"));
        let fails = failing > 0 && n % failing == failing - 1;
        runtime.spawn(gateway(plant.broker.url(), n, plant.key(), dir, fails, Arc::clone(&cost)));
    }
    std::thread::sleep(Duration::from_secs(if gateways > 50 { 5 } else { 1 }));
    let begun = Instant::now();
    let (url, shipped) = (plant.broker.url(), bundle().display().to_string());
    let out =
        plant.try_model(&["push", &release, "--bundle", &shipped, "--broker", &url, "--to", "test/*", "--wave", waves]);
    (out.status.success(), said(&out), cost, begun.elapsed().as_secs_f64())
}

#[test]
fn a_release_goes_to_a_fleet_in_waves_and_stops_where_too_many_fail() {
    let gateways = if soak() { 200 } else { 40 };
    let (done, text, cost, seconds) = roll_out(gateways, 0, "1,10%,100%");
    assert!(done, "{text}");
    let each = cost.seconds.lock().unwrap().clone();
    assert_eq!(each.len(), gateways);
    let mut sorted: Vec<f64> = each.values().copied().collect();
    sorted.sort_by(f64::total_cmp);
    println!(
        "{gateways} gateways: all committed after {seconds:.1} s; {:.0} MB received, {:.2} MB each; one takes {:.2} s at the median, {:.2} s at most",
        cost.bytes.load(Ordering::Relaxed) as f64 / 1e6,
        cost.bytes.load(Ordering::Relaxed) as f64 / 1e6 / gateways as f64,
        sorted[gateways / 2],
        sorted[gateways - 1]
    );
    // Every fifth fails: the second wave is the last.
    let (done, text, cost, _) = roll_out(gateways, 5, "1,25%,100%");
    let asked = cost.seconds.lock().unwrap().len();
    println!(
        "every fifth fails: {asked} were asked; {}",
        text.lines().find(|l| l.contains("stopped")).unwrap_or_default()
    );
    assert!(!done && text.contains("gateways failed") && asked < gateways / 2 + 2, "{asked}: {text}");
}

#[test]
fn a_transfer_that_is_killed_lossy_doubled_and_reordered_fetches_at_most_a_chunk_again_for_each_kill() {
    let megabytes = if soak() { 100 } else { 8 };
    let mut rng = StdRng::seed_from_u64(3);
    let file: Vec<u8> = (0..megabytes << 20).map(|_| rng.random()).collect();
    let dir = tempfile::tempdir().unwrap();
    let sha = |bytes: &[u8]| index::Digest::of(bytes);
    let chunks = index::cut(&file);
    let spec = |bytes: &[u8]| json!({ "bytes": bytes.len(), "sha256": sha(bytes).to_string() });
    let encoded = index::encode([&index::cut(b"{}")[..], &chunks].concat().iter());
    let text = json!({
        "schema": "inspect.release/1", "name": "large", "version": "1.0.0", "counter": 1, "sites": ["*"], "gateways": ["*"],
        "expires": "2099-01-01T00:00:00Z", "files": { "bundle.json": spec(b"{}"), "model.onnx": spec(&file) }, "index": spec(&encoded),
    });
    let release = inspectd::update::release::Release::read(text.to_string().as_bytes()).unwrap();
    let recipes = index::decode(&release, &encoded).unwrap();
    let at: BTreeMap<usize, usize> = chunks
        .iter()
        .scan(0, |o, c| {
            let begin = *o;
            *o += c.bytes;
            Some(begin)
        })
        .enumerate()
        .collect();
    let content = |wanted: &Wanted| {
        if wanted.blob == sha(b"{}") {
            b"{}".to_vec()
        } else {
            file[at[&wanted.n]..at[&wanted.n] + wanted.chunk.bytes].to_vec()
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (mut fetched, mut kills, mut lost) = (0, 0, 0);
    runtime.block_on(async {
        'runs: loop {
            // A new process: nothing is left but the disk.
            let mut store = Store::open(&dir.path().join("chunks"), &[]).unwrap();
            let missing = store.missing(&release, &recipes);
            let stop = if kills < 20 { missing.len() / 21 } else { usize::MAX };
            let mut transfer = Transfer::new(missing, 1e8);
            let (mut line, mut taken) = (Vec::new(), 0);
            loop {
                for topic in transfer.ask(|w| format!("{}/{}", w.blob, w.n)) {
                    let wanted = transfer.asked(&topic).unwrap();
                    let copies = match rng.random_range(0..100) {
                        0 => 0,
                        1 => 2,
                        _ => 1,
                    };
                    lost += usize::from(copies == 0);
                    line.extend(std::iter::repeat_n((topic, wanted), copies));
                }
                if line.len() > 1 && rng.random_bool(0.5) {
                    let last = line.len() - 1;
                    line.swap(0, last);
                }
                if let Some((topic, wanted)) = line.pop()
                    && transfer.asked(&topic).is_some()
                {
                    store.put(&wanted.chunk, &content(&wanted)).unwrap();
                    fetched += 1;
                    taken += 1;
                    if taken > stop {
                        // Killed while this one was written: it is torn.
                        std::fs::write(dir.path().join("chunks").join(wanted.chunk.sha256.to_string()), b"torn")
                            .unwrap();
                        kills += 1;
                        continue 'runs;
                    }
                    transfer.came(&topic);
                }
                if transfer.is_done() {
                    assert!(store.missing(&release, &recipes).is_empty());
                    store.assemble(&release, &recipes, &dir.path().join("a")).unwrap();
                    break 'runs;
                }
                tokio::time::advance(Duration::from_millis(5)).await;
            }
        }
    });
    let needed = chunks.len() + 1;
    println!("{megabytes} MB, {needed} chunks, {kills} kills, {lost} lost: {fetched} fetched");
    assert!(kills == 20 && fetched <= needed + 20, "{fetched} of {needed}");
    assert_eq!(std::fs::read(dir.path().join("a/model.onnx")).unwrap(), file);
}

#[test]
fn what_is_the_same_does_not_go_over_the_wire_again() {
    let shipped = bundle();
    let read = |name: &str| std::fs::read(shipped.join(name)).unwrap();
    let (manifest, old) = (read("bundle.json"), read("model.onnx"));
    // A head that was trained again: every weight of its towers and of what they end in is another.
    let mut model = ModelProto::decode(&old[..]).unwrap();
    let mut rng = StdRng::seed_from_u64(6);
    let mut changed = 0;
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        if tensor.name.starts_with("tower.") || tensor.name.starts_with("to_") {
            let bytes = tensor.raw_data.as_ref().map_or(0, Vec::len);
            changed += bytes;
            tensor.raw_data = (0..bytes).map(|_| rng.random::<u8>()).collect::<Vec<_>>().into();
        }
    }
    let head = model.encode_to_vec();
    let dir = tempfile::tempdir().unwrap();
    let needed = |name: &str, own: &[PathBuf], files: &[(&str, &[u8])]| {
        let spec = |bytes: &[u8]| json!({ "bytes": bytes.len(), "sha256": index::Digest::of(bytes).to_string() });
        let specs: serde_json::Map<String, serde_json::Value> =
            files.iter().map(|(name, bytes)| ((*name).to_owned(), spec(bytes))).collect();
        let chunks: Vec<Chunk> = files.iter().flat_map(|(_, bytes)| index::cut(bytes)).collect();
        let encoded = index::encode(chunks.iter());
        let text = json!({
            "schema": "inspect.release/1", "name": "n", "version": "1.0.0", "counter": 1, "sites": ["*"], "gateways": ["*"],
            "expires": "2099-01-01T00:00:00Z", "files": specs, "index": spec(&encoded),
        });
        let release = inspectd::update::release::Release::read(text.to_string().as_bytes()).unwrap();
        let recipes = index::decode(&release, &encoded).unwrap();
        let mut store = Store::open(&dir.path().join(name), own).unwrap();
        let bytes: usize = store.missing(&release, &recipes).iter().map(|wanted| wanted.chunk.bytes).sum();
        (bytes + encoded.len(), text.to_string().len())
    };
    let own = std::slice::from_ref(&shipped);
    let (first, text) = needed("first", &[], &[("bundle.json", &manifest), ("model.onnx", &old)]);
    let (retrained, _) = needed("head", own, &[("bundle.json", &manifest), ("model.onnx", &head)]);
    let (again, _) = needed("again", own, &[("bundle.json", &manifest), ("model.onnx", &old)]);
    println!(
        "first install {first} bytes, a head of {changed} bytes trained again {retrained}, the same again {again} (its index); \
         the release itself {text}"
    );
    assert!(first > old.len() && retrained < changed + 20 * index::LARGEST && again < 10_000);
}
