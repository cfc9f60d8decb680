//! The sink over PostgreSQL: finds the writer, looks at the table, writes batches.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_write_crds::DurableWritePipelineSpec;
use durable_write_crds::conditions::reasons;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::access::{Access, CONNECT_DEADLINE};
use super::failure::failure;
use super::plan::{self, Plan, plan, table_missing};
use super::seek::{Answer, PATIENT_ATTEMPT, Target, seek};
use super::{catalogue, durability, encode, fault_column, probe_rows};
use crate::decode::Record;
use crate::problem::Problem;
use crate::sink::{Class, Found, Sink, WriteError};

/// A connection does not keep the buffer of a statement that is larger than this, in bytes.
const LARGE: usize = 1 << 20;

/// The database of a pipeline.
#[derive(Debug)]
pub struct Postgres {
    spec: DurableWritePipelineSpec,
    access: Access,
    /// How to write, once the table was looked at.
    plan: Mutex<Option<Arc<Plan>>>,
    /// Where the writer was found last.
    writer: Mutex<Option<Target>>,
}

impl Postgres {
    /// The database that a manifest names, reached by `access`. Nothing is asked of it before [`Sink::seek`].
    #[must_use]
    pub fn new(spec: DurableWritePipelineSpec, access: Access) -> Self {
        Self { spec, access, plan: Mutex::default(), writer: Mutex::default() }
    }

    /// Every server that may be the writer, read anew each time: the topology changes while the worker runs.
    fn targets(&self) -> Result<Vec<Target>, Problem> {
        let servers = self.access.servers()?;
        let endpoint = Target { name: "writer endpoint".to_owned(), endpoint: servers.writer };
        let instances = servers.instances.into_iter().map(|server| Target { name: server.name, endpoint: server.endpoint });
        Ok(instances.chain([endpoint]).collect())
    }

    /// Opens a connection: credentials and authorities are read each time, as they may have been rotated.
    async fn open(&self, target: &Target, limit: Duration) -> Result<PgConnection, WriteError> {
        self.access.connector().map_err(WriteError::unreached)?.open(&target.endpoint, limit).await
    }

    /// A NOT NULL column that the manifest does not fill is no message's fault, unless it is one of a table that a trigger writes to: when
    /// other messages can be written.
    fn unless_unfilled(&self, failure: WriteError) -> WriteError {
        match (failure.sqlstate.as_deref(), &failure.column) {
            (Some("23502"), Some(column)) if self.spec.target.columns.iter().all(|filled| filled.name != *column) => {
                WriteError { class: Class::Ambiguous, problem: plan::column_unfilled(column), ..failure }
            }
            _ => failure,
        }
    }

    /// Asks a server whether it is the writer, on the connection that stands or on a new one.
    async fn ask(&self, target: Target, standing: Option<PgConnection>) -> Answer<PgConnection> {
        let opened = match standing {
            Some(connection) => Ok(connection),
            // The search gives every attempt up before that, so that what it says of a silent server is one text.
            None => self.open(&target, PATIENT_ATTEMPT * 2).await,
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) => return Answer::Failed(error.problem),
        };
        let server = match durability::read(&mut connection, self.spec.database.aurora.is_some()).await {
            Ok(server) => server,
            Err(error) => return Answer::Failed(failure(&error).problem),
        };
        if server.in_recovery {
            return Answer::Reader(connection);
        }
        if let Some(problem) = durability::not_durable(&server) {
            return Answer::Failed(problem);
        }
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
        Answer::Writer(Found { connection, identity: server.identity, name: server.name })
    }
}

impl Sink for Postgres {
    type Connection = PgConnection;

    async fn seek(&self, report: impl Fn(Problem) + Send + Sync) -> Found<PgConnection> {
        // On Aurora the storage knows one writer; on stock PostgreSQL an old primary may not know that it is none.
        let alone = self.spec.database.aurora.is_none();
        seek(|| self.targets(), |target, standing| self.ask(target, standing), alone, report).await
    }

    async fn connect(&self) -> Result<PgConnection, WriteError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match writer {
            Some(target) => self.open(&target, CONNECT_DEADLINE).await,
            None => Err(WriteError::unreached(Problem::new(reasons::DATABASE_OUTAGE, "database", "no writer was found yet"))),
        }
    }

    async fn prepare(&self, connection: &mut PgConnection) -> Result<(), WriteError> {
        let target = &self.spec.target;
        let catalogue = catalogue::read(connection, &target.table).await.map_err(|error| failure(&error))?;
        let catalogue = catalogue.ok_or_else(|| wrong_table(table_missing(&target.table)))?;
        let plan = plan(target, &self.spec.idempotency, &catalogue).map_err(|problems| wrong_table(all(problems)))?;
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection, rows: &[Arc<Record>]) -> Result<u64, WriteError> {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let plan = plan.ok_or_else(|| wrong_table(table_missing(&self.spec.target.table)))?;
        let mut query = sqlx::query(AssertSqlSafe(plan.statement.clone()));
        for (number, column) in plan.columns.iter().enumerate() {
            query = query.bind(encode::texts(rows, number, column.encoding));
            if column.missing_flags {
                query = query.bind(encode::missing(rows, number));
            }
        }
        let answer = query.execute(&mut *connection).await;
        if rows.iter().map(|row| row.row_bytes()).sum::<usize>() > LARGE {
            connection.shrink_buffers();
        }
        match answer {
            Ok(done) => Ok(done.rows_affected()),
            Err(error) => {
                let mut failure = self.unless_unfilled(failure(&error));
                if let ([row], Class::RowFault, None) = (rows, failure.class, &failure.column) {
                    failure.column = fault_column::find(connection, &plan, &self.spec.target.columns, row).await;
                }
                Err(failure)
            }
        }
    }

    async fn write_probes(&self, connection: &mut PgConnection, rows: &[Arc<Record>]) -> Result<u64, WriteError> {
        let aurora = self.spec.database.aurora.is_some();
        probe_rows::write(connection, rows, aurora).await.map_err(|error| failure(&error))
    }
}

/// The table does not fit the manifest.
fn wrong_table(problem: Problem) -> WriteError {
    WriteError { class: Class::Catalogue, sqlstate: None, column: None, problem }
}

/// The first problem, with the messages of all.
fn all(problems: Vec<Problem>) -> Problem {
    let message = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let reason = problems.first().map_or(reasons::STATEMENT_FAILED, |problem| problem.reason);
    Problem::new(reason, "", message)
}
