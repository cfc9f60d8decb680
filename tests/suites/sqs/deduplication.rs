//! What counts as the same message on a FIFO queue.

use aws_sdk_sqs::operation::send_message::SendMessageOutput;
use durable_write_testbed::sqs::QueueOptions;

use super::common::{Bed, bed, bed_with, code};

async fn send(bed: &Bed, group: &str, body: &str, id: Option<&str>) -> SendMessageOutput {
    let message = bed.client.send_message().queue_url(&bed.queue.url).message_body(body).message_group_id(group);
    message.set_message_deduplication_id(id.map(str::to_owned)).send().await.unwrap()
}

#[tokio::test]
async fn a_second_send_with_the_same_id_is_acknowledged_with_the_first_message_id_and_dropped() {
    let bed = bed("dedup-id.fifo").await;
    let first = send(&bed, "a", "one", Some("id")).await;
    let second = send(&bed, "b", "other", Some("id")).await;
    assert_eq!(first.message_id(), second.message_id());
    assert_eq!(first.sequence_number(), second.sequence_number());
    assert_eq!(bed.bodies().await, ["one"]);
}

#[tokio::test]
async fn the_id_is_remembered_after_the_message_was_deleted() {
    let bed = bed("dedup-deleted.fifo").await;
    send(&bed, "a", "one", Some("id")).await;
    bed.delete(&bed.receive().await[0]).await.unwrap();
    send(&bed, "a", "two", Some("id")).await;
    assert_eq!(bed.depth().await.total(), 0);
}

#[tokio::test]
async fn content_based_deduplication_takes_equal_bodies_as_one_unless_an_id_says_otherwise() {
    let options = QueueOptions { content_based_deduplication: true, ..QueueOptions::default() };
    let bed = bed_with("dedup-content.fifo", options).await;
    send(&bed, "a", "same", None).await;
    send(&bed, "a", "same", None).await;
    send(&bed, "a", "same", Some("other")).await;
    assert_eq!(bed.bodies().await, ["same", "same"]);
}

#[tokio::test]
async fn without_id_and_content_based_deduplication_a_send_is_refused() {
    let bed = bed("dedup-none.fifo").await;
    let send = bed.client.send_message().queue_url(&bed.queue.url).message_body("1").message_group_id("a").send().await;
    assert_eq!(code(&send.unwrap_err()), "InvalidParameterValue");
}
