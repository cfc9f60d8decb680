//! The queue's part of the check: what the worker itself checks before it receives, and what is worth knowing beside it.

use std::collections::HashMap;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use durable_write_crds::pipeline::Queue as QueueReference;
use serde::Deserialize;

use super::Finding;
use super::policy::{Facts, QueueFacts};
use crate::aws::no_region;
use crate::queue::Queue;
use crate::queue::sqs::Sqs;

/// Below this an outage or a few restarts of other consumers can move good messages to the dead-letter queue.
const FEW_RECEIVES: u32 = 10;

/// The part of a redrive policy that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicy {
    dead_letter_target_arn: String,
    // AWS writes a number, and some of its tools a text.
    max_receive_count: serde_json::Value,
}

/// Looks at the queue and its dead-letter queue. Receives and sends nothing.
pub(super) async fn examine(configuration: &SdkConfig, reference: &QueueReference) -> (Vec<Finding>, Facts) {
    let mut facts = Facts::of_manifest(reference);
    if configuration.region().is_none() {
        return (vec![no_region("queue").into()], facts);
    }
    let checked = match Sqs::new(configuration, reference.clone()).check().await {
        Ok(checked) => checked,
        Err(problem) => return (vec![problem.into()], facts),
    };
    let hours = |seconds: u64| format!("{} hours", seconds / 3600);
    let kind = if reference.is_fifo() { "FIFO, its order is kept within each group" } else { "standard" };
    let mut findings = vec![Finding::ok(
        "queue",
        format!(
            "{} is there: {kind}; keeps messages for {}, up to {} bytes each",
            reference.queue_name(),
            hours(checked.retention.as_secs()),
            checked.maximum_message_size
        ),
    )];

    let client = crate::aws::sqs_client(configuration);
    let queue = attributes(&client, &facts.queue.name, &facts.queue.arn).await;
    facts.queue.learn(&queue);
    let redrive = queue.get(&Attribute::RedrivePolicy).and_then(|text| serde_json::from_str::<RedrivePolicy>(text).ok());
    if let (None, Some(redrive)) = (&reference.dead_letter_queue, &redrive) {
        facts.dead_letter_queue = QueueFacts::of_arn(&redrive.dead_letter_target_arn);
    }
    let dead_letter = attributes(&client, &facts.dead_letter_queue.name, &facts.dead_letter_queue.arn).await;
    facts.dead_letter_queue.learn(&dead_letter);

    findings
        .push(Finding::ok("queue.deadLetterQueue", format!("{} is there, and takes this queue's messages", facts.dead_letter_queue.name)));
    let seconds = |attributes: &Attributes| attributes.get(&Attribute::MessageRetentionPeriod).and_then(|text| text.parse::<u64>().ok());
    if let Some(kept) = seconds(&dead_letter).filter(|kept| *kept < checked.retention.as_secs()) {
        let message =
            format!("keeps messages for {} only, less than the queue itself: raise its MessageRetentionPeriod to 14 days", hours(kept));
        findings.push(Finding::warn("queue.deadLetterQueue", message));
    }
    if let Some(count) = redrive.and_then(|redrive| receives(&redrive.max_receive_count)).filter(|count| *count < FEW_RECEIVES) {
        let message = format!(
            "the redrive policy gives up after {count} receives (maxReceiveCount), and SQS moves good messages then: raise it to {FEW_RECEIVES} \
             or more; 100 is a good value, as the worker itself sends bad messages away at once"
        );
        findings.push(Finding::warn("queue", message));
    }
    (findings, facts)
}

type Attributes = HashMap<Attribute, String>;

/// All attributes; none when they cannot be read, as the worker's own check has said so already.
async fn attributes(client: &Client, name: &str, arn: &str) -> Attributes {
    let account = arn.rsplit(':').nth(1).filter(|account| account.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned);
    let url = client.get_queue_url().queue_name(name).set_queue_owner_aws_account_id(account).send().await.ok();
    let Some(url) = url.and_then(|answer| answer.queue_url) else { return Attributes::new() };
    let answer = client.get_queue_attributes().queue_url(url).attribute_names(Attribute::All).send().await;
    answer.ok().and_then(|answer| answer.attributes).unwrap_or_default()
}

fn receives(value: &serde_json::Value) -> Option<u32> {
    value.as_u64().and_then(|count| u32::try_from(count).ok()).or_else(|| value.as_str()?.parse().ok())
}

impl QueueFacts {
    fn learn(&mut self, attributes: &Attributes) {
        if let Some(arn) = attributes.get(&Attribute::QueueArn) {
            self.arn.clone_from(arn);
        }
        self.key = attributes.get(&Attribute::KmsMasterKeyId).cloned();
    }
}
