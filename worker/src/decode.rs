//! From a message to the values of a row. Values are slices of the message's own text, never parsed numbers, so that nothing is rounded,
//! re-written or re-ordered on its way: `9007199254740993` and `9007199254740992` stay two ids.

mod pointer;

use std::ops::Range;

use durable_write_crds::pipeline::{Column, DurableWritePipelineSpec, SystemAttribute, WhenMissing};
use durable_write_crds::probe::ProbeMark;

use crate::fault::RowFault;
use crate::message::{AttributeValue, Message};
use pointer::Pointers;

/// The value of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The message does not have this part.
    Missing,
    /// The message says `null`.
    Null,
    /// The whole body, whatever it is.
    Body,
    /// A JSON value, as it stands in the body between these bytes.
    Json(Range<usize>),
    /// Text from elsewhere than the body.
    Text(Box<str>),
}

/// A message with the values of its row.
#[derive(Debug)]
pub struct Record {
    /// The message.
    pub message: Message,
    /// The values, in the order of the manifest's columns; empty when the message could not be decoded.
    pub values: Vec<Value>,
    /// What a drill's probe says in it, when it is a probe's message: it is no row of the user's then, and has no values.
    pub probe: Option<ProbeMark>,
}

impl Record {
    /// The text of a value as it stands in the message: JSON strings keep their quotes.
    #[must_use]
    pub fn raw(&self, column: usize) -> Option<&str> {
        match self.values.get(column)? {
            Value::Missing | Value::Null => None,
            Value::Body => Some(&self.message.body),
            Value::Json(range) => self.message.body.get(range.clone()),
            Value::Text(text) => Some(text),
        }
    }

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = self.values.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 0 });
        let mark = self.probe.as_ref().map_or(0, |mark| size_of::<ProbeMark>() + mark.drill.len());
        self.message.bytes() + mark + size_of::<Value>() * self.values.len() + texts.sum::<usize>()
    }

    /// How many bytes all values of its row have as text.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        (0..self.values.len()).filter_map(|column| self.raw(column)).map(str::len).sum()
    }
}

/// Knows where each column comes from.
#[derive(Debug)]
pub struct Decoder {
    columns: Vec<Column>,
    keys: Vec<usize>,
    pointers: Pointers,
}

impl Decoder {
    /// A decoder for the columns of a pipeline.
    #[must_use]
    pub fn new(spec: &DurableWritePipelineSpec) -> Self {
        let columns = spec.target.columns.clone();
        let key_names = &spec.idempotency.target_key.columns;
        let keys = columns.iter().enumerate().filter(|(_, column)| key_names.contains(&column.name)).map(|(index, _)| index).collect();
        let pointers = Pointers::new(
            columns
                .iter()
                .enumerate()
                .filter_map(|(index, column)| Some((index, column.from.body.as_deref()?)))
                .filter(|(_, pointer)| !pointer.is_empty()),
        );
        Self { columns, keys, pointers }
    }

    /// The places of the key's columns among the manifest's columns.
    #[must_use]
    pub fn keys(&self) -> &[usize] {
        &self.keys
    }

    /// The key of a record as text, for people: its columns with a slash between; empty when it could not be decoded.
    #[must_use]
    pub fn key_text(&self, record: &Record) -> String {
        let columns = self.keys.iter().filter_map(|key| record.raw(*key));
        columns.map(|text| text.trim_matches('"')).collect::<Vec<_>>().join("/")
    }

    /// The values of a message's row, in the order of the manifest's columns.
    ///
    /// # Errors
    /// The message can never become a row: its body is not JSON, its key is missing or no text and no number, a part is missing that must
    /// be there, or it is only a pointer to a body in S3.
    pub fn decode(&self, message: &Message) -> Result<Vec<Value>, RowFault> {
        refuse_extended_client(message)?;
        let mut found = vec![None; self.columns.len()];
        if !self.pointers.is_empty() {
            self.pointers.find(&message.body, &mut found).map_err(|error| RowFault::new("BodyNotJson", error.to_string()))?;
        }
        let values: Vec<Value> =
            self.columns.iter().zip(found).map(|(column, found)| value(column, found, message)).collect::<Result<_, _>>()?;
        for &key in &self.keys {
            if let (Some(column), Some(value)) = (self.columns.get(key), values.get(key)) {
                check_key(column, value, &message.body)?;
            }
        }
        Ok(values)
    }
}

