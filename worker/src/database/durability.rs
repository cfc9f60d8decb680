//! Who answers on a connection, whether it is a writer, and whether its commits outlive it. Asked once, right after connecting.

use durable_write_crds::conditions::reasons;
use sqlx::{PgConnection, Row};

use crate::problem::Problem;

/// The server at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What tells this run of this server from every other, by whichever address it was reached.
    pub identity: String,
    /// Its name, for people.
    pub name: String,
    /// Whether it follows another server: it is no writer then.
    pub in_recovery: bool,
    /// Whether transactions of this user cannot write.
    pub read_only: bool,
    /// Whether it is a cluster of Aurora, which keeps each commit in three zones by itself.
    pub aurora: bool,
    /// `synchronous_commit`, as it holds for this user and database.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`.
    pub synchronous_standby_names: String,
}

/// Asks who answers. `aurora` says what the manifest says.
///
/// # Errors
/// The connection failed; on a server that is not Aurora, although the manifest says so, with SQLSTATE 42883.
pub async fn read(connection: &mut PgConnection, aurora: bool) -> Result<Server, sqlx::Error> {
    let query = if aurora { AURORA } else { POSTGRES };
    let row = sqlx::query(query).persistent(false).fetch_one(connection).await?;
    let (name, started): (String, String) = (row.try_get("name")?, row.try_get("started")?);
    Ok(Server {
        // Several names may lead to a stock server, but it is started once.
        identity: if aurora { format!("{name}@{started}") } else { started },
        name,
        in_recovery: row.try_get("in_recovery")?,
        read_only: row.try_get("read_only")?,
        aurora,
        synchronous_commit: row.try_get("synchronous_commit")?,
        synchronous_standby_names: row.try_get("synchronous_standby_names")?,
    })
}

/// Why a commit on this writer is not safe, if it is not.
#[must_use]
pub fn not_durable(server: &Server) -> Option<Problem> {
    let problem = |reason, message: String| Some(Problem::new(reason, "database", message));
    if server.read_only && !server.in_recovery {
        return problem(
            // What a server in the middle of a failover does as well.
            reasons::DATABASE_OUTAGE,
            format!(
                "{} is no reader, but its transactions are read-only; unless a failover is under way, run ALTER ROLE … SET \
                 default_transaction_read_only = off",
                server.name
            ),
        );
    }
    // Aurora keeps what is flushed in three zones; a stock server must wait for another one.
    let weak: &[&str] = if server.aurora { &["off"] } else { &["off", "local"] };
    if weak.contains(&server.synchronous_commit.as_str()) {
        let message = format!(
            "synchronous_commit is {}, so a failover could lose confirmed rows: run ALTER ROLE … SET synchronous_commit = on (or ALTER \
             DATABASE, or the parameter group)",
            server.synchronous_commit
        );
        return problem(reasons::DURABILITY_NOT_GUARANTEED, message);
    }
    if !server.aurora && server.synchronous_standby_names.is_empty() {
        let message = "synchronous_standby_names is empty, so a commit is on one machine only and a failover could lose it: set it, for \
                       example to 'ANY 1 (*)', with at least one standby";
        return problem(reasons::DURABILITY_NOT_GUARANTEED, message.to_owned());
    }
    None
}

const POSTGRES: &str = "\
SELECT coalesce(nullif(current_setting('cluster_name'), ''), host(inet_server_addr()) || ':' || inet_server_port(), 'local') AS name, \
extract(epoch FROM pg_postmaster_start_time())::text AS started, pg_is_in_recovery() AS in_recovery, \
current_setting('transaction_read_only')::bool AS read_only, current_setting('synchronous_commit') AS synchronous_commit, \
current_setting('synchronous_standby_names') AS synchronous_standby_names";

const AURORA: &str = "\
SELECT aurora_db_instance_identifier()::text AS name, \
extract(epoch FROM pg_postmaster_start_time())::text AS started, pg_is_in_recovery() AS in_recovery, \
current_setting('transaction_read_only')::bool AS read_only, current_setting('synchronous_commit') AS synchronous_commit, \
'' AS synchronous_standby_names";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(aurora: bool, synchronous_commit: &str, synchronous_standby_names: &str) -> Server {
        Server {
            identity: "orders-1@1".into(),
            name: "orders-1".into(),
            in_recovery: false,
            read_only: false,
            aurora,
            synchronous_commit: synchronous_commit.into(),
            synchronous_standby_names: synchronous_standby_names.into(),
        }
    }

    #[test]
    fn a_commit_must_be_on_more_than_one_machine() {
        for (aurora, synchronous_commit, names, durable) in [
            (true, "on", "", true),
            (true, "local", "", true),
            (true, "off", "", false),
            (false, "on", "ANY 1 (*)", true),
            (false, "remote_apply", "ANY 1 (*)", true),
            (false, "remote_write", "ANY 1 (*)", true),
            (false, "local", "ANY 1 (*)", false),
            (false, "off", "ANY 1 (*)", false),
            (false, "on", "", false),
        ] {
            let problem = not_durable(&server(aurora, synchronous_commit, names));
            assert_eq!(problem.is_none(), durable, "{aurora} {synchronous_commit} {names:?}: {problem:?}");
            assert!(problem.is_none_or(|problem| problem.reason == reasons::DURABILITY_NOT_GUARANTEED));
        }
    }

    #[test]
    fn a_writer_whose_role_is_read_only_is_named() {
        let mut server = server(true, "on", "");
        server.read_only = true;
        assert_eq!(not_durable(&server).unwrap().reason, reasons::DATABASE_OUTAGE);
        server.in_recovery = true;
        assert_eq!(not_durable(&server), None, "a reader is read-only by nature");
    }
}
