//! What is in a message is in the row, digit by digit.

use aws_sdk_sqs::types::MessageAttributeValue;
use durable_write_worker::queue::sqs::ATTRIBUTE;
use serde_json::json;

use super::ground::{Outgoing, Pipeline, SOON, shared_cluster};

#[tokio::test]
async fn ids_beyond_two_to_the_53rd_stay_exact_and_apart() {
    let columns = json!([{"name": "id", "from": {"body": "/id"}}, {"name": "amount", "from": {"body": "/amount"}}]);
    let table = "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric)";
    let pipeline = Pipeline::new(shared_cluster().await, "values-ids", table, columns, &["id"]).await;
    let values = [
        ("9007199254740991", "0.10"),
        ("9007199254740992", "0.1000000000000000055511151231257827"),
        ("9007199254740993", "1e2"),
        ("9223372036854775807", "123456789012345678901234567890.5"),
        ("-9223372036854775808", "-0.0"),
    ];
    let sent: Vec<_> = values.map(|(id, amount)| Outgoing::new(format!(r#"{{"id": {id}, "amount": {amount}}}"#))).into();
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    for (id, amount) in values {
        let query =
            format!("SELECT id::text, amount = {amount}::numeric, scale(amount) = scale({amount}::numeric) FROM orders WHERE id = {id}");
        assert_eq!(pipeline.rows::<(String, bool, bool)>(&query).await, [(id.to_owned(), true, true)]);
    }
    assert_eq!(pipeline.count().await, values.len());
}

#[tokio::test]
async fn a_json_body_is_kept_byte_by_byte_and_its_numbers_digit_by_digit() {
    let columns = json!([
        {"name": "id", "from": {"body": "/order/id"}},
        {"name": "exact", "from": {"body": ""}},
        {"name": "payload", "from": {"body": ""}},
        {"name": "part", "from": {"body": "/order/a~1b"}},
        {"name": "lines", "from": {"body": "/lines"}},
    ]);
    let table = "CREATE TABLE orders (id text PRIMARY KEY, exact json, payload jsonb, part text, lines text[])";
    let pipeline = Pipeline::new(shared_cluster().await, "values-json", table, columns, &["id"]).await;
    let body = r#"{ "order": {"id":"ä\"1\u0041", "a/b": "tab\there 😀", "n": 1.10, "big": 12345678901234567890.12345678901234567890},
        "lines": ["a,b", "q\"\\", null, "NULL", 1.50], "dup": 1, "dup": 2 }"#;
    pipeline.send(&[Outgoing::new(body)]).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    let query = "SELECT id, exact::text, payload #>> '{order,n}', payload #>> '{order,big}', part, lines::text FROM orders";
    let rows: Vec<(String, String, String, String, String, String)> = pipeline.rows(query).await;
    let expected =
        ("ä\"1A", body, "1.10", "12345678901234567890.12345678901234567890", "tab\there 😀", r#"{"a,b","q\"\\",NULL,"NULL",1.50}"#);
    let (id, exact, n, big, part, lines) = &rows[0];
    assert_eq!((id.as_str(), exact.as_str(), n.as_str(), big.as_str(), part.as_str(), lines.as_str()), expected);
}

#[tokio::test]
async fn columns_are_filled_from_attributes_and_from_what_the_queue_knows() {
    let columns = json!([
        {"name": "id", "from": {"attribute": "OrderId"}},
        {"name": "team", "from": {"system": "MessageGroupId"}},
        {"name": "sent", "from": {"system": "SentTimestamp"}},
        {"name": "sequence", "from": {"system": "SequenceNumber"}},
        {"name": "message", "from": {"system": "MessageId"}},
        {"name": "body", "from": {"body": ""}},
    ]);
    let table = "CREATE TABLE orders (id text PRIMARY KEY, team text, sent timestamptz, sequence numeric(20), message uuid, body text)";
    let pipeline = Pipeline::new(shared_cluster().await, "values-system.fifo", table, columns, &["id"]).await;
    let attribute = |data_type: &str, value: &str| {
        let value = MessageAttributeValue::builder().data_type(data_type).string_value(value).build().unwrap();
        vec![("OrderId".to_owned(), value)]
    };
    let message = |attributes| Outgoing { body: "not JSON, and need not be".to_owned(), group: Some("team".to_owned()), attributes };
    // A copy that comes back from the dead-letter queue, with what its worker noted there.
    let mut copy = message(attribute("String", "copy"));
    let noted = json!({"queue": pipeline.queue.arn, "group": "first team", "firstSent": "2026-01-01T00:00:00Z"}).to_string();
    let noted = MessageAttributeValue::builder().data_type("String").string_value(noted).build().unwrap();
    copy.attributes.push((ATTRIBUTE.to_owned(), noted));
    // A Number loses its zeros in SQS, so it is no key.
    pipeline.send(&[message(attribute("String", "00123")), message(attribute("Number", "00123")), copy]).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    let query = "SELECT id, team, body, sent BETWEEN now() - interval '10 minutes' AND now(), sequence IS NOT NULL, message IS NOT NULL FROM orders WHERE id = '00123'";
    let rows: Vec<(String, String, String, bool, bool, bool)> = pipeline.rows(query).await;
    assert_eq!(rows, [("00123".to_owned(), "team".to_owned(), "not JSON, and need not be".to_owned(), true, true, true)]);
    let query = "SELECT team, sent = '2026-01-01T00:00:00Z' FROM orders WHERE id = 'copy'";
    assert_eq!(pipeline.rows::<(String, bool)>(query).await, [("first team".to_owned(), true)]);
    let letters = pipeline.take_dead_letters().await;
    assert_eq!(letters.len(), 1);
    let attributes = letters[0].message_attributes().unwrap();
    assert!(attributes.contains_key("OrderId"), "the dead letter keeps the message's own attributes");
    assert!(attributes[ATTRIBUTE].string_value().unwrap().contains("AttributeType"), "{attributes:?}");
}

#[tokio::test]
async fn a_part_that_is_missing_is_the_default_or_null_or_rejected_as_the_column_says() {
    let columns = json!([
        {"name": "id", "from": {"body": "/id"}},
        {"name": "state", "from": {"body": "/state"}},
        {"name": "number", "from": {"body": "/number"}, "whenMissing": "Default"},
        {"name": "note", "from": {"body": "/note"}, "whenMissing": "Null"},
        {"name": "amount", "from": {"body": "/amount"}, "whenMissing": "Reject"},
    ]);
    let table =
        "CREATE TABLE orders (id text PRIMARY KEY, state text DEFAULT 'new', number bigserial, note text DEFAULT 'none', amount int)";
    let pipeline = Pipeline::new(shared_cluster().await, "values-missing", table, columns, &["id"]).await;
    let bodies = [
        r#"{"id": "all", "state": "paid", "number": 1000, "note": "n", "amount": 5}"#,
        r#"{"id": "few", "amount": 6}"#,
        r#"{"id": "nulls", "state": null, "number": 2000, "note": null, "amount": null}"#,
        r#"{"id": "rejected", "state": "paid", "number": 3000, "note": "n"}"#,
    ];
    pipeline.send(&bodies.map(Outgoing::new)).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    type Row = (String, Option<String>, i64, Option<String>, Option<i32>);
    let rows: Vec<Row> = pipeline.rows("SELECT id, state, number, note, amount FROM orders ORDER BY id").await;
    let text = |text: &str| Some(text.to_owned());
    let expected: [Row; 3] = [
        ("all".into(), text("paid"), 1000, text("n"), Some(5)),
        ("few".into(), text("new"), 1, None, Some(6)),
        ("nulls".into(), None, 2000, None, None),
    ];
    assert_eq!(rows, expected);
    let letters = pipeline.take_dead_letters().await;
    assert_eq!(letters.len(), 1);
    let said = letters[0].message_attributes().unwrap()[ATTRIBUTE].string_value().unwrap();
    assert!(said.contains("ValueMissing") && said.contains(r#""column":"amount""#), "{said}");
}
