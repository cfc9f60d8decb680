//! Messages that were received too often.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as Name};
use durable_write_testbed::sqs::{self, Queue};

use super::common::{Bed, client, system};

pub async fn pair(name: &str, max_receive_count: u32) -> (Bed, Queue) {
    let client = client().await;
    let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&client, name, max_receive_count).await.unwrap();
    (Bed { client, queue }, dead_letters)
}

/// Receives and releases; the last receive.
pub async fn fail(bed: &Bed, times: u32) -> Vec<Message> {
    let mut last = Vec::new();
    for _ in 0..times {
        last = bed.receive().await;
        for message in &last {
            bed.hide_for(message, 0).await.unwrap();
        }
    }
    last
}

#[tokio::test]
async fn a_message_moves_at_the_receive_after_the_last_allowed_one_and_keeps_its_id_and_time() {
    let (bed, dead_letters) = pair("redrive", 2).await;
    bed.send("1").await;
    let last = fail(&bed, 2).await;
    assert_eq!(sqs::depth(&bed.client, &dead_letters.url).await.unwrap().total(), 0, "it waits for the next receive");
    assert!(bed.receive().await.is_empty());
    let moved = sqs::drain_all(&bed.client, &dead_letters.url).await.unwrap();
    assert_eq!(moved[0].message_id(), last[0].message_id());
    assert_eq!(system(&moved[0], Name::SentTimestamp), system(&last[0], Name::SentTimestamp));
    assert_eq!(system(&moved[0], Name::DeadLetterQueueSourceArn), Some(bed.queue.arn.as_str()));
}

#[tokio::test]
async fn on_a_fifo_queue_the_deduplication_id_becomes_the_message_id_and_the_next_of_the_group_follows() {
    let (bed, dead_letters) = pair("redrive.fifo", 1).await;
    bed.send_to("a", "1").await;
    let last = fail(&bed, 1).await;
    bed.send_to("a", "2").await;
    assert_eq!(bed.bodies().await, ["2"]);
    let moved = sqs::drain_all(&bed.client, &dead_letters.url).await.unwrap();
    assert_eq!(moved[0].message_id(), last[0].message_id());
    assert_eq!(system(&moved[0], Name::MessageGroupId), Some("a"));
    assert_eq!(system(&moved[0], Name::MessageDeduplicationId), moved[0].message_id());
}

#[tokio::test]
async fn a_move_task_brings_moved_messages_back_with_all_their_receives_ahead() {
    let (bed, dead_letters) = pair("redrive-back", 2).await;
    bed.send("1").await;
    assert!(fail(&bed, 3).await.is_empty(), "the third receive moves it");
    bed.client.start_message_move_task().source_arn(&dead_letters.arn).destination_arn(&bed.queue.arn).send().await.unwrap();
    for count in ["1", "2"] {
        let back = bed.receive_soon().await.remove(0);
        assert_eq!(system(&back, Name::ApproximateReceiveCount), Some(count));
        bed.hide_for(&back, 0).await.unwrap();
    }
}
