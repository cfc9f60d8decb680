//! What the loop needs of a database. The loop knows only this trait; PostgreSQL implements it, and so does the model in the simulation.

use std::future::Future;
use std::sync::Arc;

use crate::decode::Record;
use crate::problem::Problem;

/// What a failed statement means, and so what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The writer is gone, or this is not it: close every connection, look for the writer, hold what is held.
    Outage,
    /// This connection is spoilt: the same again on a new one.
    Reconnect,
    /// Something stood in the way for a moment: the same again, a little later.
    Retry,
    /// The database does not accept who we are: as an outage, and the credentials are read again.
    Authentication,
    /// A row is bad: halve the batch until it stands alone, then dead-letter it.
    RowFault,
    /// As a row fault, but the row may be writable later: hold it and try again for a while before.
    HoldThenRowFault,
    /// A row is bad or the pipeline is: if other rows of the batch can be written it was the row.
    Ambiguous,
    /// The table is not what it was: look at it again and try again; if that does not help, the pipeline is at fault.
    Catalogue,
}

impl Class {
    /// True when the connection can be used for the next statement.
    #[must_use]
    pub fn leaves_connection_usable(self) -> bool {
        !matches!(self, Self::Outage | Self::Reconnect | Self::Authentication)
    }
}

/// Why a statement failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError {
    /// What to do about it.
    pub class: Class,
    /// PostgreSQL's code, where PostgreSQL answered.
    pub sqlstate: Option<String>,
    /// The column or constraint, where it is known.
    pub column: Option<String>,
    /// What it is, for conditions and logs. It quotes no row.
    pub problem: Problem,
}

impl WriteError {
    /// Nothing was sent to the database, as there is no way to it.
    pub(crate) fn unreached(problem: Problem) -> Self {
        Self { class: Class::Outage, sqlstate: None, column: None, problem }
    }
}

/// A writer that was found, with the connection that found it.
#[derive(Debug)]
pub struct Found<C> {
    /// The connection: it carries the first batch.
    pub connection: C,
    /// What tells this run of this server from every other.
    pub identity: String,
    /// The instance's name, for people.
    pub name: String,
}

/// A database with one table to write to.
pub trait Sink: Send + Sync + 'static {
    /// A connection to the writer.
    type Connection: Send + 'static;

    /// Finds the writer: ends when one is found. `report` hears what keeps it from being found, as often as that changes.
    fn seek(&self, report: impl Fn(Problem) + Send + Sync) -> impl Future<Output = Found<Self::Connection>> + Send;

    /// Opens one more connection to the writer that was found last.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, WriteError>> + Send;

    /// Reads how the table looks and checks that the manifest fits it; what was found serves the writes that follow.
    fn prepare(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Writes the rows in one transaction, in their order, and says how many were not there before. When it fails, none is written, or, when
    /// the answer was lost, all are: writing them again is safe.
    fn write(&self, connection: &mut Self::Connection, rows: &[Arc<Record>]) -> impl Future<Output = Result<u64, WriteError>> + Send;

    /// Writes messages of a drill's probe into the probe's own tables, in one transaction, and says how many were not there before. A lock on
    /// those tables is not waited for longer than for a moment. Writing them again is safe.
    fn write_probes(&self, connection: &mut Self::Connection, rows: &[Arc<Record>])
    -> impl Future<Output = Result<u64, WriteError>> + Send;
}
