//! Drills on the whole cluster: one failover each, a true verdict, evidence that stays; and with each planted fault another verdict.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_crds::evidence::{self, canonical};
use durable_write_testbed::aurora::Timing;
use serde_json::json;
use sqlx::Connection;
use std::time::Duration;

use crate::drill::{Drill, criterion};
use crate::ground::{Ground, ground};
use crate::operator::writes;
use crate::pipeline::{Pipeline, stop};

fn failovers_called(ground: &Ground) -> u64 {
    ground.aurora().failover_calls().received
}

#[tokio::test]
async fn a_drill_under_load_passes_calls_once_and_touches_nothing_of_the_users() {
    let ground = ground().await;
    ground.namespace("drills").await;
    let orders = Pipeline::like_the_example(&ground, "drills", "drilled.fifo", 5).await;
    orders.start().await;
    let (before, wrote) = (failovers_called(&ground), writes(&ground).await);
    let load = orders.load("users", 20.0);

    let drill = Drill::create(&orders, "first", json!({"reason": "Test of the drill", "changeReference": "CHG-1"})).await;
    let status = drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
    assert_eq!(failovers_called(&ground) - before, 1);
    let sent = stop(load).await;
    orders.has_moved("users", &sent).await;
    // The probe's messages are not rows of the user's.
    assert_eq!(orders.rows().await.unwrap(), sent.len() as u64);

    assert_ne!(status.writer_before, status.writer_after);
    assert_eq!(status.writer_after, status.target);
    let integrity = status.integrity.clone().unwrap();
    assert_eq!((integrity.lost, integrity.duplicated, integrity.unexpected), (0, 0, 0), "{integrity:?}");
    assert!(integrity.acknowledged > 100, "{integrity:?}");
    assert!(status.criteria.iter().all(|criterion| criterion.result == CriterionResult::Pass), "{:?}", status.criteria);
    let evidence = drill.evidence().await;
    let probe = evidence.probe.clone().unwrap();
    assert!(evidence.claim.at.duration_since(evidence.claim.drill.created).as_secs() < 60);
    eprintln!(
        "· from create to claim {}; recovery {}; {} bytes of evidence, {} seconds in the series; {} writes by the operator",
        evidence.claim.at.duration_since(evidence.claim.drill.created),
        status.recovery.as_ref().and_then(|recovery| recovery.summary.clone()).unwrap_or_default(),
        canonical(&evidence).unwrap().len(),
        evidence.series.seconds.len(),
        writes(&ground).await.told - wrote.told,
    );
    assert!(!evidence.series.seconds.is_empty(), "{:?}", evidence.series.missing);
    assert!(probe.queue_channel.acknowledged > 0 && probe.direct_channel.acknowledged > 0);

    // As people read it.
    let listed = orders.kubectl(&["get", "drill"]).await;
    assert!(listed.contains("Concluded") && listed.contains("Pass"), "{listed}");
    a_name_is_used_once(&ground, &orders, &drill).await;
    planted_faults_turn_it_red(&ground, &orders).await;
    what_is_refused_calls_nothing(&ground, &orders).await;
    ground.leave("drills").await;
}

/// A drill that comes back, by GitOps or from a backup, has no status but the same name.
async fn a_name_is_used_once(ground: &Ground, orders: &Pipeline<'_>, drill: &Drill<'_>) {
    let before = failovers_called(ground);
    orders.kubectl(&["delete", "drill", &drill.name]).await;
    let again = Drill::create(orders, &drill.name, json!({})).await;
    let status = again.concluded().await;
    assert_eq!(status.verdict, Some(Verdict::Error));
    let complete = status.conditions.iter().find(|condition| condition.type_ == "Complete").unwrap();
    assert_eq!(complete.reason, reasons::NAME_USED_BEFORE);
    assert_eq!(failovers_called(ground), before);
}

async fn planted_faults_turn_it_red(ground: &Ground, orders: &Pipeline<'_>) {
    a_row_is_removed(ground, orders).await;
    a_row_is_doubled(ground, orders).await;
    recovery_is_held(ground, orders).await;
    the_probe_is_killed(ground, orders).await;
    somebody_else_fails_over(ground, orders).await;
    the_pipeline_is_edited(ground, orders).await;
}

async fn change_rows(ground: &Ground, statement: &'static str) {
    let mut database = ground.database().await.unwrap();
    let changed = sqlx::query(statement).execute(&mut database).await.unwrap();
    assert_eq!(changed.rows_affected(), 1, "{statement}");
    database.close().await.unwrap();
}

