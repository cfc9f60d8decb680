//! The chart: what it asks for, and what it must never ask for.

use std::process::Command;

use durable_write_testbed::tools;
use serde_json::Value;

use crate::ground::{ground, repository};

fn helm(arguments: &[&str]) -> Result<String, String> {
    let chart = repository("charts/durable-write");
    let output = Command::new(tools::helm().unwrap()).args(arguments).current_dir(chart).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stdout) + &text(&output.stderr)) }
}

fn rendered(values: &[&str]) -> Vec<Value> {
    let text = helm(&[&["template", "dw", ".", "--namespace", "ops", "--kube-version", "1.34.4"], values].concat()).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The operator's container and its pod.
fn operator(objects: &[Value]) -> (Value, Value) {
    let pod = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"].clone();
    (pod["containers"][0].clone(), pod)
}

fn environment(container: &Value, name: &str) -> Option<String> {
    let variables = container["env"].as_array().unwrap();
    variables.iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].as_str().unwrap().to_owned())
}

#[test]
fn the_linter_has_nothing_to_say() {
    helm(&["lint", "--strict", "."]).unwrap();
}

#[test]
fn no_right_is_asked_for_that_the_operator_must_not_have() {
    let objects = rendered(&[]);
    let roles: Vec<_> = objects.iter().filter(|object| object["kind"].as_str().unwrap().ends_with("Role")).collect();
    assert_eq!(roles.len(), 3);
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            for word in
                ["secrets", "pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "nodes", "roles", "rolebindings", "clusterroles"]
            {
                assert!(!rule["resources"].as_array().unwrap().iter().any(|resource| resource == word), "{word} in {rule}");
            }
            for word in ["escalate", "bind", "impersonate"] {
                assert!(!rule["verbs"].as_array().unwrap().iter().any(|verb| verb == word), "{word} in {rule}");
            }
            let text = rule.to_string();
            assert!(!text.contains('*') && !text.contains("finalizers"), "{text}");
        }
    }
}

#[test]
fn the_operators_pod_is_restricted() {
    let (container, pod) = operator(&rendered(&[]));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
}

#[test]
fn aws_settings_reach_the_operator_and_the_workers() {
    let values = [
        "--set=aws.region=eu-west-1",
        "--set=aws.endpointUrl.sqs=http://sqs:9324",
        "--set=aws.endpointUrl.rds=http://rds:8080",
        "--set-json=workers.env=[{\"name\":\"KEY\",\"valueFrom\":{\"secretKeyRef\":{\"name\":\"aws\",\"key\":\"id\"}}}]",
        "--set-json=env=[{\"name\":\"AWS_ACCESS_KEY_ID\",\"value\":\"x\"}]",
    ];
    let (container, _) = operator(&rendered(&values));
    assert_eq!(environment(&container, "AWS_REGION").as_deref(), Some("eu-west-1"));
    assert_eq!(environment(&container, "AWS_ENDPOINT_URL_RDS").as_deref(), Some("http://rds:8080"));
    assert_eq!(environment(&container, "AWS_ENDPOINT_URL_SQS"), None);
    assert_eq!(environment(&container, "AWS_ACCESS_KEY_ID").as_deref(), Some("x"));
    let workers = environment(&container, "WORKER_ENV").unwrap();
    let durable_write_operator::WorkerEnvironment(workers) = workers.parse().unwrap();
    let names: Vec<_> = workers.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["AWS_REGION", "AWS_ENDPOINT_URL_SQS", "KEY"]);
    assert!(workers[2].value_from.as_ref().unwrap().secret_key_ref.is_some());
}

#[test]
fn values_that_the_chart_does_not_know_are_refused_by_name() {
    let error = helm(&["template", "dw", ".", "--kube-version", "1.34.4", "--set=aws.regoin=eu-west-1"]).unwrap_err();
    assert!(error.contains("regoin"), "{error}");
    let error = helm(&["template", "dw", ".", "--kube-version", "1.29.0"]).unwrap_err();
    assert!(error.contains("1.30"), "{error}");
}

#[test]
fn definitions_outlive_the_release_and_can_be_left_out() {
    let definitions = rendered(&[]);
    let definition = of_kind(&definitions, "CustomResourceDefinition")[0];
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    assert!(of_kind(&rendered(&["--set=crds.install=false"]), "CustomResourceDefinition").is_empty());
}

#[tokio::test]
async fn who_may_edit_in_a_namespace_may_edit_pipelines_and_who_may_view_may_only_look() {
    let ground = ground().await;
    let home = ground.namespace().await;
    for role in ["edit", "view"] {
        let user = format!("--user={role}");
        let role = format!("--clusterrole={role}");
        ground.kubectl(&home, &["create", "rolebinding", &user[7..], &role, &user]).await.unwrap();
    }
    let can = async |user: &str, verb: &str, what: &str| {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let subresource = format!("--subresource={subresource}");
        ground.kubectl(&home, &["auth", "can-i", verb, resource, &subresource, "--as", user]).await.is_ok()
    };
    assert!(can("edit", "create", "durablewritepipelines").await);
    assert!(can("edit", "patch", "durablewritepipelines/scale").await);
    assert!(!can("edit", "patch", "durablewritepipelines/status").await);
    assert!(can("view", "get", "durablewritepipelines").await);
    assert!(!can("view", "create", "durablewritepipelines").await);
    for what in ["secrets", "pods/exec", "durablewritepipelines/finalizers"] {
        assert!(!can("system:serviceaccount:durable-write:durable-write", "get", what).await, "the operator may get {what}");
    }
}
