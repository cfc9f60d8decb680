//! Where ElasticMQ differs from the documented service: each test pins one difference of `src/sqs/CONFORMANCE.md`, and fails when a newer
//! ElasticMQ no longer has it.

use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName as Name, QueueAttributeName};
use durable_write_testbed::sqs::{self, Depth, QueueOptions};
use tokio::time::timeout;

use super::common::{Bed, bed, client, code, system};
use super::limits::MEBIBYTE;
use super::{batches, limits, redrive};

#[test]
fn every_difference_is_listed() {
    let list = include_str!("../../src/sqs/CONFORMANCE.md");
    for test in include_str!("differences.rs").lines().filter_map(|line| line.strip_prefix("async fn ")?.split("() {").next()) {
        assert!(test.contains('(') || list.contains(&format!("`{test}`")), "{test} is not in CONFORMANCE.md");
    }
}

async fn one(name: &str, visibility: i32) -> (Bed, Message) {
    let bed = bed(name).await;
    match name.ends_with(".fifo") {
        true => bed.send_to("a", "1").await,
        false => bed.send("1").await,
    }
    let message = bed.receive_for(visibility).await.remove(0);
    (bed, message)
}

#[tokio::test]
async fn an_expired_handle_deletes_from_a_fifo_queue() {
    let (bed, message) = one("expired-delete.fifo", 1).await;
    bed.until_visible_again().await;
    assert_eq!(bed.delete(&message).await, Ok(()));
    assert_eq!(bed.depth().await.total(), 0);
}

#[tokio::test]
async fn an_expired_handle_changes_the_visibility() {
    for name in ["expired-change", "expired-change.fifo"] {
        let (bed, message) = one(name, 1).await;
        bed.until_visible_again().await;
        assert_eq!(bed.hide_for(&message, 60).await, Ok(()));
        assert_eq!(bed.depth().await.in_flight, 1);
    }
}

#[tokio::test]
async fn a_second_delete_is_refused() {
    for name in ["twice", "twice.fifo"] {
        let (bed, message) = one(name, 60).await;
        bed.delete(&message).await.unwrap();
        assert_eq!(bed.delete(&message).await, Err("ReceiptHandleIsInvalid".to_owned()));
    }
}

#[tokio::test]
async fn a_handle_of_an_earlier_receive_is_called_invalid() {
    for name in ["stale", "stale.fifo"] {
        let (bed, old) = one(name, 1).await;
        bed.until_visible_again().await;
        assert_eq!(bed.receive().await.len(), 1);
        assert_eq!(bed.delete(&old).await, Err("ReceiptHandleIsInvalid".to_owned()));
        assert_eq!(bed.depth().await.in_flight, 1);
    }
}

