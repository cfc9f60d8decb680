//! From the manifest and the table's catalogue to the one statement that writes a batch, or to what is wrong.
//!
//! Values come as arrays of text and are cast to the base type without length or precision; it is the INSERT's own assignment that checks
//! those and refuses what does not fit, where an explicit cast would cut it silently. What remains are SQL's own rules of reading: a
//! `numeric(10,2)` rounds, a `timestamp` ignores a zone, a `date` a time of day, `char(n)` and `varchar(n)` blanks at the end.

mod suitable;

use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::{Column, Idempotency, Table, Target, WhenMissing};

use super::catalogue::{Catalogue, CatalogueColumn};
use super::quote;
use crate::problem::Problem;

/// How a batch is written: a statement of constant text, and how its parameters are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The statement. Its parameters are, column by column, a `text[]` with a value for each row, and where [`PlanColumn::missing_flags`]
    /// says so a `bool[]` right after it that is true for each row whose message does not have the value. Its count of rows is the count
    /// of those that were not there before.
    pub statement: String,
    /// The columns, in the order of the manifest.
    pub columns: Vec<PlanColumn>,
}

/// How the parameters of one column are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanColumn {
    /// What the texts are.
    pub encoding: Encoding,
    /// The type that the texts are cast to, as SQL.
    pub base: String,
    /// Whether a `bool[]` follows that says which rows lack the value and get the column's default.
    pub missing_flags: bool,
}

/// What the text of a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The text of a JSON string without quotes and escapes; of everything else the JSON text as it stands. Attributes, what SQS knows and
    /// the whole body are taken as they are.
    Text,
    /// The JSON text as it stands, quotes and escapes with it.
    Json,
    /// PostgreSQL's form of an array, made from a JSON array.
    Array,
}

/// Makes the plan, or says everything that is wrong.
///
/// # Errors
/// The table is none that can be written safely, a column is missing or unsuitable, no unique index covers exactly the key, or the user
/// lacks a right.
pub fn plan(target: &Target, idempotency: &Idempotency, catalogue: &Catalogue) -> Result<Plan, Vec<Problem>> {
    let keys = &idempotency.target_key.columns;
    let mut problems = table_problems(&target.table, catalogue);
    let mut columns = Vec::new();
    for column in &target.columns {
        match catalogue.column(&column.name) {
            None => problems.push(column_missing(column, &target.table, catalogue)),
            Some(found) => match suitable::encoding(column, found, keys.contains(&column.name)) {
                Ok(encoding) => columns.push((column, found, encoding)),
                Err(message) => problems.push(Problem::new(reasons::COLUMN_UNSUITABLE, field(&column.name), message)),
            },
        }
    }
    problems.extend(unfilled_columns(target, catalogue));
    problems.extend(index_problem(&target.table, keys, catalogue));
    problems.extend(missing_rights(target, keys, catalogue));
    if problems.is_empty() {
        let plan_column = |(column, found, encoding): &(&Column, &CatalogueColumn, Encoding)| PlanColumn {
            encoding: *encoding,
            base: found.base.clone(),
            missing_flags: column.when_missing == WhenMissing::Default && found.default.is_some(),
        };
        Ok(Plan { columns: columns.iter().map(plan_column).collect(), statement: statement(&target.table, keys, &columns) })
    } else {
        Err(problems)
    }
}

/// The problem of a table that is not there.
#[must_use]
pub fn table_missing(table: &Table) -> Problem {
    let message = format!(
        "there is no table {}: create it, or correct the name; PostgreSQL spells names in lower case unless they were quoted",
        quote::table(table)
    );
    Problem::new(reasons::TABLE_MISSING, "target.table", message)
}

/// The problem of a column that must have a value and gets none.
#[must_use]
pub fn column_unfilled(column: &str) -> Problem {
    let message = format!(
        "the column {column} is NOT NULL and has no default, so every row would be refused: fill it from the message, or give it a default"
    );
    Problem::new(reasons::COLUMN_UNSUITABLE, "target.columns", message)
}

/// Whether a unique index covers exactly the key, in any order.
#[must_use]
pub fn has_unique_index(keys: &[String], catalogue: &Catalogue) -> bool {
    let same = |index: &Vec<String>| index.len() == keys.len() && index.iter().all(|column| keys.contains(column));
    catalogue.unique_indexes.iter().any(same)
}

/// The statement that makes the unique index that a key needs.
#[must_use]
pub fn create_unique_index(table: &Table, keys: &[String]) -> String {
    format!("CREATE UNIQUE INDEX ON {} ({})", quote::table(table), quote::list(keys.iter().map(String::as_str)))
}

fn field(column: &str) -> String {
    format!("target.columns[{column}]")
}

