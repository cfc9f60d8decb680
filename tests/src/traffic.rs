//! A producer whose every message can be accounted for: unique keys, order within groups, retries with the same key, and a record of what
//! SQS acknowledged. Afterwards [`verify()`] compares the table and the dead-letter queue with the record.

mod sender;
mod verify;

use std::time::Duration;

use aws_sdk_sqs::Client;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::Sent;
use sender::Lane;

pub use verify::{key_of, verify, write_gap};

/// Lanes send at the same time, one batch each. Four fill two cores with the SDK's work.
const LANES: u64 = 4;

/// What to send.
///
/// A body is `{"id": …, "group": …, "seq": …, "amount": …, "filler": …}`: `id` is unique, `seq` counts up within the group.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The queue; its URL ends in `.fifo` when it keeps order. Then the group is also the message group, and the id the deduplication id.
    pub queue_url: String,
    /// Start of all keys of this run (letters, digits, hyphens), so that runs can share a table.
    pub run: String,
    /// How many messages.
    pub messages: u64,
    /// Messages per second, at even distances; none is as fast as possible, in batches of ten.
    pub per_second: Option<f64>,
    /// Over how many groups the messages go round, at least 1.
    pub groups: u64,
    /// The body is filled up to this size in bytes.
    pub body_bytes: usize,
}

impl Plan {
    /// A plan with the demo's figures: 50 a second, 20 groups, 300 bytes.
    #[must_use]
    pub fn new(queue_url: &str, run: &str, messages: u64) -> Self {
        Self { queue_url: queue_url.to_owned(), run: run.to_owned(), messages, per_second: Some(50.0), groups: 20, body_bytes: 300 }
    }
}

/// What is known of a message that was tried, whatever the number of attempts.
#[derive(Debug, Clone)]
pub struct Record {
    /// Key, group, sequence and outcome.
    pub sent: Sent,
    /// The start of the first attempt.
    pub began: Timestamp,
    /// The end of the last attempt.
    pub ended: Timestamp,
}

/// How far the sending is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages that were tried, with or without an answer.
    pub sent: u64,
    /// Those that SQS acknowledged.
    pub acknowledged: u64,
}

/// Sending in the background; dropped, it stops at once and its records are lost.
#[derive(Debug)]
pub struct Traffic {
    lanes: JoinSet<Vec<Record>>,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
}

impl Traffic {
    /// Starts to send. The client's own retries are switched off: an answer that was lost is repeated by the sender, with the same key and
    /// deduplication id.
    #[must_use]
    pub fn start(client: &Client, plan: &Plan) -> Self {
        let (progress, seen) = watch::channel(Progress::default());
        let stop = watch::Sender::new(false);
        let client = sender::without_retries(client);
        let start = Instant::now();
        let mut lanes = JoinSet::new();
        for number in 0..LANES.min(plan.groups.max(1)) {
            let lane =
                Lane { number, start, client: client.clone(), plan: plan.clone(), progress: progress.clone(), stop: stop.subscribe() };
            lanes.spawn(lane.run());
        }
        Self { lanes, progress: seen, stop }
    }

    /// How far it is; wait on it for a count.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until this number of messages is acknowledged, or the sending has ended.
    pub async fn acknowledged(&self, messages: u64) {
        self.progress.clone().wait_for(|progress| progress.acknowledged >= messages).await.ok();
    }

    /// Begins no more messages, and repeats none. Those under way get up to 5 s for their answer.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all is sent (or stopped) and returns the records, one for each key.
    ///
    /// # Errors
    /// A lane panicked.
    pub async fn finish(mut self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        while let Some(lane) = self.lanes.join_next().await {
            records.extend(lane?);
        }
        Ok(records)
    }
}

/// When message `index` of a run is due.
fn due(start: Instant, index: u64, per_second: Option<f64>) -> Instant {
    match per_second {
        Some(rate) => start + Duration::from_secs_f64(f64::from(u32::try_from(index).unwrap_or(u32::MAX)) / rate),
        None => start,
    }
}
