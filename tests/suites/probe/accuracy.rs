//! The bounds of the outage against the truth, which the local cluster knows.

use std::time::Duration;

use durable_write_crds::probe::{ATTEMPT_MILLISECONDS, ProbePlan};
use durable_write_testbed::aurora::{Fault, Timing};

use crate::ground::{Probe, assert_contains_truth, flowing, milliseconds, pipeline, plan, turn};
use crate::pipelines::own_cluster;

/// Between direct writes, in milliseconds.
const INTERVAL: f64 = 100.0;
/// How wide the bounds may be beyond three intervals.
const SLACK: f64 = 100.0;

/// When the old writer's files are copied anew, which keeps this machine busy as no failover of Aurora does: after the cool-down.
const REJOIN: Duration = Duration::from_secs(4);

/// Drills one after the other, with outages of about these lengths in milliseconds; each time the truth must be within the bounds. The bounds
/// are as near as is promised in the median, as a busy machine makes single ones wider; ticks that the probe has missed do not count.
async fn outages(name: &str, fault: Fault, lengths: &[u64]) {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, name).await;
    let _worker = flowing(&pipeline).await;
    let (mut widths, mut errors) = (Vec::new(), Vec::new());
    for length in lengths {
        cluster.set_timing(Timing { detection: Duration::from_millis(*length), rejoin: REJOIN, ..Timing::default() });
        let plan = ProbePlan { messages_per_second: 20, ..plan(&cluster) };
        let mut probe = Probe::start(&pipeline, &plan);
        probe.ready().await;
        let failover = cluster.fault(fault).await.unwrap();
        let result = probe.result(Duration::from_secs(120)).await;
        let gap = result.gap.as_ref().unwrap_or_else(|| panic!("no gap: {result:#?}"));
        let (lower, upper) = (gap.lower_milliseconds as f64, gap.upper_milliseconds.unwrap() as f64);
        let (truth, width) = (milliseconds(failover.truth.unwrap().gap), upper - lower);
        println!("{fault:?}: {truth:.0} ms, bounds {lower} to {upper}, width {width}, ticks missed {}", result.missed_ticks_in_gap);
        assert_contains_truth(&result, &failover);
        assert_eq!(gap.writer_after, failover.to);
        assert_eq!((result.queue_channel.lost, result.direct_channel.lost), (0, 0), "{result:#?}");
        widths.push(width - INTERVAL * result.missed_ticks_in_gap as f64);
        errors.push(((lower + upper) / 2.0 - truth).abs());
    }
    for (what, figures) in [("width", &mut widths), ("distance of the middle from the truth", &mut errors)] {
        figures.sort_by(f64::total_cmp);
        println!("{fault:?}: {what} in ms: median {:.0}, worst {:.0}", figures[figures.len() / 2], figures[figures.len() - 1]);
    }
    let unanswered = if fault == Fault::WriterHangs { ATTEMPT_MILLISECONDS as f64 } else { 0.0 };
    let most = 3.0 * INTERVAL + SLACK + unanswered;
    assert!(widths[widths.len() / 2] <= most, "wider than {most} ms: {widths:?}");
}

#[tokio::test]
async fn the_truth_is_within_near_bounds_when_the_writer_is_killed() {
    outages("probe-accuracy-killed", Fault::WriterKilled, &[500, 700, 1000, 2000, 19_000]).await;
}

#[tokio::test]
async fn the_truth_is_within_near_bounds_when_the_writer_hangs() {
    outages("probe-accuracy-hangs.fifo", Fault::WriterHangs, &[500, 1000, 2500, 4000, 8000]).await;
}

/// From half a second to 20 s.
const SOAK: [u64; 15] = [300, 400, 700, 1200, 1900, 2800, 3900, 5200, 6700, 8400, 10_300, 12_400, 14_700, 17_200, 19_800];

#[tokio::test]
#[ignore = "five minutes"]
async fn the_truth_is_within_near_bounds_fifteen_times_when_the_writer_is_killed() {
    outages("probe-soak-killed", Fault::WriterKilled, &SOAK).await;
}

#[tokio::test]
#[ignore = "five minutes"]
async fn the_truth_is_within_near_bounds_fifteen_times_when_the_writer_hangs() {
    outages("probe-soak-hangs.fifo", Fault::WriterHangs, &SOAK).await;
}
