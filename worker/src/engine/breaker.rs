//! The poison breaker: tells bad messages from a pipeline that makes every message look bad.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// So many different messages in a row with the same fault are no coincidence.
const IN_A_ROW: usize = 20;
/// How many of the last distinct messages are remembered.
const WINDOW: usize = 200;

/// Remembers how the last distinct messages ended.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    window: VecDeque<(u64, Option<u64>)>,
    open: bool,
}

impl Breaker {
    /// Takes in how messages ended, in their order: the message's id, and the fault's signature where there was a fault. True when nothing may
    /// be dead-lettered any more.
    ///
    /// While it is open only a message that could be written closes it.
    pub(super) fn record<'a>(&mut self, outcomes: impl Iterator<Item = (&'a str, Option<String>)>) -> bool {
        for (id, signature) in outcomes {
            let id = hash(id);
            let signature = signature.as_deref().map(hash);
            if signature.is_none() && self.open {
                self.open = false;
                self.window.clear();
            }
            // A bad message that comes again says nothing new.
            if signature.is_some() && self.window.contains(&(id, signature)) {
                continue;
            }
            self.window.push_back((id, signature));
            if self.window.len() > WINDOW {
                self.window.pop_front();
            }
            self.open |= signature.is_some_and(|signature| self.trips(signature));
        }
        self.open
    }

    fn trips(&self, signature: u64) -> bool {
        let same = |(_, other): &&(u64, Option<u64>)| *other == Some(signature);
        let in_a_row = self.window.iter().rev().take_while(same).count();
        in_a_row >= IN_A_ROW || self.window.iter().filter(same).count() >= WINDOW / 2
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(breaker: &mut Breaker, from: usize, count: usize, signature: &str) -> bool {
        (from..from + count).any(|id| breaker.record([(id.to_string().as_str(), Some(signature.to_owned()))].into_iter()))
    }

    fn writes(breaker: &mut Breaker, from: usize, count: usize) -> bool {
        (from..from + count).any(|id| breaker.record([(id.to_string().as_str(), None)].into_iter()))
    }

    #[test]
    fn twenty_messages_in_a_row_with_one_fault_open_it_and_nineteen_do_not() {
        let mut breaker = Breaker::default();
        assert!(!faults(&mut breaker, 0, 19, "22P02"));
        assert!(faults(&mut breaker, 19, 1, "22P02"));
    }

    #[test]
    fn different_faults_in_a_row_do_not_open_it() {
        let mut breaker = Breaker::default();
        assert!((0..60).all(|id| !faults(&mut breaker, id, 1, ["22P02", "23502", "22001"][id % 3])));
    }

    #[test]
    fn half_of_the_window_opens_it_although_good_messages_are_between() {
        let mut breaker = Breaker::default();
        let opened = (0..100).any(|round| writes(&mut breaker, round * 10, 1) || faults(&mut breaker, round * 10 + 1, 1, "23502"));
        assert!(opened);
    }

    #[test]
    fn the_same_message_again_and_again_counts_once() {
        let mut breaker = Breaker::default();
        assert!((0..100).all(|_| !faults(&mut breaker, 7, 1, "22P02")));
    }

    #[test]
    fn it_stays_open_until_a_message_is_written() {
        let mut breaker = Breaker::default();
        faults(&mut breaker, 0, 20, "22P02");
        assert!(faults(&mut breaker, 0, 1, "22P02"), "a known bad message must not close it");
        assert!(!writes(&mut breaker, 100, 1));
        assert!(!faults(&mut breaker, 0, 1, "22P02"));
    }
}
