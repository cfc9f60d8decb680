//! What the tests of the local Aurora share.

use std::time::Duration;

use aws_sdk_rds::Client;
use aws_sdk_rds::config::retry::RetryConfig;
use aws_sdk_rds::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_rds::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_rds::operation::failover_db_cluster::{FailoverDBClusterError, FailoverDbClusterOutput};
use aws_sdk_rds::types::{DbCluster, SourceType};
use durable_write_testbed::aurora::{Aurora, AuroraOptions, Timing};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// A cluster with some timing.
pub async fn start(timing: Timing) -> Aurora {
    Aurora::start(AuroraOptions { timing, ..AuroraOptions::default() }).await.unwrap()
}

/// A cluster of two instances, which costs less.
pub async fn pair() -> Aurora {
    Aurora::start(AuroraOptions { instances: 2, ..AuroraOptions::default() }).await.unwrap()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not within 60 s: {what}"));
}

pub async fn connect(aurora: &Aurora, endpoint: &str) -> sqlx::Result<PgConnection> {
    aurora.client_options(endpoint).unwrap().disable_statement_logging().connect().await
}

/// The name of the instance that answers at an endpoint.
pub async fn who(aurora: &Aurora, endpoint: &str) -> sqlx::Result<String> {
    ask(connect(aurora, endpoint).await?, "SELECT aurora_db_instance_identifier()").await
}

/// One value from a connection that is then closed.
pub async fn ask(mut connection: PgConnection, query: &'static str) -> sqlx::Result<String> {
    let answer = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(answer)
}

/// One value, asked as superuser at a server itself.
pub async fn ask_admin(options: PgConnectOptions, query: &'static str) -> String {
    ask(options.connect().await.unwrap(), query).await.unwrap()
}

/// The SQLSTATE of an error.
pub fn sqlstate<T: std::fmt::Debug>(result: sqlx::Result<T>) -> String {
    match result {
        Err(sqlx::Error::Database(error)) => error.code().unwrap().into_owned(),
        other => panic!("no error of the database: {other:?}"),
    }
}

/// The unchanged SDK without retries.
pub fn client(aurora: &Aurora) -> Client {
    client_of(&aurora.rds_endpoint())
}

pub fn client_of(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint)
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("000000000000", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

pub async fn describe(client: &Client) -> DbCluster {
    client.describe_db_clusters().db_cluster_identifier("orders").send().await.unwrap().db_clusters()[0].clone()
}

pub fn writer(cluster: &DbCluster) -> &str {
    let writers: Vec<_> = cluster.db_cluster_members().iter().filter(|member| member.is_cluster_writer() == Some(true)).collect();
    assert_eq!(writers.len(), 1);
    writers[0].db_instance_identifier().unwrap()
}

/// The code and the HTTP status of a failure.
pub fn failure<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> (String, u16) {
    let error = result.unwrap_err();
    let status = error.raw_response().unwrap().status().as_u16();
    (error.code().unwrap().to_owned(), status)
}

/// Whether a write of a fresh client is accepted at an endpoint: otherwise the SQLSTATE, or `none`.
pub async fn write(aurora: &Aurora, endpoint: &str) -> Result<(), String> {
    let mut connection = connect(aurora, endpoint).await.map_err(|error| code_of(&error))?;
    let result = sqlx::raw_sql("CREATE TEMPORARY TABLE t (id int)").execute(&mut connection).await;
    result.map(drop).map_err(|error| code_of(&error))
}

fn code_of(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).map_or_else(|| "none".to_owned(), |code| code.into_owned())
}

/// The messages of the cluster's events, as the API tells them.
pub async fn messages(client: &Client) -> Vec<String> {
    let events = client.describe_events().source_type(SourceType::DbCluster).source_identifier("orders").send().await.unwrap();
    events.events().iter().map(|event| event.message().unwrap().to_owned()).collect()
}

/// `FailoverDBCluster`.
pub async fn call(client: &Client, target: &str) -> Result<FailoverDbClusterOutput, SdkError<FailoverDBClusterError>> {
    client.failover_db_cluster().db_cluster_identifier("orders").target_db_instance_identifier(target).send().await
}

/// Waits until a failover has ended, which is `available` again.
pub async fn available(client: &Client) {
    eventually("the cluster is available", async || describe(client).await.status() == Some("available")).await;
}
