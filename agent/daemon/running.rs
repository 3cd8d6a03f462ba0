//! What runs until the end: whether all of it still does, and how it ends.

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{info, warn};

use crate::clerk::Cards;
use crate::keeper::{self, Keeper};
use crate::mqtt::board::Board;
use crate::pipeline::{Lane, Pipeline};
use crate::report::{self, Reporter};
use crate::rig::Rig;
use crate::stop::Stop;
use crate::verdict::scorecard::Scorecard;

/// The session's last words take at most this long.
const FAREWELL: Duration = Duration::from_millis(4500);

/// What runs until the end, and ends after the cameras.
pub(super) struct Running {
    /// Workers, the triggers' clock, the clerk.
    pub threads: Vec<JoinHandle<()>>,
    /// Cameras.
    pub rig: Arc<Rig>,
    /// Ends the retrying of a record that the disk refuses.
    pub recording: Stop,
    /// What cameras have learned.
    pub keeper: Arc<Keeper>,
    /// Where updates are taken.
    pub updater: Option<tokio::task::JoinHandle<()>>,
    /// The session's last words may be said.
    pub last: Stop,
    /// The session with the broker.
    pub session: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Until `stop`, or until something has died; then what.
    pub async fn watch(
        &self,
        reporter: &mut Reporter,
        board: &Board,
        office: &JoinHandle<()>,
        stop: &Stop,
    ) -> Option<String> {
        let mut tick = tokio::time::interval(report::TICK);
        let mut save = tokio::time::interval(keeper::EVERY);
        let mut saving: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => reporter.tick(board),
                // One that hangs in the disk is not joined by others, which would take all threads in time.
                _ = save.tick(), if saving.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) => {
                    let keeper = Arc::clone(&self.keeper);
                    saving = Some(tokio::task::spawn_blocking(move || keeper.save()));
                }
                () = stop.stopped() => return None,
            }
            // None of these ends by itself; if one has, inspection or delivery has stopped in silence.
            let failed = if let Some(thread) = self.threads.iter().find(|t| t.is_finished()) {
                Some(format!("the thread {} has died", thread.thread().name().unwrap_or_default()))
            } else if let Some(thread) = self.rig.died() {
                Some(format!("the thread {thread} has died"))
            } else if office.is_finished() {
                Some("the thread commands has died".to_owned())
            } else if self.session.is_finished() {
                Some("the broker's session has died".to_owned())
            } else if self.updater.as_ref().is_some_and(tokio::task::JoinHandle::is_finished) {
                Some("the updater has died".to_owned())
            } else {
                None
            };
            if failed.is_some() {
                return failed.filter(|_| !stop.is_set());
            }
        }
    }

    /// In the order of a frame's way.
    pub async fn end(self, reporter: &mut Reporter, board: &Board) {
        info!("stopping");
        let deadline = tokio::time::Instant::now() + FAREWELL;
        let joined = tokio::task::spawn_blocking(move || {
            self.rig.end();
            self.threads.into_iter().for_each(|t| drop(t.join()));
        });
        if tokio::time::timeout(Duration::from_secs(1), joined).await.is_err() {
            // Either a driver hangs, or the disk is full and what was decided cannot be recorded.
            self.recording.set();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let saved = tokio::task::spawn_blocking(move || self.keeper.save());
        if tokio::time::timeout(Duration::from_secs(1), saved).await.is_err() {
            warn!("the disk took too long; what cameras have learned in the last minute may be lost");
        }
        if let Some(updater) = self.updater
            && tokio::time::timeout(Duration::from_millis(500), updater).await.is_err()
        {
            warn!("an update was cut off; it goes on at the next start");
        }
        reporter.stopped(board);
        self.last.set();
        if tokio::time::timeout_at(deadline, self.session).await.is_err() {
            warn!("the broker took too long; what is left is sent after the next start");
        }
    }
}

/// What has become of each camera's pictures, into the log.
pub(super) fn summarise(pipeline: &Pipeline, cards: &Cards) {
    let cards = cards.lock().unwrap_or_else(PoisonError::into_inner);
    for lane in pipeline.lanes().iter() {
        info!(camera = %lane.name(), "{}", summary(lane, cards.get(lane.name())));
    }
}

fn summary(lane: &Lane, card: Option<&Scorecard>) -> String {
    let (inspected, no_verdict) = lane.counts();
    let (captured, dropped) = lane.feed.counts();
    let mut text =
        format!("{captured} pictures: {inspected} inspected, {no_verdict} without verdict, {dropped} dropped");
    if let Some(card) = card.filter(|card| card.figures().1 > 0) {
        let _ = write!(text, "; ground truth: {card}");
    }
    text
}
