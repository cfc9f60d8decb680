//! SQS: the queue trait over the AWS SDK.

mod errors;
mod facts;
mod probe;
mod reason;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, MessageAttributeValue,
    MessageSystemAttributeName as System,
};
use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::Queue as QueueReference;
use jiff::Timestamp;

use super::{Depth, EntryError, Failures, Handle, Queue, QueueError, QueueFacts};
use crate::fault::RowFault;
use crate::message::{AttributeValue, Message, MessageAttribute};
use crate::problem::Problem;
use facts::Located;
pub use probe::SendFailure;

/// The attribute of a dead letter that says why it is there.
pub const ATTRIBUTE: &str = "durable-write";
/// The most bytes of that attribute's value.
const ATTRIBUTE_SIZE: usize = 1024;
/// The most attributes of a message.
const ATTRIBUTES: usize = 10;
/// What a message must say of itself: each one more costs time in every receive.
const SYSTEM_ATTRIBUTES: [System; 4] =
    [System::ApproximateReceiveCount, System::SentTimestamp, System::MessageGroupId, System::SequenceNumber];
/// A poll that has not answered by then hangs: the longest wait is 20 s.
const POLL_DEADLINE: Duration = Duration::from_secs(25);
/// The same for every other call.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// An SQS queue with its dead-letter queue.
#[derive(Debug)]
pub struct Sqs {
    client: Client,
    /// The same with a deadline that fits a long poll.
    polling: Client,
    reference: QueueReference,
    located: OnceLock<Located>,
}

impl Sqs {
    /// The queue that a manifest names. Nothing is asked of SQS before [`Queue::check`].
    #[must_use]
    pub fn new(configuration: &SdkConfig, reference: QueueReference) -> Self {
        let client = |attempt| {
            let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_DEADLINE).operation_timeout(attempt).build();
            Client::from_conf(aws_sdk_sqs::config::Builder::from(configuration).timeout_config(timeouts).build())
        };
        Self { client: client(CALL_DEADLINE), polling: client(POLL_DEADLINE), reference, located: OnceLock::new() }
    }

    fn located(&self) -> Result<&Located, QueueError> {
        self.located.get().ok_or_else(|| QueueError::Transient("the queue was not looked up yet".to_owned()))
    }
}

impl Queue for Sqs {
    async fn check(&self) -> Result<QueueFacts, Problem> {
        let (located, facts) = facts::look_up(&self.client, &self.reference).await?;
        // The first answer stands: queue and dead-letter queue of a pipeline do not change while a worker runs.
        self.located.get_or_init(|| located);
        Ok(facts)
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        facts::depth(&self.client, self.located()?).await
    }

