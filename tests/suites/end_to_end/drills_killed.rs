//! The operator is killed in drills: at every boundary of a phase, between claim and call, before and after the call's effect. Each drill
//! calls for at most one failover and ends with a true verdict.

use anyhow::ensure;
use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{Phase, Verdict};
use durable_write_testbed::proxy::http::{Extent, HttpFault};
use serde_json::json;

use crate::drill::Drill;
use crate::ground::{Ground, ground, until};
use crate::host_operator::HostOperator;
use crate::pipeline::Pipeline;

const CALL: &str = "FailoverDBCluster";

#[tokio::test]
async fn an_operator_that_is_killed_anywhere_in_a_drill_calls_once_at_most_and_the_drill_ends_truly() {
    let ground = ground().await;
    ground.namespace("kills").await;
    let orders = Pipeline::like_the_example(&ground, "kills", "kills.fifo", 5).await;
    orders.start().await;
    let mut operator = HostOperator::start(&ground).await;
    at_every_phase(&ground, &orders, &mut operator).await;
    before_the_effect(&ground, &orders, &mut operator).await;
    after_the_effect(&ground, &orders, &mut operator).await;
    the_reply_is_lost(&ground, &orders).await;
    operator.stop().await;
    ground.leave("kills").await;
}

fn failovers(ground: &Ground) -> u64 {
    ground.aurora().failover_calls().took_effect
}

async fn at_every_phase(ground: &Ground, orders: &Pipeline<'_>, operator: &mut HostOperator<'_>) {
    let before = failovers(ground);
    let drill = Drill::create(orders, "phases", json!({"load": {"coolDown": "5s"}})).await;
    for phase in [Phase::Pending, Phase::Preflight, Phase::Baseline, Phase::Triggering] {
        drill.is_in(phase).await;
        operator.kill();
    }
    let claimed = drill.claimed();
    claimed.await;
    operator.kill();
    for phase in [Phase::FailingOver, Phase::Recovering, Phase::Draining, Phase::Concluded] {
        drill.is_in(phase).await;
        operator.kill();
    }
    let status = drill.concluded().await;
    let called = failovers(ground) - before;
    assert!(called <= 1, "{called} calls");
    // Killed between claim and call, nobody may call any more.
    match called {
        1 => assert!(matches!(status.verdict, Some(Verdict::Pass | Verdict::Inconclusive)), "{status:#?}"),
        _ => assert_eq!(status.verdict, Some(Verdict::Error), "{status:#?}"),
    }
    ground.aurora().settled().await;
}

/// The call hangs on its way; its maker is killed, and nothing was done.
async fn before_the_effect(ground: &Ground, orders: &Pipeline<'_>, operator: &mut HostOperator<'_>) {
    let before = failovers(ground);
    killed_in_the_call(ground, orders, operator, "before-effect", HttpFault::Hung { forward: false })
        .await
        .ends(Verdict::Error, reasons::TRIGGER_UNKNOWN)
        .await;
    assert_eq!(failovers(ground), before);
}

/// The call takes effect and its maker is killed before the answer.
async fn after_the_effect(ground: &Ground, orders: &Pipeline<'_>, operator: &mut HostOperator<'_>) {
    let before = failovers(ground);
    let drill = killed_in_the_call(ground, orders, operator, "after-effect", HttpFault::Hung { forward: true }).await;
    drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
    assert_eq!(failovers(ground) - before, 1);
    ground.aurora().settled().await;
}

async fn killed_in_the_call<'g>(
    ground: &'g Ground,
    orders: &Pipeline<'g>,
    operator: &mut HostOperator<'_>,
    name: &str,
    fault: HttpFault,
) -> Drill<'g> {
    let received = ground.aurora().rds_proxy().calls(CALL).received;
    ground.aurora().rds_proxy().place(CALL, fault, Extent::Next(1));
    let drill = Drill::create(orders, name, json!({})).await;
    until("the call to be made", async || {
        ensure!(ground.aurora().rds_proxy().calls(CALL).received > received, "not yet");
        Ok(())
    })
    .await;
    operator.kill();
    ground.aurora().rds_proxy().clear();
    drill
}

/// The SDK must not try again by itself.
async fn the_reply_is_lost(ground: &Ground, orders: &Pipeline<'_>) {
    let before = failovers(ground);
    ground.aurora().rds_proxy().place(CALL, HttpFault::ReplyLost, Extent::Next(1));
    let drill = Drill::create(orders, "lost-reply", json!({})).await;
    drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
    assert_eq!(failovers(ground) - before, 1);
    ground.aurora().settled().await;
}
