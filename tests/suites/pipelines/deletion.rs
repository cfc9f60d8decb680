//! What people delete while messages flow: workers drain, nothing hangs, and nothing of the user's is gone.

use durable_write_testbed::environment::{CA_CONFIG_MAP, DATABASE_SECRET};
use durable_write_testbed::traffic::Record;

use crate::ground::{Ground, common_ground};
use crate::pipeline::{Pipeline, stop};

/// The workers have written or given back what they held.
async fn has_drained(orders: &Pipeline<'_>, sent: &[Record]) {
    let depth = orders.depth().await;
    assert_eq!((depth.in_flight, orders.rows().await.unwrap() + depth.visible), (0, sent.len() as u64), "of {depth:?}");
}

#[tokio::test]
async fn a_pipeline_or_a_namespace_deleted_under_load_drains_and_made_again_moves_the_rest_once() {
    let ground = common_ground().await;
    tokio::join!(a_pipeline_is_deleted(&ground), a_namespace_is_deleted(&ground));
}

async fn a_pipeline_is_deleted(ground: &Ground) {
    ground.namespace("deletion").await;
    let orders = Pipeline::like_the_example(ground, "deletion", "deletion.fifo", 5).await;
    orders.start().await;
    let load = orders.load("deletion", 40.0);
    orders.writes("the start").await;

    orders.kubectl(&["delete", "dwp", &orders.name, "--timeout=30s"]).await;
    orders.no_pod_is_left().await;
    let sent = stop(load).await;
    has_drained(&orders, &sent).await;
    orders.kubectl(&["get", &format!("secret/{DATABASE_SECRET}"), &format!("configmap/{CA_CONFIG_MAP}")]).await;

    orders.start().await;
    orders.has_moved("deletion", &sent).await;
    ground.leave("deletion").await;
}

async fn a_namespace_is_deleted(ground: &Ground) {
    ground.namespace("leaving").await;
    let orders = Pipeline::like_the_example(ground, "leaving", "leaving", 5).await;
    orders.start().await;
    let load = orders.load("leaving", 40.0);
    orders.writes("the start").await;

    ground.kubectl(&["delete", "namespace", "leaving", "--timeout=90s"]).await;
    let sent = stop(load).await;
    has_drained(&orders, &sent).await;

    ground.namespace("leaving").await;
    orders.start().await;
    orders.has_moved("leaving", &sent).await;
    ground.leave("leaving").await;
}
