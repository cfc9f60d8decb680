//! What the API server takes of drills and what it refuses, and how kubectl shows one.

use durable_write_crds::FailoverDrillStatus;
use serde_json::{Value, json};

use crate::definitions::refuses_each;
use crate::ground::{Home, repository};
use crate::quiet::{create, drill, dry_run, quiet, say};

#[tokio::test]
async fn every_example_of_a_drill_is_accepted_and_defaults_are_filled_in() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    let examples = repository("crds/examples/drills");
    ground.kubectl(&home, &["create", "--validate=strict", "-f", examples.to_str().unwrap()]).await.unwrap();
    let spec = ground.kubectl(&home, &["get", "drill", "orders-1", "--output=jsonpath={.spec}"]).await.unwrap();
    let spec: Value = serde_json::from_str(&spec).unwrap();
    assert_eq!((&spec["deadline"], &spec["abort"], &spec["preflight"]), (&json!("15m"), &json!(false), &json!({})));
    assert_eq!(spec["load"]["messagesPerSecond"], 50);
}

#[tokio::test]
async fn every_invalid_drill_is_refused_with_a_message_that_names_the_field() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    let refused = refuses_each(ground, &home, "crds/tests/invalid-drills").await;
    assert!(refused >= 35, "only {refused} invalid manifests");
    assert_eq!(ground.kubectl(&home, &["get", "drill", "--output=name"]).await.unwrap(), "");
}

#[tokio::test]
async fn texts_are_as_long_as_allowed_and_no_longer() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    // An administrator who is called as the text says.
    let most = |length: usize| "x".repeat(length);
    let admin = |name: &str| [format!("--as={name}"), "--as-group=system:masters".to_owned()];
    for (field, length) in [("requestedBy", 253), ("reason", 1024), ("changeReference", 253)] {
        let user = admin(&most(length));
        let user: Vec<&str> = user.iter().map(String::as_str).collect();
        dry_run(ground, &home, &drill("long", &json!({field: most(length)})), &user).await.expect(field);
        let error = dry_run(ground, &home, &drill("longer", &json!({field: most(length + 1)})), &user).await.expect_err(field).to_string();
        assert!(error.contains(&format!("spec.{field}: Too long")), "{error}");
    }
}

