//! The chart's alerts, as Prometheus evaluates them, and who is scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use durable_write_testbed::tools;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::chart::{of_kind, rendered};
use crate::ground::{eventually, get, ground, manifest};
use crate::workers::well;

const INSTALLED: [&str; 2] = ["--set=monitoring.prometheusRule.install=true", "--set=monitoring.podMonitor.install=true"];

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let objects = rendered(&[&INSTALLED[..], &["--set=monitoring.prometheusRule.drillMaxAgeDays=2"]].concat());
    let [rule] = of_kind(&objects, "PrometheusRule")[..] else { panic!("not one PrometheusRule") };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("alerts.json"), rule["spec"].to_string()).unwrap();
    std::fs::write(folder.path().join("test.yaml"), include_str!("alerts.yaml")).unwrap();
    let promtool = tools::promtool().unwrap();
    let output = Command::new(promtool).args(["test", "rules", "test.yaml"]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// The names and labels of the series in a text of OpenMetrics.
fn series(metrics: &str) -> BTreeMap<String, BTreeSet<String>> {
    let of_line = |line: &str| {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
        let labels = labels.split("\",").filter_map(|pair| pair.split_once('=')).map(|(label, _)| label.to_owned()).collect();
        (name.to_owned(), labels)
    };
    metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(of_line).collect()
}

/// The metrics that an expression reads, and the labels that it keeps.
fn read_by(expression: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let kept = expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(", "));
    (words.filter(|word| word.starts_with("durable_write_")).collect(), kept.collect())
}

async fn metrics_of_a_worker() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, (_state, shown)) = (listener.local_addr().unwrap(), watch::channel(Some(well())));
    let server = tokio::spawn(durable_write_worker::http::serve(listener, shown));
    let (_, metrics) = get(address, "/metrics").await;
    server.abort();
    metrics
}

#[tokio::test]
async fn alerts_go_by_metrics_and_labels_that_operator_and_workers_have() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let aurora = manifest("orders", "alerts", "aurora: {clusterIdentifier: alerts}");
    ground.apply(&home, &aurora).await.unwrap();
    let operator = eventually("the pipeline to be in the metrics", async || {
        let (_, metrics) = ground.operator_says("/metrics").await;
        if metrics.contains(&home.name) { Ok(metrics) } else { Err(metrics) }
    })
    .await;
    let (operator, workers) = (series(&operator), series(&metrics_of_a_worker().await));
    let objects = rendered(&INSTALLED);
    let scraping = of_kind(&objects, "PodMonitor");
    // What the Prometheus operator adds to each series, and what the PodMonitor does.
    let added = scraping[1]["spec"]["podMetricsEndpoints"][0]["relabelings"].as_array().unwrap().iter();
    let added: BTreeSet<&str> = added.map(|relabeling| relabeling["targetLabel"].as_str().unwrap()).chain(["namespace", "pod"]).collect();
    assert_eq!(scraping[0]["spec"]["podMetricsEndpoints"][0]["honorLabels"], true, "the namespace of a drill would be the operator's");
    let mut seen = 0;
    for rule in of_kind(&objects, "PrometheusRule")[0]["spec"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        let (names, kept) = read_by(rule["expr"].as_str().unwrap());
        for name in names {
            seen += 1;
            match (operator.get(name), workers.get(name)) {
                (Some(labels), None) => assert!(kept.iter().all(|label| labels.contains(*label)), "{name} has {labels:?}, not {kept:?}"),
                (None, Some(_)) => assert!(kept.is_subset(&added), "{name} is given {added:?}, not {kept:?}"),
                _ => panic!("nobody has {name}"),
            }
        }
        for label in rule["annotations"].to_string().split("$labels.").skip(1) {
            let label = label.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            assert!(kept.contains(label), "{} tells a label that it has not: {label}", rule["alert"]);
        }
    }
    assert!(seen >= 8, "only {seen} metrics are read");
}

#[test]
fn operator_and_workers_are_scraped_where_they_listen() {
    assert!(of_kind(&rendered(&[]), "PodMonitor").is_empty() && of_kind(&rendered(&[]), "PrometheusRule").is_empty());
    let objects = rendered(&[&INSTALLED[..], &["--set=monitoring.podMonitor.labels.release=prometheus"]].concat());
    let [operator, workers] = of_kind(&objects, "PodMonitor")[..] else { panic!("not two PodMonitors") };
    let pods = &of_kind(&objects, "Deployment")[0]["spec"];
    assert_eq!(operator["spec"]["selector"], pods["selector"]);
    assert_eq!(operator["spec"]["podMetricsEndpoints"][0]["port"], pods["template"]["spec"]["containers"][0]["ports"][0]["name"]);
    assert_eq!(workers["spec"]["namespaceSelector"]["any"], true);
    assert!([operator, workers].iter().all(|monitor: &&Value| monitor["metadata"]["labels"]["release"] == "prometheus"));
}
