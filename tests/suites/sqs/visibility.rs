//! When a received message can be received again. Long polls. What expired handles are worth is among the differences.

use std::time::Duration;

use aws_sdk_sqs::types::MessageSystemAttributeName as Name;
use durable_write_testbed::sqs::QueueOptions;
use tokio::time::Instant;

use super::common::{Bed, bed, bed_with, system};

async fn one(name: &str) -> Bed {
    let bed = bed(name).await;
    bed.send("1").await;
    bed
}

#[tokio::test]
async fn the_visibility_of_a_receive_outdoes_the_queues() {
    let bed = bed_with("visibility-receive", QueueOptions { visibility: Some(Duration::from_secs(600)), ..QueueOptions::default() }).await;
    bed.send("1").await;
    assert_eq!(bed.receive_for(1).await.len(), 1);
    assert_eq!(bed.receive_soon().await.len(), 1);
}

#[tokio::test]
async fn a_change_counts_from_now_and_zero_releases_at_once() {
    let bed = one("visibility-change").await;
    let message = bed.receive_for(1).await.remove(0);
    bed.hide_for(&message, 60).await.unwrap();
    let past_the_first = bed.client.receive_message().queue_url(&bed.queue.url).wait_time_seconds(2).send().await.unwrap();
    assert!(past_the_first.messages().is_empty());
    bed.hide_for(&message, 0).await.unwrap();
    assert_eq!(bed.receive().await.len(), 1);
}

#[tokio::test]
async fn each_receive_is_counted_and_the_first_is_remembered() {
    let bed = one("visibility-count").await;
    let mut first_receives = Vec::new();
    for count in ["1", "2", "3"] {
        let message = bed.receive().await.remove(0);
        assert_eq!(system(&message, Name::ApproximateReceiveCount), Some(count));
        first_receives.push(system(&message, Name::ApproximateFirstReceiveTimestamp).unwrap().to_owned());
        bed.hide_for(&message, 0).await.unwrap();
    }
    assert!(first_receives.iter().all(|time| *time == first_receives[0]));
}

#[tokio::test]
async fn on_a_standard_queue_an_expired_handle_still_deletes() {
    let bed = one("visibility-expired").await;
    let message = bed.receive_for(1).await.remove(0);
    bed.until_visible_again().await;
    bed.delete(&message).await.unwrap();
    assert_eq!(bed.depth().await.total(), 0);
}

#[tokio::test]
async fn a_long_poll_ends_with_the_first_message_and_else_after_its_time() {
    let bed = bed("visibility-poll").await;
    let start = Instant::now();
    let request = bed.client.receive_message().queue_url(&bed.queue.url).wait_time_seconds(1);
    assert!(request.send().await.unwrap().messages.unwrap_or_default().is_empty());
    assert!(start.elapsed() >= Duration::from_secs(1));
    let send = async {
        tokio::time::sleep(Duration::from_millis(300)).await; // so that the poll is there first
        bed.send("1").await;
    };
    let start = Instant::now();
    let ((), received) = tokio::join!(send, bed.receive_soon());
    assert!(received.len() == 1 && start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_long_poll_ends_when_a_group_is_unlocked() {
    let bed = bed("visibility-poll.fifo").await;
    bed.send_to("a", "1").await;
    let first = bed.receive().await.remove(0);
    bed.send_to("a", "2").await;
    let delete = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bed.delete(&first).await.unwrap();
    };
    let start = Instant::now();
    let ((), received) = tokio::join!(delete, bed.receive_soon());
    assert!(received.len() == 1 && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
