//! The rules of the resources, as a client without a server sees them. The API server sees the same manifests in the testbed's suite `api`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use kube::CustomResourceExt;
use kube::core::cel::{apply_defaults, validate_cel, validate_cel_update};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A kind of ours, and where its manifests are.
trait Kind: CustomResourceExt + Serialize + DeserializeOwned {
    const EXAMPLES: &str;
    const INVALID: &str;
}

impl Kind for DurableWritePipeline {
    const EXAMPLES: &str = "examples";
    const INVALID: &str = "tests/invalid";
}

impl Kind for FailoverDrill {
    const EXAMPLES: &str = "examples/drills";
    const INVALID: &str = "tests/invalid-drills";
}

#[test]
fn examples_obey_every_rule() {
    fn check<K: Kind>() {
        for path in files(K::EXAMPLES) {
            validate_cel(&parse::<K>(&path)).unwrap_or_else(|errors| panic!("{}: {errors:?}", path.display()));
        }
    }
    check::<DurableWritePipeline>();
    check::<FailoverDrill>();
}

#[test]
fn invalid_manifests_break_the_rule_that_they_name() {
    fn broken<K: Kind>() -> usize {
        let mut broken = 0;
        for path in files(K::INVALID) {
            let text = std::fs::read_to_string(&path).unwrap();
            let comment = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
            if comment("# refused by: ") != "rule" {
                continue;
            }
            let errors = format!("{:?}", validate_cel(&parse::<K>(&path)).expect_err(&format!("{} was accepted", path.display())));
            let message = comment("# with: ");
            assert!(errors.contains(&message), "{}: {errors} does not say {message:?}", path.display());
            broken += 1;
        }
        broken
    }
    let (pipelines, drills) = (broken::<DurableWritePipeline>(), broken::<FailoverDrill>());
    assert!(pipelines >= 15 && drills >= 12, "only {pipelines} and {drills} manifests name a rule");
}

#[test]
fn what_must_not_change_cannot() {
    fn check<K: Kind>(old: &K, changes: &[(&str, Value, &str)]) {
        for (path, value, message) in changes {
            let mut changed = serde_json::to_value(old).unwrap();
            *changed.pointer_mut(path).unwrap_or_else(|| panic!("{path} is not in the example")) = value.clone();
            let changed: K = serde_json::from_value(changed).unwrap();
            let errors = format!("{:?}", validate_cel_update(&changed, old).expect_err(&format!("{path} could be changed")));
            assert!(errors.contains(message), "{path}: {errors} does not say {message:?}");
        }
    }
    check(&example::<DurableWritePipeline>("orders.yaml"), &immutable_in_a_pipeline());
    check(&whole_drill(), &immutable_in_a_drill());
}

/// What must not change, what it is changed to, and what is said.
fn immutable_in_a_pipeline() -> [(&'static str, Value, &'static str); 6] {
    [
        ("/spec/queue", json!({"name": "other.fifo"}), "queue: the queue cannot be changed"),
        ("/spec/queue", json!({"arn": "arn:aws:sqs:eu-west-1:123456789012:orders.fifo"}), "queue: the queue cannot be changed"),
        ("/spec/database/name", json!("other"), "database: the database cannot be changed"),
        ("/spec/database/aurora/clusterIdentifier", json!("other"), "database: the database cannot be changed"),
        ("/spec/target/table/name", json!("other"), "target.table: the table cannot be changed"),
        ("/spec/idempotency/targetKey/columns", json!(["id", "customer"]), "idempotency: the key cannot be changed"),
    ]
}

/// A drill that says everything. It has been aborted.
fn whole_drill() -> FailoverDrill {
    let mut drill = serde_json::to_value(example::<FailoverDrill>("orders-1.yaml")).unwrap();
    drill["spec"]["targetInstance"] = json!("orders-2");
    drill["spec"]["preflight"] = json!({"maxReplicaLag": "500ms", "minReaders": 2, "minInterval": "2h"});
    drill["spec"]["notAfter"] = json!("2026-11-24T06:00:00Z");
    drill["spec"]["requestedBy"] = json!("alice");
    drill["spec"]["changeReference"] = json!("CHG-1");
    drill["spec"]["abort"] = json!(true);
    serde_json::from_value(drill).unwrap()
}

