//! Which column a bad row is bad in: for data exceptions (SQLSTATE class 22) PostgreSQL does not say, so its values are cast one by one.

use std::sync::Arc;

use durable_write_crds::pipeline::Column;
use sqlx::{AssertSqlSafe, PgConnection};

use super::encode;
use super::plan::Plan;
use crate::decode::Record;

/// The name of the first column whose value alone cannot be cast.
pub(super) async fn find(connection: &mut PgConnection, plan: &Plan, columns: &[Column], row: &Arc<Record>) -> Option<String> {
    for (number, (planned, column)) in plan.columns.iter().zip(columns).enumerate() {
        let rows = std::slice::from_ref(row);
        let texts = encode::texts(rows, number, planned.encoding);
        let statement = format!("SELECT ($1::text[])[1]::{} IS NULL", planned.base);
        let cast = sqlx::query(AssertSqlSafe(statement)).persistent(false).bind(texts).execute(&mut *connection).await;
        match cast {
            Ok(_) => {}
            Err(error) if error.as_database_error().is_some() => return Some(column.name.clone()),
            Err(_) => return None,
        }
    }
    None
}
