//! `traffic`: what arrives in a queue.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_sqs::types::MessageSystemAttributeName;
use durable_write_testbed::sqs::{self, QueueOptions, Sqs};
use jiff::Timestamp;
use kubectl_dw::traffic::{Sampler, Sending};

fn sampler(example: &str) -> Sampler {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples").join(example);
    let spec = durable_write_worker::manifest::load(&path).unwrap().spec;
    Sampler::new(&spec, "dw-test", Timestamp::now(), 20, &[]).unwrap()
}

#[tokio::test]
async fn a_fifo_queue_gets_every_message_once_at_the_rate_and_in_groups() {
    let client = Sqs::shared().await.unwrap().client();
    let queue = sqs::create_queue(&client, "plugin.fifo", &QueueOptions::default()).await.unwrap();
    let begin = Instant::now();
    let mut sending = Sending::start(&client, &queue.url, sampler("orders.yaml"), 100, 100);
    sending.finished().await;
    let progress = sending.progress();
    assert_eq!((progress.accepted, progress.failed), (100, 0), "{progress:?}");
    assert!(begin.elapsed() >= Duration::from_millis(980), "100 messages at 100 a second took {:?}", begin.elapsed());
    let messages = sqs::drain_all(&client, &queue.url).await.unwrap();
    let bodies: BTreeSet<_> = messages.iter().map(|message| message.body().unwrap()).collect();
    let group = |message: &aws_sdk_sqs::types::Message| message.attributes().unwrap()[&MessageSystemAttributeName::MessageGroupId].clone();
    assert_eq!((bodies.len(), messages.iter().map(group).collect::<BTreeSet<_>>().len()), (100, 20));
}

#[tokio::test]
async fn what_is_not_accepted_is_counted_and_said() {
    let client = Sqs::shared().await.unwrap().client();
    let queue = sqs::create_queue(&client, "plugin-gone", &QueueOptions::default()).await.unwrap();
    let mut sending = Sending::start(&client, &(queue.url + "-not"), sampler("clicks.yaml"), 20, 1000);
    sending.finished().await;
    let progress = sending.progress();
    assert_eq!((progress.accepted, progress.failed), (0, 20));
    assert!(progress.error.is_some_and(|error| error.contains("NonExistentQueue") || error.contains("QueueDoesNotExist")));
}