fn immutable_in_a_drill() -> Vec<(&'static str, Value, &'static str)> {
    let fixed = "a drill cannot be changed but for abort; create a new drill of another name";
    let mut changes = vec![("/spec/abort", json!(false), "abort: an aborted drill stays aborted; create a new drill of another name")];
    for (path, value) in [
        ("/spec/pipelineRef/name", json!("other")),
        ("/spec/load/messagesPerSecond", json!(51)),
        ("/spec/load/directWriteInterval", json!("200ms")),
        ("/spec/load/directPath", json!("ClusterEndpoint")),
        ("/spec/load/warmUp", json!("21s")),
        ("/spec/load/coolDown", json!("31s")),
        ("/spec/objectives/recoveryTime", json!("61s")),
        ("/spec/objectives/lost", json!(1)),
        ("/spec/objectives/duplicated", json!(1)),
        ("/spec/objectives/deadLettered", json!(1)),
        ("/spec/objectives/backlogDrained", json!("6m")),
        ("/spec/preflight/maxReplicaLag", json!("1s")),
        ("/spec/preflight/minReaders", json!(1)),
        ("/spec/preflight/minInterval", json!("1h")),
        ("/spec/deadline", json!("16m")),
    ] {
        changes.push((path, value, fixed));
    }
    // These can be left out, so that they could also be taken away.
    for (path, value) in [
        ("/spec/targetInstance", json!("orders-3")),
        ("/spec/notAfter", json!("2026-11-25T06:00:00Z")),
        ("/spec/requestedBy", json!("bob")),
        ("/spec/reason", json!("Another")),
        ("/spec/changeReference", json!("CHG-2")),
    ] {
        changes.extend([(path, value, fixed), (path, Value::Null, fixed)]);
    }
    changes
}

#[test]
fn nothing_can_be_added_to_a_drill_later() {
    let old = example::<FailoverDrill>("orders-1.yaml");
    for (name, value) in [
        ("targetInstance", json!("orders-2")),
        ("notAfter", json!("2026-11-24T06:00:00Z")),
        ("requestedBy", json!("alice")),
        ("changeReference", json!("CHG-1")),
        ("preflight", json!({"minReaders": 1})),
    ] {
        let mut changed = serde_json::to_value(&old).unwrap();
        changed["spec"][name] = value;
        let changed: FailoverDrill = serde_json::from_value(changed).unwrap();
        assert!(validate_cel_update(&changed, &old).is_err(), "{name} could be added");
    }
}

#[test]
fn what_may_change_can() {
    let old = example::<DurableWritePipeline>("clicks.yaml");
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

    let old = example::<DurableWritePipeline>("orders.yaml");
    let mut new = old.clone();
    new.spec.database.credentials = example::<DurableWritePipeline>("payments.yaml").spec.database.credentials;
    new.validate_cel_update(&old).unwrap();

    for old in [example::<FailoverDrill>("orders-1.yaml"), whole_drill()] {
        let mut new = old.clone();
        new.spec.abort = true;
        new.validate_cel_update(&old).unwrap();
    }
}

#[test]
fn defaults_of_a_laptop_are_the_defaults_of_the_api_server() {
    fn check<K: Kind>() {
        let schema = schema::<K>();
        for path in files(K::EXAMPLES) {
            let text = std::fs::read_to_string(&path).unwrap();
            let manifest: Value = serde_saphyr::from_str(&text).unwrap();
            let by_server = apply_defaults(&schema, &manifest);
            let by_types: K = serde_json::from_value(manifest).unwrap();
            assert_eq!(serde_json::to_value(by_types).unwrap()["spec"], by_server["spec"], "{}", path.display());
        }
    }
    check::<DurableWritePipeline>();
    check::<FailoverDrill>();
}

#[test]
fn defaults_inside_of_a_drill_are_the_defaults_of_the_api_server() {
    for part in ["load", "objectives", "preflight"] {
        let drill = json!({"metadata": {"name": "x"}, "spec": {"pipelineRef": {"name": "orders"}, part: {}}});
        let by_server = apply_defaults(&schema::<FailoverDrill>(), &drill);
        let mut drill = drill;
        drill["apiVersion"] = json!("durablewrite.dev/v1alpha1");
        drill["kind"] = json!("FailoverDrill");
        let by_types: FailoverDrill = serde_json::from_value(drill).unwrap();
        assert_eq!(serde_json::to_value(by_types).unwrap()["spec"], by_server["spec"], "{part}");
    }
}

#[test]
fn every_text_list_and_number_of_a_spec_is_bounded() {
    let mut unbounded = Vec::new();
    collect_unbounded(&schema::<DurableWritePipeline>()["properties"]["spec"], "spec".to_owned(), &mut unbounded);
    collect_unbounded(&schema::<FailoverDrill>()["properties"]["spec"], "spec".to_owned(), &mut unbounded);
    assert!(unbounded.is_empty(), "{unbounded:?}");
}

fn collect_unbounded(schema: &Value, path: String, unbounded: &mut Vec<String>) {
    // Kubernetes' own type, without rules of ours.
    if path == "spec.workers.resources" {
        return;
    }
    let has = |keys: &[&str]| keys.iter().all(|key| schema.get(key).is_some());
    let bounded = match schema["type"].as_str() {
        // The API server takes a time only in its one form.
        Some("string") => has(&["maxLength"]) || has(&["enum"]) || schema["format"] == "date-time",
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

fn schema<K: Kind>() -> Value {
    let definition = serde_json::to_value(K::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

fn parse<K: Kind>(path: &Path) -> K {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn example<K: Kind>(name: &str) -> K {
    parse(&Path::new(env!("CARGO_MANIFEST_DIR")).join(K::EXAMPLES).join(name))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    assert!(!files.is_empty());
    files.sort();
    files
}
