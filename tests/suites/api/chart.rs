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

pub(crate) fn rendered(values: &[&str]) -> Vec<Value> {
    let text = helm(&[&["template", "dw", ".", "--namespace", "ops", "--kube-version", "1.34.4"], values].concat()).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

pub(crate) fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
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
    assert_eq!(roles.len(), 5);
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
fn the_operator_may_do_with_drills_what_it_must_and_no_more() {
    let objects = rendered(&[]);
    let role = |kind: &str, name: &str| {
        let named = of_kind(&objects, kind).into_iter().find(|role| role["metadata"]["name"] == name);
        named.unwrap_or_else(|| panic!("no {kind} {name}"))["rules"].as_array().unwrap().clone()
    };
    let verbs = |rules: &[Value], resource: &str| {
        let about = rules.iter().find(|rule| rule["resources"].as_array().unwrap().iter().any(|found| found == resource));
        about.map(|rule| serde_json::from_value::<Vec<String>>(rule["verbs"].clone()).unwrap().join(" ")).unwrap_or_default()
    };
    let operator = role("ClusterRole", "dw-durable-write");
    assert_eq!(verbs(&operator, "failoverdrills"), "get list watch");
    assert_eq!(verbs(&operator, "failoverdrills/status"), "patch");
    assert_eq!(verbs(&operator, "pods"), "get list watch create delete");
    assert_eq!(verbs(&operator, "leases"), "", "Leases of all namespaces");
    assert_eq!(verbs(&role("Role", "dw-durable-write"), "leases"), "get create update patch delete");
    assert_eq!(verbs(&role("ClusterRole", "dw-durable-write-pipeline-editor"), "failoverdrills"), "");
    let runner = of_kind(&objects, "ClusterRole").into_iter().find(|role| role["metadata"]["name"] == "dw-durable-write-drill-runner");
    assert!(!runner.unwrap()["metadata"].to_string().contains("aggregate-to"), "running drills is part of another role");
}

#[test]
fn settings_of_drills_reach_the_operator() {
    let (container, _) = operator(&rendered(&[]));
    for (name, value) in [
        ("CLUSTER_NAME", ""),
        ("DRILLS_ENABLED", "false"),
        ("DRILLS_MIN_INTERVAL", "1h"),
        ("DRILLS_MIN_READERS", "1"),
        ("DRILLS_MAX_REPLICA_LAG", "1s"),
        ("REQUESTED_BY_VERIFIED", "true"),
    ] {
        assert_eq!(environment(&container, name).as_deref(), Some(value), "{name}");
    }
    let values =
        ["--set=clusterName=prod", "--set=drills.enabled=true", "--set=drills.minInterval=0s", "--set=admissionPolicies.install=false"];
    let objects = rendered(&values);
    let (container, _) = operator(&objects);
    for (name, value) in
        [("CLUSTER_NAME", "prod"), ("DRILLS_ENABLED", "true"), ("DRILLS_MIN_INTERVAL", "0s"), ("REQUESTED_BY_VERIFIED", "false")]
    {
        assert_eq!(environment(&container, name).as_deref(), Some(value), "{name}");
    }
    let fields: Vec<_> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|variable| variable["valueFrom"]["fieldRef"]["fieldPath"].as_str())
        .collect();
    assert_eq!(fields, ["metadata.namespace", "metadata.name"]);
    assert!(of_kind(&objects, "ValidatingAdmissionPolicy").is_empty() && of_kind(&objects, "ValidatingAdmissionPolicyBinding").is_empty());
}

#[test]
fn drills_want_the_name_of_the_kubernetes_cluster_and_the_message_says_why() {
    let template = ["template", "dw", ".", "--kube-version", "1.34.4", "--set=drills.enabled=true"];
    let error = helm(&template).unwrap_err();
    assert!(error.contains("drills.enabled needs clusterName: set it to the name of this Kubernetes cluster"), "{error}");
    for wrong in
        ["clusterName=two words", "drills.minInterval=1d", "drills.minReaders=0", "drills.maxReplicaLag=1", "drills.evidenceAdmins=a'b"]
    {
        let error = helm(&[&template[..], &["--set=clusterName=prod", "--set", wrong]].concat()).expect_err(wrong);
        let field = wrong.split('=').next().unwrap().replace('.', "/");
        assert!(error.contains(&field), "{wrong}: {error}");
    }
}

#[test]
fn every_policy_is_bound_and_denies() {
    let objects = rendered(&["--set=drills.evidenceAdmins="]);
    let policies = of_kind(&objects, "ValidatingAdmissionPolicy");
    let names: Vec<_> = policies.iter().map(|policy| &policy["metadata"]["name"]).collect();
    let bindings = of_kind(&objects, "ValidatingAdmissionPolicyBinding");
    assert_eq!(names, bindings.iter().map(|binding| &binding["spec"]["policyName"]).collect::<Vec<_>>());
    assert_eq!(names.len(), 4);
    assert!(bindings.iter().all(|binding| binding["spec"]["validationActions"] == serde_json::json!(["Deny"])));
    assert!(policies.iter().all(|policy| policy["spec"]["failurePolicy"] == "Fail"));
    assert!(
        !policies.iter().any(|policy| policy.to_string().contains("request.userInfo.groups")),
        "nobody is an administrator of evidence"
    );
}

#[test]
fn several_operators_stand_by_and_are_not_evicted_at_once() {
    assert!(of_kind(&rendered(&[]), "PodDisruptionBudget").is_empty());
    let objects = rendered(&["--set=replicas=2"]);
    assert_eq!(of_kind(&objects, "Deployment")[0]["spec"]["replicas"], 2);
    let [budget] = of_kind(&objects, "PodDisruptionBudget")[..] else { panic!("not one budget") };
    assert_eq!(budget["spec"]["selector"], of_kind(&objects, "Deployment")[0]["spec"]["selector"]);
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
