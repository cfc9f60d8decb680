//! Whether a column can take what the manifest sends it, and in which form it is sent.

use durable_write_crds::pipeline::{Column, SystemAttribute};

use super::Encoding;
use crate::database::catalogue::CatalogueColumn;

/// The form in which the column's values are sent, or why they cannot be.
pub(super) fn encoding(column: &Column, found: &CatalogueColumn, is_key: bool) -> Result<Encoding, String> {
    if found.generated {
        return Err("PostgreSQL computes this column itself: take it out of the manifest".to_owned());
    }
    if found.identity_always {
        return Err(
            "the column is GENERATED ALWAYS AS IDENTITY and takes no other value: take it out of the manifest, or declare it BY DEFAULT"
                .to_owned(),
        );
    }
    refuse_type(found.element.as_deref().unwrap_or(&found.base), found.category)?;
    if is_key {
        refuse_inexact_key(found)?;
    }
    if let Some(system) = column.from.system {
        refuse_system(system, found)?;
    }
    Ok(match (found.category, found.base.as_str()) {
        ('A', _) => Encoding::Array,
        (_, "json" | "jsonb") => Encoding::Json,
        _ => Encoding::Text,
    })
}

/// Types that would take something else than what was sent, or nothing.
fn refuse_type(base: &str, category: char) -> Result<(), String> {
    match base {
        "bytea" => Err("columns of the type bytea cannot be filled yet: use text, or let a generated column decode it".to_owned()),
        "\"char\"" | "name" => Err(format!("a column of the type {base} cuts long values silently: use text")),
        _ if category == 'C' => Err(format!("columns of the composite type {base} cannot be filled: use jsonb, or a column for each part")),
        _ => Ok(()),
    }
}

/// Two keys that differ must not become one.
fn refuse_inexact_key(found: &CatalogueColumn) -> Result<(), String> {
    match found.base.as_str() {
        base @ ("real" | "double precision" | "money") => {
            Err(format!("a key of the type {base} rounds, so two messages could become one row: use bigint, numeric, uuid or text"))
        }
        _ => Ok(()),
    }
}

fn refuse_system(system: SystemAttribute, found: &CatalogueColumn) -> Result<(), String> {
    let base = found.base.as_str();
    let text = found.category == 'S';
    let (suits, what, advice) = match system {
        SystemAttribute::SentTimestamp => {
            (text || base.starts_with("timestamp") || base == "date", "SentTimestamp is a point in time", "timestamp with time zone")
        }
        SystemAttribute::SequenceNumber => (text || base == "numeric", "SequenceNumber has 20 digits", "numeric or text"),
        SystemAttribute::MessageId => (text || base == "uuid", "MessageId is a text", "text"),
        SystemAttribute::MessageGroupId => (!matches!(base, "json" | "jsonb") && found.category != 'A', "MessageGroupId is a text", "text"),
    };
    if suits { Ok(()) } else { Err(format!("{what}, which a column of the type {} cannot take: use {advice}", found.declared)) }
}
