//! What the operator says.

use durable_write_crds::conditions::{reasons, types};

use crate::ground::{Ground, eventually, ground, manifest, smallest};
use crate::workers::{Workers, bad};

#[tokio::test]
async fn what_workers_report_is_said_and_told_once() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "True", reasons::OK).await;
    workers.say(|state| {
        state.flowing = bad(false, reasons::DATABASE_OUTAGE);
        state.database_ready = bad(false, reasons::DATABASE_OUTAGE);
    });
    home.condition("orders", types::FLOWING, "False", reasons::DATABASE_OUTAGE).await;
    home.condition("orders", types::READY, "True", reasons::OK).await;
    workers.say(|state| {
        state.flowing = bad(false, reasons::TABLE_MISSING);
        state.stalled = bad(true, reasons::TABLE_MISSING);
    });
    home.condition("orders", types::READY, "False", reasons::TABLE_MISSING).await;
    let told = ground
        .kubectl(
            &home,
            &[
                "get",
                "events",
                "--output=jsonpath={range .items[?(@.involvedObject.kind=='DurableWritePipeline')]}{.type} {.reason}{'\\n'}{end}",
            ],
        )
        .await
        .unwrap();
    for reason in ["Normal Ready", "Warning DatabaseOutage", "Warning TableMissing"] {
        assert_eq!(told.lines().filter(|line| *line == reason).count(), 1, "{reason} in\n{told}");
    }
}

#[tokio::test]
async fn the_operator_serves_health_readiness_and_metrics() {
    let ground = ground().await;
    let home = ground.namespace().await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    home.condition("orders", types::READY, "Unknown", reasons::STARTING).await;
    assert_eq!(ground.operator_says("/livez").await.0, 200);
    assert_eq!(ground.operator_says("/readyz").await.0, 200);
    let (_, metrics) = ground.operator_says("/metrics").await;
    for name in [
        "durable_write_operator_pipelines{ready=\"Unknown\"}",
        "durable_write_operator_kubernetes_writes_total{kind=\"Deployment\"}",
        "durable_write_operator_reconciliations_total{outcome=\"Done\"}",
    ] {
        assert!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    let own = format!("namespace=\"{}\"", home.name);
    assert!(!metrics.contains(&own), "a pipeline that can have no drill is in the metrics by its name");
}

#[tokio::test]
async fn an_object_that_this_version_cannot_read_is_told_and_disturbs_no_other() {
    // A cluster of its own, with the definition of a newer version.
    let ground = Ground::new().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    let modes = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/database/properties/tls/properties/mode/enum/-";
    let newer = format!(r#"[{{"op": "add", "path": "{modes}", "value": "FromTheFuture"}}]"#);
    ground.kubectl(&home, &["patch", "crd", "durablewritepipelines.durablewrite.dev", "--type=json", "--patch", &newer]).await.unwrap();
    let unreadable = manifest("unreadable", "one", "postgres: {writer: 'db:5432'}, tls: {mode: FromTheFuture}");
    eventually("the newer definition to be served", async || ground.apply(&home, &unreadable).await.map_err(|error| error.to_string()))
        .await;
    ground.apply(&home, &smallest("orders", "two")).await.unwrap();
    eventually("the other pipeline to be ready", async || {
        let ready = ["wait", "--for=condition=Ready", "dwp/orders", "--timeout=1s"];
        ground.kubectl(&home, &ready).await.map_err(|error| error.to_string())
    })
    .await;
    eventually("the object to be told of", async || {
        let told = ground.kubectl(&home, &["events", "--for=dwp/unreadable"]).await.unwrap();
        if told.contains(reasons::INVALID_SPEC) && told.contains("FromTheFuture") { Ok(()) } else { Err(told) }
    })
    .await;
}
