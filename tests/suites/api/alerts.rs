//! The chart's alerts, as Prometheus evaluates them, and who is scraped.

use std::collections::BTreeSet;
use std::process::Command;

use durable_write_testbed::tools;
use serde_json::Value;

use crate::chart::{of_kind, rendered};
use crate::ground::repository;

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

#[test]
fn alerts_use_metrics_that_workers_have() {
    let rules = of_kind(&rendered(&INSTALLED), "PrometheusRule")[0]["spec"].to_string();
    let metrics = std::fs::read_to_string(repository("worker/src/metrics.rs")).unwrap();
    let words = rules.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let names: BTreeSet<&str> = words.filter_map(|word| word.strip_prefix("durable_write_worker_")).collect();
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        assert!(metrics.contains(&format!("(\"{name}\", ")), "workers have no metric {name}");
    }
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