async fn a_row_is_removed(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "removed", json!({"load": {"coolDown": "10s"}})).await;
    drill.is_in(Phase::Recovering).await;
    let delete = "DELETE FROM durable_write.probe WHERE ctid = (SELECT ctid FROM durable_write.probe ORDER BY at DESC LIMIT 1)";
    change_rows(ground, delete).await;
    let status = drill.ends(Verdict::Fail, reasons::OBJECTIVE_MISSED).await;
    assert_eq!(status.integrity.as_ref().unwrap().lost, 1);
    assert_eq!(criterion(&status, "lost"), CriterionResult::Fail);
}

async fn a_row_is_doubled(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "doubled", json!({"load": {"coolDown": "10s"}})).await;
    drill.is_in(Phase::Recovering).await;
    let insert = "INSERT INTO durable_write.probe SELECT * FROM durable_write.probe ORDER BY at DESC LIMIT 1";
    change_rows(ground, insert).await;
    let status = drill.ends(Verdict::Fail, reasons::OBJECTIVE_MISSED).await;
    assert_eq!(status.integrity.as_ref().unwrap().duplicated, 1);
    assert_eq!(criterion(&status, "duplicated"), CriterionResult::Fail);
}

async fn recovery_is_held(ground: &Ground, orders: &Pipeline<'_>) {
    ground.aurora().set_timing(Timing { promotion: Duration::from_secs(5), ..Timing::default() });
    let drill = Drill::create(orders, "held", json!({"objectives": {"recoveryTime": "2s"}})).await;
    let status = drill.ends(Verdict::Fail, reasons::OBJECTIVE_MISSED).await;
    ground.aurora().set_timing(Timing::default());
    assert_eq!(criterion(&status, "recoveryTime"), CriterionResult::Fail);
    assert!(status.recovery.unwrap().lower_bound_milliseconds.unwrap() > 2000);
}

async fn the_probe_is_killed(ground: &Ground, orders: &Pipeline<'_>) {
    let before = failovers_called(ground);
    let drill = Drill::create(orders, "killed", json!({})).await;
    drill.claimed().await;
    orders.kubectl(&["delete", "pod", "killed-probe", "--grace-period=0", "--force"]).await;
    drill.ends(Verdict::Inconclusive, reasons::PROBE_LOST).await;
    assert_eq!(failovers_called(ground) - before, 1);
    ground.aurora().settled().await;
}

async fn somebody_else_fails_over(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "another", json!({"load": {"coolDown": "15s"}})).await;
    drill.is_in(Phase::Recovering).await;
    ground.aurora().settled().await;
    ground.aurora().fail_over(None).await.unwrap();
    drill.ends(Verdict::Inconclusive, reasons::ANOTHER_FAILOVER).await;
}

async fn the_pipeline_is_edited(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "edited", json!({"load": {"coolDown": "5s"}})).await;
    drill.claimed().await;
    orders.patch(json!({"batching": {"maxRows": 400}})).await;
    drill.ends(Verdict::Inconclusive, reasons::PIPELINE_CHANGED).await;
    ground.aurora().settled().await;
    orders.settled(2).await;
}

/// Each ends with a verdict and a reason, leaves no evidence, and calls for nothing.
async fn what_is_refused_calls_nothing(ground: &Ground, orders: &Pipeline<'_>) {
    let before = failovers_called(ground);
    let writer = ground.aurora().writer().unwrap().name;
    for (name, changes, reason) in [
        ("no-pipeline", json!({"pipelineRef": {"name": "nobody"}}), reasons::PIPELINE_MISSING),
        ("to-the-writer", json!({"targetInstance": writer}), reasons::TARGET_UNSUITABLE),
        ("to-a-stranger", json!({"targetInstance": "stranger"}), reasons::TARGET_UNSUITABLE),
        ("many-readers", json!({"preflight": {"minReaders": 5}}), reasons::NO_READER),
        ("too-soon", json!({"preflight": {"minInterval": "1h"}}), reasons::TOO_SOON),
        ("too-late", json!({"notAfter": "2026-01-01T00:00:00Z"}), reasons::TOO_LATE),
    ] {
        let drill = Drill::create(orders, name, changes).await;
        drill.ends(Verdict::Error, reason).await;
        assert!(drill.config_maps.get_opt(&evidence::config_map_name(name)).await.unwrap().is_none(), "{name} left evidence");
    }
    assert_eq!(failovers_called(ground), before);
}
