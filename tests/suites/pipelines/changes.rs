//! What people change while messages flow.

use kube::ResourceExt;
use serde_json::json;

use crate::ground::common_ground;
use crate::pipeline::{Pipeline, stop};

#[tokio::test]
async fn a_changed_spec_suspend_and_scale_under_load_lose_double_and_reorder_nothing() {
    let ground = common_ground().await;
    ground.namespace("changes").await;
    let orders = Pipeline::like_the_example(&ground, "changes", "changes.fifo", 5).await;
    orders.start().await;
    let load = orders.load("changes", 40.0);
    orders.writes("the start").await;

    let (template, revision) = orders.template().await;
    let old: Vec<_> = orders.pods().await.iter().map(ResourceExt::uid).collect();
    orders.patch(json!({"batching": {"maxRows": 50}})).await;
    orders.settled(2).await;
    let rolled = orders.template().await;
    assert!(rolled.0 != template && (revision.as_str(), rolled.1.as_str()) == ("1", "2"), "it was not rolled out once");
    assert!(orders.pods().await.iter().all(|pod| !old.contains(&pod.uid())), "an old worker is left");
    orders.writes("the rollout").await;

    orders.patch(json!({"suspend": true})).await;
    orders.settled(0).await;
    orders.no_pod_is_left().await;
    assert_eq!(orders.depth().await.in_flight, 0, "the workers have not given back what they held");
    orders.patch(json!({"suspend": false})).await;
    orders.settled(2).await;
    orders.writes("the pause").await;

    for workers in [1, 4, 1] {
        orders.scale(workers).await;
        orders.settled(workers).await;
        orders.writes(&format!("scaling to {workers}")).await;
    }
    assert_eq!(orders.template().await, rolled);
    orders.has_moved("changes", &stop(load).await).await;
    ground.leave("changes").await;
}
