//! What an error of the driver means: its class for the loop, and the problem for people.

use durable_write_crds::conditions::reasons;
use sqlx::postgres::PgDatabaseError;

use super::{sqlstate, tls};
use crate::problem::Problem;
use crate::sink::{Class, WriteError};

/// What an error of the driver means.
#[must_use]
pub fn failure(error: &sqlx::Error) -> WriteError {
    if let Some(answer) = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        let (code, constraint) = (answer.code(), answer.constraint());
        return WriteError {
            class: sqlstate::classify(code, constraint),
            sqlstate: Some(code.to_owned()),
            column: answer.column().or(constraint).map(ToOwned::to_owned),
            problem: sqlstate::problem(code, constraint, answer.message()),
        };
    }
    let problem = tls::problem(error).unwrap_or_else(|| Problem::new(reasons::DATABASE_OUTAGE, "database", error.to_string()));
    WriteError { class: Class::Outage, sqlstate: None, column: None, problem }
}
