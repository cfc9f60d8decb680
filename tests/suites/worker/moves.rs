//! Messages become rows while nothing is wrong.

use std::collections::BTreeSet;

use durable_write_crds::conditions::reasons;

use super::ground::{Outgoing, Pipeline, SOON, orders, shared_cluster};

#[tokio::test]
async fn each_message_of_a_standard_queue_becomes_one_row_and_is_deleted() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "moves-standard").await;
    let sent = orders("a", 0..3000, false);
    let mut worker = pipeline.start();
    pipeline.send(&sent).await;
    let state = pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;

    for report in [&state.flowing, &state.queue_ready, &state.database_ready] {
        assert_eq!((report.status, report.reason.as_str()), (Some(true), reasons::OK), "{report:?}");
    }
    assert_eq!(state.stalled.status, Some(false));
    assert!(state.checked);
    assert_eq!(state.database.writer.as_deref(), Some("orders-1"));
    assert_eq!((state.counters.written, state.counters.acknowledged, state.counters.dead_lettered), (3000, 3000, 0));
}

#[tokio::test]
async fn two_workers_keep_the_order_of_each_group_of_a_fifo_queue() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "moves-groups.fifo").await;
    let sent = in_turn((0..20).map(|team| orders(&format!("team-{team}"), 0..100, true)).collect());
    let (mut one, mut two) = (pipeline.start(), pipeline.start());
    pipeline.send(&sent).await;
    let state = pipeline.emptied(&mut one, SOON).await;
    let other = pipeline.emptied(&mut two, SOON).await;
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
    assert_eq!(state.counters.written + other.counters.written, 2000);
}

/// One message of each group, and again.
fn in_turn(groups: Vec<Vec<Outgoing>>) -> Vec<Outgoing> {
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| groups.iter().filter_map(move |group| group.get(turn).cloned())).collect()
}

#[tokio::test]
async fn the_form_for_any_postgresql_works_too() {
    let mut pipeline = Pipeline::of_orders(shared_cluster().await, "moves-postgres").await;
    let topology = pipeline.topology();
    let instances: Vec<_> = topology.instances.into_iter().map(|instance| instance.endpoint).collect();
    let database = pipeline.manifest["spec"]["database"].as_object_mut().unwrap();
    database.remove("aurora");
    database.insert("postgres".to_owned(), serde_json::json!({"writer": topology.writer, "instances": instances}));
    let sent = orders("a", 0..100, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_finishes_what_it_holds_and_leaves_the_rest_to_the_next_at_once() {
    let pipeline = Pipeline::of_orders(shared_cluster().await, "moves-drain.fifo").await;
    let sent = in_turn((0..10).map(|team| orders(&format!("team-{team}"), 0..200, true)).collect());
    pipeline.send(&sent).await;
    let mut first = pipeline.start();
    first.wait_for("it is in the middle of it", SOON, |state| state.counters.written > 100).await.unwrap();
    first.stop().await.unwrap();
    let depth = durable_write_testbed::sqs::depth(&pipeline.client, &pipeline.queue.url).await.unwrap();
    assert_eq!(depth.in_flight, 0, "messages that nobody holds are not visible");
    assert!(depth.visible > 0, "the first worker did it all: this test shows nothing");
    let rows: BTreeSet<String> = pipeline.rows("SELECT id FROM orders").await.into_iter().map(|(id,)| id).collect();
    assert_eq!(rows.len() + usize::try_from(depth.visible).unwrap(), sent.len(), "written and not deleted, or deleted and not written");

    let mut second = pipeline.start();
    pipeline.emptied(&mut second, SOON).await;
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
}
