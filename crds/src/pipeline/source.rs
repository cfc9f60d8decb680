//! Where the value of a column comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A column of the table and the part of the message that fills it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// The column's name, as PostgreSQL spells it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The part of the message that fills the column.
    pub from: ColumnSource,
    /// What is written when the message does not have that part.
    #[serde(default)]
    pub when_missing: WhenMissing,
}

/// A part of a message. Exactly one is set.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.body) ? 1 : 0) + (has(self.attribute) ? 1 : 0) + (has(self.system) ? 1 : 0) == 1").message("exactly one of body, attribute and system must be set"))]
pub struct ColumnSource {
    /// A JSON Pointer (RFC 6901) into the body; the empty pointer is the whole body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(/([^~/]|~[01])*)*$"), length(max = 256))]
    pub body: Option<String>,
    /// The name of a message attribute of the type String (or a custom type of it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,256}$"), length(max = 256))]
    pub attribute: Option<String>,
    /// Something that SQS knows of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemAttribute>,
}

/// Something that SQS knows of a message.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemAttribute {
    /// The message group.
    MessageGroupId,
    /// When the message was sent, as a timestamp with time zone. A redrive changes it.
    SentTimestamp,
    /// The place in a FIFO queue: a number of 20 digits. A redrive changes it.
    SequenceNumber,
    /// The id that SQS gave the message. A redrive changes it.
    MessageId,
}

/// What is written when the message does not have the part that a column is filled from.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenMissing {
    /// The column's own default, or NULL where it has none.
    #[default]
    Default,
    /// NULL.
    Null,
    /// Nothing: the message goes to the dead-letter queue.
    Reject,
}
