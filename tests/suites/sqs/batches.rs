//! Batches: some entries fail, the others are done.

use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry};

use super::common::{Bed, bed, code};

pub fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
}

/// Sends a batch; how many were sent, and the codes of those that failed, or of the whole.
pub async fn send(bed: &Bed, entries: Vec<SendMessageBatchRequestEntry>) -> Result<(usize, Vec<String>), String> {
    let answer = bed.client.send_message_batch().queue_url(&bed.queue.url).set_entries(Some(entries)).send().await;
    let answer = answer.map_err(|error| code(&error))?;
    assert!(answer.failed().iter().all(|failed| failed.sender_fault()));
    Ok((answer.successful().len(), answer.failed().iter().map(|failed| failed.code().to_owned()).collect()))
}

#[tokio::test]
async fn a_delete_batch_with_a_bad_handle_deletes_the_rest_and_blames_the_sender() {
    let bed = bed("batch-delete").await;
    bed.send("1").await;
    let message = bed.receive().await.remove(0);
    let entry = |id: &str, handle: &str| DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build().unwrap();
    let entries = vec![entry("bad", "no handle"), entry("good", message.receipt_handle().unwrap())];
    let answer = bed.client.delete_message_batch().queue_url(&bed.queue.url).set_entries(Some(entries)).send().await.unwrap();
    let failed = &answer.failed()[0];
    assert_eq!((failed.id(), failed.code(), failed.sender_fault()), ("bad", "ReceiptHandleIsInvalid", true));
    assert_eq!(answer.successful()[0].id(), "good");
    assert_eq!(bed.depth().await.total(), 0);
}

#[tokio::test]
async fn a_visibility_batch_with_a_bad_handle_changes_the_rest() {
    let bed = bed("batch-visibility").await;
    bed.send("1").await;
    let message = bed.receive().await.remove(0);
    let entry = |id: &str, handle: &str| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id).receipt_handle(handle).visibility_timeout(0);
        entry.build().unwrap()
    };
    let entries = vec![entry("bad", "no handle"), entry("good", message.receipt_handle().unwrap())];
    let call = bed.client.change_message_visibility_batch().queue_url(&bed.queue.url).set_entries(Some(entries));
    let answer = call.send().await.unwrap();
    assert_eq!((answer.failed()[0].id(), answer.failed()[0].sender_fault()), ("bad", true));
    assert_eq!(answer.successful()[0].id(), "good");
    assert_eq!(bed.depth().await.visible, 1);
}

#[tokio::test]
async fn a_send_batch_with_a_bad_body_sends_the_rest() {
    let bed = bed("batch-send").await;
    let (sent, failed) = send(&bed, vec![entry("bad", "\u{1}"), entry("good", "2")]).await.unwrap();
    assert_eq!((sent, failed.len()), (1, 1));
    assert_eq!(bed.bodies().await, ["2"]);
}

#[tokio::test]
async fn a_batch_that_is_too_long_too_large_or_names_an_id_twice_is_refused_whole() {
    let bed = bed("batch-refused").await;
    let many = (0..11).map(|number| entry(&number.to_string(), "x")).collect();
    let large = "x".repeat(600 * 1024);
    for entries in [many, vec![entry("same", "1"), entry("same", "2")], vec![entry("1", &large), entry("2", &large)]] {
        send(&bed, entries).await.unwrap_err();
    }
    assert_eq!(bed.depth().await.total(), 0);
}
