//! Drills in a cluster whose operator runs: who may have none, and what their metrics say. Whole drills are in the suite `end_to_end`.

use durable_write_crds::conditions::{reasons, types};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::json;

use crate::ground::{Ground, Home, eventually, ground, manifest, smallest};
use crate::quiet::{create, drill};
use crate::rds::Described;
use crate::workers::Workers;

const LAST_PASSED: &str = "durable_write_operator_drill_last_passed_timestamp_seconds";

/// A pipeline `orders` that is ready, on an Aurora cluster with those tags.
async fn ready(ground: &Ground, home: &Home, identifier: &str, tags: &[(&str, &str)]) {
    ground.rds.put(Described {
        identifier: identifier.to_owned(),
        engine: "aurora-postgresql",
        instances: [1, 2].map(|number| format!("{identifier}-{number}")).into(),
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    });
    let database = format!("aurora: {{clusterIdentifier: {identifier}}}");
    ground.apply(home, &manifest("orders", identifier, &database)).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
}

#[tokio::test]
async fn a_namespace_to_which_a_cluster_is_not_opened_cannot_fail_it_over() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    // Opened to a namespace whose name begins so, and to all namespaces of another Kubernetes cluster.
    let (longer, elsewhere) = (format!("{}0 shop", home.name), ("durablewrite.dev/drills.elsewhere", "@all"));
    ready(ground, &home, "closed", &[("durablewrite.dev/drills.test", &longer), elsewhere]).await;
    create(ground, &home, &drill("a", &json!({})), &[]).await.unwrap();
    ground.kubectl(&home, &["wait", "--for=condition=Complete", "drill/a", "--timeout=40s"]).await.unwrap();
    let told = ["get", "drill", "a", "--output=jsonpath={.status.verdict} {.status.conditions[?(@.type=='Complete')].reason}"];
    assert_eq!(ground.kubectl(&home, &told).await.unwrap(), "Error ClusterNotOpened");
    let told = ["get", "drill", "a", "--output=jsonpath={.status.conditions[?(@.type=='Complete')].message}"];
    let message = ground.kubectl(&home, &told).await.unwrap();
    assert!(message.contains(&home.name) && message.contains("durablewrite.dev/drills.test"), "{message}");
    assert!(
        home.api::<ConfigMap>().get_opt("a-evidence").await.unwrap().is_none()
            && home.api::<Pod>().get_opt("a-probe").await.unwrap().is_none()
    );
    assert!(!ground.rds.asked().contains("FailoverDBCluster"), "{:?}", ground.rds.asked());
}

#[tokio::test]
async fn a_pipeline_that_has_passed_no_drill_is_in_the_metrics_until_it_is_deleted() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ready(ground, &home, "undrilled", &[]).await;
    ground.apply(&home, &smallest("without-aurora", "other")).await.unwrap();
    let series = |pipeline: &str| format!("{LAST_PASSED}{{namespace=\"{}\",pipeline=\"{pipeline}\"}}", home.name);
    let shown = async || ground.operator_says("/metrics").await.1;
    let metrics = shown().await;
    assert!(metrics.lines().any(|line| line == format!("{} 0", series("orders"))), "{metrics}");
    assert!(!metrics.contains(&series("without-aurora")), "{metrics}");
    ground.kubectl(&home, &["delete", "dwp", "orders"]).await.unwrap();
    eventually("its series to be gone", async || {
        let metrics = shown().await;
        if metrics.contains(&series("orders")) { Err(metrics) } else { Ok(()) }
    })
    .await;
}
