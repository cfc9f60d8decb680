//! The bounds of the outage against the truth, which the local cluster knows.

use std::time::Duration;

use durable_write_testbed::aurora::{Fault, Timing};

use crate::ground::{Probe, flowing, pipeline, plan, truth, turn};
use crate::pipelines::own_cluster;

/// Drills one after the other, with outages of about these lengths in milliseconds; each time the truth must be within the bounds.
async fn outages(name: &str, fault: Fault, lengths: &[u64]) {
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, name).await;
    let _worker = flowing(&pipeline).await;
    for length in lengths {
        cluster.set_timing(Timing { detection: Duration::from_millis(*length), ..Timing::default() });
        let plan = plan(&cluster);
        let mut probe = Probe::start(&pipeline, &plan);
        probe.ready().await;
        let failover = cluster.fault(fault).await.unwrap();
        let result = probe.result(Duration::from_secs(120)).await;
        let gap = result.gap.as_ref().unwrap_or_else(|| panic!("no gap: {result:#?}"));
        let ((least, most), upper) = (truth(&failover), gap.upper_milliseconds.unwrap());
        println!(
            "{fault:?}: truth {least} to {most} ms, bounds {} to {upper} ms, width {} ms, {} failed, {} ticks missed",
            gap.lower_milliseconds,
            upper - gap.lower_milliseconds,
            gap.failed_attempts,
            result.missed_ticks
        );
        assert!(gap.lower_milliseconds <= most, "the lower bound is above the truth of {most} ms: {gap:?}");
        assert!(upper >= least, "the upper bound is below the truth of {least} ms: {gap:?}");
        assert_eq!(gap.writer_after, failover.to);
        assert_eq!((result.queue_channel.lost, result.direct_channel.lost), (0, 0), "{result:#?}");
    }
}

#[tokio::test]
async fn the_truth_is_within_the_bounds_when_the_writer_is_killed() {
    let _turn = turn().await;
    outages("probe-accuracy-killed", Fault::WriterKilled, &[300, 2000]).await;
}

#[tokio::test]
async fn the_truth_is_within_the_bounds_when_the_writer_hangs() {
    let _turn = turn().await;
    outages("probe-accuracy-hangs.fifo", Fault::WriterHangs, &[300, 3000]).await;
}

/// For soak.
#[tokio::test]
#[ignore = "ten minutes"]
async fn the_truth_is_within_the_bounds_over_thirty_outages() {
    let _turn = turn().await;
    let lengths: Vec<u64> = (0..15).map(|number| 300 + number * number * 100).collect();
    tokio::join!(
        outages("probe-soak-killed", Fault::WriterKilled, &lengths),
        outages("probe-soak-hangs.fifo", Fault::WriterHangs, &lengths)
    );
}
