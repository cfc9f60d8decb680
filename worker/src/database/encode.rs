//! From records to the parameters of the statement: one array of texts for each column.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::plan::Encoding;
use crate::decode::{Record, Value};

/// The values of one column, in the order of the rows.
pub(super) fn texts<'r>(rows: &'r [Arc<Record>], column: usize, encoding: Encoding) -> Vec<Option<Cow<'r, str>>> {
    rows.iter().map(|record| text(record, column, encoding)).collect()
}

/// Which rows do not have the column's part of the message.
pub(super) fn missing(rows: &[Arc<Record>], column: usize) -> Vec<bool> {
    rows.iter().map(|record| matches!(record.values.get(column), Some(Value::Missing))).collect()
}

fn text(record: &Record, column: usize, encoding: Encoding) -> Option<Cow<'_, str>> {
    let raw = record.raw(column)?;
    let is_json = matches!(record.values.get(column), Some(Value::Json(_) | Value::Body));
    Some(match encoding {
        Encoding::Json if is_json => Cow::Borrowed(raw),
        // Text from an attribute is not JSON: as a JSON value it is a string.
        Encoding::Json => serde_json::to_string(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        Encoding::Array if raw.starts_with('[') => array(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        Encoding::Text | Encoding::Array if matches!(record.values.get(column), Some(Value::Json(_))) => content(raw),
        Encoding::Text | Encoding::Array => Cow::Borrowed(raw),
    })
}

/// The content of a JSON string; anything else as it stands.
fn content(raw: &str) -> Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Cow::Borrowed(raw),
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        // The decoder has checked that it can be unescaped.
        Some(inner) => serde_json::from_str(raw).map_or(Cow::Borrowed(inner), Cow::Owned),
    }
}

/// A JSON array as PostgreSQL writes arrays. Elements keep their own text.
fn array(raw: &str) -> Option<String> {
    let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    let elements: Vec<String> = elements.into_iter().map(|element| element_text(element.get())).collect::<Option<_>>()?;
    Some(format!("{{{}}}", elements.join(",")))
}

fn element_text(raw: &str) -> Option<String> {
    if raw.starts_with('[') {
        return array(raw);
    }
    if raw == "null" {
        return Some("NULL".to_owned());
    }
    let content = content(raw);
    let mut quoted = String::with_capacity(content.len() + 2);
    quoted.push('"');
    for character in content.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    Some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &str) -> Arc<Record> {
        let message = crate::message::Message { body: body.to_owned(), ..Default::default() };
        Arc::new(Record { values: vec![Value::Json(0..body.len())], message, probe: None })
    }

    fn encoded(body: &str, encoding: Encoding) -> String {
        texts(&[record(body)], 0, encoding)[0].as_deref().unwrap().to_owned()
    }

    #[test]
    fn text_is_the_content_of_a_string_and_the_literal_of_everything_else() {
        for (json, text) in [
            (r#""a\"b\u00e9""#, "a\"bé"),
            ("9007199254740993", "9007199254740993"),
            ("1.50", "1.50"),
            ("true", "true"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(encoded(json, Encoding::Text), text);
        }
    }

    #[test]
    fn json_keeps_every_byte() {
        for json in [r#""a\u00e9""#, "1.50", r#"{"b":1,  "a":1.0}"#] {
            assert_eq!(encoded(json, Encoding::Json), json);
        }
    }

    #[test]
    fn an_array_is_written_as_postgresql_writes_arrays() {
        let json = r#"["a,b", "q\"\\", null, "NULL", [1, 2.50]]"#;
        assert_eq!(encoded(json, Encoding::Array), r#"{"a,b","q\"\\",NULL,"NULL",{"1","2.50"}}"#);
    }
}
