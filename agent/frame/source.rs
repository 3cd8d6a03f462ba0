//! What every kind of camera offers: the next picture, or why there is none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Image, folder, genicam, rtsp, synthetic, v4l2, video};
use crate::config::{Limits, SourceConfig};
use crate::stop::Stop;

/// One answer of a source.
#[derive(Debug)]
pub enum Next {
    /// A whole picture.
    Picture {
        /// The picture.
        image: Image,
        /// The source's own clock at capture, since an origin of its own, where it has one (`GenICam` time stamps, RTP).
        clock: Option<Duration>,
    },
    /// A picture came that is cut off, too large or of an unknown kind.
    Unreadable {
        /// File name.
        origin: Option<Arc<str>>,
        /// What is wrong with it.
        reason: String,
    },
    /// All is well, but there is nothing to inspect now: a folder waits for files, a live camera's picture was too early.
    Idle,
    /// The source has no more pictures.
    Ended,
}

impl From<Image> for Next {
    /// A picture that is as old as its arrival.
    fn from(image: Image) -> Self {
        Self::Picture { image, clock: None }
    }
}

/// What a transport has counted since the source was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Transport {
    /// Pictures that came whole.
    pub completed: u64,
    /// Pictures of which a part was missing; each is a [`Next::Unreadable`].
    pub incomplete: u64,
    /// Packets that were asked for again and came.
    pub resent: u64,
    /// Packets that never came.
    pub missing: u64,
    /// Times that a picture found no buffer.
    pub underruns: u64,
}

impl std::ops::Add for Transport {
    type Output = Self;

    /// Counts of one opening and the next.
    fn add(self, other: Self) -> Self {
        Self {
            completed: self.completed + other.completed,
            incomplete: self.incomplete + other.incomplete,
            resent: self.resent + other.resent,
            missing: self.missing + other.missing,
            underruns: self.underruns + other.underruns,
        }
    }
}

/// An open camera. Lives on its capture thread and may block there.
pub trait FrameSource {
    /// The next picture; blocks until there is one, at most for the source's own time-out. A live source passes over
    /// a picture that comes before `due`, undecoded, and says [`Next::Idle`]; of any other the caller asks for none before.
    ///
    /// # Errors
    /// The source failed and must be opened again.
    fn next(&mut self, due: Instant) -> Result<Next, Error>;

    /// Whether pictures come at the camera's own pace. Such a source is read all the time, so that no old picture
    /// waits in a buffer; any other is simply asked less often.
    fn live(&self) -> bool {
        false
    }

    /// What the transport has counted, where it counts.
    fn transport(&self) -> Option<Transport> {
        None
    }

    /// What the camera has appended to its newest picture, by name (`GenICam` chunks).
    fn chunks(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Takes a picture now, where the source waits for that; a source without a trigger of its own needs none.
    ///
    /// # Errors
    /// The camera did not take the trigger.
    fn fire(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The pace that the source itself asks for, when the camera has no rate limit.
    fn pace(&self) -> Option<Duration> {
        None
    }
}

/// Opens a source.
///
/// # Errors
/// Says what could not be opened and what to look at.
pub fn open(config: &SourceConfig, limits: &Limits, stop: &Stop) -> Result<Box<dyn FrameSource>, Error> {
    Ok(match config {
        SourceConfig::Folder(folder) => Box::new(folder::Folder::open(folder, limits.max_pixels(), stop.clone())?),
        SourceConfig::Video(file) => Box::new(video::Video::open(file, limits)?),
        SourceConfig::V4l2(device) => Box::new(v4l2::V4l2::open(device, limits)?),
        SourceConfig::Rtsp(stream) => Box::new(rtsp::Rtsp::open(stream, limits, stop.clone())?),
        SourceConfig::Genicam(camera) => return genicam::open(camera, limits, stop),
        SourceConfig::Synthetic(scene) => Box::new(synthetic::Synthetic::new(scene)),
    })
}
