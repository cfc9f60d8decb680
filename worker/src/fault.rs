//! What can be wrong with one message: a row fault. (What can be wrong with the pipeline is a [`crate::problem::Problem`].)

use serde::Serialize;

/// Why a message can never be written. Shown in the dead-letter queue: it holds no part of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowFault {
    /// A fixed word for the kind.
    pub reason: String,
    /// What PostgreSQL said, where it was PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The column or constraint, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// For logs: what it is. Not part of the dead letter, as a database's message may quote the row.
    #[serde(skip)]
    pub message: String,
}

impl RowFault {
    /// A fault that was found before the database saw the message.
    #[must_use]
    pub fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.to_owned(), sqlstate: None, column: None, message }
    }

    /// The same fault, of this column.
    #[must_use]
    pub fn of_column(mut self, column: &str) -> Self {
        self.column = Some(column.to_owned());
        self
    }

    /// What makes two faults the same kind of fault: the poison breaker counts by it.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{}/{}/{}", self.reason, self.sqlstate.as_deref().unwrap_or_default(), self.column.as_deref().unwrap_or_default())
    }
}
