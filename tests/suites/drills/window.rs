//! What spoils a drill while it measures: the verdict is Inconclusive, with the reason.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_testbed::aurora::Behaviour;
use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::drill::{Drill, criterion};
use crate::ground::{Ground, drill_ground};
use crate::pipeline::Pipeline;
use crate::pods::process;

#[tokio::test]
async fn a_pipeline_that_is_edited_or_rolled_while_it_is_drilled_makes_the_drill_inconclusive() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "edited").await;

    let drill = Drill::create(&orders, "edited", json!({})).await;
    drill.claimed().await;
    orders.patch(json!({"batching": {"maxRows": 400}})).await;
    is_spoilt(&drill, "edited").await;
    orders.settled(2).await;

    let drill = Drill::create(&orders, "rolled", json!({})).await;
    drill.claimed().await;
    orders.kubectl(&["rollout", "restart", &format!("deployment/{}-worker", orders.name)]).await;
    is_spoilt(&drill, "replaced").await;
    ground.leave("edited").await;
}

#[tokio::test]
async fn a_pipeline_that_is_suspended_or_deleted_while_it_is_drilled_makes_the_drill_inconclusive() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "suspended").await;

    let drill = Drill::create(&orders, "suspended", json!({})).await;
    drill.claimed().await;
    orders.patch(json!({"suspend": true})).await;
    is_spoilt(&drill, "suspended").await;
    orders.patch(json!({"suspend": false})).await;
    orders.settled(2).await;

    let drill = Drill::create(&orders, "deleted", json!({})).await;
    drill.claimed().await;
    orders.kubectl(&["delete", "dwp", &orders.name]).await;
    is_spoilt(&drill, "deleted").await;
    ground.leave("suspended").await;
}

async fn is_spoilt(drill: &Drill<'_>, by: &str) {
    drill.ends(Verdict::Inconclusive, reasons::PIPELINE_CHANGED).await;
    let message = drill.evidence().await.message;
    assert!(message.contains(by), "{message}");
}

#[tokio::test]
async fn a_lost_probe_somebody_elses_failover_and_a_probe_that_writes_nothing_make_the_drill_inconclusive() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "spoilt").await;
    the_probe_is_killed(&ground, &orders).await;
    somebody_else_fails_over(&ground, &orders).await;
    nothing_is_written_in_the_gap(&ground, &orders).await;
    ground.leave("spoilt").await;
}

async fn the_probe_is_killed(ground: &Ground, orders: &Pipeline<'_>) {
    let before = ground.aurora().failover_calls().received;
    let drill = Drill::create(orders, "killed", json!({})).await;
    drill.claimed().await;
    orders.kubectl(&["delete", "pod", "killed-probe", "--grace-period=0", "--force"]).await;
    drill.ends(Verdict::Inconclusive, reasons::PROBE_LOST).await;
    assert_eq!(ground.aurora().failover_calls().received - before, 1);
    ground.aurora().settled().await;
}

async fn somebody_else_fails_over(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "another", json!({"load": {"coolDown": "10s"}})).await;
    drill.has_recovered().await;
    ground.aurora().settled().await;
    ground.aurora().fail_over(None).await.unwrap();
    drill.ends(Verdict::Inconclusive, reasons::ANOTHER_FAILOVER).await;
}

/// The probe stands still while the database does: whether a message was lost in the gap cannot be known, as none was sent.
async fn nothing_is_written_in_the_gap(ground: &Ground, orders: &Pipeline<'_>) {
    ground.aurora().set_behaviour(Behaviour { outage: Duration::from_secs(2), ..Behaviour::default() });
    let drill = Drill::create(orders, "no-load", json!({})).await;
    drill.claimed().await;
    let pod: Pod = orders.api().get("no-load-probe").await.unwrap();
    let probe = process(&pod).unwrap();
    kill(probe, Signal::SIGSTOP).unwrap();
    drill.is_in(Phase::Recovering).await;
    kill(probe, Signal::SIGCONT).unwrap();
    let status = drill.ends(Verdict::Inconclusive, reasons::NO_LOAD).await;
    assert_eq!(criterion(&status, "load"), CriterionResult::Inconclusive);
    assert_eq!(criterion(&status, "ticks"), CriterionResult::Inconclusive);
}
