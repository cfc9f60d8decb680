//! The traffic generator: what it sends, what it records under faults, and the verdict on a real table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use durable_write_testbed::aurora::{Aurora, AuroraOptions};
use durable_write_testbed::history::Outcome;
use durable_write_testbed::proxy::http::{Extent, HttpFault, HttpFaultProxy};
use durable_write_testbed::sqs::{self, Queue, QueueOptions, Sqs};
use durable_write_testbed::traffic::{self, Plan, Record, Traffic, key_of};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::Instant;

async fn queue(name: &str) -> (Client, Queue) {
    let client = Sqs::shared().await.unwrap().client();
    let queue = sqs::create_queue(&client, name, &QueueOptions::default()).await.unwrap();
    (client, queue)
}

async fn proxy() -> HttpFaultProxy {
    let upstream = Sqs::shared().await.unwrap().addresses()[0];
    HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], upstream).await.unwrap()
}

fn at_once(queue: &Queue, messages: u64) -> Plan {
    Plan { per_second: None, ..Plan::new(&queue.url, "run", messages) }
}

fn outcomes(records: &[Record], outcome: Outcome) -> usize {
    records.iter().filter(|record| record.sent.outcome == outcome).count()
}

fn sequence_of(message: &Message) -> u64 {
    serde_json::from_str::<serde_json::Value>(message.body().unwrap()).unwrap()["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn on_a_fifo_queue_each_group_arrives_in_order_with_bodies_of_the_size_asked_for() {
    let (client, queue) = queue("traffic.fifo").await;
    let records = Traffic::start(&client, &Plan { groups: 50, body_bytes: 1000, ..at_once(&queue, 500) }).finish().await.unwrap();
    assert_eq!(outcomes(&records, Outcome::Acknowledged), 500);
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for message in sqs::drain_all(&client, &queue.url).await.unwrap() {
        let group = message.attributes().unwrap()[&MessageSystemAttributeName::MessageGroupId].clone();
        let next = next.entry(group).or_default();
        assert_eq!(sequence_of(&message), *next);
        assert_eq!(message.body().unwrap().len(), 1000);
        *next += 1;
    }
    assert!(next.len() == 50 && next.values().all(|count| *count == 10));
}

#[tokio::test]
async fn lost_replies_and_partial_failures_are_repeated_with_the_same_key() {
    let (client, queue) = queue("traffic-faults.fifo").await;
    let proxy = proxy().await;
    let partial = HttpFault::PartialFailure { positions: vec![0, 3], code: "InternalError".to_owned(), sender_fault: false };
    proxy.place("SendMessageBatch", HttpFault::ReplyLost, Extent::Randomly { probability: 0.2, seed: 1 });
    proxy.place("SendMessageBatch", HttpFault::RequestLost, Extent::Randomly { probability: 0.2, seed: 2 });
    proxy.place("SendMessageBatch", partial, Extent::Randomly { probability: 0.2, seed: 3 });
    let records = Traffic::start(&sqs::client(&proxy.endpoint()), &at_once(&queue, 200)).finish().await.unwrap();
    assert!(proxy.calls("SendMessageBatch").faulted > 5, "the faults were not met");
    assert_eq!(outcomes(&records, Outcome::Acknowledged), 200);
    let keys: Vec<_> = sqs::drain_all(&client, &queue.url).await.unwrap().iter().map(key_of).collect();
    assert_eq!(keys.len(), 200, "a repeated message is a second one: its deduplication id differs");
}

#[tokio::test]
async fn what_never_got_an_answer_is_unknown_and_what_was_refused_is_refused() {
    let (_, queue) = queue("traffic-unknown").await;
    let proxy = proxy().await;
    let client = sqs::client(&proxy.endpoint());
    let only = |queue: &Queue, run: &str| Plan { run: run.to_owned(), groups: 1, ..at_once(queue, 10) };
    proxy.place("SendMessageBatch", HttpFault::ReplyLost, Extent::UntilCleared);
    let traffic = Traffic::start(&client, &only(&queue, "lost"));
    traffic.progress().wait_for(|progress| progress.sent == 10).await.unwrap();
    traffic.stop();
    assert_eq!(outcomes(&traffic.finish().await.unwrap(), Outcome::Unknown), 10);
    proxy.clear();
    let refusal = HttpFault::PartialFailure { positions: vec![4], code: "InvalidMessageContents".to_owned(), sender_fault: true };
    proxy.place("SendMessageBatch", refusal, Extent::Next(1));
    let records = Traffic::start(&client, &only(&queue, "refused")).finish().await.unwrap();
    assert_eq!((outcomes(&records, Outcome::Acknowledged), outcomes(&records, Outcome::Refused)), (9, 1));
    assert!(records.iter().all(|record| record.began <= record.ended));
}

#[tokio::test]
async fn it_keeps_its_rate_and_stops_when_told() {
    let (client, queue) = queue("traffic-rate").await;
    let start = Instant::now();
    let traffic = Traffic::start(&client, &Plan { per_second: Some(200.0), ..Plan::new(&queue.url, "run", 1_000_000) });
    traffic.acknowledged(100).await;
    assert!(start.elapsed() >= Duration::from_millis(490), "100 messages at 200 a second were sent in {:?}", start.elapsed());
    traffic.stop();
    let records = traffic.finish().await.unwrap();
    assert!((100..10_000).contains(&records.len()), "{} records", records.len());
    assert_eq!(outcomes(&records, Outcome::Acknowledged), records.len());
}

#[tokio::test]
async fn as_fast_as_possible_batches_are_full() {
    let (_, queue) = queue("traffic-fast").await;
    let proxy = proxy().await;
    let records = Traffic::start(&sqs::client(&proxy.endpoint()), &at_once(&queue, 1000)).finish().await.unwrap();
    assert_eq!((records.len(), proxy.calls("SendMessageBatch").received), (1000, 100));
}

/// Writes the messages as a worker would, into the table of the demo without its unique index, so that duplicates are possible.
async fn write(database: &mut PgConnection, messages: &[Message]) {
    for message in messages {
        let insert = "INSERT INTO shop.loose (id, customer, amount, payload) SELECT b->>'id', b->>'group', (b->>'amount')::numeric, b
                      FROM (SELECT $1::jsonb AS b) AS body";
        sqlx::query(insert).bind(message.body().unwrap()).execute(&mut *database).await.unwrap();
    }
}

#[tokio::test]
async fn the_verdict_on_a_table_names_what_was_lost_doubled_and_dead_lettered() {
    let (client, queue) = queue("traffic-verdict.fifo").await;
    let records = Traffic::start(&client, &Plan { groups: 4, ..at_once(&queue, 40) }).finish().await.unwrap();
    let mut messages = sqs::drain_all(&client, &queue.url).await.unwrap();
    messages.sort_by_key(sequence_of);
    let aurora = Aurora::start(AuroraOptions { instances: 1, ..AuroraOptions::default() }).await.unwrap();
    let mut database = PgConnection::connect_with(&aurora.admin_options().unwrap()).await.unwrap();
    for statement in [include_str!("../sql/orders.sql"), "CREATE TABLE shop.loose (LIKE shop.orders INCLUDING DEFAULTS INCLUDING IDENTITY)"]
    {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut database).await.unwrap();
    }
    let mut verdict = async |rows: &[Message], dead: &[Message]| {
        sqlx::query("TRUNCATE shop.loose").execute(&mut database).await.unwrap();
        write(&mut database, rows).await;
        traffic::verify("run", &records, &mut database, "shop.loose", dead).await.unwrap()
    };
    assert!(verdict(&messages, &[]).await.is_clean());
    let first = &messages[..1];
    let report = verdict(&messages[1..], &[]).await;
    assert_eq!(report.lost, [key_of(&first[0])]);
    let report = verdict(&messages[1..], first).await;
    assert_eq!((report.dead_lettered.len(), report.lost.len()), (1, 0));
    let report = verdict(&[&messages, first].concat(), &[]).await;
    assert_eq!(report.duplicated, [key_of(&first[0])]);
    let report = verdict(&[&messages[1..], first].concat(), &[]).await;
    assert_eq!(report.out_of_order, [key_of(&first[0])]);
    let gap = traffic::write_gap("run", &mut database, "shop.loose").await.unwrap().unwrap();
    assert!(gap > Duration::ZERO && gap < Duration::from_secs(5));
}
