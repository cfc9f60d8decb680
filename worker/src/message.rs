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
