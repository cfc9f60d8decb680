//! Names from the manifest as they stand in SQL. Statements are put together from these and from constant text only.

use durable_write_crds::pipeline::Table;

/// A name in double quotes: whatever it holds, it is one identifier.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table with its schema.
#[must_use]
pub fn table(table: &Table) -> String {
    format!("{}.{}", identifier(&table.schema), identifier(&table.name))
}

/// Names in parentheses' contents: quoted, with commas.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(identifier).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(identifier(r#"a"; DROP TABLE b; --"#), r#""a""; DROP TABLE b; --""#);
        assert_eq!(list(["id", "Order"]), r#""id", "Order""#);
    }
}
