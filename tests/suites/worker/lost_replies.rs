//! A crash or a lost answer, wherever it happens, neither loses a message nor doubles a row.

use std::net::{Ipv4Addr, SocketAddr};

use durable_write_crds::wire::{Topology, TopologyInstance};
use durable_write_testbed::proxy::http::{Extent, HttpFault, HttpFaultProxy};
use durable_write_testbed::proxy::tcp::{TcpFault, TcpFaultProxy};
use durable_write_testbed::sqs::Sqs;

use super::ground::{Outgoing, Pipeline, REDELIVERED, SOON, orders, shared_cluster, until};

/// A pipeline whose workers reach the queues through a proxy.
async fn behind_proxy(queue: &str) -> (Pipeline, HttpFaultProxy) {
    let mut pipeline = Pipeline::of_orders(shared_cluster().await, queue).await;
    let upstream = Sqs::shared().await.unwrap().addresses()[0];
    let proxy = HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], upstream).await.unwrap();
    pipeline.sqs_endpoint = proxy.endpoint();
    (pipeline, proxy)
}

fn five_groups(fifo: bool) -> Vec<Outgoing> {
    ["a", "b", "c", "d", "e"].iter().flat_map(|team| orders(team, 0..40, fifo)).collect()
}

/// A worker dies when it has committed and not yet deleted.
async fn killed_between_commit_and_delete(queue: &str) {
    let (pipeline, proxy) = behind_proxy(queue).await;
    let sent = five_groups(queue.ends_with(".fifo"));
    pipeline.send(&sent).await;
    proxy.place("DeleteMessageBatch", HttpFault::Hung { forward: false }, Extent::UntilCleared);
    let worker = pipeline.start();
    until("rows are committed", SOON, async || pipeline.count().await >= 10).await;
    worker.kill();
    proxy.clear();
    assert_eq!(pipeline.left().await, 200, "something was deleted");

    let mut next = pipeline.start();
    let state = pipeline.emptied(&mut next, REDELIVERED).await;
    assert!(state.counters.duplicates >= 10, "nothing came twice: this test shows nothing");
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
}

#[tokio::test]
async fn a_worker_killed_between_commit_and_delete_leaves_no_duplicate() {
    killed_between_commit_and_delete("lost-kill").await;
}

#[tokio::test]
async fn a_worker_killed_between_commit_and_delete_leaves_groups_in_order() {
    killed_between_commit_and_delete("lost-kill.fifo").await;
}

/// The answer to a commit never arrives, and the connection is cut some time after.
async fn commit_reply_lost(queue: &str) {
    let pipeline = Pipeline::of_orders(shared_cluster().await, queue).await;
    let writer = pipeline.cluster.writer().unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let proxy = TcpFaultProxy::start(&[listen], writer.endpoint.parse().unwrap()).await.unwrap();
    let endpoint = proxy.addresses()[0].to_string();
    let instances = vec![TopologyInstance { name: writer.name, endpoint: endpoint.clone() }];
    pipeline.mounts.write_topology(&Topology { writer: endpoint, instances, resource_id: None }).unwrap();
    let mut worker = pipeline.start();
    let fifo = queue.ends_with(".fifo");
    // A first row, so that the connection knows the statement: it is prepared in a round trip of its own.
    let mut sent = orders("first", 0..1, fifo);
    pipeline.send(&sent).await;
    pipeline.emptied(&mut worker, SOON).await;

    proxy.fault(TcpFault::ReplyLost).await;
    let others = five_groups(fifo);
    pipeline.send(&others).await;
    sent.extend(others);
    until("rows are committed", SOON, async || pipeline.count().await > 1).await;
    let state = worker.state().await.unwrap();
    assert_eq!((state.counters.written, state.counters.acknowledged), (1, 1), "it cannot know of a commit");
    proxy.cut().await;
    proxy.heal().await;

    let state = pipeline.emptied(&mut worker, REDELIVERED).await;
    assert!(state.counters.duplicates > 0 && state.counters.outages > 0, "no reply was lost: this test shows nothing");
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
}

