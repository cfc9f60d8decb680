//! A message as the queue hands it out.

use std::collections::HashMap;

use jiff::Timestamp;

/// A message as the queue hands it out: alive until it is deleted or its visibility runs out.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The id that SQS gave it; a redrive gives another.
    pub id: String,
    /// The handle of this receive: deletes and extends.
    pub receipt_handle: String,
    /// The body, as it was sent.
    pub body: String,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// When it was sent.
    pub sent: Timestamp,
    /// The message group: on a FIFO queue the unit of order.
    pub group: Option<String>,
    /// The place in a FIFO queue.
    pub sequence: Option<String>,
    /// The producer's own attributes.
    pub attributes: HashMap<String, MessageAttribute>,
    /// The message that it is a copy of, when it was moved back from the dead-letter queue.
    pub origin: Option<Origin>,
}

/// What a dead letter keeps of its message, as the copy has another group and another time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The message group.
    pub group: Option<String>,
    /// When it was sent first.
    pub sent: Timestamp,
}

/// An attribute that the producer gave a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageAttribute {
    /// `String`, `Number` or `Binary`, with a custom suffix perhaps.
    pub data_type: String,
    /// Its value.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// Of a String or Number.
    Text(String),
    /// Of a Binary.
    Binary(Vec<u8>),
}

impl Message {
    /// The group that the producer gave it. Its place in the queue's order is that of its [`Message::group`].
    #[must_use]
    pub fn first_group(&self) -> Option<&str> {
        self.origin.as_ref().map_or(self.group.as_deref(), |origin| origin.group.as_deref())
    }

    /// When the producer sent it.
    #[must_use]
    pub fn first_sent(&self) -> Timestamp {
        self.origin.as_ref().map_or(self.sent, |origin| origin.sent)
    }

    /// About how many bytes it takes in memory: its parts, and what an allocator and the bookkeeping add.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const BOOKKEEPING: usize = 512;
        self.body.len() + self.receipt_handle.len() + self.attributes_size() + 64 * self.attributes.len() + BOOKKEEPING
    }

    /// How many bytes SQS counts its attributes as: names, types and values.
    #[must_use]
    pub fn attributes_size(&self) -> usize {
        let size = |(name, attribute): (&String, &MessageAttribute)| {
            let value = match &attribute.value {
                AttributeValue::Text(text) => text.len(),
                AttributeValue::Binary(bytes) => bytes.len(),
            };
            name.len() + attribute.data_type.len() + value
        };
        self.attributes.iter().map(size).sum()
    }
}
