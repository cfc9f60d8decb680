//! What the probe's rows and its clock must show: a drill that was only ever seen green proves nothing.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_testbed::aurora::Timing;
use serde_json::json;
use sqlx::Connection;

use crate::drill::{Drill, criterion};
use crate::ground::{Ground, drill_ground};
use crate::pipeline::Pipeline;

#[tokio::test]
async fn a_removed_row_a_doubled_row_and_a_late_recovery_fail_the_drill() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "rows").await;
    a_row_is_removed(&ground, &orders).await;
    a_row_is_doubled(&ground, &orders).await;
    recovery_is_held(&ground, &orders).await;
    ground.leave("rows").await;
}

async fn change_rows(ground: &Ground, statement: &'static str) {
    let mut database = ground.database().await.unwrap();
    let changed = sqlx::query(statement).execute(&mut database).await.unwrap();
    assert_eq!(changed.rows_affected(), 1, "{statement}");
    database.close().await.unwrap();
}

async fn a_row_is_removed(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "removed", json!({"load": {"coolDown": "6s"}})).await;
    drill.is_in(Phase::Recovering).await;
    // One that the probe has seen: for a younger one it would wait.
    let delete = "DELETE FROM durable_write.probe WHERE ctid = \
                  (SELECT ctid FROM durable_write.probe WHERE at < now() - interval '3 s' ORDER BY at DESC LIMIT 1)";
    change_rows(ground, delete).await;
    let status = drill.ends(Verdict::Fail, reasons::OBJECTIVE_MISSED).await;
    assert_eq!(status.integrity.as_ref().unwrap().lost, 1);
    assert_eq!(criterion(&status, "lost"), CriterionResult::Fail);
}

async fn a_row_is_doubled(ground: &Ground, orders: &Pipeline<'_>) {
    let drill = Drill::create(orders, "doubled", json!({"load": {"coolDown": "6s"}})).await;
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
    assert_eq!(criterion(&status, "recoveryTime"), CriterionResult::Fail);
    assert!(status.recovery.unwrap().lower_bound_milliseconds.unwrap() > 2000);
}
