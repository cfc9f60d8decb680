//! The attribute of a dead letter: what it says of the message, and what is taken from it when the copy is moved back to its queue.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fault::RowFault;
use crate::message::{AttributeValue, Message, MessageAttribute, Origin};

/// The most characters of the key.
const KEY: usize = 256;

/// What the attribute says, as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reason<'a> {
    #[serde(flatten)]
    fault: &'a RowFault,
    queue: &'a str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    key: &'a str,
    first_sent: String,
}

/// The part of it that belongs to the message itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    queue: String,
    group: Option<String>,
    first_sent: Timestamp,
}

/// The attribute's value for a message of the queue `arn`.
pub(super) fn write(arn: &str, message: &Message, fault: &RowFault, key: &str) -> String {
    let key = key.char_indices().nth(KEY).and_then(|(end, _)| key.get(..end)).unwrap_or(key);
    let reason = Reason {
        fault,
        queue: arn,
        message_id: &message.id,
        group: message.first_group(),
        key,
        first_sent: message.first_sent().to_string(),
    };
    serde_json::to_string(&reason).unwrap_or_default()
}

/// What the attribute of a message of the queue `arn` says of the message that it is a copy of; nothing unless it is ours and of this queue.
pub(super) fn read(arn: &str, attribute: &MessageAttribute) -> Option<Origin> {
    let AttributeValue::Text(text) = &attribute.value else { return None };
    let kept: Kept = serde_json::from_str(text).ok()?;
    (kept.queue == arn).then_some(Origin { group: kept.group, sent: kept.first_sent })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:orders.fifo";

    fn dead_letter(message: &Message) -> MessageAttribute {
        let text = write(ARN, message, &RowFault::new("RowRefused", "test".to_owned()), "k");
        MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text(text) }
    }

    #[test]
    fn a_copy_that_comes_back_any_number_of_times_has_the_group_and_the_time_of_the_first_message() {
        let sent: Timestamp = "2026-11-24T06:00:00.123Z".parse().unwrap();
        let first = Message { id: "1".to_owned(), group: Some("ada".to_owned()), sent, ..Message::default() };
        let origin = read(ARN, &dead_letter(&first)).unwrap();
        assert_eq!((origin.group.as_deref(), origin.sent), (Some("ada"), sent));
        let copy = Message { id: "2".to_owned(), group: Some("1".to_owned()), origin: Some(origin.clone()), ..Message::default() };
        assert_eq!(read(ARN, &dead_letter(&copy)), Some(origin));
    }

    #[test]
    fn what_is_of_another_queue_or_no_reason_of_ours_is_not_believed() {
        let ours = dead_letter(&Message::default());
        assert_eq!(read("arn:aws:sqs:eu-west-1:123456789012:other.fifo", &ours), None);
        for text in ["", "{}", "not JSON", r#"{"queue": "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"}"#] {
            let value = AttributeValue::Text(text.to_owned());
            assert_eq!(read(ARN, &MessageAttribute { data_type: "String".to_owned(), value }), None, "{text}");
        }
    }
}
