//! Drills that people stop: aborted before and after the call, or gone with their namespace.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{Phase, Verdict};
use durable_write_crds::evidence;
use serde_json::json;

use crate::drill::Drill;
use crate::ground::{drill_ground, until};
use crate::pipeline::Pipeline;

#[tokio::test]
async fn a_drill_that_is_aborted_calls_for_nothing_any_more_and_ends_its_probe() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "aborted").await;
    let before = ground.aurora().failover_calls().received;

    let drill = Drill::create(&orders, "in-baseline", json!({"load": {"warmUp": "60s"}})).await;
    drill.is_in(Phase::Baseline).await;
    drill.abort().await;
    drill.ends(Verdict::Aborted, reasons::ABORTED).await;
    drill.has_no_probe().await;
    assert!(drill.config_maps.get_opt(&evidence::config_map_name(&drill.name)).await.unwrap().is_none(), "it left evidence");
    assert_eq!(ground.aurora().failover_calls().received, before);

    let drill = Drill::create(&orders, "after-the-call", json!({"load": {"coolDown": "60s"}})).await;
    drill.is_in(Phase::Recovering).await;
    drill.abort().await;
    drill.ends(Verdict::Aborted, reasons::ABORTED).await;
    drill.has_no_probe().await;
    assert_eq!(drill.evidence().await.verdict, Verdict::Aborted);
    assert_eq!(ground.aurora().failover_calls().received, before + 1);
    ground.leave("aborted").await;
}

#[tokio::test]
async fn a_namespace_that_is_deleted_while_it_is_drilled_goes_at_once_and_another_may_drill_the_cluster_then() {
    let ground = drill_ground().await;
    let (leaving, staying) = tokio::join!(Pipeline::to_drill(&ground, "leaving"), Pipeline::to_drill(&ground, "staying"));
    let before = ground.aurora().failover_calls().received;
    let drill = Drill::create(&leaving, "leaving", json!({"load": {"coolDown": "60s"}})).await;
    drill.claimed().await;
    until("the call", async || {
        anyhow::ensure!(ground.aurora().failover_calls().received > before, "nobody has called");
        Ok(())
    })
    .await;
    ground.kubectl(&["delete", "namespace", "leaving", "--timeout=90s"]).await;
    ground.aurora().settled().await;
    let drill = Drill::create(&staying, "staying", json!({})).await;
    drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
    assert_eq!(ground.aurora().failover_calls().received, before + 2);
    ground.leave("staying").await;
}
