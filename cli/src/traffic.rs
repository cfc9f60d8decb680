//! `traffic`: sends sample messages to a pipeline's queue.

mod sample;
mod send;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_sqs::Client;
use clap::Args;
use durable_write_crds::DurableWritePipeline;
use durable_write_crds::pipeline::Queue;
use durable_write_worker::aws;
use jiff::Timestamp;
use tokio::time::{Instant, interval};

use crate::cluster::{Cluster, explain, name};
use crate::drill::Screen;

pub use sample::{Sample, Sampler};
pub use send::{Progress, Sending};

/// Where no line can be renewed, the progress is said this often, in seconds.
const SAID_EACH: u64 = 10;

/// What to send.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// The pipeline
    #[arg(value_parser = name)]
    pipeline: String,
    /// How many messages
    #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How many a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Over how many message groups they go round, on a FIFO queue
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    groups: u32,
    /// The value of a part of the body: a JSON Pointer and what stands there, with {number}, {run}, {now} and {uuid} filled in;
    /// JSON where it is JSON. Without it values are guessed from the columns' names. May be repeated: --set /id={uuid} --set /amount=9.90
    #[arg(long, value_name = "POINTER=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Print the first message and send nothing
    #[arg(long)]
    dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (pointer, value) = text.split_once('=').ok_or("must be POINTER=VALUE")?;
    if !pointer.starts_with('/') {
        return Err("a JSON Pointer begins with /".to_owned());
    }
    Ok((pointer.to_owned(), value.to_owned()))
}

/// Sends the messages. The exit code is 0 when all were accepted.
///
/// # Errors
/// The pipeline or its queue is not there, no message can be made that fits, or the writer fails.
pub async fn run(cluster: &Cluster, arguments: &Arguments, now: Timestamp, screen: &mut Screen<'_>) -> anyhow::Result<ExitCode> {
    let pipelines = cluster.api::<DurableWritePipeline>();
    let pipeline = pipelines.get(&arguments.pipeline).await.map_err(|error| explain(error, "read the pipeline"))?;
    let run = now.strftime("dw-%Y%m%d%H%M%S").to_string();
    let sampler = Sampler::new(&pipeline.spec, &run, now, arguments.groups, &arguments.set)?;
    screen.line(&format!("a message: {}", sampler.message(1).body))?;
    if arguments.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let client = aws::sqs_client(&aws::configuration().await?);
    let url = queue_url(&client, &pipeline.spec.queue).await?;
    let count = arguments.count;
    let seconds = count.div_ceil(arguments.rate);
    screen.line(&format!("sending {count} to {url}, {} a second: about {seconds} s", arguments.rate))?;
    let sending = Sending::start(&client, &url, sampler.clone(), count, arguments.rate);
    let end = watch(sending, screen).await?;
    screen.line(&end.text())?;
    if let Some(error) = &end.error {
        screen.line(&format!("the last that went wrong: {}", crate::text::plain(error)))?;
    }
    screen.line(&format!("see the rows: {}", sampler.query()))?;
    screen.line(&format!("see the pipeline: kubectl dw status {} -n {}", arguments.pipeline, cluster.namespace))?;
    Ok(if end.accepted == u64::from(count) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the progress until all is sent or the user interrupts.
async fn watch(mut sending: Sending, screen: &mut Screen<'_>) -> anyhow::Result<Progress> {
    let begin = Instant::now();
    let mut second = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = sending.finished() => break,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                sending.stop();
                screen.line("stopped; messages on their way may still arrive")?;
                break;
            }
            _ = second.tick() => {
                let progress = sending.progress();
                let elapsed = begin.elapsed().as_secs();
                if screen.is_terminal() {
                    screen.tick(&progress.text())?;
                } else if elapsed > 0 && elapsed.is_multiple_of(SAID_EACH) {
                    screen.line(&progress.text())?;
                }
            }
        }
    }
    Ok(sending.progress())
}

async fn queue_url(client: &Client, queue: &Queue) -> anyhow::Result<String> {
    let account = queue.arn.as_deref().and_then(|arn| arn.rsplit(':').nth(1)).map(str::to_owned);
    let call = client.get_queue_url().queue_name(queue.queue_name()).set_queue_owner_aws_account_id(account);
    let answer = call.send().await.map_err(aws_sdk_sqs::Error::from).with_context(|| {
        format!("find the queue {} with your AWS settings (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL_SQS)", queue.queue_name())
    })?;
    let url = answer.queue_url.unwrap_or_default();
    ensure!(!url.is_empty(), "SQS did not say where the queue {} is", queue.queue_name());
    Ok(url)
}
