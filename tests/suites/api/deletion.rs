//! Nothing that is deleted hangs, with the operator and without it.

use durable_write_crds::conditions::{reasons, types};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::api::ListParams;

use crate::ground::{Ground, Home, eventually, ground, smallest};
use crate::workers::Workers;

async fn nothing_is_left(home: &Home) {
    eventually("the children to be gone", async || {
        let ours = ListParams::default().labels("durablewrite.dev/pipeline");
        let pods = home.api::<Pod>().list(&ours).await.unwrap().items.len();
        let config_maps = home.api::<ConfigMap>().list(&ours).await.unwrap().items.len();
        let accounts = home.api::<ServiceAccount>().list(&ours).await.unwrap().items.len();
        if pods + config_maps + accounts == 0 { Ok(()) } else { Err(format!("{pods} pods, {config_maps} ConfigMaps, {accounts} accounts")) }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_pipeline_takes_its_children_along_and_can_be_made_again() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    for _ in 0..2 {
        ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
        home.condition("orders", types::READY, "True", reasons::OK).await;
        ground.kubectl(&home, &["delete", "dwp", "orders", "--timeout=10s"]).await.unwrap();
    }
    nothing_is_left(&home).await;
}

#[tokio::test]
async fn a_namespace_with_a_pipeline_is_deleted_without_hanging() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    ground.cluster.kubectl(["delete", "namespace", &home.name, "--timeout=40s"]).await.unwrap();
}

#[tokio::test]
async fn without_the_operator_and_after_uninstalling_pipelines_stay_and_can_be_deleted() {
    // A cluster of its own, as the operator is stopped for good.
    let ground = Ground::new().await;
    let (home, other) = (ground.namespace().await, ground.namespace().await);
    let _workers = (Workers::play(&home).await, Workers::play(&other).await);
    for home in [&home, &other] {
        ground.apply(home, &smallest("orders", "orders.fifo")).await.unwrap();
        home.condition("orders", types::READY, "True", reasons::OK).await;
    }
    ground.stop_operator().await;
    ground.cluster.helm(["uninstall", "durable-write", "--namespace", "durable-write"]).await.unwrap();
    assert!(ground.kubectl(&home, &["get", "dwp,pods"]).await.unwrap().contains("orders-worker"), "uninstalling stops no worker");
    ground.kubectl(&home, &["delete", "dwp", "orders", "--timeout=10s"]).await.unwrap();
    nothing_is_left(&home).await;
    ground.cluster.kubectl(["delete", "namespace", &other.name, "--timeout=40s"]).await.unwrap();
}
