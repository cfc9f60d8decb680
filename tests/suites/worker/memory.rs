//! Memory is bounded by the manifest, whatever comes and whatever cannot go.

use std::net::{Ipv4Addr, SocketAddr};

use durable_write_crds::conditions::reasons;
use durable_write_testbed::proxy::http::{Extent, HttpFault, HttpFaultProxy};
use durable_write_testbed::sqs::{self, Sqs};
use serde_json::json;

use super::ground::{Outgoing, Pipeline, REDELIVERED, SOON, orders, shared_cluster};

const MEBIBYTE: u64 = 1024 * 1024;
const BUDGET: u64 = 64;
/// What a worker may take beside its messages.
const BESIDE: u64 = 64;

#[tokio::test]
async fn bodies_of_a_mebibyte_full_of_escapes_stay_within_the_smallest_budget() {
    let columns = json!([{"name": "id", "from": {"body": "/id"}}, {"name": "text", "from": {"body": "/text"}}, {"name": "payload", "from": {"body": ""}}]);
    let table = "CREATE TABLE orders (id text PRIMARY KEY, text text, payload text)";
    let mut pipeline = Pipeline::new(shared_cluster().await, "memory-escapes", table, columns, &["id"]).await;
    pipeline.set("/workers", json!({"memoryBudget": format!("{BUDGET}Mi")}));
    let text = r#"\""#.repeat((1024 * 1024 - 64) / 2);
    let sent: Vec<_> = (0..60).map(|id| Outgoing::new(format!(r#"{{"id": "{id}", "text": "{text}"}}"#))).collect();
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    let rows: Vec<(i64, i64)> = pipeline.rows("SELECT count(*), sum(length(text)) FROM orders").await;
    assert_eq!(rows, [(60, 60 * i64::try_from(text.len() / 2).unwrap())]);
    let peak = worker.peak_memory().unwrap();
    eprintln!("60 bodies of a mebibyte: {} MiB at the most", peak / MEBIBYTE);
    assert!(peak <= (BUDGET + BESIDE) * MEBIBYTE, "a worker took {} MiB", peak / MEBIBYTE);
}

#[tokio::test]
async fn deletes_that_fail_for_long_stop_receiving_and_all_goes_on_by_itself_when_they_work_again() {
    let mut pipeline = Pipeline::of_orders(shared_cluster().await, "memory-deletes").await;
    pipeline.set("/batching", json!({"maxRows": 100}));
    let upstream = Sqs::shared().await.unwrap().addresses()[0];
    let proxy = HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], upstream).await.unwrap();
    pipeline.sqs_endpoint = proxy.endpoint();
    let denied = HttpFault::Error { status: 403, code: "AccessDeniedException".to_owned() };
    proxy.place("DeleteMessageBatch", denied, Extent::UntilCleared);
    let sent = orders("a", 0..2000, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    let state = worker.wait_for("it stops", SOON, |state| state.flowing.reason == reasons::ACKNOWLEDGE_FAILING).await.unwrap();
    assert_eq!((state.flowing.status, state.stalled.status), (Some(false), Some(true)));
    assert!(state.queue_ready.message.contains("DeleteMessageBatch"), "{:?}", state.queue_ready);
    assert!(state.counters.held < 1000, "it went on to receive: {:?}", state.counters);
    let visible = sqs::depth(&pipeline.client, &pipeline.queue.url).await.unwrap().visible;
    assert!(visible > 1000, "only {visible} were left in the queue");

    proxy.clear();
    pipeline.emptied(&mut worker, REDELIVERED).await;
    let state = worker.wait_for("it is well again", SOON, |state| state.flowing.status == Some(true)).await.unwrap();
    assert_eq!((state.queue_ready.status, state.stalled.status), (Some(true), Some(false)), "{state:?}");
    pipeline.assert_exactly(&sent).await;
}
