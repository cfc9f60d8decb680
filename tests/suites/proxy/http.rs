//! The HTTP fault proxy between the SDK and ElasticMQ.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::operation::delete_message_batch::DeleteMessageBatchOutput;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, SendMessageBatchRequestEntry};
use durable_write_testbed::proxy::http::{Extent, HttpFault, HttpFaultProxy};
use durable_write_testbed::sqs::{self, Depth, Queue, QueueOptions, Sqs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const ONCE: Extent = Extent::Next(1);

/// A queue behind a proxy: what a worker uses, and a client past the proxy that sees the truth.
struct Setup {
    proxy: HttpFaultProxy,
    client: Client,
    direct: Client,
    queue: Queue,
}

async fn setup(name: &str) -> Setup {
    let server = Sqs::shared().await.unwrap();
    let proxy = HttpFaultProxy::start(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], server.addresses()[0]).await.unwrap();
    let settings = sqs::client(&proxy.endpoint()).config().to_builder().retry_config(RetryConfig::disabled());
    let client = Client::from_conf(settings.build());
    let queue = sqs::create_queue(&client, name, &QueueOptions::default()).await.unwrap();
    Setup { proxy, client, direct: server.client(), queue }
}

impl Setup {
    async fn send(&self, body: &str) -> bool {
        self.client.send_message().queue_url(&self.queue.url).message_body(body).send().await.is_ok()
    }

    async fn receive(&self) -> Option<Vec<Message>> {
        let request = self.client.receive_message().queue_url(&self.queue.url).max_number_of_messages(10);
        request.send().await.ok().map(|answer| answer.messages.unwrap_or_default())
    }

    async fn delete(&self, messages: &[Message]) -> DeleteMessageBatchOutput {
        let entries = messages.iter().enumerate().map(|(position, message)| {
            let handle = message.receipt_handle().unwrap();
            DeleteMessageBatchRequestEntry::builder().id(format!("m{position}")).receipt_handle(handle).build().unwrap()
        });
        self.client.delete_message_batch().queue_url(&self.queue.url).set_entries(Some(entries.collect())).send().await.unwrap()
    }

    async fn depth(&self) -> Depth {
        sqs::depth(&self.direct, &self.queue.url).await.unwrap()
    }
}

fn partial(positions: &[usize]) -> HttpFault {
    HttpFault::PartialFailure { positions: positions.to_vec(), code: "InternalError".to_owned(), sender_fault: false }
}

#[tokio::test]
async fn without_a_fault_calls_pass_and_are_counted_by_action() {
    let setup = setup("counted").await;
    assert!(setup.queue.url.starts_with(&setup.proxy.endpoint()), "{} leads past the proxy", setup.queue.url);
    assert!(setup.send(&"x".repeat(1024 * 1024)).await);
    assert_eq!(setup.receive().await.unwrap()[0].body().unwrap().len(), 1024 * 1024);
    let counts: Vec<_> = setup.proxy.all_calls().into_iter().map(|(action, calls)| (action, calls.received, calls.faulted)).collect();
    let once = |action: &str| (action.to_owned(), 1, 0);
    assert_eq!(counts, ["CreateQueue", "GetQueueAttributes", "ReceiveMessage", "SendMessage"].map(once));
}

#[tokio::test]
async fn a_lost_reply_leaves_the_effect_and_a_lost_request_does_not() {
    let setup = setup("lost").await;
    setup.proxy.place("SendMessage", HttpFault::ReplyLost, ONCE);
    setup.proxy.place("SendMessage", HttpFault::RequestLost, ONCE);
    assert!(!setup.send("reply lost").await);
    assert_eq!(setup.depth().await.visible, 1);
    assert!(!setup.send("request lost").await);
    assert_eq!(setup.depth().await.visible, 1);
    assert!(setup.send("clear").await);
    assert_eq!(setup.proxy.calls("SendMessage").faulted, 2);
}

#[tokio::test]
async fn the_messages_of_a_receive_whose_reply_is_lost_are_in_flight_unseen() {
    let setup = setup("unseen").await;
    assert!(setup.send("once").await);
    setup.proxy.place("ReceiveMessage", HttpFault::ReplyLost, ONCE);
    assert!(setup.receive().await.is_none());
    assert_eq!(setup.depth().await, Depth { in_flight: 1, ..Depth::default() });
}

#[tokio::test]
async fn a_partial_failure_of_a_delete_deletes_the_others() {
    let setup = setup("partial-delete").await;
    for body in ["first", "second", "third"] {
        setup.send(body).await;
    }
    let messages = setup.receive().await.unwrap();
    assert_eq!(messages.len(), 3);
    setup.proxy.place("DeleteMessageBatch", partial(&[0, 2, 9]), ONCE);
    let answer = setup.delete(&messages).await;
    assert_eq!(answer.failed().iter().map(|entry| (entry.id(), entry.sender_fault())).collect::<Vec<_>>(), [("m0", false), ("m2", false)]);
    assert_eq!(answer.successful()[0].id(), "m1");
    assert_eq!(setup.depth().await.in_flight, 2);
    setup.proxy.place("DeleteMessageBatch", partial(&[0, 1, 2]), ONCE);
    let answer = setup.delete(&messages).await;
    assert_eq!((answer.successful().len(), answer.failed().len()), (0, 3));
    assert_eq!(setup.depth().await.in_flight, 2, "the endpoint was asked although every entry fails");
}