#[tokio::test]
async fn the_sdk_does_not_know_a_missing_queue_by_its_type() {
    let bed = bed("missing").await;
    sqs::delete_queue(&bed.client, &bed.queue.url).await.unwrap();
    let error = bed.client.receive_message().queue_url(&bed.queue.url).send().await.unwrap_err();
    assert_eq!(code(&error), "QueueDoesNotExist");
    assert!(!error.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn refusals_have_other_codes() {
    let bed = bed("codes").await;
    let invalid = Err("InvalidAttributeValue".to_owned());
    assert_eq!(limits::send(&bed, &"x".repeat(MEBIBYTE + 1), 0).await, invalid);
    assert_eq!(limits::send(&bed, "x", 11).await, invalid);
    assert_eq!(limits::send(&bed, "\u{1}", 0).await, invalid);
    assert_eq!(limits::send(&bed, "", 0).await, invalid);
    let many = bed.client.receive_message().queue_url(&bed.queue.url).max_number_of_messages(11).send().await;
    assert_eq!(code(&many.unwrap_err()), "InvalidAttributeValue");
    let many = (0..11).map(|number| batches::entry(&number.to_string(), "x")).collect();
    assert_eq!(batches::send(&bed, many).await, Err("TooManyEntriesInBatchRequest".to_owned()));
    let large = ["1", "2"].map(|id| batches::entry(id, &"x".repeat(600 * 1024)));
    assert_eq!(batches::send(&bed, large.into()).await, Err("InvalidAttributeValue".to_owned()));
}

#[tokio::test]
async fn empty_batches_and_any_entry_ids_are_accepted() {
    let bed = bed("ids").await;
    assert_eq!(batches::send(&bed, Vec::new()).await, Ok((0, Vec::new())));
    assert_eq!(batches::send(&bed, vec![batches::entry("not allowed", "x")]).await, Ok((1, Vec::new())));
}

#[tokio::test]
async fn size_is_counted_in_characters_and_without_attributes() {
    let bed = bed("size").await;
    limits::send(&bed, &"x".repeat(MEBIBYTE), 10).await.unwrap();
    limits::send(&bed, &"é".repeat(MEBIBYTE), 0).await.unwrap();
}

#[tokio::test]
async fn any_visibility_is_accepted() {
    let (bed, message) = one("range", 60).await;
    assert_eq!(bed.hide_for(&message, 12 * 3600 + 1).await, Ok(()));
    assert!(bed.receive_for(12 * 3600 + 1).await.is_empty());
}

#[tokio::test]
async fn retention_size_and_key_of_a_queue_are_accepted_and_forgotten() {
    use QueueAttributeName::{
        KmsMasterKeyId, MaximumMessageSize, MessageRetentionPeriod, Policy, RedriveAllowPolicy, SqsManagedSseEnabled,
    };
    let bed = bed("forgotten").await;
    let set = bed.client.set_queue_attributes().queue_url(&bed.queue.url);
    set.attributes(MessageRetentionPeriod, "60").attributes(MaximumMessageSize, "1024").send().await.unwrap();
    let names = vec![KmsMasterKeyId, MaximumMessageSize, MessageRetentionPeriod, Policy, RedriveAllowPolicy, SqsManagedSseEnabled];
    let answer = bed.client.get_queue_attributes().queue_url(&bed.queue.url).set_attribute_names(Some(names)).send().await.unwrap();
    assert!(answer.attributes().unwrap().is_empty());
    bed.send(&"x".repeat(2048)).await;
}

#[tokio::test]
async fn number_attributes_keep_their_zeros() {
    let bed = bed("zeros").await;
    let number = MessageAttributeValue::builder().data_type("Number").string_value("00123.4500").build().unwrap();
    bed.client.send_message().queue_url(&bed.queue.url).message_body("x").message_attributes("number", number).send().await.unwrap();
    assert_eq!(bed.receive().await[0].message_attributes().unwrap()["number"].string_value(), Some("00123.4500"));
}

#[tokio::test]
async fn a_repeated_attempt_counts_as_a_receive_and_fails_once_a_message_of_it_is_deleted() {
    let bed = bed("attempt.fifo").await;
    bed.send_to("a", "1").await;
    let receive = bed.client.receive_message().queue_url(&bed.queue.url).receive_request_attempt_id("attempt");
    let receive = receive.message_system_attribute_names(Name::All);
    let first = receive.clone().send().await.unwrap().messages.unwrap().remove(0);
    let second = receive.clone().send().await.unwrap().messages.unwrap().remove(0);
    assert_ne!(first.receipt_handle(), second.receipt_handle());
    assert_eq!(system(&second, Name::ApproximateReceiveCount), Some("2"));
    bed.delete(&second).await.unwrap();
    assert_eq!(receive.send().await.unwrap_err().raw_response().unwrap().status().as_u16(), 500);
}

#[tokio::test]
async fn a_poll_whose_client_has_left_still_takes_messages() {
    let bed = bed("abandoned").await;
    let poll = bed.client.receive_message().queue_url(&bed.queue.url).wait_time_seconds(20).send();
    assert!(timeout(Duration::from_secs(2), poll).await.is_err());
    bed.send("1").await;
    assert!(bed.receive().await.is_empty());
    assert_eq!(bed.depth().await, Depth { in_flight: 1, ..Depth::default() });
}

#[tokio::test]
async fn a_move_task_moves_messages_that_were_sent_to_the_dead_letter_queue() {
    let (bed, dead_letters) = redrive::pair("sent-back", 3).await;
    bed.client.send_message().queue_url(&dead_letters.url).message_body("sent").send().await.unwrap();
    bed.client.start_message_move_task().source_arn(&dead_letters.arn).send().await.unwrap();
    assert_eq!(bed.receive_soon().await.len(), 1);
}

#[tokio::test]
async fn a_move_task_on_a_fifo_queue_moves_nothing() {
    let (bed, dead_letters) = redrive::pair("not-back.fifo", 3).await;
    let send = bed.client.send_message().queue_url(&dead_letters.url).message_body("sent");
    send.message_group_id("a").message_deduplication_id("1").send().await.unwrap();
    let task = bed.client.start_message_move_task().source_arn(&dead_letters.arn).destination_arn(&bed.queue.arn);
    task.send().await.unwrap();
    assert!(bed.receive_soon().await.is_empty());
    assert_eq!(sqs::depth(&bed.client, &dead_letters.url).await.unwrap().visible, 1);
}

#[tokio::test]
async fn a_message_that_is_moved_back_keeps_its_id() {
    let (bed, dead_letters) = redrive::pair("moved-back", 1).await;
    bed.send("1").await;
    let last = redrive::fail(&bed, 1).await;
    assert!(bed.receive().await.is_empty());
    bed.client.start_message_move_task().source_arn(&dead_letters.arn).send().await.unwrap();
    let back = bed.receive_soon().await;
    assert_eq!(back[0].message_id(), last[0].message_id());
}

#[tokio::test]
async fn a_fifo_dead_letter_keeps_the_time_at_which_it_was_sent() {
    let (bed, dead_letters) = redrive::pair("time.fifo", 1).await;
    bed.send_to("a", "1").await;
    let last = redrive::fail(&bed, 1).await;
    assert!(bed.receive().await.is_empty());
    let moved = sqs::drain_all(&bed.client, &dead_letters.url).await.unwrap();
    assert_eq!(system(&moved[0], Name::SentTimestamp), system(&last[0], Name::SentTimestamp));
}

#[tokio::test]
async fn a_fifo_queue_may_have_a_standard_dead_letter_queue() {
    let client = client().await;
    let standard = sqs::create_queue(&client, "of-another-kind", &QueueOptions::default()).await.unwrap();
    let options = QueueOptions { dead_letters: Some((standard, 3)), ..QueueOptions::default() };
    sqs::create_queue(&client, "mixed.fifo", &options).await.unwrap();
}

#[tokio::test]
async fn sequence_numbers_are_short() {
    let (_, message) = one("short.fifo", 60).await;
    assert!(system(&message, Name::SequenceNumber).unwrap().len() < 20);
}
