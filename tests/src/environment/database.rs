//! The database `shop`: the tables of pipelines, and the user that workers are.

use anyhow::{Context, bail};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Access;

/// The database and the schema of all tables.
pub const SHOP: &str = "shop";
/// The user of workers. It has the superuser's password, and no right but to read and insert.
pub const WORKER: &str = "orders";

/// Makes the database, the table `shop.orders`, the tables of drills and the user of workers, unless they are there.
///
/// # Errors
/// The writer refuses.
pub async fn prepare_database(access: &Access) -> anyhow::Result<()> {
    let mut postgres = access.connect("postgres").await?;
    let exists = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)").bind(SHOP);
    if !exists.fetch_one(&mut postgres).await? {
        execute(&mut postgres, &format!("CREATE ROLE {WORKER} LOGIN PASSWORD '{}'; CREATE DATABASE {SHOP}", access.password)).await?;
    }
    postgres.close().await.ok();
    let mut shop = access.connect(SHOP).await?;
    execute(&mut shop, include_str!("../../sql/orders.sql")).await?;
    execute(&mut shop, &format!("GRANT USAGE ON SCHEMA shop TO {WORKER}; {}", grant("orders"))).await?;
    prepare_drills(&mut shop).await?;
    shop.close().await.ok();
    Ok(())
}

/// Makes the tables of drills, as a database administrator does with what `durable-write-worker schema --drills` prints.
async fn prepare_drills(shop: &mut PgConnection) -> anyhow::Result<()> {
    execute(shop, &durable_write_worker::schema::drill_statements(WORKER).concat()).await
}

/// Makes another table like `shop.orders`, or empties it. Its name is of lower-case letters, digits and underscores.
///
/// # Errors
/// The writer refuses.
pub async fn prepare_table(access: &Access, name: &str) -> anyhow::Result<()> {
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
        bail!("{name:?} would have to be quoted: use lower-case letters, digits and underscores");
    }
    let mut shop = access.connect(SHOP).await?;
    let create = format!("CREATE TABLE IF NOT EXISTS shop.{name} (LIKE shop.orders INCLUDING ALL); TRUNCATE shop.{name}; {}", grant(name));
    execute(&mut shop, &create).await?;
    shop.close().await.ok();
    Ok(())
}

fn grant(table: &str) -> String {
    format!("GRANT SELECT, INSERT ON shop.{table} TO {WORKER}")
}

/// Runs statements one after the other, as some cannot be in a transaction with others.
async fn execute(connection: &mut PgConnection, statements: &str) -> anyhow::Result<()> {
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.context("prepare the database")?;
    }
    Ok(())
}