/// The SQS Extended Client leaves a pointer to S3 in place of a large body: a row of it would be worthless.
fn refuse_extended_client(message: &Message) -> Result<(), RowFault> {
    match ["ExtendedPayloadSize", "SQSLargePayloadSize"].iter().find(|name| message.attributes.contains_key(**name)) {
        Some(name) => {
            Err(RowFault::new("ExtendedPayloadUnsupported", format!("attribute {name}: the body is kept in S3, which is not read")))
        }
        None => Ok(()),
    }
}

fn value(column: &Column, found: Option<Range<usize>>, message: &Message) -> Result<Value, RowFault> {
    let text = |text: Option<&str>| text.map_or(Value::Missing, |text| Value::Text(text.into()));
    let value = match (&column.from.body, &column.from.attribute, column.from.system) {
        (Some(pointer), _, _) if pointer.is_empty() => Value::Body,
        (Some(_), _, _) => match found {
            None => Value::Missing,
            Some(range) => json_value(column, range, &message.body)?,
        },
        (_, Some(name), _) => attribute_value(column, name, message)?,
        (_, _, Some(SystemAttribute::MessageGroupId)) => text(message.first_group()),
        (_, _, Some(SystemAttribute::SequenceNumber)) => text(message.sequence.as_deref()),
        (_, _, Some(SystemAttribute::MessageId)) => Value::Text(message.id.as_str().into()),
        (_, _, Some(SystemAttribute::SentTimestamp)) => Value::Text(message.first_sent().to_string().into()),
        (None, None, None) => Value::Missing,
    };
    match (&value, column.when_missing) {
        (Value::Missing, WhenMissing::Reject) => {
            Err(RowFault::new("ValueMissing", "the message does not have this part, and whenMissing is Reject".to_owned())
                .of_column(&column.name))
        }
        (Value::Missing, WhenMissing::Null) => Ok(Value::Null),
        _ => Ok(value),
    }
}

fn json_value(column: &Column, range: Range<usize>, body: &str) -> Result<Value, RowFault> {
    let raw = body.get(range.clone()).unwrap_or_default();
    if raw == "null" {
        return Ok(Value::Null);
    }
    // Strings with escapes are unescaped when they are written; what cannot be (a lone surrogate) must be found here.
    if raw.starts_with('"') && raw.contains('\\') && serde_json::from_str::<String>(raw).is_err() {
        return Err(RowFault::new("BodyNotJson", "a string has an escape that is no character".to_owned()).of_column(&column.name));
    }
    Ok(Value::Json(range))
}

fn attribute_value(column: &Column, name: &str, message: &Message) -> Result<Value, RowFault> {
    match message.attributes.get(name) {
        None => Ok(Value::Missing),
        Some(attribute) => match &attribute.value {
            AttributeValue::Text(text) if attribute.data_type.starts_with("String") => Ok(Value::Text(text.as_str().into())),
            // SQS strips zeros from numbers: 00123 and 123 would become one.
            AttributeValue::Text(_) | AttributeValue::Binary(_) => Err(RowFault::new(
                "AttributeType",
                format!("attribute {name} is of the type {}: only String keeps its text", attribute.data_type),
            )
            .of_column(&column.name)),
        },
    }
}

/// A key is the text of a string or the literal of a number; nothing else identifies a message.
fn check_key(column: &Column, value: &Value, body: &str) -> Result<(), RowFault> {
    let fault = |reason, message: &str| Err(RowFault::new(reason, message.to_owned()).of_column(&column.name));
    match value {
        Value::Missing => fault("KeyMissing", "the message has no key"),
        Value::Null => fault("KeyMissing", "the key is null"),
        Value::Text(text) if text.is_empty() => fault("KeyMissing", "the key is empty"),
        Value::Text(_) => Ok(()),
        Value::Body => fault("KeyType", "the whole body cannot be the key"),
        Value::Json(range) => match body.get(range.clone()).and_then(|raw| raw.bytes().next().map(|first| (first, raw))) {
            Some((b'"', "\"\"")) => fault("KeyMissing", "the key is empty"),
            Some((b'"' | b'-' | b'0'..=b'9', _)) => Ok(()),
            _ => fault("KeyType", "the key must be a string or a number"),
        },
    }
}

#[cfg(test)]
mod tests;
