//! Whole drills, as far as the probe sees them: what it finds when all goes well, and when something is planted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_write_crds::drill::DirectPath;
use durable_write_crds::probe::ProbePlan;
use durable_write_testbed::aurora::{Fault, Timing};
use durable_write_testbed::proxy::tcp::TcpFault;
use durable_write_testbed::sqs;
use durable_write_testbed::worker;
use tokio::time::sleep;

use crate::ground::{END, Probe, assert_contains_truth, assert_whole, flowing, pipeline, plan, turn};
use crate::pipelines::{Outgoing, Pipeline, REDELIVERED, orders, own_cluster};

/// Sends orders until it is told to stop.
async fn traffic(pipeline: &Pipeline, stop: &AtomicBool) -> Vec<Outgoing> {
    let (mut sent, fifo) = (Vec::new(), pipeline.queue.name.ends_with(".fifo"));
    for round in 0_u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for team in ["ada", "bob"] {
            let messages = orders(team, 5 * round..5 * round + 5, fifo);
            pipeline.send(&messages).await;
            sent.extend(messages);
        }
        sleep(Duration::from_millis(200)).await;
    }
    sent
}

#[tokio::test]
async fn a_failover_under_a_users_load_is_measured_and_the_user_notices_nothing() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-pass.fifo").await;
    let mut worker = flowing(&pipeline).await;
    let stop = AtomicBool::new(false);
    let drill = async {
        let plan = plan(&cluster);
        let mut probe = Probe::start(&pipeline, &plan);
        probe.ready().await;
        let failover = cluster.fail_over(Some(&plan.target)).await.unwrap();
        let state = probe.state().await.unwrap();
        assert!(state.seconds.iter().any(|second| second.accepted > 0 && second.committed > 0), "{state:?}");
        let result = probe.result(END).await;
        stop.store(true, Ordering::Relaxed);
        (failover, result)
    };
    let (sent, (failover, result)) = tokio::join!(traffic(&pipeline, &stop), drill);

    assert_whole(&result);
    let gap = result.gap.as_ref().unwrap();
    assert_eq!(gap.writer_after, failover.to);
    assert_eq!(result.writer_changes, 1);
    assert_contains_truth(&result, &failover);
    assert!(result.drained_milliseconds.is_some() && result.queue_gap_milliseconds.is_some(), "{result:#?}");
    assert!(result.accept.failed == 0 && result.accept.acknowledged > 100, "{result:#?}");
    assert_eq!(result.instances.len(), 3);
    let rows = result.queue_channel.committed + result.direct_channel.committed;
    assert!(result.instances.iter().all(|instance| instance.rows == Some(rows)), "{result:#?}");
    assert!(result.clock_offsets.len() == 2 && result.clock_offsets.iter().all(|offset| offset.milliseconds.abs() < 500), "{result:#?}");

    let counters = pipeline.emptied(&mut worker, REDELIVERED).await.counters;
    // A row whose commit was not confirmed is a duplicate when it is written again.
    let written = counters.written..=counters.written + counters.duplicates;
    assert!(
        written.contains(&(sent.len() as u64)) && counters.duplicates < 100,
        "the probe's messages are counted as the user's: {counters:?}"
    );
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
    let open: Vec<(i64,)> = pipeline.rows("SELECT count(*) FROM durable_write.drill WHERE closed IS NULL").await;
    assert_eq!(open, [(0,)], "the drill is closed");
}

#[tokio::test]
async fn a_row_that_is_removed_doubled_or_invented_turns_the_count_red() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-planted").await;
    let _worker = flowing(&pipeline).await;
    let plan = plan(&cluster);
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    let _failover = cluster.fail_over(Some(&plan.target)).await.unwrap();
    probe.until_stage("Recovered").await;
    for table in ["probe", "probe_direct"] {
        let table = format!("durable_write.{table}");
        pipeline
            .sql(&format!(
                "DELETE FROM {table} WHERE seq = 3; INSERT INTO {table} SELECT * FROM {table} WHERE seq = 5;
                 INSERT INTO {table} (drill, seq) SELECT drill, 1000000 FROM {table} WHERE seq = 7"
            ))
            .await;
    }
    let result = probe.result(END).await;
    for channel in [&result.queue_channel, &result.direct_channel] {
        assert_eq!((channel.lost, channel.duplicated, channel.unexpected), (1, 1, 1), "{result:#?}");
    }
}

