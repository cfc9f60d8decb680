//! What the tests of the database share: one server, a table, and the statement that the worker would make.

use std::path::Path;

use durable_write_crds::pipeline::{Column, ColumnSource, Idempotency, OnConflict, Table, Target, TargetKey, WhenMissing};
use durable_write_testbed::aurora::{Aurora, AuroraOptions};
use durable_write_worker::database::catalogue::{self, Catalogue};
use durable_write_worker::database::plan::{Plan, plan};
use durable_write_worker::problem::Problem;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};

/// A server by itself, and a connection as superuser.
pub async fn start() -> (Aurora, PgConnection) {
    let aurora = Aurora::start(AuroraOptions { instances: 1, ..AuroraOptions::default() }).await.unwrap();
    let connection = connect(&aurora).await;
    (aurora, connection)
}

pub async fn connect(aurora: &Aurora) -> PgConnection {
    aurora.client_options(&aurora.cluster_endpoint()).unwrap().disable_statement_logging().connect().await.unwrap()
}

pub async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

pub fn table(name: &str) -> Table {
    Table { schema: "public".into(), name: name.into() }
}

/// Columns that are filled from fields of their names; the first is the key.
pub fn target(table: Table, columns: &[&str]) -> (Target, Idempotency) {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        from: ColumnSource { body: Some(format!("/{name}")), attribute: None, system: None },
        when_missing: WhenMissing::Default,
    };
    let key = TargetKey { columns: vec![columns[0].to_owned()], on_conflict: OnConflict::Ignore };
    (Target { table, columns: columns.iter().map(column).collect() }, Idempotency { target_key: key })
}

pub async fn read(connection: &mut PgConnection, name: &str) -> Catalogue {
    catalogue::read(connection, &table(name)).await.unwrap().unwrap_or_else(|| panic!("no table {name}"))
}

pub async fn planned(connection: &mut PgConnection, name: &str, columns: &[&str]) -> Result<Plan, Vec<Problem>> {
    let (target, key) = target(table(name), columns);
    plan(&target, &key, &read(connection, name).await)
}

/// Writes rows of texts; the outer `None` is a value that the message does not have.
pub async fn write(connection: &mut PgConnection, plan: &Plan, rows: &[&[Option<Option<&str>>]]) -> Result<u64, sqlx::Error> {
    let mut query = sqlx::query(AssertSqlSafe(plan.statement.clone()));
    for (number, column) in plan.columns.iter().enumerate() {
        query = query.bind(rows.iter().map(|row| row[number].flatten().map(str::to_owned)).collect::<Vec<_>>());
        if column.missing_flags {
            query = query.bind(rows.iter().map(|row| row[number].is_none()).collect::<Vec<_>>());
        }
    }
    query.execute(connection).await.map(|done| done.rows_affected())
}

/// A value that the message has.
pub fn some(text: &str) -> Option<Option<&str>> {
    Some(Some(text))
}

pub fn sqlstate<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> String {
    match result {
        Err(sqlx::Error::Database(error)) => error.code().unwrap().into_owned(),
        other => panic!("no error of the database: {other:?}"),
    }
}

/// Every row as text, in the order in which they were written.
pub async fn rows(connection: &mut PgConnection, query: &str) -> Vec<Option<String>> {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_all(connection).await.unwrap()
}

/// A file below a folder, with its parents.
pub fn write_file(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