#[tokio::test]
async fn a_lost_reply_of_a_commit_leaves_no_duplicate() {
    commit_reply_lost("lost-commit").await;
}

#[tokio::test]
async fn a_lost_reply_of_a_commit_leaves_groups_in_order() {
    commit_reply_lost("lost-commit.fifo").await;
}

/// Lost answers, refused entries and a service that is throttled or broken now and then.
async fn faults_of_the_queue(queue: &str) {
    let (pipeline, proxy) = behind_proxy(queue).await;
    let error = |status, code: &str| HttpFault::Error { status, code: code.to_owned() };
    let partial = HttpFault::PartialFailure { positions: vec![0, 3, 4], code: "InternalError".to_owned(), sender_fault: false };
    let randomly = |probability| Extent::Randomly { probability, seed: 7 };
    proxy.place("ReceiveMessage", HttpFault::ReplyLost, Extent::Next(2));
    proxy.place("ReceiveMessage", error(503, "ServiceUnavailable"), randomly(0.1));
    proxy.place("DeleteMessageBatch", HttpFault::ReplyLost, Extent::Next(2));
    proxy.place("DeleteMessageBatch", partial, randomly(0.3));
    proxy.place("DeleteMessageBatch", error(400, "ThrottlingException"), randomly(0.2));
    proxy.place("DeleteMessageBatch", HttpFault::RequestLost, randomly(0.1));
    let sent = five_groups(queue.ends_with(".fifo"));
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, REDELIVERED).await;
    for action in ["ReceiveMessage", "DeleteMessageBatch"] {
        assert!(proxy.calls(action).faulted >= 2, "{action} was not disturbed: this test shows nothing");
    }
    pipeline.assert_exactly(&sent).await;
    pipeline.assert_in_order().await;
}

#[tokio::test]
async fn lost_and_refused_receives_and_deletes_lose_and_double_nothing() {
    faults_of_the_queue("lost-calls").await;
}

#[tokio::test]
async fn lost_and_refused_receives_and_deletes_keep_groups_in_order() {
    faults_of_the_queue("lost-calls.fifo").await;
}

#[tokio::test]
async fn a_delete_that_never_answers_holds_up_neither_other_deletes_nor_receiving() {
    let (pipeline, proxy) = behind_proxy("lost-hung").await;
    proxy.place("DeleteMessageBatch", HttpFault::Hung { forward: true }, Extent::Next(3));
    let sent = orders("a", 0..1000, false);
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    pipeline.emptied(&mut worker, SOON).await;
    pipeline.assert_exactly(&sent).await;
}

#[tokio::test]
async fn a_refused_dead_letter_is_held_and_sent_again_and_nothing_is_lost() {
    let (pipeline, proxy) = behind_proxy("lost-letter").await;
    let denied = HttpFault::Error { status: 403, code: "AccessDeniedException".to_owned() };
    proxy.place("SendMessage", denied, Extent::UntilCleared);
    let mut sent = orders("a", 0..100, false);
    sent[50].body = "not JSON".to_owned();
    pipeline.send(&sent).await;
    let mut worker = pipeline.start();
    let state = worker.wait_for("it says so", SOON, |state| state.queue_ready.reason == "DeadLetterRefused").await.unwrap();
    assert_eq!(state.queue_ready.status, Some(false));
    assert!(state.queue_ready.message.contains("SendMessage"), "{}", state.queue_ready.message);
    until("all others are written", SOON, async || pipeline.count().await == 99).await;
    until("only the bad one is left", SOON, async || pipeline.left().await == 1).await;
    proxy.clear();
    pipeline.emptied(&mut worker, SOON).await;
    assert_eq!(pipeline.take_dead_letters().await.len(), 1);
    worker.wait_for("it is well again", SOON, |state| state.queue_ready.status == Some(true)).await.unwrap();
}
