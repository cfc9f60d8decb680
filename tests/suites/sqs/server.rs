//! Start and stop of the server, and the helpers around queues.

use std::net::{IpAddr, Ipv4Addr};

use durable_write_testbed::sqs::{self, QueueOptions, Sqs};

#[tokio::test]
async fn it_answers_at_each_address_and_ends_when_dropped() {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))];
    let server = Sqs::start(&addresses, 0).await.unwrap();
    sqs::create_queue(&server.client(), "everywhere", &QueueOptions::default()).await.unwrap();
    for address in server.addresses().to_owned() {
        let url =
            sqs::client(&format!("http://{address}")).get_queue_url().queue_name("everywhere").send().await.unwrap().queue_url.unwrap();
        assert!(url.starts_with(&format!("http://{address}/")), "{url} is not reachable by who asked at {address}");
    }
    let address = server.addresses()[0];
    drop(server);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the server outlived its owner");
}

#[tokio::test]
async fn a_drained_fifo_queue_gives_all_messages_in_order_and_is_empty() {
    let client = Sqs::shared().await.unwrap().client();
    let queue = sqs::create_queue(&client, "drained.fifo", &QueueOptions::default()).await.unwrap();
    for number in 0..25 {
        let send = client.send_message().queue_url(&queue.url).message_group_id("only").message_deduplication_id(number.to_string());
        send.message_body(number.to_string()).send().await.unwrap();
    }
    assert_eq!(sqs::depth(&client, &queue.url).await.unwrap().visible, 25);
    let messages = sqs::drain_all(&client, &queue.url).await.unwrap();
    let bodies: Vec<_> = messages.iter().map(|message| message.body().unwrap().to_owned()).collect();
    assert_eq!(bodies, (0..25).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(sqs::depth(&client, &queue.url).await.unwrap().total(), 0);
}
