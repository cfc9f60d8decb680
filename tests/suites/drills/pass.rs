//! A drill on the whole cluster that passes: one failover, a true verdict, evidence that stays; and drills that are refused.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Verdict};
use durable_write_crds::evidence::{self, canonical};
use serde_json::json;

use crate::drill::Drill;
use crate::ground::{Ground, drill_ground};
use crate::pipeline::{Pipeline, stop};

#[tokio::test]
async fn a_drill_under_load_passes_calls_once_and_touches_nothing_of_the_users() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "drilled").await;
    let before = ground.aurora().failover_calls().received;
    let load = orders.load("users", 20.0);

    let changes = json!({"reason": "Test of the drill", "changeReference": "CHG-1", "load": {"directWriteInterval": "100ms"}});
    let drill = Drill::create(&orders, "first", changes).await;
    let status = drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
    assert_eq!(ground.aurora().failover_calls().received - before, 1);
    let sent = stop(load).await;
    orders.has_moved("users", &sent).await;
    // The probe's messages are not rows of the user's.
    assert_eq!(orders.rows().await.unwrap(), sent.len() as u64);

    assert_ne!(status.writer_before, status.writer_after);
    assert_eq!(status.writer_after, status.target);
    let integrity = status.integrity.clone().unwrap();
    assert_eq!((integrity.lost, integrity.duplicated, integrity.unexpected), (0, 0, 0), "{integrity:?}");
    assert!(integrity.acknowledged > 50, "{integrity:?}");
    assert!(status.criteria.iter().all(|criterion| criterion.result == CriterionResult::Pass), "{:?}", status.criteria);
    let evidence = drill.evidence().await;
    let probe = evidence.probe.clone().unwrap();
    assert!(evidence.claim.at.duration_since(evidence.claim.drill.created).as_secs() < 60);
    eprintln!(
        "· recovery {}; {} bytes of evidence, {} seconds in the series",
        status.recovery.as_ref().and_then(|recovery| recovery.summary.clone()).unwrap_or_default(),
        canonical(&evidence).unwrap().len(),
        evidence.series.seconds.len(),
    );
    assert!(!evidence.series.seconds.is_empty(), "{:?}", evidence.series.missing);
    assert!(probe.queue_channel.acknowledged > 0 && probe.direct_channel.acknowledged > 0);

    // As people read it.
    let listed = orders.kubectl(&["get", "drill"]).await;
    assert!(listed.contains("Concluded") && listed.contains("Pass"), "{listed}");
    a_restored_drill_does_not_run_again(&ground, &drill).await;
    what_is_refused_calls_nothing(&ground, &orders).await;
    ground.leave("drilled").await;
}

/// A drill that comes back, by GitOps or from a backup, has no status but the same name.
async fn a_restored_drill_does_not_run_again(ground: &Ground, drill: &Drill<'_>) {
    let before = ground.aurora().failover_calls().received;
    let evidence = drill.evidence_text().await;
    drill.restore().await;
    drill.ends(Verdict::Error, reasons::NAME_USED_BEFORE).await;
    assert_eq!(ground.aurora().failover_calls().received, before);
    assert_eq!(drill.evidence_text().await, evidence);
}

/// Each ends with a verdict and a reason, leaves no evidence, and calls for nothing.
async fn what_is_refused_calls_nothing(ground: &Ground, orders: &Pipeline<'_>) {
    let before = ground.aurora().failover_calls().received;
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
    assert_eq!(ground.aurora().failover_calls().received, before);
}
