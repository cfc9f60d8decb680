//! One bad message never holds back or takes along the others: it goes to the dead-letter queue with the reason.

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use durable_write_crds::conditions::reasons;
use durable_write_worker::queue::sqs::ATTRIBUTE;
use serde_json::{Value, json};

use super::ground::{Outgoing, Pipeline, SOON, orders, shared_cluster, until};

const TABLE: &str = "CREATE TABLE orders (
    id text PRIMARY KEY, amount numeric(12,2), note text, customer text NOT NULL, code varchar(5), payload jsonb,
    team text, number bigint, place bigint GENERATED ALWAYS AS IDENTITY)";

fn columns() -> Value {
    json!([
        {"name": "id", "from": {"body": "/id"}},
        {"name": "amount", "from": {"body": "/amount"}},
        {"name": "note", "from": {"body": "/note"}},
        {"name": "customer", "from": {"body": "/customer"}},
        {"name": "code", "from": {"body": "/code"}},
        {"name": "payload", "from": {"body": "/payload"}},
        {"name": "team", "from": {"body": "/team"}},
        {"name": "number", "from": {"body": "/number"}},
    ])
}

fn good(id: &str) -> Value {
    json!({"id": id, "amount": 12.5, "note": "all is well", "customer": "c", "code": "abcde", "payload": {"a": 1}})
}

/// A body that is wrong in one place.
fn bad(id: &str, field: &str, value: Value) -> String {
    let mut body = good(id);
    body[field] = value;
    body.to_string()
}

/// What the dead letter says of itself.
fn reason(letter: &Message) -> Value {
    let attribute = letter.message_attributes().and_then(|attributes| attributes.get(ATTRIBUTE)).expect("a dead letter says why");
    serde_json::from_str(attribute.string_value().unwrap()).unwrap()
}

#[tokio::test]
async fn one_bad_message_of_each_kind_in_a_thousand_goes_to_the_dead_letter_queue_with_its_reason() {
    let pipeline = Pipeline::new(shared_cluster().await, "bad-kinds", TABLE, columns(), &["id"]).await;
    // The body, and what the dead letter says: reason, SQLSTATE, column, key.
    let kinds = [
        (bad("kind-0", "amount", json!("twelve")), "RowRefused", json!("22P02"), json!("amount"), "kind-0"),
        (bad("kind-1", "note", json!("a\0b")), "RowRefused", json!("22021"), json!("note"), "kind-1"),
        (bad("kind-2", "customer", Value::Null), "RowRefused", json!("23502"), json!("customer"), "kind-2"),
        // Of a value that is too long PostgreSQL does not name the column.
        (bad("kind-3", "code", json!("abcdef")), "RowRefused", json!("22001"), Value::Null, "kind-3"),
        ("{\"id\": \"kind-4\", ".to_owned(), "BodyNotJson", Value::Null, Value::Null, ""),
        (bad("kind-5", "id", Value::Null), "KeyMissing", Value::Null, json!("id"), ""),
        (bad("kind-6", "payload", json!({"text": "a\0b"})), "RowRefused", json!("22P05"), json!("payload"), "kind-6"),
    ];
    let mut messages = Vec::new();
    for (kind, (body, ..)) in kinds.iter().enumerate() {
        messages.extend((0..999).map(|number| Outgoing::new(good(&format!("{kind}-{number}")).to_string())));
        messages.insert(messages.len() - 500, Outgoing::new(body));
    }
    pipeline.send(&messages).await;
    let mut worker = pipeline.start();
    let state = pipeline.emptied(&mut worker, SOON).await;

    assert_eq!(pipeline.count().await, 7 * 999);
    assert_eq!(state.counters.dead_lettered, 7);
    let letters = pipeline.take_dead_letters().await;
    assert_eq!(letters.len(), 7);
    for (body, reason, sqlstate, column, key) in kinds {
        let letter = letters.iter().find(|letter| letter.body() == Some(&body)).unwrap_or_else(|| panic!("no dead letter {body}"));
        let said = self::reason(letter);
        assert_eq!((&said["reason"], &said["sqlstate"], &said["column"]), (&json!(reason), &sqlstate, &column), "{body}: {said}");
        assert_eq!((&said["queue"], &said["key"]), (&json!(pipeline.queue.arn), &json!(key)), "{said}");
        assert!(!said["messageId"].as_str().unwrap().is_empty(), "{said}");
        said["firstSent"].as_str().unwrap().parse::<jiff::Timestamp>().expect("a time");
    }
    let log = worker.log().unwrap();
    assert!(!log.contains("twelve") && !log.contains("all is well"), "the log holds parts of bodies");
}

