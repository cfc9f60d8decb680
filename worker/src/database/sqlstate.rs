//! What an error code of PostgreSQL means for the batch that met it: the one table of errors.

use durable_write_crds::conditions::reasons;

use crate::problem::Problem;
use crate::sink::Class;

/// What the error code means. `constraint` is the name of the constraint that PostgreSQL gave with it.
#[must_use]
pub fn classify(code: &str, constraint: Option<&str>) -> Class {
    match code {
        // Read-only: this server is no writer (any more).
        "25006" => Class::Outage,
        // A time-out of the role, a proxy's mix-up of prepared statements, a commit without an answer.
        "57014" | "40003" | "26000" | "42P05" => Class::Reconnect,
        "55P03" => Class::Retry,
        // The parent may come later.
        "23503" => Class::HoldThenRowFault,
        // No partition takes the row: unlike a CHECK, this has no name.
        "23514" if constraint.is_none() => Class::HoldThenRowFault,
        "21000" => Class::RowFault,
        // A missing right, or row-level security that refuses one row.
        "42501" => Class::Ambiguous,
        "3D000" | "3F000" | "0A000" => Class::Catalogue,
        _ => match code.get(..2) {
            Some("08" | "53" | "57" | "58") => Class::Outage,
            Some("25") => Class::Reconnect,
            Some("40") => Class::Retry,
            Some("28") => Class::Authentication,
            Some("22" | "23" | "54") => Class::RowFault,
            Some("42") => Class::Catalogue,
            // Triggers (P0), views (44), faults of the server (XX), and all that is not known.
            _ => Class::Ambiguous,
        },
    }
}

/// The condition's reason when every message fails with this code.
#[must_use]
pub fn reason(code: &str, constraint: Option<&str>) -> &'static str {
    match code {
        "42P01" | "3F000" => reasons::TABLE_MISSING,
        "42703" => reasons::COLUMN_MISSING,
        "42804" => reasons::COLUMN_UNSUITABLE,
        "42501" => reasons::PERMISSION_DENIED,
        "42P10" => reasons::UNIQUE_INDEX_MISSING,
        "3D000" => reasons::DATABASE_MISSING,
        "23514" if constraint.is_none() => reasons::PARTITION_MISSING,
        _ => match classify(code, constraint) {
            Class::Authentication => reasons::AUTHENTICATION_FAILED,
            Class::Outage | Class::Reconnect => reasons::DATABASE_OUTAGE,
            _ => reasons::STATEMENT_FAILED,
        },
    }
}

/// The problem of the pipeline when every message fails with this code: what PostgreSQL said, as far as it cannot quote a row, and what to do.
#[must_use]
pub fn problem(code: &str, constraint: Option<&str>, said: &str) -> Problem {
    let reason = reason(code, constraint);
    let (field, advice) = advice(reason);
    let said = if quotes_no_row(code) { format!("{said} ") } else { String::new() };
    Problem::new(reason, field, format!("{said}(SQLSTATE {code}): {advice}"))
}

fn advice(reason: &str) -> (&'static str, &'static str) {
    match reason {
        reasons::TABLE_MISSING => ("target.table", "create the schema and the table, or correct the name"),
        reasons::COLUMN_MISSING => ("target.columns", "a column is gone: add it again, or make a pipeline without it"),
        reasons::COLUMN_UNSUITABLE => ("target.columns", "a column has another type now: bring the table back, or change the manifest"),
        reasons::PERMISSION_DENIED => {
            ("database.credentials", "grant the right to the user; `durable-write-worker schema` prints the statements")
        }
        reasons::UNIQUE_INDEX_MISSING => ("idempotency.targetKey.columns", "make a unique index of exactly these columns"),
        reasons::DATABASE_MISSING => ("database.name", "create the database, or correct the name"),
        reasons::PARTITION_MISSING => ("target.table", "create the partition that takes the rows; the messages are held until then"),
        reasons::AUTHENTICATION_FAILED => (
            "database.credentials",
            "correct user name and password in the Secret; it is read again on each attempt, nothing needs a restart",
        ),
        reasons::DATABASE_OUTAGE => ("database", "the worker looks for the writer and goes on by itself"),
        _ => ("target.table", "look into the database's log; the worker tries again by itself"),
    }
}

/// The server's message with these codes speaks of names and rights; with others it may quote a value.
fn quotes_no_row(code: &str) -> bool {
    matches!(code, "42501" | "23514") || !matches!(classify(code, None), Class::RowFault | Class::HoldThenRowFault | Class::Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        use Class::{Ambiguous, Authentication, Catalogue, HoldThenRowFault, Outage, Reconnect, Retry, RowFault};
        let table: [(Class, &[&str]); 8] = [
            (
                Outage,
                &[
                    "08000", "08001", "08003", "08004", "08006", "08007", "08P01", "25006", "53000", "53100", "53200", "53300", "53400",
                    "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030", "58P01",
                ],
            ),
            (Reconnect, &["57014", "25001", "25P01", "25P02", "25P03", "25P04", "40003", "26000", "42P05"]),
            (Retry, &["40000", "40001", "40002", "40P01", "55P03"]),
            (Authentication, &["28000", "28P01"]),
            (
                RowFault,
                &[
                    "22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "23502", "23505", "23514", "23P01", "21000", "54000",
                    "54001",
                ],
            ),
            (HoldThenRowFault, &["23503"]),
            (Ambiguous, &["P0001", "P0002", "44000", "42501", "XX000", "XX001", "55000", "38000", "F0000", "00000", "", "é"]),
            (Catalogue, &["42P01", "42703", "42804", "42883", "42601", "42P10", "3D000", "3F000", "0A000"]),
        ];
        for (class, codes) in table {
            for code in codes {
                assert_eq!(classify(code, Some("a_constraint")), class, "{code}");
            }
        }
        assert_eq!(classify("23514", None), HoldThenRowFault, "a missing partition");
    }

    #[test]
    fn a_fault_of_the_pipeline_has_a_reason_and_an_advice() {
        for (code, reason) in [
            ("42P01", reasons::TABLE_MISSING),
            ("3F000", reasons::TABLE_MISSING),
            ("42703", reasons::COLUMN_MISSING),
            ("42804", reasons::COLUMN_UNSUITABLE),
            ("42501", reasons::PERMISSION_DENIED),
            ("42P10", reasons::UNIQUE_INDEX_MISSING),
            ("3D000", reasons::DATABASE_MISSING),
            ("28P01", reasons::AUTHENTICATION_FAILED),
            ("28000", reasons::AUTHENTICATION_FAILED),
            ("23514", reasons::PARTITION_MISSING),
            ("57P01", reasons::DATABASE_OUTAGE),
            ("57014", reasons::DATABASE_OUTAGE),
            ("P0001", reasons::STATEMENT_FAILED),
            ("XX000", reasons::STATEMENT_FAILED),
        ] {
            let problem = problem(code, None, "said");
            assert_eq!(problem.reason, reason, "{code}");
            assert!(problem.message.contains(code) && !problem.field.is_empty(), "{problem:?}");
        }
        assert_eq!(super::reason("23514", Some("positive")), reasons::STATEMENT_FAILED);
    }

    #[test]
    fn a_message_that_may_quote_a_row_is_not_repeated() {
        let secret = "invalid input syntax for type integer: \"4111 1111\"";
        assert!(!problem("22P02", None, secret).message.contains("4111"));
        assert!(!problem("P0001", None, secret).message.contains("4111"));
        assert!(problem("42P01", None, "relation \"orders\" does not exist").message.starts_with("relation"));
    }
}
