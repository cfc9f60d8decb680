//! Failovers that do not do what was asked for, and events that tell of them badly: RDS promises neither.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Observation, ObservationSource, Verdict};
use durable_write_testbed::aurora::{Behaviour, EventId, Outcome, Telling};
use serde_json::json;

use crate::drill::{Drill, criterion};
use crate::ground::drill_ground;
use crate::pipeline::Pipeline;

#[tokio::test]
async fn a_failover_that_promotes_the_old_writer_again_or_fails_fails_the_drill() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "back").await;
    for (name, outcome, reason) in [
        ("promoted-again", Outcome::PreviousWriter, reasons::PREVIOUS_WRITER_PROMOTED),
        ("failed", Outcome::Fails, reasons::FAILOVER_FAILED),
    ] {
        ground.aurora().set_behaviour(Behaviour { outcome, outage: Duration::from_secs(1), ..Behaviour::default() });
        let writer = ground.aurora().writer().unwrap().name;
        let before = ground.aurora().failover_calls().took_effect;
        let drill = Drill::create(&orders, name, json!({})).await;
        let status = drill.ends(Verdict::Fail, reason).await;
        assert_eq!(criterion(&status, "failover"), CriterionResult::Fail);
        assert_eq!((status.writer_before, status.writer_after), (Some(writer), None), "{name}");
        assert_eq!(ground.aurora().failover_calls().took_effect - before, 1);
        ground.aurora().settled().await;
    }
    ground.leave("back").await;
}

#[tokio::test]
async fn a_drill_passes_without_events_and_with_late_ones() {
    let late = Telling { delay: Duration::from_secs(600), ..Telling::default() };
    passes("untold", &[("missing", Telling { copies: 0, ..Telling::default() }, &[]), ("late", late, &[])]).await;
}

#[tokio::test]
async fn a_drill_passes_with_doubled_events_and_when_only_the_begin_is_told() {
    let doubled = Telling { copies: 2, ..Telling::default() };
    let begin = Telling { leave_out: vec![EventId::Completed], ..Telling::default() };
    passes("told", &[("doubled", doubled, &["FailoverStarted", "FailoverCompleted"]), ("begin-only", begin, &["FailoverStarted"])]).await;
}

/// Each passes after one failover, and its evidence has these events.
async fn passes(namespace: &str, drills: &[(&str, Telling, &[&str])]) {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, namespace).await;
    for (name, telling, events) in drills {
        ground.aurora().set_behaviour(Behaviour { telling: telling.clone(), ..Behaviour::default() });
        let before = ground.aurora().failover_calls().received;
        let drill = Drill::create(&orders, name, json!({})).await;
        let status = drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
        assert_eq!(ground.aurora().failover_calls().received - before, 1);
        let told = |entry: &&Observation| entry.source == ObservationSource::RDSEvent;
        let told: Vec<_> = status.timeline.iter().filter(told).map(|entry| entry.reason.as_str()).collect();
        assert_eq!(told, *events, "{name}");
        ground.aurora().settled().await;
    }
    ground.leave(namespace).await;
}
