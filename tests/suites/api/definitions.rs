//! What the API server takes and what it refuses.

use durable_write_crds::conditions::{reasons, types};

use crate::ground::{Ground, Home, ground, repository, smallest};
use crate::workers::Workers;

#[tokio::test]
async fn every_example_is_accepted() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let examples = repository("crds/examples");
    ground.kubectl(&home, &["apply", "--validate=strict", "-f", examples.to_str().unwrap()]).await.unwrap();
    let listed = ground.kubectl(&home, &["get", "dwp"]).await.unwrap();
    for column in ["READY", "FLOWING", "QUEUE", "BACKLOG", "DLQ", "WORKERS", "WRITER", "AGE"] {
        assert!(listed.contains(column), "no column {column} in\n{listed}");
    }
}

#[tokio::test]
async fn every_invalid_manifest_is_refused_with_a_message_that_names_the_field() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let refused = refuses_each(ground, &home, "crds/tests/invalid").await;
    assert!(refused >= 20, "only {refused} invalid manifests");
    assert_eq!(ground.kubectl(&home, &["get", "dwp", "--output=name"]).await.unwrap(), "");
}

/// Applies all manifests of a folder, of which each must be refused as it says itself. Returns how many these are.
pub(crate) async fn refuses_each(ground: &Ground, home: &Home, folder: &str) -> usize {
    let folder = repository(folder).canonicalize().unwrap();
    let applied = ground.kubectl(home, &["apply", "--validate=strict", "--filename", folder.to_str().unwrap()]).await;
    let errors = applied.expect_err("all were accepted").to_string();
    let mut refused = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let manifest = std::fs::read_to_string(&path).unwrap();
        let message = manifest.lines().find_map(|line| line.strip_prefix("# with: ")).unwrap();
        let mut told = errors.split("Error from server").filter(|error| error.contains(&format!("{:?}", path.to_str().unwrap())));
        let error = told.next().unwrap_or_else(|| panic!("{} was accepted: {errors}", path.display()));
        assert!(error.contains(message), "{}: {error}\ndoes not say {message:?}", path.display());
        refused += 1;
    }
    refused
}

#[tokio::test]
async fn what_must_not_change_is_refused() {
    let ground = ground().await;
    let home = ground.namespace().await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    for (patch, message) in [
        (r#"{"spec": {"queue": {"name": "other.fifo"}}}"#, "the queue cannot be changed"),
        (r#"{"spec": {"queue": {"name": null, "arn": "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"}}}"#, "the queue cannot be changed"),
        (r#"{"spec": {"database": {"name": "other"}}}"#, "the database cannot be changed"),
        (r#"{"spec": {"database": {"postgres": null, "aurora": {"clusterIdentifier": "x"}}}}"#, "the database cannot be changed"),
        (r#"{"spec": {"target": {"table": {"schema": "other"}}}}"#, "the table cannot be changed"),
        (r#"{"spec": {"idempotency": {"targetKey": {"columns": ["id", "payload"]}}}}"#, "the key cannot be changed"),
    ] {
        let error = ground.kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", patch]).await.unwrap_err().to_string();
        assert!(error.contains(message), "{patch}: {error}");
    }
    let allowed = r#"{"spec": {"suspend": true, "database": {"postgres": {"instances": ["db-9:5432"]}}}}"#;
    ground.kubectl(&home, &["patch", "dwp", "orders", "--type=merge", "--patch", allowed]).await.unwrap();
}

#[tokio::test]
async fn scale_and_wait_work_on_the_smallest_manifest() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.apply(&home, &smallest("orders", "orders.fifo")).await.unwrap();
    ground.kubectl(&home, &["wait", "--for=condition=Ready", "dwp/orders", "--timeout=40s"]).await.unwrap();
    ground.kubectl(&home, &["scale", "dwp/orders", "--replicas=3"]).await.unwrap();
    ground.kubectl(&home, &["wait", "--for=jsonpath={.status.replicas}=3", "dwp/orders", "--timeout=40s"]).await.unwrap();
    let scale = ground.kubectl(&home, &["get", "dwp/orders", "--subresource=scale", "--output=jsonpath={.status.selector}"]).await.unwrap();
    let pods = ground.kubectl(&home, &["get", "pods", "--selector", &scale, "--output=name"]).await.unwrap();
    assert_eq!(pods.lines().count(), 3);
    ground.kubectl(&home, &["scale", "dwp/orders", "--replicas=0"]).await.unwrap();
    home.condition("orders", types::READY, "False", reasons::SCALED_TO_ZERO).await;
}
