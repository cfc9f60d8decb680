//! One lane of the sender: its groups, one batch after the other, each repeated until every message has an answer.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{LANES, Plan, Progress, Record, due};
use crate::history::{Outcome, Sent};

/// A batch holds ten messages of together 1 MiB.
const BATCH: usize = 10;
const BATCH_BYTES: usize = 1024 * 1024;

/// A message without an answer is repeated for this long: well within the five minutes in which SQS knows a deduplication id.
const RETRY_FOR: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The share of the messages whose group number is `number` modulo the lanes, so that each group has one sender and keeps its order.
pub(super) struct Lane {
    pub number: u64,
    pub start: Instant,
    pub client: Client,
    pub plan: Plan,
    pub progress: watch::Sender<Progress>,
    pub stop: watch::Receiver<bool>,
}

/// A message on its way.
struct Message {
    sent: Sent,
    body: String,
    group: String,
    /// Some attempt may have had its effect.
    ambiguous: bool,
}

/// What came of one attempt for one message.
enum Answer {
    Acknowledged,
    /// Repeating it may help.
    Failed {
        ambiguous: bool,
    },
    /// Repeating it is no use.
    Refused,
}

pub(super) fn without_retries(client: &Client) -> Client {
    let times = TimeoutConfig::builder().connect_timeout(Duration::from_secs(2)).operation_timeout(Duration::from_secs(5)).build();
    Client::from_conf(client.config().to_builder().retry_config(RetryConfig::disabled()).timeout_config(times).build())
}

impl Lane {
    pub(super) async fn run(mut self) -> Vec<Record> {
        let groups = self.plan.groups.max(1);
        let lanes = LANES.min(groups);
        let number = self.number;
        let mut indexes = (0..self.plan.messages).filter(|index| (index % groups) % lanes == number).peekable();
        let mut records = Vec::new();
        while let Some(first) = indexes.peek().copied() {
            tokio::select! {
                biased;
                _ = self.stop.wait_for(|stop| *stop) => break,
                () = sleep_until(due(self.start, first, self.plan.per_second)) => {}
            }
            let mut batch: Vec<Message> = Vec::new();
            while let Some(index) = indexes.next_if(|index| self.joins(&batch, *index)) {
                batch.push(self.message(index));
            }
            records.extend(self.settle(batch).await);
        }
        records
    }

    /// Whether message `index` is due and fits the batch. Where order counts, only one of a group goes into a batch: of two, SQS could refuse
    /// the first alone.
    fn joins(&self, batch: &[Message], index: u64) -> bool {
        let bytes: usize = batch.iter().map(|message| message.body.len()).sum();
        batch.is_empty()
            || batch.len() < BATCH
                && bytes + self.plan.body_bytes <= BATCH_BYTES
                && !(self.is_fifo() && batch.iter().any(|message| message.group == self.group(index)))
                && due(self.start, index, self.plan.per_second) <= Instant::now()
    }

    fn group(&self, index: u64) -> String {
        format!("group-{}", index % self.plan.groups.max(1))
    }

    fn is_fifo(&self) -> bool {
        self.plan.queue_url.ends_with(".fifo")
    }

    fn message(&self, index: u64) -> Message {
        let key = format!("{}-{index}", self.plan.run);
        let group = self.group(index);
        let sequence = index / self.plan.groups.max(1);
        let cents = index % 100_000;
        let mut body =
            format!(r#"{{"id":"{key}","group":"{group}","seq":{sequence},"amount":{}.{:02},"filler":""#, cents / 100, cents % 100);
        body.extend(std::iter::repeat_n('x', self.plan.body_bytes.saturating_sub(body.len() + 2)));
        body.push_str("\"}");
        let order = self.is_fifo().then(|| group.clone());
        Message { sent: Sent { key, group: order, sequence, outcome: Outcome::Unknown }, body, group, ambiguous: false }
    }

    /// Sends a batch, and what failed of it again, until all have an answer, the time is over, or the sending is stopped.
    async fn settle(&self, mut batch: Vec<Message>) -> Vec<Record> {
        let (began, deadline) = (Timestamp::now(), Instant::now() + RETRY_FOR);
        let mut settled = Vec::new();
        let mut settle = |sent| settled.push(Record { sent, began, ended: Timestamp::now() });
        self.count(batch.len(), 0);
        while !batch.is_empty() {
            let answers = self.attempt(&batch).await;
            let last = Instant::now() > deadline || *self.stop.borrow();
            let mut repeat = Vec::new();
            for (mut message, answer) in batch.into_iter().zip(answers) {
                match answer {
                    Answer::Acknowledged => {
                        self.count(0, 1);
                        settle(Sent { outcome: Outcome::Acknowledged, ..message.sent });
                    }
                    Answer::Failed { ambiguous } => {
                        message.ambiguous |= ambiguous;
                        if last { settle(given_up(message)) } else { repeat.push(message) }
                    }
                    Answer::Refused => settle(given_up(message)),
                }
            }
            batch = repeat;
            if !batch.is_empty() {
                sleep(RETRY_PAUSE).await;
            }
        }
        settled
    }

    fn count(&self, sent: usize, acknowledged: usize) {
        self.progress.send_modify(|progress| {
            progress.sent += sent as u64;
            progress.acknowledged += acknowledged as u64;
        });
    }

    /// One call; an answer for each message, in order.
    async fn attempt(&self, batch: &[Message]) -> Vec<Answer> {
        let entries = batch.iter().enumerate().filter_map(|(position, message)| self.entry(position, message));
        let call = self.client.send_message_batch().queue_url(&self.plan.queue_url).set_entries(Some(entries.collect()));
        match call.send().await {
            Ok(answer) => (0..batch.len())
                .map(|position| {
                    let id = position.to_string();
                    let failed = answer.failed().iter().find(|entry| entry.id() == id);
                    match failed {
                        Some(entry) if entry.sender_fault() => Answer::Refused,
                        Some(_) => Answer::Failed { ambiguous: false },
                        None if answer.successful().iter().any(|entry| entry.id() == id) => Answer::Acknowledged,
                        None => Answer::Failed { ambiguous: true },
                    }
                })
                .collect(),
            Err(error) => {
                tracing::debug!(error = %aws_sdk_sqs::error::DisplayErrorContext(&error), "a batch of the traffic has no answer");
                let ambiguous = may_have_had_its_effect(&error);
                batch.iter().map(|_| Answer::Failed { ambiguous }).collect()
            }
        }
    }

    fn entry(&self, position: usize, message: &Message) -> Option<SendMessageBatchRequestEntry> {
        let mut entry = SendMessageBatchRequestEntry::builder().id(position.to_string()).message_body(&message.body);
        if self.is_fifo() {
            entry = entry.message_group_id(&message.group).message_deduplication_id(&message.sent.key);
        }
        entry.build().ok()
    }
}

/// Only an answer that blames the request, or a request that was never sent, says that nothing was done.
fn may_have_had_its_effect<E>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => false,
        SdkError::ServiceError(answer) => answer.raw().status().is_server_error(),
        _ => true,
    }
}

fn given_up(message: Message) -> Sent {
    let outcome = if message.ambiguous { Outcome::Unknown } else { Outcome::Refused };
    Sent { outcome, ..message.sent }
}
