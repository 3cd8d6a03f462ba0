//! Which message makes a broker end the connection. Pure.
//!
//! A broker of MQTT 3.1.1 has no other way to refuse a message than to cut, and what is sent again first at the next connection
//! would then block all others for ever. After [`STRIKES`] connections of a lane that ended without one acknowledgement its
//! oldest message is sent alone; if that ends [`STRIKES`] connections more, it is held back. Only when another message of
//! the lane then gets through is it found guilty: where none does it is the network, and nothing may be lost.

/// So many connections in a row are no accident.
pub const STRIKES: u32 = 3;

/// Of one lane.
#[derive(Debug, Default)]
pub struct Suspect {
    strikes: u32,
    /// What was sent alone, and how many connections it ended.
    alone: Option<(i64, u32)>,
    held: Option<i64>,
}

impl Suspect {
    /// How many messages may be on their way, where this many usually may.
    #[must_use]
    pub fn window(&self, usual: usize) -> usize {
        if self.strikes >= STRIKES && self.held.is_none() { 1 } else { usual }
    }

    /// Whether a message is held back.
    #[must_use]
    pub fn holds(&self, id: i64) -> bool {
        self.held == Some(id)
    }

    /// A message has got through. Gives the one that is found guilty, if any.
    pub fn acknowledged(&mut self) -> Option<i64> {
        (self.strikes, self.alone) = (0, None);
        self.held.take()
    }

    /// The connection has ended while these were on their way.
    pub fn lost(&mut self, on_their_way: &[i64]) {
        if self.held.take().is_some() {
            (self.strikes, self.alone) = (0, None); // it was not that one
            return;
        }
        if let [id] = on_their_way
            && self.strikes >= STRIKES
        {
            let times = self.alone.filter(|(last, _)| last == id).map_or(0, |(_, times)| times) + 1;
            self.alone = Some((*id, times));
            self.held = (times >= STRIKES).then_some(*id);
        }
        self.strikes += u32::from(!on_their_way.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 1 to 40 in windows of 8 until all is through or aside; what does `gets_through` gives, and after how many connections.
    fn send(gets_through: impl Fn(i64) -> bool, connections: u32) -> (Vec<i64>, Vec<i64>, u32) {
        let (mut suspect, mut queue) = (Suspect::default(), (1..=40).collect::<Vec<i64>>());
        let (mut through, mut aside, mut count) = (Vec::new(), Vec::new(), 0);
        while !queue.is_empty() && count < connections {
            count += 1;
            loop {
                let window = suspect.window(8);
                let flight: Vec<i64> = queue.iter().copied().filter(|id| !suspect.holds(*id)).take(window).collect();
                let Some(first) = flight.first() else { break };
                if !gets_through(*first) {
                    suspect.lost(&flight);
                    break;
                }
                queue.retain(|id| id != first);
                through.push(*first);
                if let Some(guilty) = suspect.acknowledged() {
                    queue.retain(|id| *id != guilty);
                    aside.push(guilty);
                }
            }
        }
        (through, aside, count)
    }

    #[test]
    fn the_guilty_one_is_found_and_all_others_get_through() {
        let (through, aside, connections) = send(|id| id != 7 && id != 20, 100);
        assert_eq!((through.len(), aside), (38, vec![7, 20]));
        assert_eq!(connections, 2 * 2 * STRIKES + 1);
    }

    #[test]
    fn where_nothing_gets_through_nothing_is_guilty() {
        let (through, aside, _) = send(|_| false, 1000);
        assert!(through.is_empty() && aside.is_empty());
    }

    #[test]
    fn a_connection_that_ends_with_nothing_on_its_way_says_nothing() {
        let mut suspect = Suspect::default();
        (0..100).for_each(|_| suspect.lost(&[]));
        assert_eq!(suspect.window(32), 32);
    }
}
