//! Which message makes a broker end the connection. Pure.
//!
//! A broker of MQTT 3.1.1 has no other way to refuse a message than to cut, and what is sent again first at the next connection
//! would then block all others for ever. After [`STRIKES`] connections of a lane that ended without one acknowledgement its
//! oldest message is put on trial: it is sent alone, over a connection on which the broker has already acknowledged something
//! else. If that ends [`STRIKES`] such connections, it is found guilty. A network over which nothing gets through, or a second
//! client with the same id, condemns nothing.

/// So many connections in a row are no accident.
pub const STRIKES: u32 = 3;

/// Of one lane.
#[derive(Debug, Default)]
pub struct Suspect {
    strikes: u32,
    /// What was on trial last, and how many connections it ended.
    trial: Option<(i64, u32)>,
}

impl Suspect {
    /// Whether the lane's oldest message is to be sent alone, and only over a connection that has proved itself.
    #[must_use]
    pub fn is_careful(&self) -> bool {
        self.strikes >= STRIKES
    }

    /// Whether something is being looked into.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.strikes == 0
    }

    /// A message of the lane has got through.
    pub fn acknowledged(&mut self) {
        *self = Self::default();
    }

    /// The connection has ended while these of the lane were on their way; `alone` is whether nothing else was, and something had
    /// been acknowledged before. Gives the one that is found guilty, if any.
    pub fn lost(&mut self, on_their_way: &[i64], alone: bool) -> Option<i64> {
        if let ([id], true, true) = (on_their_way, alone, self.is_careful()) {
            let times = self.trial.filter(|(last, _)| last == id).map_or(0, |(_, times)| times) + 1;
            if times >= STRIKES {
                *self = Self::default();
                return Some(*id);
            }
            self.trial = Some((*id, times));
        }
        self.strikes = self.strikes.saturating_add(u32::from(!on_their_way.is_empty()));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 1 to 40 in windows of 8 until all is through or aside; what got through, what is aside, and after how many connections.
    fn send(works: impl Fn(u32) -> bool, gets_through: impl Fn(i64) -> bool) -> (Vec<i64>, Vec<i64>, u32) {
        let (mut suspect, mut queue) = (Suspect::default(), (1..=40).collect::<Vec<i64>>());
        let (mut through, mut aside, mut count) = (Vec::new(), Vec::new(), 0);
        while !queue.is_empty() && count < 1000 {
            count += 1;
            while let Some(first) = queue.first().copied() {
                let careful = suspect.is_careful();
                let flight: Vec<i64> = queue.iter().copied().take(if careful { 1 } else { 8 }).collect();
                // A state is acknowledged first, where anything is.
                let sent = if careful && !works(count) { &[][..] } else { &flight };
                if !works(count) || !gets_through(first) {
                    let guilty = suspect.lost(sent, careful && works(count));
                    queue.retain(|id| Some(*id) != guilty);
                    aside.extend(guilty);
                    break;
                }
                queue.remove(0);
                through.push(first);
                suspect.acknowledged();
            }
        }
        (through, aside, count)
    }

    #[test]
    fn the_guilty_one_is_found_and_all_others_get_through() {
        let (through, aside, connections) = send(|_| true, |id| id != 7 && id != 20);
        assert_eq!((through.len(), aside), (38, vec![7, 20]));
        assert_eq!(connections, 2 * 2 * STRIKES + 1);
    }

    #[test]
    fn where_nothing_gets_through_nothing_is_guilty() {
        let (through, aside, _) = send(|_| false, |_| false);
        assert!(through.is_empty() && aside.is_empty());
    }

    #[test]
    fn after_an_outage_of_any_length_all_get_through() {
        for length in 0..20 {
            let (through, aside, connections) = send(|connection| connection > length, |_| true);
            assert_eq!((through.len(), aside.len(), connections), (40, 0, length + 1));
        }
    }

    #[test]
    fn a_connection_that_ends_with_nothing_on_its_way_says_nothing() {
        let mut suspect = Suspect::default();
        (0..100).for_each(|_| assert_eq!(suspect.lost(&[], true), None));
        assert!(suspect.is_quiet());
    }
}
