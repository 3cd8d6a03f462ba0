//! A line of a GPIO chip as a trigger: Linux's character device (`/dev/gpiochipN`), by the crate `gpiocdev`.
//!
//! An edge counts from when the kernel saw it, not from when it was read. Edges that the kernel had no room for are noticed by its
//! numbers, and are missed parts. A line that cannot be read is opened again, and the camera's state says so meanwhile.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use gpiocdev::line::{EdgeDetection, EventClock};
use gpiocdev::request::Request;
use tracing::{info, warn};

use super::{By, Fired};
use crate::backoff::Backoff;
use crate::config::{LineConfig, LineEdge};
use crate::frame::feed::Feed;
use crate::stop::Stop;

/// How long a wait may take, for `stop`.
const SLICE: Duration = Duration::from_millis(100);

/// Of more edges that are lost at once, the rest is no line that counts parts.
const MOST_LOST: u32 = 64;
/// What is said of each.
const LOST: &str = "an edge of its line came faster than it could be read";

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// How long ago it was.
    pub age: Duration,
    /// Edges between the one before and this one that were lost.
    pub lost: u32,
}

/// Where edges come from.
pub trait Line {
    /// The next edge; `None` where none comes in this time.
    ///
    /// # Errors
    /// The line cannot be read any more.
    fn wait(&mut self, timeout: Duration) -> Result<Option<Edge>>;
}

/// A line of a chip.
pub struct Chip {
    request: Request,
    number: Option<u32>,
}

impl Chip {
    /// Asks the kernel for it.
    ///
    /// # Errors
    /// No such chip or line, no right to it, or somebody else has it.
    pub fn open(config: &LineConfig) -> Result<Self> {
        let chip = Path::new(&config.chip);
        ensure!(chip.exists(), "the GPIO chip {} is missing (`gpiodetect` lists those there are)", chip.display());
        let edges = match config.edge {
            LineEdge::Rising => EdgeDetection::RisingEdge,
            LineEdge::Falling => EdgeDetection::FallingEdge,
            LineEdge::Both => EdgeDetection::BothEdges,
        };
        let request = Request::builder()
            .on_chip(chip)
            .with_consumer("inspectd")
            .with_line(config.offset)
            .with_edge_detection(edges)
            .with_event_clock(EventClock::Monotonic)
            .request()
            .with_context(|| {
                format!(
                    "line {} of {} cannot be had: is it there, free (`gpioinfo`), and is inspectd in the group gpio?",
                    config.offset,
                    chip.display()
                )
            })?;
        Ok(Self { request, number: None })
    }
}

impl Line for Chip {
    fn wait(&mut self, timeout: Duration) -> Result<Option<Edge>> {
        if !self.request.wait_edge_event(timeout)? {
            return Ok(None);
        }
        let event = self.request.read_edge_event()?;
        let lost = self.number.map_or(0, |last| event.line_seqno.wrapping_sub(last).saturating_sub(1));
        self.number = Some(event.line_seqno);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        Ok(Some(Edge { age: now.saturating_sub(Duration::from_nanos(event.timestamp_ns)), lost }))
    }
}

/// Fires at each edge, on this thread, until `stop`.
pub fn watch<L: Line>(mut open: impl FnMut() -> Result<L>, feed: &Feed, stop: &Stop) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    while !stop.is_set() {
        let failed = open().and_then(|mut line| {
            info!(camera = %feed.name, "its trigger's line is watched");
            feed.set_trigger_trouble(None);
            backoff.reset();
            fire(&mut line, feed, stop)
        });
        if let Err(e) = failed {
            warn!(camera = %feed.name, "no triggers come: {e:#}");
            feed.set_trigger_trouble(Some(format!("no triggers come: {e:#}")));
            if stop.wait(backoff.next_delay()) {
                return;
            }
        }
    }
}

fn fire(line: &mut impl Line, feed: &Feed, stop: &Stop) -> Result<()> {
    while !stop.is_set() {
        let Some(Edge { age, lost }) = line.wait(SLICE)? else { continue };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (at, at_wall) = (now.checked_sub(age).unwrap_or(now), wall.checked_sub(age).unwrap_or(wall));
        for _ in 0..lost.min(MOST_LOST) {
            feed.miss(at_wall, LOST.to_owned());
        }
        feed.fire(Fired { by: By::Line, at, at_wall, deadline: at + feed.patience(), waiter: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Captured;
    use crate::frame::source::Next;
    use crate::frame::{Image, PixelFormat};
    use anyhow::bail;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// Edges as they are read, and then the stop.
    struct Script(VecDeque<Result<Edge>>, Stop);

    impl Line for Script {
        fn wait(&mut self, _: Duration) -> Result<Option<Edge>> {
            let edge = self.0.pop_front().transpose();
            if matches!(edge, Ok(None)) {
                self.1.set();
            }
            edge
        }
    }

    fn feed() -> Feed {
        let config = toml::from_str("on = { line = { chip = \"/dev/gpiochip0\", offset = 3 } }\nqueue = 4").unwrap();
        let feed = Feed::new("a".into(), Box::new(|| ()));
        feed.configure(Some(&config), false);
        feed
    }

    #[test]
    fn edges_ask_for_pictures_and_lost_ones_are_missed_parts() {
        let (feed, stop) = (feed(), Stop::default());
        let edge = |lost| Ok(Edge { age: Duration::from_millis(5), lost });
        let script = Script([edge(0), edge(2), edge(0)].into(), stop.clone());
        let mut scripts = VecDeque::from([script]);
        watch(|| scripts.pop_front().ok_or_else(|| anyhow::anyhow!("no more")), &feed, &stop);
        let picture = || Image {
            width: 8,
            height: 8,
            format: PixelFormat::Mono8,
            pixels: vec![1; 64],
            origin: None,
            truth: None,
        };
        (0..5).for_each(|_| feed.deliver(Next::from(picture())));
        let mut taken = Vec::new();
        while let Some(captured) = feed.take_with(|captured| captured) {
            taken.push(match captured {
                Captured::Frame(frame) => format!("{} for {}", frame.seq, frame.fired.len()),
                Captured::Missed { reason, .. } => reason,
                Captured::Unreadable { reason, .. } => panic!("{reason}"),
            });
        }
        assert_eq!(taken, [LOST, LOST, "0 for 1", "1 for 1", "2 for 1"]);
        assert_eq!((feed.trigger_counts().fired, feed.trigger_counts().passed_over), (3, 2));
    }

    #[test]
    fn a_line_that_fails_is_opened_again_and_said() {
        let (feed, stop) = (Arc::new(feed()), Stop::default());
        let (mut tries, watched, halt) = (0, Arc::clone(&feed), stop.clone());
        let open = move || -> Result<Script> {
            tries += 1;
            if tries == 1 {
                bail!("it is not there")
            }
            assert!(watched.status().reason.is_some_and(|reason| reason.contains("it is not there")));
            Ok(Script(VecDeque::new(), halt.clone()))
        };
        watch(open, &feed, &stop);
        assert_eq!(feed.status().reason, None);
    }
}