    async fn receive(&self, maximum: usize, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let located = self.located()?;
        let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let mut call = self
            .polling
            .receive_message()
            .queue_url(&located.url)
            .max_number_of_messages(i32::try_from(maximum).unwrap_or(1))
            .wait_time_seconds(seconds(wait))
            .visibility_timeout(seconds(visibility))
            .set_message_system_attribute_names(Some(SYSTEM_ATTRIBUTES.to_vec()))
            .message_attribute_names("All");
        if located.fifo {
            // The same answer again when the first was lost on the way: the groups would else be locked until the visibility ends.
            call = call.receive_request_attempt_id(format!("{:032x}", rand::random::<u128>()));
        }
        let answer = call.send().await.map_err(|error| errors::call(&error, "ReceiveMessage"))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(|raw| message(raw, &located.arn)).collect())
    }

    async fn delete(&self, handles: &[Handle]) -> Result<Failures, QueueError> {
        let entries = handles.iter().enumerate().filter_map(|(index, handle)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(&handle.record.message.receipt_handle).build().ok()
        });
        let call = self.client.delete_message_batch().queue_url(&self.located()?.url).set_entries(Some(entries.collect()));
        let answer = call.send().await.map_err(|error| errors::call(&error, "DeleteMessageBatch"))?;
        Ok(failures(handles, &answer.failed))
    }

    async fn change_visibility(&self, handles: &[Handle], visibility: Duration) -> Result<Failures, QueueError> {
        let seconds = i32::try_from(visibility.as_secs()).unwrap_or(i32::MAX);
        let entries = handles.iter().enumerate().filter_map(|(index, handle)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string()).visibility_timeout(seconds);
            entry.receipt_handle(&handle.record.message.receipt_handle).build().ok()
        });
        let call = self.client.change_message_visibility_batch().queue_url(&self.located()?.url).set_entries(Some(entries.collect()));
        let answer = call.send().await.map_err(|error| errors::call(&error, "ChangeMessageVisibilityBatch"))?;
        Ok(failures(handles, &answer.failed))
    }

    async fn dead_letter(&self, message: &Message, fault: &RowFault, key: &str) -> Result<(), QueueError> {
        let located = self.located()?;
        let mut attributes: HashMap<String, MessageAttributeValue> = message
            .attributes
            .iter()
            .filter(|(name, _)| *name != ATTRIBUTE)
            .filter_map(|(name, value)| Some((name.clone(), attribute_value(value)?)))
            .collect();
        let reason = reason::write(&located.arn, message, fault, key);
        let size = message.body.len() + message.attributes_size() + ATTRIBUTE.len() + "String".len() + reason.len();
        if attributes.len() < ATTRIBUTES && reason.len() <= ATTRIBUTE_SIZE && size <= located.dead_letter_maximum_size {
            let value = MessageAttributeValue::builder().data_type("String").string_value(&reason).build();
            attributes.extend(value.ok().map(|value| (ATTRIBUTE.to_owned(), value)));
        } else {
            tracing::warn!(message_id = message.id, reason, "the dead letter has no room for its reason");
        }
        let mut call = self
            .client
            .send_message()
            .queue_url(&located.dead_letter_url)
            .message_body(&message.body)
            .set_message_attributes((!attributes.is_empty()).then_some(attributes));
        if located.fifo {
            // One dead letter for one message, however often it is sent; and none that stands in another's way.
            call = call.message_deduplication_id(&message.id).message_group_id(&message.id);
        }
        call.send().await.map_err(|error| errors::call(&error, "SendMessage (dead-letter queue)"))?;
        tracing::warn!(message_id = message.id, reason = fault.reason, sqlstate = fault.sqlstate, column = fault.column, "dead-lettered");
        Ok(())
    }
}

fn failures(handles: &[Handle], failed: &[BatchResultErrorEntry]) -> Failures {
    let of = |entry: &BatchResultErrorEntry| {
        let handle = handles.get(entry.id.parse::<usize>().ok()?)?;
        // What the sender did wrong is a handle that is no longer good: only a throttled or internal failure may work the next time.
        let expired = entry.sender_fault && !entry.code.contains("Throttl");
        Some((handle.key, if expired { EntryError::Expired } else { EntryError::Transient }))
    };
    failed.iter().filter_map(of).collect()
}

fn message(raw: aws_sdk_sqs::types::Message, arn: &str) -> Message {
    let attributes: HashMap<String, MessageAttribute> =
        raw.message_attributes.unwrap_or_default().into_iter().map(|(name, value)| (name, attribute(value))).collect();
    let mut system = raw.attributes.unwrap_or_default();
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
    Message {
        id: raw.message_id.unwrap_or_default(),
        receipt_handle: raw.receipt_handle.unwrap_or_default(),
        body: raw.body.unwrap_or_default(),
        receive_count: number(system.remove(&System::ApproximateReceiveCount)).and_then(|count| count.try_into().ok()).unwrap_or(1),
        sent: number(system.remove(&System::SentTimestamp)).and_then(|sent| Timestamp::from_millisecond(sent).ok()).unwrap_or_default(),
        group: system.remove(&System::MessageGroupId),
        sequence: system.remove(&System::SequenceNumber),
        origin: attributes.get(ATTRIBUTE).and_then(|said| reason::read(arn, said)),
        attributes,
    }
}

fn attribute(value: MessageAttributeValue) -> MessageAttribute {
    let content = match (value.string_value, value.binary_value) {
        (Some(text), _) => AttributeValue::Text(text),
        (None, bytes) => AttributeValue::Binary(bytes.map(Blob::into_inner).unwrap_or_default()),
    };
    MessageAttribute { data_type: value.data_type, value: content }
}

fn attribute_value(attribute: &MessageAttribute) -> Option<MessageAttributeValue> {
    let value = MessageAttributeValue::builder().data_type(&attribute.data_type);
    match &attribute.value {
        AttributeValue::Text(text) => value.string_value(text),
        AttributeValue::Binary(bytes) => value.binary_value(Blob::new(bytes.clone())),
    }
    .build()
    .ok()
}

/// A problem with the queue itself.
fn queue_problem(reason: &'static str, message: impl Into<String>) -> Problem {
    debug_assert!(reason != reasons::OK);
    Problem::new(reason, "queue", message)
}
