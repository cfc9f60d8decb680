//! Looking a queue and its dead-letter queue up.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::Queue as QueueReference;

use super::super::{Depth, QueueError, QueueFacts};
use super::{errors, queue_problem};
use crate::aws::describe;
use crate::problem::Problem;

/// The largest message that SQS takes, in bytes: what a queue has that does not say.
const MAXIMUM_MESSAGE_SIZE: usize = 1024 * 1024;
/// The longest retention of SQS: what a queue has that does not say.
const RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// Where queue and dead-letter queue are.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) url: String,
    pub(super) arn: String,
    pub(super) fifo: bool,
    pub(super) dead_letter_url: String,
    pub(super) dead_letter_maximum_size: usize,
}

type Attributes = HashMap<Attribute, String>;

/// Finds the queue and its dead-letter queue and checks that they fit together. Sends and receives nothing.
pub(super) async fn look_up(client: &Client, reference: &QueueReference) -> Result<(Located, QueueFacts), Problem> {
    let fifo = reference.is_fifo();
    let url = url(client, reference.name.as_deref(), reference.arn.as_deref(), "queue").await?;
    let attributes = attributes(client, &url, "queue").await?;
    let (name, arn) = match &reference.dead_letter_queue {
        Some(queue) => (queue.name.clone(), queue.arn.clone()),
        None => (None, redrive_target(&attributes)),
    };
    if name.is_none() && arn.is_none() {
        let message = "the queue has no redrive policy and the manifest names no deadLetterQueue: set one of them, so that a message that can never be written has a place to go";
        return Err(queue_problem(reasons::NO_DEAD_LETTER_QUEUE, message));
    }
    let dead_letter_url = self::url(client, name.as_deref(), arn.as_deref(), "queue.deadLetterQueue").await?;
    let dead_letter = self::attributes(client, &dead_letter_url, "queue.deadLetterQueue").await?;
    if is_fifo(&dead_letter, &dead_letter_url) != fifo {
        let (queue, other) = if fifo { ("a FIFO", "standard") } else { ("a standard", "FIFO") };
        let message = format!("the dead-letter queue of {queue} queue is {other}: both must be of the same kind");
        return Err(Problem::new(reasons::DEAD_LETTER_QUEUE_UNSUITABLE, "queue.deadLetterQueue", message));
    }
    if dead_letter_url == url {
        let message = "the queue cannot be its own dead-letter queue";
        return Err(Problem::new(reasons::DEAD_LETTER_QUEUE_UNSUITABLE, "queue.deadLetterQueue", message));
    }
    let maximum_message_size = number(&attributes, &Attribute::MaximumMessageSize).unwrap_or(MAXIMUM_MESSAGE_SIZE);
    let dead_letter_maximum_size = number(&dead_letter, &Attribute::MaximumMessageSize).unwrap_or(MAXIMUM_MESSAGE_SIZE);
    if dead_letter_maximum_size < maximum_message_size {
        let message = format!(
            "the dead-letter queue takes messages of up to {dead_letter_maximum_size} bytes, the queue of up to {maximum_message_size}: raise its MaximumMessageSize"
        );
        return Err(Problem::new(reasons::DEAD_LETTER_QUEUE_UNSUITABLE, "queue.deadLetterQueue", message));
    }
    let retention =
        number(&attributes, &Attribute::MessageRetentionPeriod).map_or(RETENTION, |seconds: u32| Duration::from_secs(seconds.into()));
    let arn = attributes.get(&Attribute::QueueArn).cloned().unwrap_or_else(|| reference.queue_name().to_owned());
    Ok((Located { url, arn, fifo, dead_letter_url, dead_letter_maximum_size }, QueueFacts { maximum_message_size, retention }))
}

/// How many messages are where.
pub(super) async fn depth(client: &Client, located: &Located) -> Result<Depth, QueueError> {
    let ask = |url: &str| {
        let names = [Attribute::ApproximateNumberOfMessages, Attribute::ApproximateNumberOfMessagesNotVisible];
        client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send()
    };
    let queue = ask(&located.url).await.map_err(|error| errors::call(&error, "GetQueueAttributes"))?.attributes.unwrap_or_default();
    // The dead-letter queue's depth is for people only: a missing right to it spoils nothing.
    let dead_letter = ask(&located.dead_letter_url).await.ok().and_then(|answer| answer.attributes);
    Ok(Depth {
        visible: number(&queue, &Attribute::ApproximateNumberOfMessages).unwrap_or(0),
        in_flight: number(&queue, &Attribute::ApproximateNumberOfMessagesNotVisible).unwrap_or(0),
        dead_lettered: dead_letter.and_then(|attributes| number(&attributes, &Attribute::ApproximateNumberOfMessages)),
    })
}

async fn url(client: &Client, name: Option<&str>, arn: Option<&str>, field: &str) -> Result<String, Problem> {
    let mut parts = arn.unwrap_or_default().rsplit(':');
    let (from_arn, account) = (parts.next(), parts.next());
    let call =
        client.get_queue_url().queue_name(name.or(from_arn).unwrap_or_default()).set_queue_owner_aws_account_id(account.map(str::to_owned));
    let answer = call.send().await.map_err(|error| of_field(errors::problem(&error, "GetQueueUrl"), || describe(&error), field))?;
    Ok(answer.queue_url.unwrap_or_default())
}

async fn attributes(client: &Client, url: &str, field: &str) -> Result<Attributes, Problem> {
    let answer = client.get_queue_attributes().queue_url(url).attribute_names(Attribute::All).send().await;
    let answer = answer.map_err(|error| of_field(errors::problem(&error, "GetQueueAttributes"), || describe(&error), field))?;
    Ok(answer.attributes.unwrap_or_default())
}

fn of_field(problem: Option<Problem>, text: impl FnOnce() -> String, field: &str) -> Problem {
    match problem {
        Some(problem) => Problem { field: field.to_owned(), ..problem },
        None => Problem::new(reasons::QUEUE_UNREACHABLE, field, format!("SQS does not answer: {}", text())),
    }
}

fn redrive_target(attributes: &Attributes) -> Option<String> {
    let policy: serde_json::Value = serde_json::from_str(attributes.get(&Attribute::RedrivePolicy)?).ok()?;
    policy.get("deadLetterTargetArn")?.as_str().map(str::to_owned)
}

fn is_fifo(attributes: &Attributes, url: &str) -> bool {
    attributes.get(&Attribute::FifoQueue).map_or_else(|| url.ends_with(".fifo"), |value| value == "true")
}

fn number<T: std::str::FromStr>(attributes: &Attributes, name: &Attribute) -> Option<T> {
    attributes.get(name)?.parse().ok()
}
