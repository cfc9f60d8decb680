//! What becomes of a message's parts.

use std::collections::HashMap;

use durable_write_crds::DurableWritePipelineSpec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::message::MessageAttribute;

fn decoder(columns: &serde_json::Value) -> Decoder {
    let spec: DurableWritePipelineSpec = serde_json::from_value(json!({
        "queue": {"name": "orders"},
        "database": {"postgres": {"writer": "localhost:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "db"}}},
        "target": {"table": {"name": "orders"}, "columns": columns},
        "idempotency": {"targetKey": {"columns": ["id"]}},
    }))
    .unwrap();
    Decoder::new(&spec)
}

fn id_and(column: serde_json::Value) -> Decoder {
    decoder(&json!([{"name": "id", "from": {"body": "/id"}}, column]))
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), ..Message::default() }
}

fn record(decoder: &Decoder, body: &str) -> Record {
    let message = message(body);
    Record { values: decoder.decode(&message).unwrap(), message, probe: None }
}

fn reason(decoder: &Decoder, body: &str) -> String {
    decoder.decode(&message(body)).unwrap_err().reason
}

#[test]
fn numbers_keep_every_digit() {
    let decoder = id_and(json!({"name": "amount", "from": {"body": "/amount"}}));
    let record = record(&decoder, r#"{"id": 9007199254740993, "amount": 1.10}"#);
    assert_eq!((record.raw(0), record.raw(1)), (Some("9007199254740993"), Some("1.10")));
}

#[test]
fn a_pointer_goes_into_objects_and_arrays_and_knows_escapes() {
    for (pointer, text) in [("/a/b", "1"), ("/list/1", "20"), ("/x~1y", "2"), ("/t~0", "3"), ("/", "4"), ("/a", r#"{"b": 1}"#)] {
        let decoder = id_and(json!({"name": "c", "from": {"body": pointer}}));
        let record = record(&decoder, r#"{"id": 1, "a": {"b": 1}, "list": [10, 20], "x/y": 2, "t~": 3, "": 4}"#);
        assert_eq!(record.raw(1), Some(text), "{pointer}");
    }
}

#[test]
fn a_value_and_a_part_of_it_can_both_be_taken() {
    let decoder = decoder(&json!([
        {"name": "id", "from": {"body": "/order/id"}}, {"name": "order", "from": {"body": "/order"}}, {"name": "all", "from": {"body": ""}}]));
    let body = r#" {"order": {"id": "a", "n": 1}} "#;
    let record = record(&decoder, body);
    assert_eq!((record.raw(0), record.raw(1), record.raw(2)), (Some(r#""a""#), Some(r#"{"id": "a", "n": 1}"#), Some(body)));
}

#[test]
fn of_a_member_that_stands_twice_the_last_counts() {
    let decoder = id_and(json!({"name": "c", "from": {"body": "/a/b"}}));
    let record = record(&decoder, r#"{"id": 1, "a": {"b": 1}, "a": {}}"#);
    assert_eq!(record.values[1], Value::Missing);
}

#[test]
fn missing_null_and_rejected_are_told_apart() {
    let of = |when: &str| id_and(json!({"name": "c", "from": {"body": "/c"}, "whenMissing": when}));
    assert_eq!(record(&of("Default"), r#"{"id": 1}"#).values[1], Value::Missing);
    assert_eq!(record(&of("Null"), r#"{"id": 1}"#).values[1], Value::Null);
    assert_eq!(record(&of("Default"), r#"{"id": 1, "c": null}"#).values[1], Value::Null);
    assert_eq!(record(&of("Reject"), r#"{"id": 1, "c": null}"#).values[1], Value::Null);
    assert_eq!(reason(&of("Reject"), r#"{"id": 1}"#), "ValueMissing");
}

#[test]
fn only_a_text_or_a_number_is_a_key() {
    let decoder = decoder(&json!([{"name": "id", "from": {"body": "/id"}}]));
    for (body, expected) in [
        (r#"{}"#, "KeyMissing"),
        (r#"{"id": null}"#, "KeyMissing"),
        (r#"{"id": ""}"#, "KeyMissing"),
        (r#"{"id": {}}"#, "KeyType"),
        (r#"{"id": [1]}"#, "KeyType"),
        (r#"{"id": true}"#, "KeyType"),
        ("not json", "BodyNotJson"),
        (r#"{"id": 1} x"#, "BodyNotJson"),
        ("", "BodyNotJson"),
        (r#"{"id": "\ud800"}"#, "BodyNotJson"),
    ] {
        assert_eq!(reason(&decoder, body), expected, "{body}");
    }
    for body in [r#"{"id": "a"}"#, r#"{"id": 0}"#, r#"{"id": -1}"#] {
        assert!(decoder.decode(&message(body)).is_ok(), "{body}");
    }
}

#[test]
fn an_attribute_must_be_a_string_as_sqs_strips_zeros_of_numbers() {
    let decoder = id_and(json!({"name": "c", "from": {"attribute": "tenant"}}));
    let with = |data_type: &str| {
        let attribute = MessageAttribute { data_type: data_type.to_owned(), value: AttributeValue::Text("007".to_owned()) };
        Message { attributes: HashMap::from([("tenant".to_owned(), attribute)]), ..message(r#"{"id": 1}"#) }
    };
    assert_eq!(decoder.decode(&with("String")).unwrap()[1], Value::Text("007".into()));
    assert_eq!(decoder.decode(&with("String.tenant")).unwrap()[1], Value::Text("007".into()));
    assert_eq!(decoder.decode(&with("Number")).unwrap_err().reason, "AttributeType");
}

#[test]
fn a_body_that_is_kept_in_s3_is_refused() {
    let attribute = MessageAttribute { data_type: "Number".to_owned(), value: AttributeValue::Text("1".to_owned()) };
    let message = Message { attributes: HashMap::from([("ExtendedPayloadSize".to_owned(), attribute)]), ..message(r#"{"id": 1}"#) };
    assert_eq!(
        decoder(&json!([{"name": "id", "from": {"body": "/id"}}])).decode(&message).unwrap_err().reason,
        "ExtendedPayloadUnsupported"
    );
}

#[test]
fn without_pointers_a_body_need_not_be_json() {
    let decoder = decoder(&json!([{"name": "id", "from": {"attribute": "id"}}, {"name": "raw", "from": {"body": ""}}]));
    let attribute = MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text("k".to_owned()) };
    let message = Message { attributes: HashMap::from([("id".to_owned(), attribute)]), ..message("plain text") };
    assert!(decoder.decode(&message).is_ok());
}

proptest! {
    /// What is found at a pointer is what serde_json finds there.
    #[test]
    fn a_pointer_finds_what_serde_json_finds(text in "[a-c0-2\\[\\]{}:,\" ]{0,40}", pointer in "(/[a-c0-2]{1,2}){1,3}") {
        let decoder = decoder(&json!([{"name": "id", "from": {"attribute": "id"}}, {"name": "c", "from": {"body": pointer}}]));
        let attribute = MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text("k".to_owned()) };
        let message = Message { attributes: HashMap::from([("id".to_owned(), attribute)]), ..message(&text) };
        match (serde_json::from_str::<serde_json::Value>(&text), decoder.decode(&message)) {
            (Err(_), decoded) => prop_assert!(decoded.is_err()),
            (Ok(value), Ok(values)) => {
                let record = Record { message, values, probe: None };
                let found: Option<serde_json::Value> = record.raw(1).map(|raw| serde_json::from_str(raw).unwrap());
                prop_assert_eq!(found.as_ref(), value.pointer(&pointer).filter(|value| !value.is_null()));
            }
            (Ok(_), Err(fault)) => prop_assert!(false, "{fault:?}"),
        }
    }
}
