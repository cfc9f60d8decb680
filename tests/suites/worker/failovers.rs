//! Failovers under load: nothing is lost, doubled, dead-lettered or out of order, and nobody has to do anything.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_write_crds::wire::WorkerState;
use durable_write_testbed::aurora::{Fault, Timing};
use tokio::time::{MissedTickBehavior, interval};

use super::ground::{Outgoing, Pipeline, REDELIVERED, SOON, orders, own_cluster, until};

/// Sends messages of ten groups, 50 a second, until it is told to stop.
async fn load(pipeline: &Pipeline, stop: &AtomicBool) -> Vec<Outgoing> {
    let fifo = pipeline.queue.name.ends_with(".fifo");
    let mut sent = Vec::new();
    let mut ticks = interval(Duration::from_millis(200));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ticks.tick().await;
        let batch: Vec<Outgoing> = (0..10).flat_map(|team| orders(&format!("team-{team}"), number..number + 1, fifo)).collect();
        pipeline.send(&batch).await;
        sent.extend(batch);
    }
    sent
}

#[tokio::test]
async fn failovers_of_each_kind_under_load_lose_double_and_reorder_nothing() {
    failovers_under_load(3).await;
}

#[tokio::test]
#[ignore = "takes 3 minutes; a part of the soak"]
async fn thirty_failovers_under_load_lose_double_and_reorder_nothing() {
    failovers_under_load(30).await;
}

async fn failovers_under_load(count: usize) {
    let timing = Timing { detection: Duration::from_secs(1), promotion: Duration::from_secs(1), ..Timing::default() };
    let cluster = own_cluster(timing).await;
    let standard = Pipeline::of_orders(cluster.clone(), "failovers").await;
    let groups = Pipeline::of_orders(cluster.clone(), "failovers-groups.fifo").await;
    let mut workers = [standard.start(), standard.start(), groups.start(), groups.start()];
    for worker in &mut workers {
        worker.wait_for("it is ready to write", SOON, |state| state.flowing.status == Some(true)).await.unwrap();
    }

    let stop = AtomicBool::new(false);
    let drive = async {
        for (number, fault) in (1..).zip([Fault::WriterKilled, Fault::WriterHangs, Fault::Planned].into_iter().cycle().take(count)) {
            let (before, before_groups) = (standard.count().await, groups.count().await);
            cluster.fault(fault).await.unwrap();
            until("both write again", SOON, async || standard.count().await > before && groups.count().await > before_groups).await;
            // To a worker that has not found the writer yet, the next failover would be a part of this one.
            for worker in &workers {
                let over = |state: WorkerState| state.counters.outages >= number && state.flowing.status == Some(true);
                until("each worker to have noticed it", SOON, async || worker.state().await.is_ok_and(over)).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, sent_groups, ()) = tokio::join!(load(&standard, &stop), load(&groups, &stop), drive);

    let [one, two, three, four] = &mut workers;
    for (pipeline, workers, sent) in [(&standard, [one, two], &sent), (&groups, [three, four], &sent_groups)] {
        for worker in workers {
            let state = pipeline.emptied(worker, REDELIVERED).await;
            assert!(state.counters.outages >= count as u64, "it did not notice {count} failovers: {:?}", state.counters);
            assert_eq!(state.database.writer, Some(cluster.writer().unwrap().name));
        }
        pipeline.assert_exactly(sent).await;
        pipeline.assert_in_order().await;
    }
}

#[tokio::test]
async fn a_writer_that_turns_reader_under_open_connections_is_left_at_once() {
    let timing = Timing { rejoin: Duration::from_secs(5), ..Timing::default() };
    let cluster = own_cluster(timing).await;
    let pipeline = Pipeline::of_orders(cluster.clone(), "failovers-reader.fifo").await;
    let mut worker = pipeline.start();
    worker.wait_for("it is ready to write", SOON, |state| state.flowing.status == Some(true)).await.unwrap();

    let stop = AtomicBool::new(false);
    let drive = async {
        until("it writes", SOON, async || pipeline.count().await > 20).await;
        let moved = async {
            worker
                .wait_for("it writes to the new writer", SOON, |state| {
                    state.database.writer.as_deref() == Some("orders-2") && state.flowing.status == Some(true)
                })
                .await
                .unwrap();
            let open: Vec<(i64,)> = pipeline.rows("SELECT count(*) FROM orders").await;
            until("it writes rows there", SOON, async || pipeline.rows::<(i64,)>("SELECT count(*) FROM orders").await > open).await;
            assert!(!cluster.instances()[0].writer, "the old writer is writer again");
        };
        let (failover, ()) = tokio::join!(cluster.fault(Fault::WriterTurnsReader), moved);
        failover.unwrap();
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(load(&pipeline, &stop), drive);
    let state = pipeline.emptied(&mut worker, REDELIVERED).await;
    assert_eq!(state.counters.outages, 1, "read-only connections to the old writer were used again");
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
}