#[tokio::test]
async fn limits_themselves_are_allowed() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    let (least, most) = (
        json!({
            "load": {"messagesPerSecond": 1, "directWriteInterval": "50ms", "directPath": "Instances", "warmUp": "2s", "coolDown": "2s"},
            "objectives": {"recoveryTime": "1ms", "lost": 0, "duplicated": 0, "deadLettered": 0, "backlogDrained": "1ms"},
            "preflight": {"maxReplicaLag": "1ms", "minReaders": 1, "minInterval": "0s"},
            "deadline": "4001ms", "targetInstance": "a",
        }),
        json!({
            "load": {"messagesPerSecond": 500, "directWriteInterval": "1s", "directPath": "ClusterEndpoint", "warmUp": "10m", "coolDown": "10m"},
            "objectives": {
                "recoveryTime": "1h", "lost": 1_000_000, "duplicated": 1_000_000, "deadLettered": 1_000_000, "backlogDrained": "1h",
            },
            "preflight": {"maxReplicaLag": "1h", "minReaders": 15, "minInterval": "24h"},
            "deadline": "2h", "targetInstance": "a".repeat(63),
        }),
    );
    dry_run(ground, &home, &drill("least", &least), &["--validate=strict"]).await.unwrap();
    dry_run(ground, &home, &drill(&"a".repeat(50), &most), &["--validate=strict"]).await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_drill_changes_but_abort_which_stays() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    create(ground, &home, &drill("a", &json!({"targetInstance": "orders-2", "reason": "Test"})), &[]).await.unwrap();
    let patch = async |patch: &str| ground.kubectl(&home, &["patch", "drill", "a", "--type=merge", "--patch", patch]).await;
    let fixed = "a drill cannot be changed but for abort; create a new drill of another name";
    for (change, message) in [
        (r#"{"spec": {"pipelineRef": {"name": "other"}}}"#, fixed),
        (r#"{"spec": {"targetInstance": "orders-3"}}"#, fixed),
        (r#"{"spec": {"targetInstance": null}}"#, fixed),
        (r#"{"spec": {"reason": null}}"#, fixed),
        (r#"{"spec": {"load": {"messagesPerSecond": 51}}}"#, fixed),
        (r#"{"spec": {"objectives": {"lost": 1}}}"#, fixed),
        (r#"{"spec": {"preflight": {"minReaders": 1}}}"#, fixed),
        (r#"{"spec": {"deadline": "16m"}}"#, fixed),
        (r#"{"spec": {"notAfter": "2026-11-24T06:00:00Z"}}"#, fixed),
        (r#"{"spec": {"requestedBy": "alice"}}"#, fixed),
        (r#"{"spec": {"changeReference": "CHG-1"}}"#, fixed),
        (r#"{"spec": {"abort": true, "deadline": "16m"}}"#, fixed),
    ] {
        let error = patch(change).await.expect_err(change).to_string();
        assert!(error.contains(message), "{change}: {error}");
    }
    patch(r#"{"spec": {"abort": true}}"#).await.unwrap();
    for withdrawn in [r#"{"spec": {"abort": false}}"#, r#"{"spec": {"abort": null}}"#] {
        let error = patch(withdrawn).await.expect_err(withdrawn).to_string();
        assert!(error.contains("abort: an aborted drill stays aborted"), "{withdrawn}: {error}");
    }
}

/// A table of kubectl without the last column, which is an age.
fn without_age(table: &str) -> String {
    let line = |line: &str| line.trim_end().rsplit_once(' ').unwrap_or_default().0.trim_end().to_owned() + "\n";
    table.lines().map(line).collect()
}

/// What kubectl describes, without what differs each time.
fn without_identity(text: &str, home: &Home) -> String {
    let differs = |line: &&str| !["Creation Timestamp:", "Resource Version:", "UID:"].iter().any(|key| line.trim_start().starts_with(key));
    text.lines().filter(differs).map(|line| line.replace(&home.name, "shop").trim_end().to_owned() + "\n").collect()
}

/// What the operator writes, from the snapshots of its unit tests.
const PASSED: &str = include_str!("../../../operator/src/drill/status/snapshots/durable_write_operator__drill__status__tests__passed.snap");
const RUNNING: &str =
    include_str!("../../../operator/src/drill/status/snapshots/durable_write_operator__drill__status__tests__running.snap");
const REFUSED: &str =
    include_str!("../../../operator/src/drill/status/snapshots/durable_write_operator__drill__status__tests__refused.snap");

fn status(snapshot: &str) -> FailoverDrillStatus {
    let (_, text) = snapshot.trim_start_matches("---").split_once("---").unwrap();
    serde_saphyr::from_str(text).unwrap()
}

#[tokio::test]
async fn kubectl_shows_drills_and_waits_for_them() {
    let ground = quiet().await;
    let home = ground.namespace().await;
    for name in ["new", "passed", "refused", "running"] {
        create(ground, &home, &drill(name, &json!({"reason": "Quarterly test"})), &[]).await.unwrap();
    }
    let [passed, running, refused]: [FailoverDrillStatus; 3] = [PASSED, RUNNING, REFUSED].map(status);
    for (name, told) in [("passed", &running), ("running", &running), ("refused", &refused)] {
        say(ground, &home, name, told).await;
    }
    let wait = async |condition: &str, drill: &str| {
        ground.kubectl(&home, &["wait", &format!("--for={condition}"), &format!("drill/{drill}"), "--timeout=20s"]).await
    };
    let (complete, ()) = tokio::join!(wait("condition=Complete", "passed"), say(ground, &home, "passed", &passed));
    complete.unwrap();
    wait("condition=Complete", "refused").await.unwrap();
    wait("condition=Passed", "passed").await.unwrap();
    wait("condition=Passed=Unknown", "refused").await.unwrap();
    wait("jsonpath={.status.verdict}=Error", "refused").await.unwrap();
    let awaited = ["wait", "--for=condition=Complete", "drill/running", "--timeout=0s"];
    assert!(ground.kubectl(&home, &awaited).await.is_err(), "a drill that runs is not complete");

    let table = ground.kubectl(&home, &["get", "drill"]).await.unwrap();
    insta::assert_snapshot!("get", without_age(&table));
    let described = ground.kubectl(&home, &["describe", "drill", "passed"]).await.unwrap();
    insta::assert_snapshot!("describe_passed", without_identity(&described, &home));
    let described = ground.kubectl(&home, &["describe", "drill", "refused"]).await.unwrap();
    insta::assert_snapshot!("describe_refused", without_identity(&described, &home));
    let all = ground.kubectl(&home, &["get", "durable-write", "--output=name"]).await.unwrap();
    assert_eq!(all.lines().count(), 4, "a drill is in the category durable-write: {all}");
}
