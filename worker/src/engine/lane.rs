//! A lane: one batch on its way through one connection. A batch that fails for one of its rows is halved, left to right, until the row that
//! fails stands alone.

use tokio::time::Instant;

use super::held::Key;
use crate::fault::RowFault;
use crate::problem::Problem;
use crate::sink::Class;

/// So many messages that each failed alone, and none that did not, are taken for the whole batch.
const ALONE_AT_MOST: usize = 20;

/// How one message of a lane ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Its row is committed.
    Committed,
    /// It failed alone.
    Failed(Failure),
}

/// Why a message failed alone.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) fault: RowFault,
    /// What it would mean if it were not the message that is at fault.
    pub(super) problem: Problem,
    pub(super) class: Class,
}

/// One batch on its way through one connection.
#[derive(Debug)]
pub(super) struct Lane {
    /// What is still to be written, the next part last.
    rest: Vec<Vec<Key>>,
    /// What is being written.
    pub(super) current: Vec<Key>,
    /// The statement that is under way.
    pub(super) write: Option<u64>,
    /// When it was sent.
    pub(super) started: Instant,
    /// Wait until then before the next statement.
    pub(super) not_before: Option<Instant>,
    /// How often the current part was tried again without being halved.
    pub(super) tries: u32,
    /// How its messages ended, in their order.
    pub(super) ends: Vec<(Key, End)>,
    /// What its statements take in memory.
    pub(super) bytes: u64,
}

impl Lane {
    pub(super) fn new(keys: Vec<Key>, bytes: u64, now: Instant) -> Self {
        Self { rest: vec![keys], current: Vec::new(), write: None, started: now, not_before: None, tries: 0, ends: Vec::new(), bytes }
    }

    /// Makes the next part the current one. False when nothing is left to write.
    pub(super) fn advance(&mut self) -> bool {
        self.tries = 0;
        self.current.clear();
        while let Some(part) = self.rest.pop() {
            if !part.is_empty() {
                self.current = part;
                return true;
            }
        }
        false
    }

    /// The current part was committed.
    pub(super) fn commit(&mut self) -> Vec<Key> {
        let keys = std::mem::take(&mut self.current);
        self.ends.extend(keys.iter().map(|key| (*key, End::Committed)));
        keys
    }

    /// Halves the current part, or, where it is one message, says which.
    pub(super) fn halve(&mut self) -> Option<Key> {
        let mut left = std::mem::take(&mut self.current);
        if let [key] = left.as_slice() {
            return Some(*key);
        }
        let right = left.split_off(left.len() / 2);
        self.rest.extend([right, left]);
        None
    }

    /// Notes that a message failed alone.
    pub(super) fn fail(&mut self, key: Key, failure: Failure) {
        self.ends.push((key, End::Failed(failure)));
    }

    /// Takes the messages out that `leaves` names; they are not written by this lane.
    pub(super) fn remove(&mut self, leaves: impl Fn(Key) -> bool) -> Vec<Key> {
        let mut left = Vec::new();
        for part in self.rest.iter_mut().chain([&mut self.current]) {
            part.retain(|key| {
                let leave = leaves(*key);
                if leave {
                    left.push(*key);
                }
                !leave
            });
        }
        left
    }

    /// Everything that is neither committed nor failed alone.
    pub(super) fn unwritten(&self) -> Vec<Key> {
        self.rest.iter().flatten().chain(&self.current).copied().collect()
    }

    /// True when some message was committed.
    pub(super) fn has_committed(&self) -> bool {
        self.ends.iter().any(|(_, end)| matches!(end, End::Committed))
    }

    /// True when so many have failed alone, and none was committed, that there is no point in going on.
    pub(super) fn looks_hopeless(&self) -> bool {
        self.ends.len() >= ALONE_AT_MOST && !self.has_committed()
    }

    /// The first failure that may be the pipeline's rather than the message's.
    pub(super) fn doubtful(&self) -> Option<&Failure> {
        self.ends.iter().find_map(|(_, end)| match end {
            End::Failed(failure) if matches!(failure.class, Class::Ambiguous | Class::HoldThenRowFault) => Some(failure),
            _ => None,
        })
    }
}