#[tokio::test]
async fn a_trigger_that_raises_for_one_row_does_not_stop_the_others() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "bad-trigger").await;
    pipeline
        .sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.number = 500 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    pipeline.send(&orders("a", 0..1000, false)).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    assert_eq!(pipeline.count().await, 999);
    let letters = pipeline.take_dead_letters().await;
    assert_eq!(letters.iter().map(|letter| reason(letter)["sqlstate"].clone()).collect::<Vec<_>>(), [json!("P0001")]);
}

#[tokio::test]
async fn a_bad_message_in_a_group_is_the_only_gap_and_the_order_is_kept() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "bad-group.fifo").await;
    let mut sent = orders("a", 0..100, true);
    for place in [0, 50, 51, 99] {
        sent[place].body = json!({"id": format!("a-{place}"), "team": "a", "number": "many"}).to_string();
    }
    sent.extend(orders("b", 0..100, true));
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    assert_eq!(pipeline.count().await, 196);
    pipeline.assert_in_order().await;
    let letters = pipeline.take_dead_letters().await;
    let mut keys: Vec<String> = letters.iter().map(|letter| reason(letter)["key"].as_str().unwrap().to_owned()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a-0", "a-50", "a-51", "a-99"]);
    for letter in letters {
        let said = reason(&letter);
        assert_eq!((&said["group"], &said["sqlstate"]), (&json!("a"), &json!("22P02")));
        let group = letter.attributes().unwrap()[&MessageSystemAttributeName::MessageGroupId].clone();
        assert_eq!(json!(group), said["messageId"], "dead letters do not stand in each other's way");
    }
}

#[tokio::test]
async fn a_dead_letter_without_room_for_its_reason_is_sent_bare_and_keeps_its_own_attributes() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "bad-full").await;
    let attribute = |number| {
        let value = MessageAttributeValue::builder().data_type("String").string_value(format!("value {number}")).build().unwrap();
        (format!("attribute-{number}"), value)
    };
    let message = Outgoing { body: "not JSON".to_owned(), group: None, attributes: (0..10).map(attribute).collect() };
    pipeline.send(&[message]).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    let letters = pipeline.take_dead_letters().await;
    let mut names: Vec<&String> = letters[0].message_attributes().unwrap().keys().collect();
    names.sort_unstable();
    assert_eq!((letters.len(), names.len()), (1, 10));
    assert!(names.iter().all(|name| name.starts_with("attribute-")), "{names:?}");
    assert!(worker.log().unwrap().contains("BodyNotJson"), "then only the log says why");
}

#[tokio::test]
async fn when_every_message_is_refused_in_the_same_way_fewer_than_twenty_are_dead_lettered_and_the_others_written_once_that_is_mended() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "bad-all").await;
    pipeline.sql("ALTER TABLE orders ADD CONSTRAINT small CHECK (number < 0)").await;
    let mut sent = orders("a", 0..300, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    let state = worker.wait_for("it stops", SOON, |state| state.flowing.reason == reasons::TOO_MANY_BAD_MESSAGES).await.unwrap();
    assert_eq!(state.flowing.status, Some(false));
    assert!(state.flowing.message.contains("small") && state.flowing.message.contains("23514"), "{}", state.flowing.message);
    pipeline.sql("ALTER TABLE orders DROP CONSTRAINT small").await;
    pipeline.emptied(&mut worker, SOON).await;
    let letters = pipeline.take_dead_letters().await;
    assert!(letters.len() < 20, "{} dead letters", letters.len());
    sent.retain(|message| letters.iter().all(|letter| letter.body() != Some(&message.body)));
    pipeline.assert_exactly(&sent).await;
}

#[tokio::test]
async fn a_message_whose_parent_comes_later_waits_for_it_while_others_pass() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "bad-parent").await;
    pipeline.sql("CREATE TABLE teams (name text PRIMARY KEY); INSERT INTO teams VALUES ('a'); ALTER TABLE orders ADD FOREIGN KEY (team) REFERENCES teams").await;
    let mut sent = orders("a", 0..200, false);
    sent.insert(100, orders("late", 0..1, false).remove(0));
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    until("all others are written", SOON, async || pipeline.count().await == 200).await;
    worker.wait_for("one is held", SOON, |state| state.counters.held == 1).await.unwrap();
    pipeline.sql("INSERT INTO teams VALUES ('late')").await;
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;
}
