//! How well a camera that knows the truth is inspected: for the demo and the tests.
//!
//! A defect counts as found when an alarm was raised whose box touches it in some frame; an alarm that touches none is
//! false. Defects that came into view before the anomaly check had learned enough are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::frame::Truth;

/// Defects remembered; the oldest are counted and forgotten.
const REMEMBERED: usize = 256;

/// The card of one camera.
#[derive(Debug, Clone, Default)]
pub struct Scorecard {
    open: BTreeMap<u64, bool>,
    ignored: BTreeSet<u64>,
    found: u64,
    missed: u64,
    false_alarms: u64,
}

impl Scorecard {
    /// A frame with what is in it, and the boxes of the alarms that it raised. `ready` is whether the checks had
    /// learned enough.
    pub fn add(&mut self, truth: &[Truth], raised: &[[f32; 4]], ready: bool) {
        for defect in truth {
            if !ready && !self.open.contains_key(&defect.id) {
                self.ignored.insert(defect.id);
            } else if !self.ignored.contains(&defect.id) {
                let hit = raised.iter().any(|r| touches(*r, defect.bbox));
                *self.open.entry(defect.id).or_default() |= hit;
            }
        }
        if ready {
            let stray = |r: &&[f32; 4]| !truth.iter().any(|t| touches(**r, t.bbox));
            self.false_alarms += raised.iter().filter(stray).count() as u64;
        }
        while self.ignored.len() > REMEMBERED {
            self.ignored.pop_first();
        }
        while self.open.len() > REMEMBERED {
            if let Some((_, hit)) = self.open.pop_first() {
                *(if hit { &mut self.found } else { &mut self.missed }) += 1;
            }
        }
    }

    /// Found, all, and false alarms.
    #[must_use]
    pub fn figures(&self) -> (u64, u64, u64) {
        let open = self.open.values().filter(|hit| **hit).count() as u64;
        let found = self.found + open;
        (found, found + self.missed + self.open.len() as u64 - open, self.false_alarms)
    }
}

impl fmt::Display for Scorecard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, all, false_alarms) = self.figures();
        write!(f, "found {found} of {all} true defects, {false_alarms} false alarms")
    }
}

fn touches(a: [f32; 4], b: [f32; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(id: u64, x: f32) -> Truth {
        Truth { class: "synthetic/pit", bbox: [x, 0.0, x + 10.0, 10.0], id }
    }

    #[test]
    fn counts_each_defect_once() {
        let mut card = Scorecard::default();
        card.add(&[truth(1, 0.0)], &[], false); // while learning
        card.add(&[truth(1, 0.0), truth(2, 50.0)], &[[200.0, 0.0, 210.0, 9.0]], true);
        card.add(&[truth(2, 60.0), truth(3, 90.0)], &[[65.0, 5.0, 80.0, 20.0]], true);
        assert_eq!(card.figures(), (1, 2, 1));
        for id in 4..1000 {
            card.add(&[truth(id, 0.0)], &[[1.0, 1.0, 2.0, 2.0]], true);
        }
        assert_eq!(card.figures(), (997, 998, 1));
    }
}
