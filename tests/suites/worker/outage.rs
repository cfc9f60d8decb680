//! An outage of the database costs time, and nothing else.

use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_testbed::aurora::{Fault, Timing};
use durable_write_testbed::sqs;

use super::ground::{Pipeline, REDELIVERED, SOON, orders, own_cluster};

const OUTAGE: Duration = Duration::from_secs(30);
const MEBIBYTE: u64 = 1024 * 1024;

/// The queue itself counts: it lets a message be received twice, and moves it to the dead-letter queue at the third time.
const MOST_RECEIVES: u32 = 2;

#[tokio::test]
async fn an_outage_of_30_s_with_ten_restarts_of_the_worker_spends_at_most_one_receive_of_a_message_and_dead_letters_none() {
    let cluster = own_cluster(Timing { promotion: OUTAGE, ..Timing::default() }).await;
    let pipeline = Pipeline::of_orders(cluster.clone(), "outage.fifo").await;
    let policy = serde_json::json!({"deadLetterTargetArn": pipeline.dead_letters.arn, "maxReceiveCount": MOST_RECEIVES.to_string()});
    let name = aws_sdk_sqs::types::QueueAttributeName::RedrivePolicy;
    pipeline.client.set_queue_attributes().queue_url(&pipeline.queue.url).attributes(name, policy.to_string()).send().await.unwrap();
    let mut worker = pipeline.start();
    let mut sent = orders("early", 0..100, true);
    pipeline.send(&sent).await;
    pipeline.emptied(&mut worker, SOON).await;
    for team in 0..10 {
        sent.extend(orders(&format!("team-{team}"), 0..100, true));
    }

    let mut peak = 0;
    let in_the_outage = async {
        // They come while the writer goes, so that the first worker holds some of them.
        pipeline.send(&sent[100..]).await;
        worker.wait_for("it says so", SOON, |state| state.flowing.reason == reasons::DATABASE_OUTAGE).await.unwrap();
        peak = worker.peak_memory().unwrap();
        worker.stop().await.unwrap();
        let depth = sqs::depth(&pipeline.client, &pipeline.queue.url).await.unwrap();
        assert!(depth.visible > 100 && depth.in_flight == 0, "it holds, or has written, too much: {depth:?}");
        // Those after it have nothing to give back and are killed.
        for _ in 0..9 {
            let mut next = pipeline.start();
            let state = next.wait_for("it knows the queue", SOON, |state| state.queue_ready.status == Some(true)).await.unwrap();
            assert_eq!((state.flowing.status, state.counters.received), (Some(false), 0), "{state:?}");
            peak = peak.max(next.peak_memory().unwrap());
            next.kill();
        }
        assert_eq!(sqs::depth(&pipeline.client, &pipeline.queue.url).await.unwrap(), depth, "somebody received in the outage");
        assert!(cluster.timeline()[0].writable.is_none(), "the outage was over before the restarts: this test shows nothing");
        pipeline.start()
    };
    let (failover, mut last) = tokio::join!(cluster.fault(Fault::WriterKilled), in_the_outage);
    assert!(failover.unwrap().outage().unwrap() >= OUTAGE);

    pipeline.emptied(&mut last, REDELIVERED).await;
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
    peak = peak.max(last.peak_memory().unwrap());
    assert!(peak <= (256 + 64) * MEBIBYTE, "a worker took {} MiB", peak / MEBIBYTE);
}
