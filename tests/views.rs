//! Cameras that look at a part of the picture, turned, through a lens: what they raise is in pixels of the captured frame.

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::daemon::{Daemon, config};
use crate::support::{eventually, picture};

/// Where [`picture`] draws its blot.
const BLOT: [f64; 4] = [170.0, 75.0, 231.0, 125.0];
/// Pictures with a blot.
const DEFECTIVE: std::ops::Range<u32> = 45..53;

#[test]
fn alarms_of_turned_bent_and_masked_cameras_lie_in_the_captured_frame() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let pictures = dir.path().join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for n in 0..80 {
        picture(&pictures.join(format!("{n:03}.jpg")), n, DEFECTIVE.contains(&n));
    }
    let cameras = [
        ("turned", "rotate = 90\nroi = [[0.3, 0.05], [0.95, 0.05], [0.95, 0.9], [0.4, 0.9]]"),
        (
            "bent",
            "rotate = 270\nflip = \"horizontal\"\n\
             lens = { size = [640, 480], matrix = [520.0, 520.0, 322.0, 238.0], distortion = [-0.25, 0.06, 0.001, 0.0] }",
        ),
        ("masked", "masks = [[[0.5, 0.25], [0.75, 0.25], [0.75, 0.58], [0.5, 0.58]]]"),
    ];
    let text = cameras.map(|(name, keys)| {
        format!("[[cameras]]\nname = \"{name}\"\nsource.folder = {{ path = {pictures:?}, rate = 6.0 }}\n{keys}\n")
    });
    let events = broker.subscribe("inspect/v1/test/gw/events");
    let results = broker.subscribe("inspect/v1/test/gw/cameras/masked/results");
    let _daemon = Daemon::start(&config(dir.path(), &broker.url(), &text.concat()));
    let of_blot = |e: &Value| e["frame"]["seq"].as_u64().is_some_and(|seq| DEFECTIVE.contains(&(seq as u32)));
    for camera in ["turned", "bent"] {
        let raised = eventually(60, "the alarm of the blot", || {
            events.json().into_iter().find(|e| e["camera"] == camera && e["transition"] == "raised" && of_blot(e))
        });
        let bbox: Vec<f64> = raised["box"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        // The anomaly check sees cells of some 20 px; by no more than two of them is the box larger or smaller.
        let off = (0..4).map(|n| (bbox[n] - BLOT[n]).abs()).fold(0.0, f64::max);
        assert!(off < 45.0, "{camera}: {bbox:?}, the blot is at {BLOT:?}");
        let (x, y) = (f64::midpoint(bbox[0], bbox[2]), f64::midpoint(bbox[1], bbox[3]));
        assert!((x - 200.0).abs() < 20.0 && (y - 100.0).abs() < 20.0, "{camera}: {bbox:?} is not around the blot");
        assert_eq!((&raised["frame"]["width"], &raised["frame"]["height"]), (&Value::from(320), &Value::from(240)));
    }
    let last = u64::from(DEFECTIVE.end) + 10;
    eventually(60, "the masked camera has gone past the blot", || {
        results.json().iter().any(|r| r["seq"].as_u64().is_some_and(|seq| seq >= last)).then_some(())
    });
    let raised: Vec<Value> =
        events.json().into_iter().filter(|e| e["camera"] == "masked" && e["transition"] == "raised").collect();
    assert!(raised.is_empty(), "the blot is masked: {raised:?}");
    assert!(results.json().iter().all(|r| r["outcome"] != "no_verdict"));
}
