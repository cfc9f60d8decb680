use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds").join(folder);
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

/// The smallest manifest, with each optional object there but empty.
fn smallest() -> Value {
    json!({
        "apiVersion": "durablewrite.dev/v1alpha1",
        "kind": "DurableWritePipeline",
        "metadata": {"name": "orders"},
        "spec": {
            "queue": {"name": "orders"},
            "database": {"postgres": {"writer": "db:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "orders-db"}}, "tls": {}},
            "target": {"table": {"name": "orders"}, "columns": [{"name": "id", "from": {"body": "/id"}}]},
            "idempotency": {"targetKey": {"columns": ["id"]}},
            "batching": {},
            "workers": {},
        }
    })
}

/// What is said when the value at `pointer` of the smallest manifest is another.
fn said(pointer: &str, value: Value) -> String {
    let mut manifest = smallest();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    manifest.pointer_mut(parent).unwrap()[name] = value;
    let problems = validate(manifest).expect_err("it was accepted");
    assert!(problems.iter().all(|problem| problem.reason == reasons::INVALID_SPEC));
    Lines(&problems).to_string()
}

#[test]
fn the_examples_load() {
    for path in files("examples") {
        load(&path).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_invalid_manifest_is_refused_with_its_field() {
    let files = files("tests/invalid");
    assert!(files.len() >= 20);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = text.lines().find_map(|line| line.strip_prefix("# with: ")).unwrap();
        match load(&path) {
            Err(error @ ManifestError::Invalid { .. }) => {
                assert!(error.to_string().contains(expected), "{error} does not say {expected:?}")
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let mut manifest = smallest();
    manifest["spec"]["queue"]["name"] = json!("a/b");
    manifest["spec"]["batching"]["maxRows"] = json!(0);
    manifest["spec"]["colour"] = json!("red");
    let fields: BTreeSet<String> = validate(manifest).unwrap_err().into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["spec.batching.maxRows", "spec.colour", "spec.queue.name"].map(str::to_owned).into());
}

#[test]
fn unknown_fields_and_wrong_types_are_refused() {
    assert!(said("/spec/workers/replica", json!(1)).contains("spec.workers.replica: unknown field: there are connections, memoryBudget"));
    assert!(
        said("/spec/target/table/name", json!(2026)).contains("spec.target.table.name: must be a string: write it in quotes, \"2026\"")
    );
    assert!(said("/spec/suspend", json!("yes")).contains("spec.suspend: must be of the type boolean"));
    assert!(said("/spec/batching/maxRows", json!(1.5)).contains("spec.batching.maxRows: must be of the type integer"));
    assert!(said("/spec/target/columns", json!({})).contains("spec.target.columns: must be of the type array"));
    assert!(said("/spec/workers/resources", json!({"limits": {"cpu": true}})).contains("spec.workers.resources.limits.cpu"));
    assert!(said("/spec/batching/maxBytes", json!("999999999999Gi")).contains("spec.batching.maxBytes"));
}

#[test]
fn another_kind_of_object_is_refused() {
    assert_eq!(said("/kind", json!("Deployment")), "kind: must be DurableWritePipeline");
    assert_eq!(said("/apiVersion", json!("durablewrite.dev/v1")), "apiVersion: must be durablewrite.dev/v1alpha1");
    assert!(!validate(json!("text")).unwrap_err().is_empty());
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipeline.yaml");
    for (text, expected) in [("kind: [\n", "line"), ("kind: a\nkind: b\n", "kind"), ("a: 1\n---\nb: 2\n", "document")] {
        std::fs::write(&path, text).unwrap();
        let error = load(&path).unwrap_err();
        assert!(matches!(error, ManifestError::NotYaml { .. }) && error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(load(&folder.path().join("none.yaml")), Err(ManifestError::Unreadable { .. })));
}

#[test]
fn every_default_of_the_types_is_the_schemas() {
    let by_schema = apply_defaults(&schema(), &smallest());
    let by_types: DurableWritePipeline = serde_json::from_value(smallest()).unwrap();
    assert_eq!(serde_json::to_value(by_types).unwrap()["spec"], by_schema["spec"]);
    let mut without = smallest();
    for field in ["batching", "workers"] {
        without["spec"].as_object_mut().unwrap().remove(field);
    }
    without["spec"]["database"].as_object_mut().unwrap().remove("tls");
    assert_eq!(apply_defaults(&schema(), &without)["spec"], by_schema["spec"], "left out is the same as empty");
    assert_eq!(validate(without).unwrap().spec, validate(smallest()).unwrap().spec);
}