#[tokio::test]
async fn a_writer_that_comes_back_itself_is_the_writer_afterwards() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-back.fifo").await;
    let _worker = flowing(&pipeline).await;
    let plan = plan(&cluster);
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    let cut = cluster.instance_proxy(&plan.writer).unwrap();
    cut.fault(TcpFault::Cut).await;
    sleep(Duration::from_millis(1500)).await;
    cut.heal().await;
    let result = probe.result(END).await;
    let gap = result.gap.as_ref().unwrap();
    assert_eq!(gap.writer_after.as_deref(), Some(plan.writer.as_str()), "{result:#?}");
    assert!((900..=1500).contains(&gap.lower_milliseconds) && gap.upper_milliseconds.unwrap() >= 1500, "{gap:?}");
    assert_eq!(result.writer_changes, 0);
    assert_whole(&result);
}

#[tokio::test]
async fn behind_the_cluster_endpoint_an_old_writer_that_reads_on_does_not_hide_the_new_one() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing { rejoin: Duration::from_secs(8), ..Timing::default() }).await;
    let mut pipeline = pipeline(&cluster, "probe-endpoint").await;
    // Without a password, so that tokens for the cluster endpoint and for the instances are tried as well.
    pipeline.log_in_by_iam().await;
    cluster.allow_login(&worker::identity(), &pipeline.name);
    let _worker = flowing(&pipeline).await;
    let plan = ProbePlan { direct_path: DirectPath::ClusterEndpoint, ..plan(&cluster) };
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    let failover = cluster.fault(Fault::WriterTurnsReader).await.unwrap();
    let result = probe.result(END).await;
    let gap = result.gap.as_ref().unwrap();
    assert_eq!(gap.writer_after, failover.to, "{result:#?}");
    assert!(gap.failed_attempts > 0 && gap.upper_milliseconds.unwrap() < 5000, "{gap:?}");
    assert_whole(&result);
    assert_eq!(cluster.refused_logins(), [""; 0]);
}

#[tokio::test]
async fn a_worker_that_is_killed_in_the_outage_loses_and_doubles_nothing() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing { detection: Duration::from_secs(2), ..Timing::default() }).await;
    let pipeline = pipeline(&cluster, "probe-killed").await;
    let workers = [flowing(&pipeline).await, flowing(&pipeline).await];
    let plan = plan(&cluster);
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    let [one, _other] = workers;
    let kill = async {
        probe.until_stage("Outage").await;
        one.kill();
    };
    let (failover, ()) = tokio::join!(cluster.fault(Fault::WriterKilled), kill);
    failover.unwrap();
    let result = probe.result(END).await;
    assert_whole(&result);
    assert_eq!(sqs::depth(&pipeline.client, &pipeline.dead_letters.url).await.unwrap().total(), 0);
}

/// A look at the table that hangs must not make the drain longer than it was.
#[tokio::test]
async fn a_lock_on_the_probes_tables_holds_its_messages_up_and_loses_none() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-locked").await;
    let _worker = flowing(&pipeline).await;
    let plan = plan(&cluster);
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    let _failover = cluster.fail_over(Some(&plan.target)).await.unwrap();
    probe.until_stage("Recovered").await;
    pipeline.sql("BEGIN; LOCK TABLE durable_write.probe IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT").await;
    let result = probe.result(END).await;
    assert_whole(&result);
    let drained = result.drained_milliseconds.unwrap();
    assert!((8000..18_000).contains(&drained), "{drained} ms: {result:#?}");
}
