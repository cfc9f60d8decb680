//! Attributes of queues and messages.

use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName as Name, QueueAttributeName};
use durable_write_testbed::sqs::{self, QueueOptions, REGION};
use serde_json::json;

use super::common::{bed, client, code, system};

#[tokio::test]
async fn a_queue_tells_its_arn_kind_visibility_and_redrive_policy() {
    let client = client().await;
    let (queue, dead_letters) = sqs::create_queue_with_dead_letters(&client, "told.fifo", 3).await.unwrap();
    let answer = client.get_queue_attributes().queue_url(&queue.url).attribute_names(QueueAttributeName::All).send().await.unwrap();
    let attributes = answer.attributes().unwrap();
    assert_eq!(attributes[&QueueAttributeName::QueueArn], format!("arn:aws:sqs:{REGION}:000000000000:told.fifo"));
    assert_eq!(attributes[&QueueAttributeName::FifoQueue], "true");
    assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "30");
    let policy: serde_json::Value = serde_json::from_str(&attributes[&QueueAttributeName::RedrivePolicy]).unwrap();
    assert_eq!(policy, json!({"deadLetterTargetArn": dead_letters.arn, "maxReceiveCount": 3}));
}

#[tokio::test]
async fn a_standard_queue_has_no_attribute_fifo_and_without_policy_none_is_told() {
    let bed = bed("untold").await;
    let call = bed.client.get_queue_attributes().queue_url(&bed.queue.url).attribute_names(QueueAttributeName::FifoQueue);
    let answer = call.attribute_names(QueueAttributeName::RedrivePolicy).send().await.unwrap();
    assert!(answer.attributes().unwrap().is_empty());
}

#[tokio::test]
async fn creating_a_queue_again_gives_its_url_and_with_other_attributes_an_error() {
    let bed = bed("again").await;
    let again = sqs::create_queue(&bed.client, "again", &QueueOptions::default()).await.unwrap();
    assert_eq!(again, bed.queue);
    let other = bed.client.create_queue().queue_name("again").attributes(QueueAttributeName::VisibilityTimeout, "99").send().await;
    assert_eq!(code(&other.unwrap_err()), "QueueNameExists");
}

#[tokio::test]
async fn messages_keep_their_attributes_and_show_only_those_asked_for() {
    let bed = bed("kept").await;
    let text = MessageAttributeValue::builder().data_type("String").string_value("é").build().unwrap();
    let bytes = MessageAttributeValue::builder().data_type("Binary").binary_value(Blob::new([0, 255])).build().unwrap();
    let send = bed.client.send_message().queue_url(&bed.queue.url).message_body("x");
    send.message_attributes("text", text.clone()).message_attributes("bytes", bytes.clone()).send().await.unwrap();
    let all = bed.receive().await.remove(0);
    let attributes = all.message_attributes().unwrap();
    assert_eq!((&attributes["text"], &attributes["bytes"]), (&text, &bytes));
    assert!(system(&all, Name::SentTimestamp).unwrap().parse::<u64>().unwrap() > 1_700_000_000_000, "milliseconds");
    bed.hide_for(&all, 0).await.unwrap();
    let bare = bed.client.receive_message().queue_url(&bed.queue.url).send().await.unwrap();
    assert!(bare.messages()[0].attributes().is_none() && bare.messages()[0].message_attributes().is_none());
}

#[tokio::test]
async fn a_standard_queue_passes_a_group_on_and_keeps_no_order_by_it() {
    let bed = bed("fair").await;
    for body in ["1", "2"] {
        bed.client.send_message().queue_url(&bed.queue.url).message_body(body).message_group_id("tenant").send().await.unwrap();
    }
    let first = bed.client.receive_message().queue_url(&bed.queue.url).message_system_attribute_names(Name::All).send().await.unwrap();
    assert_eq!(system(&first.messages()[0], Name::MessageGroupId), Some("tenant"));
    assert_eq!(bed.bodies().await, ["2"], "a group in flight holds nothing back");
}
