//! Pictures that are inspected because somebody asked for them, and parts that were not.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use inspectd::clerk::{Cards, Clerk};
use inspectd::config::{AlarmConfig, Config};
use inspectd::engine::Engine;
use inspectd::frame::feed::Feed;
use inspectd::frame::{Image, PixelFormat};
use inspectd::model::bundle::Bundle;
use inspectd::model::runtime;
use inspectd::mqtt::payload::ModelRef;
use inspectd::mqtt::topics::Topics;
use inspectd::outbox::{Lane as Outgoing, Outbox, Quota};
use inspectd::pipeline::{Lane, Pipeline, Settings};
use inspectd::report::Results;
use inspectd::shared::Shared;
use inspectd::stop::Stop;
use inspectd::trigger::timer::Timer;
use inspectd::trigger::{By, Fired};
use inspectd::update::tap::Tap;
use inspectd::verdict::book::{AlarmBook, Identity};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::commands::Room;
use crate::support::daemon::{Daemon, config};
use crate::support::{bundle, eventually, picture};

const SMALL: &str = "source.synthetic = { rate = 20.0, width = 320, height = 240, defects_per_frame = 0.0 }";

#[test]
fn a_command_is_answered_with_the_verdict_of_its_picture() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let cameras = format!(
        "[[cameras]]\nname = \"asked\"\ntrigger = {{ on = \"command\" }}\n{SMALL}\n\
         [[cameras]]\nname = \"free\"\n{SMALL}\n\
         [[cameras]]\nname = \"away\"\ntrigger = {{ on = \"command\", deadline_ms = 400.0 }}\nsource.v4l2 = {{ device = \"/dev/video99\" }}\n\
         [[cameras]]\nname = \"drawer\"\nhang_timeout_s = 1.0\ntrigger = {{ on = \"command\" }}\nsource.folder = {{ path = \"drawer\" }}\n"
    );
    std::fs::create_dir(dir.path().join("drawer")).unwrap();
    picture(&dir.path().join("drawer/part.jpg"), 1, false);
    let results = room.broker.subscribe("inspect/v1/test/gw/cameras/asked/results");
    let daemon = Daemon::start(&config(dir.path(), &room.broker.url(), &cameras));
    daemon.wait_for_log(30, "connected");
    let free = || room.broker.retained("inspect/v1/test/gw/cameras/free/state");
    eventually(30, "the other camera is inspected", || free().filter(|s| s["inspected"].as_u64() > Some(5)));
    assert!(results.json().is_empty(), "nobody has asked yet");
    let mut last = None;
    for n in 0..5 {
        let reply = room.ask("trigger", &format!("t-{n}"), &json!({ "camera": "asked" }));
        let result = &reply["result"];
        assert_eq!((&reply["ok"], &result["camera"]), (&json!(true), &json!("asked")), "{reply}");
        assert!(result["outcome"] == "good" || result["outcome"] == "defective", "{reply}");
        let time = |key: &str| result[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(time("captured_at") >= time("triggered_at"), "{reply}");
        assert!(last < result["seq"].as_u64(), "each a picture of its own");
        last = result["seq"].as_u64();
    }
    assert_eq!(eventually(10, "five results", || Some(results.json().len()).filter(|n| *n >= 5)), 5);
    // A copy gets the reply of the first, and asks for no picture.
    room.publish("trigger", "t-0", br#"{"camera":"asked"}"#, &[]);
    eventually(10, "the same reply again", || (room.replies("t-0").len() == 2).then_some(()));
    assert_eq!(room.replies("t-0")[0], room.replies("t-0")[1]);
    assert_eq!(room.ask("trigger", "f", &json!({ "camera": "free" }))["result"]["camera"], "free");
    // The picture itself, where that is wanted.
    let images = room.broker.subscribe("inspect/v1/test/gw/images/+");
    let reply = room.ask("snapshot", "s", &json!({ "camera": "free" }));
    let hash = reply["result"]["image"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
    let jpeg = eventually(5, "the picture", || {
        images.messages().into_iter().find(|(topic, _)| topic.ends_with(&hash)).map(|(_, bytes)| bytes)
    });
    assert_eq!(hex::encode(sha2::Sha256::digest(&jpeg)), hash);
    // A folder is asked for its next file, however long that takes to happen.
    let reply = room.ask("trigger", "d", &json!({ "camera": "drawer" }));
    assert_eq!(reply["result"]["file"], "part.jpg", "{reply}");
    assert_eq!(room.broker.retained("inspect/v1/test/gw/cameras/drawer/state").unwrap()["reopened"], 0);
    // A camera that is away: the answer comes at the deadline, and what comes meanwhile is answered at once.
    room.publish("trigger", "late", br#"{"camera":"away","deadline_ms":3000.0}"#, &[]);
    room.publish("trigger", "late", br#"{"camera":"away","deadline_ms":3000.0}"#, &[]);
    let begun = Instant::now();
    assert_eq!(room.ask("alarms", "meanwhile", &json!({}))["ok"], true);
    assert!(begun.elapsed() < Duration::from_millis(2500), "it waits for nobody");
    let reply = room.reply("late");
    assert!(reply["error"].as_str().unwrap().contains("no picture within 3000 ms of the trigger"), "{reply}");
    let away = || room.broker.retained("inspect/v1/test/gw/cameras/away/state");
    let fired = eventually(10, "its state", || away().and_then(|s| s["triggers"]["fired"].as_u64()).filter(|n| *n > 0));
    assert_eq!((fired, room.replies("late").len()), (1, 1), "a copy of what still waits waits with it");
    for (payload, message) in [
        (json!({ "camera": "nobody" }), "there is no camera nobody; there are asked, free, away, drawer"),
        (json!({ "camera": "asked", "deadline_ms": -1.0 }), "out of range"),
        (json!({}), "missing field `camera`"),
    ] {
        let reply = room.ask("trigger", &format!("bad-{}", message.len()), &payload);
        assert!(reply["error"].as_str().unwrap().contains(message), "{reply}");
    }
    assert!(daemon.terminate(5).success());
}

#[test]
fn by_number_by_time_and_a_line_that_is_not_there() {
    let (room, dir) = (Room::new(), tempfile::tempdir().unwrap());
    let camera = |name: &str, on: &str| format!("[[cameras]]\nname = \"{name}\"\ntrigger = {{ on = {on} }}\n{SMALL}\n");
    let cameras = [
        camera("fifth", "{ every = 5 }"),
        camera("timed", "{ interval_s = 0.5 }"),
        camera("barrier", "{ line = { chip = \"/dev/gpiochip99\", offset = 3 } }"),
    ];
    let daemon = Daemon::start(&config(dir.path(), &room.broker.url(), &cameras.concat()));
    let state = |camera: &str| room.broker.retained(&format!("inspect/v1/test/gw/cameras/{camera}/state"));
    let seen = |camera: &str| {
        let state = eventually(40, camera, || state(camera).filter(|s| s["fps"].as_f64() > Some(0.5)));
        (state["fps"].as_f64().unwrap(), state["triggers"].clone())
    };
    let ((fifth, skipped), (timed, fired)) = (seen("fifth"), seen("timed"));
    assert!((3.0..=4.5).contains(&fifth), "{fifth} of 20 pictures a second");
    assert!(skipped["passed_over"].as_u64() > Some(10), "{skipped}");
    assert!((1.5..=2.4).contains(&timed), "{timed} of 20 pictures a second");
    assert!(fired["fired"].as_u64() > Some(2) && fired["missed"] == 0, "{fired}");
    let barrier = eventually(10, "the line's trouble", || state("barrier").filter(|s| s["reason"].is_string()));
    assert!(
        barrier["reason"].as_str().unwrap().contains("no triggers come: the GPIO chip /dev/gpiochip99 is missing"),
        "{barrier}"
    );
    daemon.wait_for_log(5, "no triggers come");
    assert!(daemon.terminate(5).success());
}

/// What goes out of a pipeline with one camera at a light barrier, whose edges and pictures the test makes.
struct Line {
    feed: Arc<Feed>,
    outbox: Arc<Outbox>,
    stop: Stop,
    threads: Vec<std::thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Line {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let camera = "[[cameras]]\nname = \"a\"\ntrigger = { on = { line = { chip = \"c\", offset = 1 } }, deadline_ms = 150.0, queue = 3 }\nsource.synthetic = {}\n";
        let config = Config::read(&config(dir.path(), "mqtt://localhost", camera)).unwrap();
        let (bundle, environment) = (Bundle::open(&bundle()).unwrap(), runtime::load(None).unwrap());
        let engine = Engine::start(1, &environment, &bundle).unwrap();
        let kind = Arc::clone(&engine.kind);
        let pipeline = Arc::new(Pipeline::new(Arc::default(), engine));
        let (bell, timer) = (Arc::clone(&pipeline.bell), Arc::new(Timer::default()));
        let feed = Arc::new(Feed::new("a".into(), Box::new(move || bell.ring())).with_timer(Arc::clone(&timer)));
        let camera = config.cameras[0].clone();
        feed.configure(camera.trigger.as_ref(), false);
        let judge = kind.judge(&config.anomaly, &camera, None);
        pipeline.set_lanes(vec![Arc::new(Lane::new(Arc::clone(&feed), Settings::new(camera, 0), 0, judge))]);
        let quota = Quota { messages: 10_000, image_bytes: 1 << 24, event_bytes: 1 << 24 };
        let outbox = Arc::new(Outbox::open(dir.path(), quota).unwrap());
        let identity = Identity { site: "s".into(), gateway: "g".into(), model: ModelRef::of(&bundle) };
        let book = AlarmBook::open(identity, &AlarmConfig::default(), &["a".into()], &outbox).unwrap();
        let stop = Stop::default();
        let clerk = Clerk {
            book: Arc::new(Mutex::new(book)),
            current: Arc::new(Shared::new(config)),
            outbox: Arc::clone(&outbox),
            results: Results::new(Topics::new("s", "g"), tokio::sync::mpsc::channel(64).0),
            tap: Arc::new(Tap::default()),
            stop: stop.clone(),
            ticked: Instant::now(),
            pulse: pipeline.pulses.begin("outbox"),
            meter: Arc::default(),
        };
        let (sender, verdicts) = mpsc::sync_channel(4);
        let (worker, halt) = (Arc::clone(&pipeline), stop.clone());
        let mut threads = vec![std::thread::spawn(move || worker.work(&sender, &halt))];
        let halt = stop.clone();
        threads.push(std::thread::spawn(move || timer.run(&pipeline, &halt)));
        threads.push(std::thread::spawn(move || clerk.work(&verdicts, &Cards::default())));
        Self { feed, outbox, stop, threads, _dir: dir }
    }

    fn edge(&self) {
        let at = Instant::now();
        let deadline = at + self.feed.patience();
        self.feed.fire(Fired { by: By::Line, at, at_wall: SystemTime::now(), deadline, waiter: None });
    }

    fn picture(&self) {
        let pixels = (0..160 * 120).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 28) as u8 + 100).collect();
        let image = Image { width: 160, height: 120, format: PixelFormat::Mono8, pixels, origin: None, truth: None };
        self.feed.deliver(image.into());
    }

    fn events(&self) -> Vec<Value> {
        let mut queued: Vec<_> = [Outgoing::Live, Outgoing::Backlog]
            .into_iter()
            .flat_map(|lane| self.outbox.peek(lane, 0, 1000).unwrap())
            .collect();
        queued.sort_by_key(|queued| queued.id);
        let events = queued.into_iter().filter(|queued| queued.message.topic.ends_with("/events"));
        events.map(|queued| serde_json::from_slice(&queued.message.payload).unwrap()).collect()
    }

    fn end(self) {
        self.stop.set();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn a_part_without_a_picture_is_an_event_and_those_that_follow_clear_it() {
    let line = Line::start();
    let short = |events: &[Value]| -> Vec<(String, u64)> {
        events
            .iter()
            .map(|e| (e["transition"].as_str().unwrap().to_owned(), e["count"].as_u64().unwrap_or(0)))
            .collect()
    };
    line.edge();
    line.picture();
    line.edge();
    line.edge();
    let events = eventually(5, "two parts are missed", || Some(line.events()).filter(|events| events.len() == 2));
    assert_eq!(short(&events), [("raised".to_owned(), 1), ("updated".to_owned(), 2)]);
    assert_eq!((&events[0]["kind"], &events[0]["class"]), (&json!("camera"), &json!("missed")));
    // With three that may wait, a burst of ten loses some; each is told, and the numbers come out even.
    for _ in 0..10 {
        line.edge();
        line.picture();
    }
    let (captured, dropped) =
        eventually(10, "all is inspected", || Some(line.feed.counts()).filter(|_| !line.feed.is_waiting()));
    assert_eq!(captured, 11);
    let events = eventually(5, "those are told", || Some(line.events()).filter(|e| e.len() as u64 >= 2 + dropped));
    let counts = line.feed.trigger_counts();
    assert_eq!((counts.fired, counts.missed), (13, 2 + dropped), "{counts:?}");
    println!("{dropped} of 10 parts that came at once were missed");
    let missed = events.iter().filter(|e| e["transition"] != "cleared").count() as u64;
    assert_eq!(missed, 2 + dropped);
    for _ in 0..3 {
        line.edge();
        line.picture();
        eventually(5, "it is inspected", || (!line.feed.is_waiting()).then_some(()));
    }
    let events =
        eventually(5, "all is well", || Some(line.events()).filter(|e| e.last().unwrap()["transition"] == "cleared"));
    assert_eq!(events.last().unwrap()["state"], "returned_to_normal_unacknowledged", "nobody has acknowledged it");
    line.end();
}
