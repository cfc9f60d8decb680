//! What the tests of the local Aurora share.

use std::time::Duration;

use durable_write_testbed::aurora::{Aurora, AuroraOptions, Timing};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

/// A cluster with some timing.
pub async fn start(timing: Timing) -> Aurora {
    Aurora::start(AuroraOptions { timing, ..AuroraOptions::default() }).await.unwrap()
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not within 20 s: {what}"));
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