#[tokio::test]
async fn sends_and_visibility_changes_fail_in_part_too() {
    let setup = setup("partial-others").await;
    setup.proxy.place("*", partial(&[1]), Extent::Next(1));
    let entries = ["a", "b", "c"].map(|id| SendMessageBatchRequestEntry::builder().id(id).message_body(id).build().unwrap());
    let answer = setup.client.send_message_batch().queue_url(&setup.queue.url).set_entries(Some(entries.into())).send().await.unwrap();
    assert_eq!((answer.successful().len(), answer.failed()[0].id()), (2, "b"));
    let messages = setup.receive().await.unwrap();
    setup.proxy.place("ChangeMessageVisibilityBatch", partial(&[0]), ONCE);
    let entries = messages.iter().map(|message| {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(message.body().unwrap()).visibility_timeout(0);
        entry.receipt_handle(message.receipt_handle().unwrap()).build().unwrap()
    });
    let change = setup.client.change_message_visibility_batch().queue_url(&setup.queue.url).set_entries(Some(entries.collect()));
    assert_eq!(change.send().await.unwrap().failed()[0].id(), messages[0].body().unwrap());
    assert_eq!(setup.depth().await, Depth { visible: 1, in_flight: 1, delayed: 0 });
}

#[tokio::test]
async fn errors_are_known_to_the_sdk_by_their_names() {
    let setup = setup("errors").await;
    let error = |status, code: &str| HttpFault::Error { status, code: code.to_owned() };
    for (status, name, code) in [
        (400, "ThrottlingException", "ThrottlingException"),
        (403, "AccessDeniedException", "AccessDeniedException"),
        (400, "KmsInvalidState", "KMS.InvalidStateException"),
        (503, "ServiceUnavailable", "ServiceUnavailable"),
    ] {
        setup.proxy.place("ReceiveMessage", error(status, name), ONCE);
        let seen = setup.client.receive_message().queue_url(&setup.queue.url).send().await.unwrap_err();
        assert_eq!((seen.code().unwrap(), seen.raw_response().unwrap().status().as_u16()), (code, status));
    }
    setup.proxy.place("ReceiveMessage", error(400, "QueueDoesNotExist"), ONCE);
    let seen = setup.client.receive_message().queue_url(&setup.queue.url).send().await.unwrap_err();
    assert!(seen.into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn a_hung_call_is_never_answered_and_acts_only_when_it_is_forwarded() {
    let setup = setup("hung").await;
    setup.proxy.place("SendMessage", HttpFault::Hung { forward: true }, ONCE);
    setup.proxy.place("SendMessage", HttpFault::Hung { forward: false }, ONCE);
    let effect = async {
        while setup.depth().await.visible == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = setup.send("forwarded") => panic!("a hung call was answered"),
        () = effect => {}
    }
    assert!(timeout(Duration::from_millis(500), setup.send("not forwarded")).await.is_err());
    assert_eq!(setup.depth().await.visible, 1);
}

#[tokio::test]
async fn a_delayed_call_is_answered_later() {
    let setup = setup("delayed").await;
    let delay = Duration::from_millis(300);
    setup.proxy.place("SendMessage", HttpFault::Delayed(delay), ONCE);
    let start = Instant::now();
    assert!(setup.send("late").await && start.elapsed() >= delay);
}

#[tokio::test]
async fn faults_last_as_long_as_their_extent_says() {
    let setup = setup("extents").await;
    setup.proxy.place("SendMessage", HttpFault::RequestLost, Extent::Next(2));
    assert_eq!([setup.send("1").await, setup.send("2").await, setup.send("3").await], [false, false, true]);
    setup.proxy.place("SendMessage", HttpFault::RequestLost, Extent::UntilCleared);
    assert_eq!([setup.send("4").await, setup.send("5").await], [false, false]);
    setup.proxy.clear();
    assert!(setup.send("6").await);
}

#[tokio::test]
async fn the_query_protocol_is_understood() {
    let setup = setup("query").await;
    setup.proxy.place("FailoverDBCluster", HttpFault::Error { status: 400, code: "InvalidDBClusterStateFault".to_owned() }, ONCE);
    let ask = async |form: &str| {
        let mut stream = tokio::net::TcpStream::connect(setup.proxy.addresses()[0]).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: sqs\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded";
        stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len()).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let refused = ask("Version=2014-10-31&Action=FailoverDBCluster&DBClusterIdentifier=orders").await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("<Code>InvalidDBClusterStateFault</Code>"), "{refused}");
    let passed = ask("Action=ListQueues").await;
    assert!(passed.starts_with("HTTP/1.1 200") && passed.contains("<QueueUrl>"), "{passed}");
    assert_eq!(setup.proxy.calls("ListQueues").received, 1);
}
