//! What the operator makes of a pipeline, and what it leaves alone.

use durable_write_crds::conditions::{reasons, types};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use kube::ResourceExt;
use kube::api::ListParams;

use crate::ground::{Home, eventually, ground, manifest, smallest};
use crate::rds::Described;
use crate::workers::Workers;

async fn names<K>(home: &Home) -> Vec<String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let all = home.api::<K>().list(&ListParams::default().labels("durablewrite.dev/pipeline")).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

async fn revision(home: &Home) -> (serde_json::Value, Option<String>) {
    let deployment = home.api::<Deployment>().get("orders-worker").await.unwrap();
    let revision = deployment.annotations().get("deployment.kubernetes.io/revision").cloned();
    (serde_json::to_value(deployment.spec.unwrap().template).unwrap(), revision)
}

#[tokio::test]
async fn a_pipeline_becomes_workers_that_run_restricted() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    assert_eq!(names::<ServiceAccount>(&home).await, ["orders"]);
    assert_eq!(names::<Pod>(&home).await.len(), 2);
    let config_maps = names::<ConfigMap>(&home).await;
    assert!(config_maps.len() == 2 && config_maps.contains(&"orders-topology".to_owned()), "{config_maps:?}");
    let status = home.pipeline("orders").await.status.unwrap();
    assert_eq!((status.replicas, status.workers.unwrap().ready), (2, 2));
    assert_eq!(status.database.unwrap().writer.as_deref(), Some("db-1:5432"));
}

