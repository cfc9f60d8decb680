//! A queue of its own for each test on the shared server, with the calls that tests make.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use durable_write_testbed::sqs::{self, Depth, Queue, QueueOptions, Sqs};

/// A queue and a client without retries.
pub struct Bed {
    pub client: Client,
    pub queue: Queue,
}

pub async fn client() -> Client {
    let client = Sqs::shared().await.unwrap().client();
    Client::from_conf(client.config().to_builder().retry_config(RetryConfig::disabled()).build())
}

pub async fn bed(name: &str) -> Bed {
    bed_with(name, QueueOptions::default()).await
}

pub async fn bed_with(name: &str, options: QueueOptions) -> Bed {
    let client = client().await;
    let queue = sqs::create_queue(&client, name, &options).await.unwrap();
    Bed { client, queue }
}

impl Bed {
    /// Sends to a standard queue.
    pub async fn send(&self, body: &str) {
        self.client.send_message().queue_url(&self.queue.url).message_body(body).send().await.unwrap();
    }

    /// Sends to a group of a FIFO queue, with the body as deduplication id.
    pub async fn send_to(&self, group: &str, body: &str) {
        let message = self.client.send_message().queue_url(&self.queue.url).message_body(body);
        message.message_group_id(group).message_deduplication_id(body).send().await.unwrap();
    }

    /// Receives what is there now, hidden for a minute.
    pub async fn receive(&self) -> Vec<Message> {
        self.receive_for(60).await
    }

    /// Receives up to ten of what is there now, hidden for some seconds.
    pub async fn receive_for(&self, visibility: i32) -> Vec<Message> {
        let request = self.client.receive_message().queue_url(&self.queue.url).max_number_of_messages(10);
        let request = request.visibility_timeout(visibility).message_system_attribute_names(MessageSystemAttributeName::All);
        request.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default()
    }

    /// Receives as soon as there is something, within ten seconds.
    pub async fn receive_soon(&self) -> Vec<Message> {
        let request = self.client.receive_message().queue_url(&self.queue.url).max_number_of_messages(10).wait_time_seconds(10);
        let request = request.visibility_timeout(60).message_system_attribute_names(MessageSystemAttributeName::All);
        request.send().await.unwrap().messages.unwrap_or_default()
    }

    /// The bodies of what is there now.
    pub async fn bodies(&self) -> Vec<String> {
        self.receive().await.iter().map(|message| message.body().unwrap().to_owned()).collect()
    }

    /// Deletes; the code of the error otherwise.
    pub async fn delete(&self, message: &Message) -> Result<(), String> {
        let call = self.client.delete_message().queue_url(&self.queue.url).receipt_handle(message.receipt_handle().unwrap());
        call.send().await.map(drop).map_err(|error| code(&error))
    }

    /// Changes the visibility; the code of the error otherwise.
    pub async fn hide_for(&self, message: &Message, seconds: i32) -> Result<(), String> {
        let call = self.client.change_message_visibility().queue_url(&self.queue.url).visibility_timeout(seconds);
        call.receipt_handle(message.receipt_handle().unwrap()).send().await.map(drop).map_err(|error| code(&error))
    }

    pub async fn depth(&self) -> Depth {
        sqs::depth(&self.client, &self.queue.url).await.unwrap()
    }

    /// Waits until nothing is in flight.
    pub async fn until_visible_again(&self) {
        let wait = async {
            while self.depth().await.in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("messages stay in flight");
    }
}

/// The code of a service error.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("no code").to_owned()
}

pub fn system(message: &Message, name: MessageSystemAttributeName) -> Option<&str> {
    message.attributes().and_then(|attributes| attributes.get(&name)).map(String::as_str)
}