fn statement(table: &Table, keys: &[String], columns: &[(&Column, &CatalogueColumn, Encoding)]) -> String {
    let (mut values, mut parameters, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (column, found, _)) in (1..).zip(columns) {
        let base = &found.base;
        parameters.push(format!("${}::text[]", parameters.len() + 1));
        names.push(format!("v{number}"));
        match (&found.default, column.when_missing) {
            (Some(default), WhenMissing::Default) => {
                parameters.push(format!("${}::bool[]", parameters.len() + 1));
                names.push(format!("m{number}"));
                values.push(format!("CASE WHEN m{number} THEN ({default})::{base} ELSE v{number}::{base} END"));
            }
            _ => values.push(format!("v{number}::{base}")),
        }
    }
    format!(
        "INSERT INTO {table} ({columns}) SELECT {values} FROM unnest({parameters}) WITH ORDINALITY AS message ({names}, place) \
         ORDER BY place ON CONFLICT ({keys}) DO NOTHING",
        table = quote::table(table),
        columns = quote::list(columns.iter().map(|(column, ..)| column.name.as_str())),
        values = values.join(", "),
        parameters = parameters.join(", "),
        names = names.join(", "),
        keys = quote::list(keys.iter().map(String::as_str)),
    )
}

fn table_problems(table: &Table, catalogue: &Catalogue) -> Vec<Problem> {
    let mut problems = Vec::new();
    let name = quote::table(table);
    let kind = match catalogue.kind {
        'r' | 'p' => None,
        'v' => Some("a view"),
        'm' => Some("a materialized view"),
        _ => Some("a foreign table"),
    };
    if let Some(kind) = kind {
        let message = format!("{name} is {kind}: name a table, as only a table's unique index can keep a message from being written twice");
        problems.push(Problem::new(reasons::INVALID_SPEC, "target.table", message));
    }
    if catalogue.persistence == 'u' {
        let message = format!("{name} is an UNLOGGED table, which a failover empties: run ALTER TABLE {name} SET LOGGED");
        problems.push(Problem::new(reasons::DURABILITY_NOT_GUARANTEED, "target.table", message));
    }
    problems
}

fn column_missing(column: &Column, table: &Table, catalogue: &Catalogue) -> Problem {
    let alike = catalogue.columns.iter().find(|found| found.name.eq_ignore_ascii_case(&column.name));
    let advice = match alike {
        Some(found) => format!("write {}, as PostgreSQL spells it", found.name),
        None => {
            let names: Vec<&str> = catalogue.columns.iter().map(|found| found.name.as_str()).collect();
            format!("add it to the table or take it out of the manifest; the table has {}", names.join(", "))
        }
    };
    Problem::new(reasons::COLUMN_MISSING, field(&column.name), format!("{} has no such column: {advice}", quote::table(table)))
}

/// Columns that nobody fills: each row would be refused. A trigger may fill them, so with one nothing can be said.
fn unfilled_columns(target: &Target, catalogue: &Catalogue) -> Vec<Problem> {
    let unfilled = |column: &&CatalogueColumn| {
        let mapped = target.columns.iter().any(|mapped| mapped.name == column.name);
        column.not_null && column.default.is_none() && !column.generated && !column.identity_always && !mapped
    };
    if catalogue.before_insert_trigger {
        return Vec::new();
    }
    catalogue.columns.iter().filter(unfilled).map(|column| column_unfilled(&column.name)).collect()
}

fn index_problem(table: &Table, keys: &[String], catalogue: &Catalogue) -> Option<Problem> {
    if has_unique_index(keys, catalogue) {
        return None;
    }
    let message = format!(
        "no unique index of {} covers exactly ({}), so the same message could be written twice: run {} (it must be neither partial nor \
         deferrable, nor on an expression)",
        quote::table(table),
        keys.join(", "),
        create_unique_index(table, keys)
    );
    Some(Problem::new(reasons::UNIQUE_INDEX_MISSING, "idempotency.targetKey.columns", message))
}

fn missing_rights(target: &Target, keys: &[String], catalogue: &Catalogue) -> Vec<Problem> {
    let user = quote::identifier(&catalogue.user);
    let table = quote::table(&target.table);
    let mapped = |column: &CatalogueColumn| target.columns.iter().find(|mapped| mapped.name == column.name);
    let denied = |field: &str, right: String| {
        let message = format!("the user {} may not do this: run GRANT {right} TO {user}", catalogue.user);
        Problem::new(reasons::PERMISSION_DENIED, field, message)
    };
    let names = |lacks: &dyn Fn(&CatalogueColumn) -> bool| {
        quote::list(catalogue.columns.iter().filter(|column| lacks(column)).map(|column| column.name.as_str()))
    };

    let mut problems = Vec::new();
    if !catalogue.schema_usage {
        problems.push(denied("target.table.schema", format!("USAGE ON SCHEMA {}", quote::identifier(&target.table.schema))));
    }
    let insert = names(&|column| !column.may_insert && mapped(column).is_some());
    if !insert.is_empty() {
        problems.push(denied("target.columns", format!("INSERT ({insert}) ON {table}")));
    }
    let select = names(&|column| !column.may_select && keys.contains(&column.name));
    if !select.is_empty() {
        problems.push(denied("idempotency.targetKey.columns", format!("SELECT ({select}) ON {table}")));
    }
    for column in &catalogue.columns {
        let takes_default = mapped(column).is_none_or(|mapped| mapped.when_missing == WhenMissing::Default);
        if let Some(sequence) = column.sequence.as_ref().filter(|sequence| takes_default && !sequence.may_use) {
            problems.push(denied(&field(&column.name), format!("USAGE ON SEQUENCE {}", sequence.name)));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