#[tokio::test]
async fn scale_suspend_and_new_instances_change_no_pod_template() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    let before = revision(&home).await;
    let patch = async |patch: &str| {
        ground.kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", patch]).await.unwrap();
    };
    patch(r#"{"spec": {"workers": {"replicas": 3}}}"#).await;
    eventually("three workers", async || match home.pipeline("orders").await.status.unwrap().replicas {
        3 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    patch(r#"{"spec": {"database": {"postgres": {"instances": ["db-1:5432", "db-2:5432", "db-3:5432"]}}}}"#).await;
    eventually("the new instance to be in the topology", async || {
        let topology = home.api::<ConfigMap>().get("orders-topology").await.unwrap().data.unwrap()["topology.yaml"].clone();
        if topology.contains("db-3:5432") { Ok(()) } else { Err(topology) }
    })
    .await;
    patch(r#"{"spec": {"suspend": true}}"#).await;
    home.condition("orders", types::FLOWING, "False", reasons::SUSPENDED).await;
    home.condition("orders", types::RECONCILING, "False", reasons::OK).await;
    assert!(names::<Pod>(&home).await.is_empty());
    patch(r#"{"spec": {"suspend": false}}"#).await;
    home.condition("orders", types::FLOWING, "True", reasons::OK).await;
    assert_eq!(revision(&home).await, before);
}

#[tokio::test]
async fn a_changed_spec_is_rolled_out_and_the_old_manifest_goes_with_the_last_pod_that_names_it() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    let manifests = async || names::<ConfigMap>(&home).await.into_iter().filter(|name| !name.ends_with("-topology")).collect::<Vec<_>>();
    let old = manifests().await;
    assert_eq!(old.len(), 1);
    // No pod becomes ready from now on, so the rollout stops half way: one old pod stays.
    drop(workers);
    ground
        .kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", r#"{"spec": {"batching": {"maxRows": 7}}}"#])
        .await
        .unwrap();
    eventually("a second manifest", async || match manifests().await {
        both if both.len() == 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    home.condition("orders", types::RECONCILING, "True", reasons::PROGRESSING).await;
    assert!(manifests().await.contains(&old[0]), "an old pod still names it");
    let _workers = Workers::play(&home).await;
    eventually("the old manifest to go", async || match manifests().await {
        new if new.len() == 1 && new != old => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    home.condition("orders", types::RECONCILING, "False", reasons::OK).await;
}

#[tokio::test]
async fn what_somebody_else_changes_is_put_right() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    ground.kubectl(&home, &["scale", "deployment/orders-worker", "--replicas=1"]).await.unwrap();
    ground.kubectl(&home, &["delete", "poddisruptionbudget", "orders-worker"]).await.unwrap();
    ground.kubectl(&home, &["delete", "configmap", "orders-topology"]).await.unwrap();
    eventually("what was deleted to be there", async || {
        let found = ground.kubectl(&home, &["get", "poddisruptionbudget/orders-worker", "configmap/orders-topology"]).await;
        found.map_err(|error| error.to_string())
    })
    .await;
    ground.kubectl(&home, &["wait", "--for=jsonpath={.spec.replicas}=2", "deployment/orders-worker", "--timeout=40s"]).await.unwrap();
}

#[tokio::test]
async fn an_object_of_somebody_else_is_never_taken_over() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.kubectl(&home, &["create", "serviceaccount", "orders"]).await.unwrap();
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::STALLED, "True", reasons::NAME_TAKEN).await;
    // As the message says.
    let named = r#"{"spec": {"workers": {"serviceAccount": {"name": "orders"}}}}"#;
    ground.kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", named]).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    ground.kubectl(&home, &["delete", "dwp", "orders", "--cascade=foreground", "--timeout=40s"]).await.unwrap();
    let account = home.api::<ServiceAccount>().get("orders").await.unwrap();
    assert!(account.owner_references().is_empty());
}

#[tokio::test]
async fn a_service_account_of_the_operator_goes_when_another_is_named() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    let named = r#"{"spec": {"workers": {"serviceAccount": {"name": "default"}}}}"#;
    ground.kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", named]).await.unwrap();
    ground.kubectl(&home, &["wait", "--for=delete", "serviceaccount/orders", "--timeout=40s"]).await.unwrap();
}

#[tokio::test]
async fn the_older_pipeline_has_the_queue_and_the_newer_takes_over_when_it_is_gone() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let elsewhere = ground.namespace().await;
    let _workers = (Workers::play(&home).await, Workers::play(&elsewhere).await);
    ground.apply(&home, &smallest("first", "bills")).await.unwrap();
    home.condition("first", types::READY, "True", reasons::OK).await;
    home.is_older_than_now("first").await;
    ground.apply(&home, &smallest("second", "bills")).await.unwrap();
    home.condition("second", types::STALLED, "True", reasons::QUEUE_IN_USE).await;
    assert!(home.api::<Deployment>().get_opt("second-worker").await.unwrap().is_none());

    ground.apply(&elsewhere, &smallest("third", "bills")).await.unwrap();
    elsewhere.condition("third", types::QUEUE_READY, "True", reasons::QUEUE_SHARED).await;
    home.condition("first", types::QUEUE_READY, "True", reasons::QUEUE_SHARED).await;

    ground.kubectl(&home, &["delete", "dwp", "first"]).await.unwrap();
    home.condition("second", types::READY, "True", reasons::OK).await;
}

#[tokio::test]
async fn instances_of_an_aurora_cluster_reach_the_workers_without_a_rollout() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let workers = Workers::play(&home).await;
    workers.say(|state| state.database.writer = Some("ledger-1".to_owned()));
    ground.apply(&home, &manifest("orders", "ledger", "aurora: {clusterIdentifier: ledger}")).await.unwrap();
    home.condition("orders", types::STALLED, "True", reasons::CLUSTER_NOT_FOUND).await;
    assert!(home.api::<Deployment>().get_opt("orders-worker").await.unwrap().is_none());

    let cluster = |instances: &[&str]| Described {
        identifier: "ledger".to_owned(),
        engine: "aurora-postgresql",
        instances: instances.iter().map(|name| (*name).to_owned()).collect(),
        tags: Vec::new(),
    };
    ground.rds.put(cluster(&["ledger-1", "ledger-2"]));
    home.condition("orders", types::READY, "True", reasons::OK).await;
    let before = revision(&home).await;
    let roles: Vec<_> = home
        .pipeline("orders")
        .await
        .status
        .unwrap()
        .database
        .unwrap()
        .instances
        .into_iter()
        .map(|instance| (instance.name, instance.role))
        .collect();
    assert_eq!(roles, [("ledger-1".to_owned(), "Writer".to_owned()), ("ledger-2".to_owned(), "Reader".to_owned())]);

    // A failover and a new reader.
    ground.rds.put(cluster(&["ledger-2", "ledger-1", "ledger-3"]));
    workers.say(|state| state.database.writer = Some("ledger-2".to_owned()));
    eventually("the new reader to be in the topology", async || {
        let topology = home.api::<ConfigMap>().get("orders-topology").await.unwrap().data.unwrap()["topology.yaml"].clone();
        if topology.contains("ledger-3.example:5432") { Ok(()) } else { Err(topology) }
    })
    .await;

    ground.rds.remove("ledger");
    home.condition("orders", types::DATABASE_READY, "False", reasons::CLUSTER_NOT_FOUND).await;
    home.condition("orders", types::FLOWING, "True", reasons::OK).await;
    let topology = home.api::<ConfigMap>().get("orders-topology").await.unwrap().data.unwrap()["topology.yaml"].clone();
    assert!(topology.contains("ledger-3.example:5432"), "the last known endpoints stay");
    assert_eq!(revision(&home).await, before);
}

#[tokio::test]
async fn a_cluster_of_another_engine_is_refused() {
    let ground = ground().await;
    let home = ground.namespace().await;
    ground.rds.put(Described {
        identifier: "graph".to_owned(),
        engine: "neptune",
        instances: vec!["graph-1".to_owned()],
        tags: Vec::new(),
    });
    ground.apply(&home, &manifest("orders", "graph", "aurora: {clusterIdentifier: graph}")).await.unwrap();
    home.condition("orders", types::STALLED, "True", reasons::NOT_AURORA).await;
}
