//! Sending at a rate: lanes beside one another, each with its own groups, so that a slow answer holds back no other and no group overtakes
//! itself.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::DisplayErrorContext;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::sample::{Sample, Sampler};

/// Lanes that send at the same time.
const LANES: u32 = 8;
/// A batch holds at most so many.
const BATCH: usize = 10;
/// How often a message is tried that SQS did not take, beside the SDK's own attempts.
const ATTEMPTS: u32 = 5;
/// How long between two attempts.
const PAUSE: Duration = Duration::from_millis(300);

/// How far the sending is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Messages that SQS confirmed.
    pub accepted: u64,
    /// Messages that it refused or did not answer.
    pub failed: u64,
    /// Why the last of them failed.
    pub error: Option<String>,
    /// How long it has taken.
    pub elapsed: Duration,
}

impl Progress {
    /// The same for people, with the rate that was reached.
    #[must_use]
    pub fn text(&self) -> String {
        let milliseconds = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let tenths = self.accepted.saturating_mul(10_000) / milliseconds;
        format!("{} accepted, {} failed, {}.{} a second", self.accepted, self.failed, tenths / 10, tenths % 10)
    }
}

/// Sending in the background.
#[derive(Debug)]
pub struct Sending {
    lanes: JoinSet<()>,
    progress: watch::Sender<Progress>,
    start: Instant,
}

impl Sending {
    /// Begins to send `count` messages, `rate` a second at even distances.
    #[must_use]
    pub fn start(client: &Client, url: &str, sampler: Sampler, count: u32, rate: u32) -> Self {
        let (progress, start) = (watch::Sender::new(Progress::default()), Instant::now());
        let mut lanes: HashMap<u32, Vec<u32>> = HashMap::new();
        for number in 1..=count {
            lanes.entry(sampler.lane(number, LANES)).or_default().push(number);
        }
        let lanes = lanes.into_values().map(|numbers| {
            let (client, url, sampler, progress) = (client.clone(), url.to_owned(), sampler.clone(), progress.clone());
            async move { Lane { client, url, sampler, rate, start, progress }.run(numbers).await }
        });
        Self { lanes: lanes.collect(), progress, start }
    }

    /// Waits until all are sent.
    pub async fn finished(&mut self) {
        while self.lanes.join_next().await.is_some() {}
    }

    /// Sends no more. What is on its way may still arrive.
    pub fn stop(&mut self) {
        self.lanes.abort_all();
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { elapsed: self.start.elapsed(), ..self.progress.borrow().clone() }
    }
}

struct Lane {
    client: Client,
    url: String,
    sampler: Sampler,
    rate: u32,
    start: Instant,
    progress: watch::Sender<Progress>,
}

impl Lane {
    async fn run(self, numbers: Vec<u32>) {
        let mut numbers = numbers.into_iter().peekable();
        while let Some(first) = numbers.next() {
            sleep_until(self.due(first)).await;
            let mut batch = vec![self.sampler.message(first)];
            while let Some(number) = numbers.next_if(|number| batch.len() < BATCH && self.joins(&batch, *number)) {
                batch.push(self.sampler.message(number));
            }
            self.settle(batch).await;
        }
    }

    fn due(&self, number: u32) -> Instant {
        self.start + Duration::from_micros(u64::from(number - 1) * 1_000_000 / u64::from(self.rate.max(1)))
    }

    /// Whether a message is due and may go into the batch. Where order counts, only one of a group: of two, SQS could refuse the first alone.
    fn joins(&self, batch: &[Sample], number: u32) -> bool {
        let group = self.sampler.message(number).group;
        self.due(number) <= Instant::now() && !(self.is_fifo() && batch.iter().any(|sample| sample.group == group))
    }

    fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    /// Sends a batch, and what was not taken of it again.
    async fn settle(&self, mut batch: Vec<Sample>) {
        for attempt in 1..=ATTEMPTS {
            let (sent, refused, error) = match self.attempt(&batch).await {
                Ok((left, refused, error)) => {
                    let accepted = batch.len() - left.len() - refused;
                    batch = left;
                    (accepted, refused, error)
                }
                Err(error) => (0, 0, Some(error)),
            };
            let given_up = if attempt == ATTEMPTS { batch.len() } else { 0 };
            self.progress.send_modify(|progress| {
                progress.accepted += sent as u64;
                progress.failed += (refused + given_up) as u64;
                progress.error = error.or(progress.error.take());
            });
            if batch.is_empty() {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// One call: what to try again, how many were refused for good, and why.
    async fn attempt(&self, batch: &[Sample]) -> Result<(Vec<Sample>, usize, Option<String>), String> {
        let entries = batch.iter().enumerate().filter_map(|(index, sample)| self.entry(index, sample)).collect();
        let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
        let answer = call.map_err(|error| DisplayErrorContext(&error).to_string())?;
        let reason = answer.failed().last().map(|entry| format!("{}: {}", entry.code(), entry.message().unwrap_or_default()));
        let refused = answer.failed().iter().filter(|entry| entry.sender_fault()).count();
        let again = answer.failed().iter().filter(|entry| !entry.sender_fault());
        let again = again.filter_map(|entry| batch.get(entry.id().parse::<usize>().ok()?).cloned()).collect();
        Ok((again, refused, reason))
    }

    fn entry(&self, index: usize, sample: &Sample) -> Option<SendMessageBatchRequestEntry> {
        let attribute = |(name, text): (&String, &String)| {
            Some((name.clone(), MessageAttributeValue::builder().data_type("String").string_value(text).build().ok()?))
        };
        let attributes: HashMap<_, _> = sample.attributes.iter().filter_map(attribute).collect();
        let mut entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(&sample.body);
        if !attributes.is_empty() {
            entry = entry.set_message_attributes(Some(attributes));
        }
        if self.is_fifo() {
            entry = entry.message_group_id(&sample.group).message_deduplication_id(&sample.id);
        } else if self.sampler.needs_group() {
            entry = entry.message_group_id(&sample.group);
        }
        entry.build().ok()
    }
}
