//! Queues as tests need them: create with a dead-letter queue, count, empty. Works with any SQS endpoint.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName, QueueAttributeName};
use tokio::time::Instant;

/// A queue that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The name; it ends in `.fifo` when the queue keeps order.
    pub name: String,
    /// The URL, at the endpoint of the client that created the queue.
    pub url: String,
    /// The ARN.
    pub arn: String,
}

/// What may be said when a queue is created; `None` is what SQS chooses.
#[derive(Debug, Clone, Default)]
pub struct QueueOptions {
    /// How long a received message stays hidden when the receive does not say, whole seconds.
    pub visibility: Option<Duration>,
    /// How long a sent message stays hidden, whole seconds.
    pub delay: Option<Duration>,
    /// FIFO: the deduplication id of a message without one is the hash of its body.
    pub content_based_deduplication: bool,
    /// The queue to which a message moves at the receive after this number of receives.
    pub dead_letters: Option<(Queue, u32)>,
}

/// Creates a queue; a name that ends in `.fifo` makes it a FIFO queue.
///
/// # Errors
/// The endpoint refuses or does not answer.
pub async fn create_queue(client: &Client, name: &str, options: &QueueOptions) -> anyhow::Result<Queue> {
    let created = client.create_queue().queue_name(name).set_attributes(Some(attributes(name, options))).send().await;
    let url = created.with_context(|| format!("create queue {name}"))?.queue_url.context("no queue URL in the answer")?;
    let answer = client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn).send().await?;
    let arn = answer.attributes().and_then(|attributes| attributes.get(&QueueAttributeName::QueueArn)).context("no QueueArn")?;
    Ok(Queue { name: name.to_owned(), arn: arn.clone(), url })
}

/// Creates `name` and its dead-letter queue of the same kind, `<name>-dlq` (`orders-dlq.fifo` for `orders.fifo`).
///
/// # Errors
/// See [`create_queue`].
pub async fn create_queue_with_dead_letters(client: &Client, name: &str, max_receive_count: u32) -> anyhow::Result<(Queue, Queue)> {
    let dead_letter_name = match name.strip_suffix(".fifo") {
        Some(stem) => format!("{stem}-dlq.fifo"),
        None => format!("{name}-dlq"),
    };
    let dead_letters = create_queue(client, &dead_letter_name, &QueueOptions::default()).await?;
    let options = QueueOptions { dead_letters: Some((dead_letters.clone(), max_receive_count)), ..QueueOptions::default() };
    Ok((create_queue(client, name, &options).await?, dead_letters))
}

fn attributes(name: &str, options: &QueueOptions) -> HashMap<QueueAttributeName, String> {
    let mut attributes = HashMap::new();
    if name.ends_with(".fifo") {
        attributes.insert(QueueAttributeName::FifoQueue, "true".to_owned());
    }
    if let Some(visibility) = options.visibility {
        attributes.insert(QueueAttributeName::VisibilityTimeout, visibility.as_secs().to_string());
    }
    if let Some(delay) = options.delay {
        attributes.insert(QueueAttributeName::DelaySeconds, delay.as_secs().to_string());
    }
    if options.content_based_deduplication {
        attributes.insert(QueueAttributeName::ContentBasedDeduplication, "true".to_owned());
    }
    if let Some((queue, count)) = &options.dead_letters {
        let policy = serde_json::json!({"deadLetterTargetArn": queue.arn, "maxReceiveCount": count.to_string()});
        attributes.insert(QueueAttributeName::RedrivePolicy, policy.to_string());
    }
    attributes
}

/// Deletes a queue with its messages.
///
/// # Errors
/// The endpoint refuses or does not answer.
pub async fn delete_queue(client: &Client, url: &str) -> anyhow::Result<()> {
    client.delete_queue().queue_url(url).send().await.with_context(|| format!("delete queue {url}"))?;
    Ok(())
}

/// How many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// May be received.
    pub visible: u64,
    /// Received and not yet deleted or visible again.
    pub in_flight: u64,
    /// Not yet receivable after their send.
    pub delayed: u64,
}

impl Depth {
    /// All messages.
    #[must_use]
    pub fn total(self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// Counts the messages of a queue (approximate on AWS, exact on ElasticMQ).
///
/// # Errors
/// The endpoint refuses or does not answer.
pub async fn depth(client: &Client, url: &str) -> anyhow::Result<Depth> {
    use QueueAttributeName::{
        ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
        ApproximateNumberOfMessagesNotVisible as InFlight,
    };
    let request = client.get_queue_attributes().queue_url(url).attribute_names(Visible).attribute_names(InFlight).attribute_names(Delayed);
    let answer = request.send().await.with_context(|| format!("count the messages of {url}"))?;
    let number = |name: QueueAttributeName| -> anyhow::Result<u64> {
        let text = answer.attributes().and_then(|attributes| attributes.get(&name)).with_context(|| format!("no {name} of {url}"))?;
        Ok(text.parse()?)
    };
    Ok(Depth { visible: number(Visible)?, in_flight: number(InFlight)?, delayed: number(Delayed)? })
}

/// Receives and deletes everything in a queue, with all attributes, in the order in which it was received. It deletes as it goes, since on a
/// FIFO queue a group's next messages come only after the ones before them are gone.
///
/// # Errors
/// The endpoint refuses, or messages stay in flight with another consumer for more than a minute.
pub async fn drain_all(client: &Client, url: &str) -> anyhow::Result<Vec<Message>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut all = Vec::new();
    loop {
        let messages = receive_all_attributes(client, url).await?;
        if messages.is_empty() {
            let depth = depth(client, url).await?;
            if depth.total() == 0 {
                return Ok(all);
            }
            if Instant::now() > deadline {
                bail!("{url} still has {depth:?} after a minute: does another consumer hold them?");
            }
            continue;
        }
        delete(client, url, &messages).await?;
        all.extend(messages);
    }
}

async fn receive_all_attributes(client: &Client, url: &str) -> anyhow::Result<Vec<Message>> {
    let request = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .wait_time_seconds(1)
        .visibility_timeout(60)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All");
    Ok(request.send().await.with_context(|| format!("receive from {url}"))?.messages.unwrap_or_default())
}

async fn delete(client: &Client, url: &str, messages: &[Message]) -> anyhow::Result<()> {
    let mut request = client.delete_message_batch().queue_url(url);
    for (index, message) in messages.iter().enumerate() {
        let handle = message.receipt_handle().context("a message without receipt handle")?;
        request = request.entries(DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(handle).build()?);
    }
    let answer = request.send().await.with_context(|| format!("delete from {url}"))?;
    if let Some(failed) = answer.failed().first() {
        bail!("delete from {url}: {} {}", failed.code(), failed.message().unwrap_or_default());
    }
    Ok(())
}
