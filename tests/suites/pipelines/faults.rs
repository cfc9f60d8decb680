//! Faults under load, on a standard and on a FIFO queue side by side: nothing is lost, doubled, given up or out of order.

use anyhow::ensure;
use durable_write_testbed::proxy::http::{Extent, HttpFault};
use durable_write_testbed::proxy::tcp::TcpFault;

use crate::ground::{Ground, ground, until};
use crate::operator;
use crate::pipeline::{Pipeline, stop};

/// The most receives of a message. A poll of a FIFO queue whose reply is lost is sent again up to twice for the same messages, and SQS here
/// counts each time; a killed worker spends one more, failovers none, and one must bring the message home.
const RECEIVES: u32 = 3 + 1 + 1;

#[tokio::test]
async fn killed_workers_lost_replies_a_killed_operator_and_three_failovers_lose_double_and_reorder_nothing() {
    let ground = ground().await;
    ground.namespace("faults").await;
    let standard = Pipeline::like_the_example(&ground, "faults", "faults", RECEIVES).await;
    let groups = Pipeline::like_the_example(&ground, "faults", "faults.fifo", RECEIVES).await;
    tokio::join!(standard.start(), groups.start());
    let (load, load_of_groups) = (standard.load("faults", 30.0), groups.load("faults", 30.0));
    let both = Both(&standard, &groups);
    both.write("the start").await;

    replies_of_commits_are_lost(&ground, &both).await;
    replies_of_the_queue_are_lost(&ground, &both).await;
    workers_are_killed(&both).await;
    fail_over(&ground, &both).await;
    tokio::join!(fail_over(&ground, &both), operator::lose(&ground));
    fail_over(&ground, &both).await;

    let (sent, sent_to_groups) = (stop(load).await, stop(load_of_groups).await);
    tokio::join!(standard.has_moved("faults", &sent), groups.has_moved("faults", &sent_to_groups));
    ground.leave("faults").await;
}

struct Both<'a>(&'a Pipeline<'a>, &'a Pipeline<'a>);

impl Both<'_> {
    async fn write(&self, after: &str) {
        tokio::join!(self.0.writes(after), self.1.writes(after));
    }
}

/// First of all faults, as long as nothing but a lost reply can make a message come to a worker twice.
async fn replies_of_commits_are_lost(ground: &Ground, both: &Both<'_>) {
    let aurora = ground.aurora();
    let endpoints = [aurora.instance_proxy(&aurora.writer().unwrap().name).unwrap(), aurora.cluster_proxy()];
    for endpoint in endpoints {
        endpoint.fault(TcpFault::ReplyLost).await;
    }
    tokio::join!(both.0.backs_up(), both.1.backs_up());
    for endpoint in endpoints {
        endpoint.cut().await;
        endpoint.heal().await;
    }
    for pipeline in [both.0, both.1] {
        until("a committed row to be found again", async || {
            let duplicates: u64 = pipeline.counters().await?.iter().map(|counters| counters.duplicates).sum();
            ensure!(duplicates > 0, "no reply of a commit was lost");
            Ok(())
        })
        .await;
    }
    both.write("lost replies of commits").await;
}

async fn replies_of_the_queue_are_lost(ground: &Ground, both: &Both<'_>) {
    let proxy = ground.sqs_proxy();
    for (action, times) in [("ReceiveMessage", 6), ("DeleteMessageBatch", 6)] {
        let before = proxy.calls(action).faulted;
        proxy.place(action, HttpFault::ReplyLost, Extent::Next(times));
        until(&format!("replies of {action} to be lost"), async || {
            let faulted = proxy.calls(action).faulted - before;
            ensure!(faulted == times, "{faulted} were");
            Ok(())
        })
        .await;
    }
    both.write("lost replies of the queue").await;
}

async fn workers_are_killed(both: &Both<'_>) {
    tokio::join!(both.0.kill_a_process(), both.1.kill_a_process());
    tokio::join!(both.0.lose_a_pod(), both.1.lose_a_pod());
    both.write("the end of workers").await;
}

async fn fail_over(ground: &Ground, both: &Both<'_>) {
    ground.access().fail_over().await.unwrap();
    ground.aurora().settled().await;
    both.write("a failover").await;
}
