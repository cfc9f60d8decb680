//! The rules of the resource, as a client without a server sees them. The API server sees the same manifests in the testbed's suite `api`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use durable_write_crds::DurableWritePipeline;
use kube::CustomResourceExt;
use serde_json::{Value, json};

#[test]
fn examples_obey_every_rule() {
    for path in files("examples") {
        let pipeline = parse(&path).unwrap();
        pipeline.validate_cel().unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
    }
}

#[test]
fn invalid_manifests_break_the_rule_that_they_name() {
    let mut broken = 0;
    for path in files("tests/invalid") {
        let text = std::fs::read_to_string(&path).unwrap();
        let comment = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        if comment("# refused by: ") != "rule" {
            continue;
        }
        let errors = format!("{:?}", parse(&path).unwrap().validate_cel().expect_err(&format!("{} was accepted", path.display())));
        let message = comment("# with: ");
        assert!(errors.contains(&message), "{}: {errors} does not say {message:?}", path.display());
        broken += 1;
    }
    assert!(broken >= 15, "only {broken} manifests name a rule");
}

#[test]
fn what_must_not_change_cannot() {
    let old = parse(&example("orders.yaml")).unwrap();
    for (path, value, message) in immutable() {
        let mut changed = serde_json::to_value(&old).unwrap();
        *changed.pointer_mut(path).unwrap_or_else(|| panic!("{path} is not in the example")) = value;
        let changed: DurableWritePipeline = serde_json::from_value(changed).unwrap();
        let errors = format!("{:?}", changed.validate_cel_update(&old).expect_err(&format!("{path} could be changed")));
        assert!(errors.contains(message), "{path}: {errors} does not say {message:?}");
    }
}

/// What must not change, what it is changed to, and what is said.
fn immutable() -> [(&'static str, Value, &'static str); 6] {
    [
        ("/spec/queue", json!({"name": "other.fifo"}), "queue: the queue cannot be changed"),
        ("/spec/queue", json!({"arn": "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"}), "queue: the queue cannot be changed"),
        ("/spec/database/name", json!("other"), "database: the database cannot be changed"),
        ("/spec/database/aurora/clusterIdentifier", json!("other"), "database: the database cannot be changed"),
        ("/spec/target/table/name", json!("other"), "target.table: the table cannot be changed"),
        ("/spec/idempotency/targetKey/columns", json!(["id", "customer"]), "idempotency: the key cannot be changed"),
    ]
}

#[test]
fn what_may_change_can() {
    let old = parse(&example("clicks.yaml")).unwrap();
    let mut new = old.clone();
    new.spec.suspend = true;
    new.spec.workers.replicas = 1;
    new.spec.workers.service_account = None;
    new.spec.batching.max_rows = 1;
    new.spec.queue.dead_letter_queue = None;
    new.spec.database.tls = durable_write_crds::pipeline::Tls::default();
    new.spec.database.postgres.as_mut().unwrap().instances.clear();
    new.spec.target.columns.pop();
    new.validate_cel_update(&old).unwrap();
}

#[test]
fn defaults_of_a_laptop_are_the_defaults_of_the_api_server() {
    let schema = schema();
    for path in files("examples") {
        let text = std::fs::read_to_string(&path).unwrap();
        let manifest: Value = serde_saphyr::from_str(&text).unwrap();
        let by_server = kube::core::cel::apply_defaults(&schema, &manifest);
        let by_types: DurableWritePipeline = serde_json::from_value(manifest).unwrap();
        assert_eq!(serde_json::to_value(by_types).unwrap()["spec"], by_server["spec"], "{}", path.display());
    }
}

#[test]
fn every_text_list_and_number_of_a_spec_is_bounded() {
    let schema = schema();
    let mut unbounded = Vec::new();
    collect_unbounded(&schema["properties"]["spec"], "spec".to_owned(), &mut unbounded);
    assert!(unbounded.is_empty(), "{unbounded:?}");
}

fn collect_unbounded(schema: &Value, path: String, unbounded: &mut Vec<String>) {
    // Kubernetes' own type, without rules of ours.
    if path == "spec.workers.resources" {
        return;
    }
    let has = |keys: &[&str]| keys.iter().all(|key| schema.get(key).is_some());
    let bounded = match schema["type"].as_str() {
        Some("string") => has(&["maxLength"]) || has(&["enum"]),
        Some("integer" | "number") => has(&["minimum", "maximum"]),
        Some("array") => has(&["maxItems"]),
        Some("object") => has(&["properties"]) || has(&["maxProperties"]),
        Some("boolean") => true,
        other => panic!("{path} is of type {other:?}"),
    };
    if !bounded {
        unbounded.push(path.clone());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        collect_unbounded(property, format!("{path}.{name}"), unbounded);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            collect_unbounded(&schema[inner], format!("{path}[]"), unbounded);
        }
    }
}

fn schema() -> Value {
    let definition = serde_json::to_value(DurableWritePipeline::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn parse(path: &Path) -> Result<DurableWritePipeline, serde_saphyr::Error> {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap())
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    files.sort();
    files
}
