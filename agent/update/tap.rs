//! Hands single frames of the running inspection to a candidate that looks on. Never makes the inspection wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::Image;
use crate::frame::view::View;
use crate::mqtt::payload::Finding;
use crate::verdict::Verdict;

/// A frame that the active bundle has inspected.
#[derive(Debug)]
pub struct Seen {
    /// The picture.
    pub image: Image,
    /// Which camera's, in the order of the configuration.
    pub camera: usize,
    /// How it was looked at.
    pub view: Arc<View>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Milliseconds of preparation and forward pass.
    pub ms: f32,
}

/// Where frames can be had.
#[derive(Debug, Default)]
pub struct Tap {
    open: AtomicBool,
    seen: Mutex<Option<Seen>>,
}

impl Tap {
    /// Asks for the next frame.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The frame that was asked for, once it is here.
    pub fn take(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// To be called with every verdict; copies the picture where one was asked for.
    pub fn offer(&self, verdict: &Verdict, camera: usize, view: &Arc<View>) {
        let (Some(frame), None) = (verdict.frame(), &verdict.no_verdict) else { return };
        if self.open.swap(false, Ordering::AcqRel) {
            let seen = Seen {
                image: frame.image.clone(),
                camera,
                view: Arc::clone(view),
                findings: verdict.findings.clone(),
                ms: (verdict.times.prepare + verdict.times.forward).as_secs_f32() * 1000.0,
            };
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
    }
}
