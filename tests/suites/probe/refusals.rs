//! Baselines that are not steady: the probe says why, and measures nothing.

use std::time::Duration;

use durable_write_crds::conditions::drill_reasons;
use durable_write_crds::probe::{ProbeOutcome, ProbePlan, ProbeResult};

use crate::ground::{Probe, flowing, pipeline, plan, turn};
use crate::pipelines::{Pipeline, SOON, shared_cluster, until};

async fn refused(pipeline: &Pipeline, plan: &ProbePlan, reason: &str) -> ProbeResult {
    let result = Probe::start(pipeline, plan).result(Duration::from_secs(90)).await;
    assert_eq!((result.outcome, result.reason.as_deref()), (ProbeOutcome::Refused, Some(reason)), "{result:#?}");
    assert!(result.gap.is_none() && result.ready.is_none());
    result
}

#[tokio::test]
async fn without_the_tables_it_says_how_to_make_them() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = Pipeline::of_orders(cluster.clone(), "probe-tables").await;
    let result = refused(&pipeline, &plan(&cluster), drill_reasons::PROBE_TABLES_MISSING).await;
    assert!(result.message.unwrap().contains("schema --drills"));
}

#[tokio::test]
async fn a_pinned_writer_that_is_none_is_told() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-writer").await;
    let _worker = flowing(&pipeline).await;
    let right = plan(&cluster);
    let swapped = ProbePlan { writer: right.target.clone(), target: right.writer.clone(), ..right.clone() };
    let result = refused(&pipeline, &swapped, drill_reasons::WRITER_DIFFERS).await;
    assert!(result.message.unwrap().contains(&right.writer));
}

#[tokio::test]
async fn one_drill_at_a_time_and_a_dead_one_does_not_block_for_ever() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-two").await;
    let _worker = flowing(&pipeline).await;
    let (first, second) = (plan(&cluster), plan(&cluster));
    let open = |expires: &str| {
        format!(
            "DELETE FROM durable_write.drill; INSERT INTO durable_write.drill VALUES ('0f8fad5b-d9cb-469f-a165-70867728950e', '{}', \
             'other/ns/drill', now(), now() + interval '{expires}')",
            first.resource_id
        )
    };
    pipeline.sql(&open("1 hour")).await;
    let result = refused(&pipeline, &first, drill_reasons::ANOTHER_DRILL).await;
    assert!(result.message.unwrap().contains("other/ns/drill"));

    pipeline.sql(&open("-1 second")).await;
    let mut probe = Probe::start(&pipeline, &second);
    probe.ready().await;
    let (took, left_a_result) = probe.terminate().await;
    assert!(took < Duration::from_secs(5) && !left_a_result, "{took:?}");
    let closed: Vec<(bool,)> = pipeline.rows("SELECT closed IS NOT NULL FROM durable_write.drill ORDER BY opened DESC LIMIT 1").await;
    assert_eq!(closed, [(true,)], "a probe that is stopped gives the cluster free");
}

#[tokio::test]
async fn what_a_lost_reply_or_a_killed_probe_left_open_stops_no_drill_of_the_same_kubernetes_cluster() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-left-open").await;
    let _worker = flowing(&pipeline).await;
    let plan = plan(&cluster);
    let open = |drill: &str, name: &str, closed: &str| {
        let times = format!("now(), now() + interval '1 hour', {closed}");
        format!(
            "INSERT INTO durable_write.drill (drill, resource_id, name, opened, expires, closed) VALUES ('{drill}', '{}', '{name}', {times});",
            plan.resource_id
        )
    };
    pipeline.sql("DELETE FROM durable_write.drill").await;
    pipeline.sql(&open("0f8fad5b-d9cb-469f-a165-70867728950e", "test/default/killed", "NULL")).await;
    pipeline.sql(&open(&plan.drill, &plan.drill_name, "NULL")).await;
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    probe.terminate().await;
    let closed: Vec<(bool,)> = pipeline.rows("SELECT closed IS NOT NULL FROM durable_write.drill ORDER BY name").await;
    assert_eq!(closed.iter().filter(|(closed,)| *closed).count(), 1, "its own row is closed");

    let result = refused(&pipeline, &plan, drill_reasons::ANOTHER_DRILL).await;
    assert!(result.message.unwrap().contains("measured before"));
}

#[tokio::test]
async fn without_a_pipeline_that_runs_the_baseline_is_never_steady() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-nobody").await;
    let result = refused(&pipeline, &plan(&cluster), drill_reasons::BASELINE_UNSTEADY).await;
    assert!(result.message.unwrap().contains("workers"));
}

#[tokio::test]
async fn a_second_consumer_of_the_queue_is_suspected() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-thief").await;
    let _worker = flowing(&pipeline).await;
    let thief = async {
        loop {
            let receive =
                pipeline.client.receive_message().queue_url(&pipeline.queue.url).max_number_of_messages(2).visibility_timeout(300);
            receive.send().await.unwrap();
        }
    };
    let plan = plan(&cluster);
    tokio::select! {
        () = thief => {}
        result = refused(&pipeline, &plan, drill_reasons::ANOTHER_CONSUMER) => {
            assert!(result.message.unwrap().contains("another consumer"));
        }
    }
}

#[tokio::test]
async fn a_pipeline_that_cannot_write_the_probes_rows_still_writes_the_users() {
    let _turn = turn().await;
    let cluster = shared_cluster().await;
    let pipeline = pipeline(&cluster, "probe-rights").await;
    pipeline.sql("ALTER TABLE durable_write.probe RENAME TO hidden").await;
    let _worker = flowing(&pipeline).await;
    let body = r#"{"durableWriteProbe":{"drill":"0f8fad5b-d9cb-469f-a165-70867728950e","seq":1,"expires":1}}"#;
    let mark = aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String");
    let mark = mark.string_value("0f8fad5b-d9cb-469f-a165-70867728950e/1/1").build().unwrap();
    let probe =
        crate::pipelines::Outgoing { body: body.to_owned(), group: None, attributes: vec![("durable-write-probe".to_owned(), mark)] };
    pipeline.send(&[probe]).await;
    let users = crate::pipelines::orders("ada", 0..50, false);
    pipeline.send(&users).await;
    until("both are gone", SOON, async || pipeline.left().await == 0).await;
    pipeline.assert_exactly(&users).await;
}
