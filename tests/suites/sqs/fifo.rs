//! Order within a group, and which messages a group in flight holds back.

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as Name};

use super::common::{Bed, bed, system};

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.body().unwrap()).collect()
}

/// Three messages of one group, received together.
async fn three_in_flight(name: &str, visibility: i32) -> (Bed, Vec<Message>) {
    let bed = bed(name).await;
    for body in ["1", "2", "3"] {
        bed.send_to("a", body).await;
    }
    let messages = bed.receive_for(visibility).await;
    assert_eq!(bodies(&messages), ["1", "2", "3"]);
    (bed, messages)
}

#[tokio::test]
async fn a_receive_gives_several_messages_of_a_group_in_order_and_locks_the_group() {
    let (bed, messages) = three_in_flight("fifo-lock.fifo", 60).await;
    bed.send_to("a", "4").await;
    bed.send_to("b", "other").await;
    assert_eq!(bed.bodies().await, ["other"], "a group in flight gives nothing, another one does");
    for message in &messages[..2] {
        bed.delete(message).await.unwrap();
    }
    assert!(bed.bodies().await.is_empty(), "the group is locked as long as one message is in flight");
    bed.delete(&messages[2]).await.unwrap();
    assert_eq!(bed.bodies().await, ["4"]);
}

#[tokio::test]
async fn after_the_visibility_has_run_out_the_group_comes_again_in_the_same_order() {
    let (bed, _) = three_in_flight("fifo-expiry.fifo", 1).await;
    bed.until_visible_again().await;
    let again = bed.receive().await;
    assert_eq!(bodies(&again), ["1", "2", "3"]);
    assert!(again.iter().all(|message| system(message, Name::ApproximateReceiveCount) == Some("2")));
}

#[tokio::test]
async fn released_in_order_the_group_comes_again_in_order() {
    let (bed, messages) = three_in_flight("fifo-release.fifo", 60).await;
    for message in &messages {
        bed.hide_for(message, 0).await.unwrap();
    }
    assert_eq!(bed.bodies().await, ["1", "2", "3"]);
}

#[tokio::test]
async fn a_later_message_that_is_visible_waits_for_an_earlier_one_in_flight() {
    let (bed, messages) = three_in_flight("fifo-later.fifo", 60).await;
    bed.hide_for(&messages[1], 0).await.unwrap();
    bed.hide_for(&messages[2], 0).await.unwrap();
    assert!(bed.bodies().await.is_empty());
    bed.delete(&messages[0]).await.unwrap();
    assert_eq!(bed.bodies().await, ["2", "3"]);
}

#[tokio::test]
async fn an_earlier_message_that_is_visible_comes_alone_while_later_ones_are_in_flight() {
    let (bed, messages) = three_in_flight("fifo-earlier.fifo", 60).await;
    bed.hide_for(&messages[0], 0).await.unwrap();
    assert_eq!(bed.bodies().await, ["1"]);
}

#[tokio::test]
async fn messages_carry_group_deduplication_id_and_a_growing_sequence_number() {
    let (_, messages) = three_in_flight("fifo-attributes.fifo", 60).await;
    let numbers: Vec<u128> = messages.iter().map(|message| system(message, Name::SequenceNumber).unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers[0] < numbers[2], "{numbers:?}");
    assert_eq!(system(&messages[0], Name::MessageGroupId), Some("a"));
    assert_eq!(system(&messages[0], Name::MessageDeduplicationId), Some("1"));
}

#[tokio::test]
async fn a_message_without_group_is_refused() {
    let bed = bed("fifo-groupless.fifo").await;
    let send = bed.client.send_message().queue_url(&bed.queue.url).message_body("1").message_deduplication_id("1").send().await;
    assert_eq!(super::common::code(&send.unwrap_err()), "MissingParameter");
}

#[tokio::test]
async fn the_same_attempt_id_gives_the_same_messages_again() {
    let bed = bed("fifo-attempt.fifo").await;
    bed.send_to("a", "1").await;
    let receive = bed.client.receive_message().queue_url(&bed.queue.url).receive_request_attempt_id("attempt");
    let first = receive.clone().send().await.unwrap().messages.unwrap_or_default();
    let second = receive.send().await.unwrap().messages.unwrap_or_default();
    assert_eq!((bodies(&first), bodies(&second)), (vec!["1"], vec!["1"]));
    bed.delete(&second[0]).await.unwrap();
    assert_eq!(bed.depth().await.total(), 0);
}
