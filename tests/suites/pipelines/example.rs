//! The example as it is in the repository, in a cluster where nothing else happens.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio::time::sleep;

use crate::ground::{Ground, ground, until};
use crate::operator::{memory, writes};
use crate::pipeline::Pipeline;

/// Each pipeline is looked at four times, and numbers fall due once.
const REST: Duration = Duration::from_secs(40);

#[tokio::test]
async fn the_example_moves_each_message_once_and_scale_suspend_and_a_failover_change_no_pod_template() {
    let ground = ground().await;
    ground.namespace("example").await;
    let orders = Pipeline::of_the_example(&ground, "example").await;
    let traffic = orders.send("example", 3000, None);
    orders.start().await;
    let sent = traffic.finish().await.unwrap();
    orders.has_moved("example", &sent).await;
    assert_eq!((sent.len(), orders.rows().await.unwrap()), (3000, 3000));

    for good in ["Ready", "Flowing", "QueueReady", "DatabaseReady", "WithinRetention", "Stalled=False", "Reconciling=False"] {
        orders.wait(&format!("condition={good}")).await;
    }
    nothing_is_written_at_rest(&ground, &orders).await;
    no_pod_template_changes(&ground, &orders).await;
    ground.leave("example").await;
}

async fn nothing_is_written_at_rest(ground: &Ground, orders: &Pipeline<'_>) {
    ground.all_have_left().await;
    until("the numbers of the status to settle", async || {
        let queue = orders.object().await.status.unwrap_or_default().queue.unwrap_or_default();
        let settled = [queue.visible, queue.in_flight, queue.dead_lettered] == [Some(0); 3] && queue.oldest_seen.is_none();
        ensure!(settled, "{queue:?}");
        Ok(())
    })
    .await;
    let before = writes(ground).await;
    assert!(before.told > 0 && before.requested >= before.told, "the writes are not seen: {before:?}");
    // Only time can show that nothing happens.
    sleep(REST).await;
    let after = writes(ground).await;
    eprintln!("· the operator has {} KiB resident; writes in {} s at rest: {before:?} to {after:?}", memory(ground).await, REST.as_secs());
    assert_eq!(before, after);
}

async fn no_pod_template_changes(ground: &Ground, orders: &Pipeline<'_>) {
    let before = orders.template().await;
    let first = orders.pods().await;

    orders.scale(3).await;
    orders.settled(3).await;
    let writer = ground.access().fail_over().await.unwrap().instance;
    // An idle worker learns of a new writer by its next message.
    let sent = orders.send("failed-over", 300, None).finish().await.unwrap();
    orders.has_moved("failed-over", &sent).await;
    orders.wait(&format!("jsonpath={{.status.database.writer}}={writer}")).await;
    orders.wait("condition=Flowing").await;
    let same = orders.pods().await.iter().filter(|pod| first.iter().any(|other| other.metadata.uid == pod.metadata.uid)).count();
    assert_eq!(same, first.len(), "workers were replaced");

    orders.patch(json!({"suspend": true})).await;
    orders.settled(0).await;
    orders.wait("condition=Ready=False").await;
    orders.wait(r#"jsonpath={.status.conditions[?(@.type=="Ready")].reason}=Suspended"#).await;
    orders.patch(json!({"suspend": false})).await;
    orders.settled(3).await;
    orders.wait("condition=Ready").await;
    assert_eq!(orders.template().await, before);
}
