//! Sizes and ranges. The codes of the refusals are among the differences.

use aws_sdk_sqs::types::MessageAttributeValue;

use super::common::{Bed, bed, code};

pub const MEBIBYTE: usize = 1024 * 1024;

/// Sends a message with a number of attributes; the code of the error otherwise.
pub async fn send(bed: &Bed, body: &str, attributes: usize) -> Result<(), String> {
    let mut message = bed.client.send_message().queue_url(&bed.queue.url).message_body(body);
    for number in 0..attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value("value").build().unwrap();
        message = message.message_attributes(format!("name-{number}"), value);
    }
    message.send().await.map(drop).map_err(|error| code(&error))
}

#[tokio::test]
async fn a_message_has_up_to_a_mebibyte() {
    let bed = bed("limit-size").await;
    send(&bed, &"x".repeat(MEBIBYTE), 0).await.unwrap();
    send(&bed, &"x".repeat(MEBIBYTE + 1), 0).await.unwrap_err();
}

#[tokio::test]
async fn a_message_has_up_to_ten_attributes() {
    let bed = bed("limit-attributes").await;
    send(&bed, "x", 10).await.unwrap();
    send(&bed, "x", 11).await.unwrap_err();
    assert_eq!(bed.receive().await[0].message_attributes().unwrap().len(), 10);
}

#[tokio::test]
async fn characters_outside_xml_and_empty_bodies_are_refused_and_all_others_arrive() {
    let bed = bed("limit-characters").await;
    for body in ["\u{0}", "\u{b}", "\u{ffff}", ""] {
        send(&bed, body, 0).await.unwrap_err();
    }
    let allowed = "\t\r\n \"\\ € 😀 \u{fffd}";
    send(&bed, allowed, 0).await.unwrap();
    assert_eq!(bed.bodies().await, [allowed]);
}

#[tokio::test]
async fn a_receive_takes_one_to_ten_messages_and_waits_up_to_twenty_seconds() {
    let bed = bed("limit-receive").await;
    for (number, wait) in [(0, 0), (11, 0), (1, 21), (1, -1)] {
        let call = bed.client.receive_message().queue_url(&bed.queue.url).max_number_of_messages(number).wait_time_seconds(wait);
        assert!(call.send().await.is_err(), "{number} messages, {wait} s");
    }
}

#[tokio::test]
async fn a_message_of_a_fifo_queue_cannot_be_delayed_by_itself() {
    let bed = bed("limit-delay.fifo").await;
    let message = bed.client.send_message().queue_url(&bed.queue.url).message_body("x").message_group_id("a");
    assert_eq!(code(&message.message_deduplication_id("x").delay_seconds(5).send().await.unwrap_err()), "InvalidParameterValue");
}
