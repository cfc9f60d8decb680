//! The program itself, as kubectl starts it: signals, exit codes, the environment.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use durable_write_testbed::sqs::{self, QueueOptions, REGION, Sqs};
use kube::ResourceExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::ground::{api, first_drill, namespace, patch};

/// What has not happened by then never happens.
const LIMIT: Duration = Duration::from_secs(60);

async fn plugin(arguments: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let binary: PathBuf = own.ancestors().nth(2).unwrap().join("kubectl-dw");
    assert!(binary.exists(), "there is no {}: run `make test`, or `cargo build -p kubectl-dw` before the tests", binary.display());
    let mut command = Command::new(binary);
    command.args(arguments).env("KUBECONFIG", api().await.kubeconfig()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn an_interrupt_ends_the_watch_and_not_the_drill() {
    let cluster = namespace("interrupted").await;
    let mut child = plugin(&["-n", "interrupted", "drill", "run", "orders"]).await.spawn().unwrap();
    let drill = first_drill(&cluster).await;
    patch(&cluster, &drill.name_any(), json!({"status": {"phase": "Preflight"}})).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let watched = async { while lines.next_line().await.unwrap().is_some_and(|line| line != "== Preflight") {} };
    tokio::time::timeout(LIMIT, watched).await.expect("the status is not shown");
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    let said = lines.next_line().await.unwrap().unwrap();
    assert!(said.contains("the drill goes on") && said.contains(&format!("drill abort {}", drill.name_any())), "{said}");
    assert_eq!(child.wait().await.unwrap().code(), Some(2));
    assert!(!first_drill(&cluster).await.spec.abort);
}

#[tokio::test]
async fn what_is_not_there_is_an_error_with_exit_code_2() {
    namespace("nothing").await;
    for arguments in [["drill", "show", "x"], ["drill", "abort", "x"], ["drill", "report", "x"]] {
        let output = plugin(&[&["-n", "nothing"], arguments.as_slice()].concat()).await.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.starts_with("error: "), "{arguments:?}: {said}");
    }
    let output = plugin(&["-n", "nothing", "drill", "list"]).await.output().await.unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"no drills in namespace nothing\n".as_slice()));
}

#[tokio::test]
async fn who_reads_no_further_is_told_nothing() {
    let mut child = plugin(&["completions", "bash"]).await.spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!((child.wait().await.unwrap().code(), said.as_str()), (Some(2), ""));
}

#[tokio::test]
async fn traffic_goes_to_the_queue_of_the_pipeline_under_the_callers_aws_settings() {
    namespace("sending").await;
    let orders = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples/orders.yaml");
    let queues = Sqs::shared().await.unwrap();
    let client = queues.client();
    api().await.kubectl(["apply", "-n", "sending", "-f", orders.to_str().unwrap()]).await.unwrap();
    let traffic = async |count: &str| {
        let mut command = plugin(&["-n", "sending", "traffic", "orders", "--count", count, "--rate", "200"]).await;
        command.env("AWS_ENDPOINT_URL_SQS", queues.endpoint()).env("AWS_REGION", REGION);
        let output = command.env("AWS_ACCESS_KEY_ID", "testbed").env("AWS_SECRET_ACCESS_KEY", "testbed").output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout) + &text(output.stderr))
    };
    let (code, said) = traffic("5").await;
    assert!(code == Some(2) && said.contains("find the queue orders.fifo"), "{said}");
    let queue = sqs::create_queue(&client, "orders.fifo", &QueueOptions::default()).await.unwrap();
    let (code, said) = traffic("60").await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("60 accepted, 0 failed") && said.contains(r#"FROM "shop"."orders" WHERE "id" LIKE 'dw-"#), "{said}");
    assert_eq!(sqs::drain_all(&client, &queue.url).await.unwrap().len(), 60);
}
