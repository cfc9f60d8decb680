//! Holds a document against the part of OpenAPI that CustomResourceDefinitions use, and refuses fields that the schema does not have, as
//! kubectl does.

use std::collections::HashSet;

use regex::Regex;
use serde_json::{Map, Value};

use super::invalid;
use crate::problem::Problem;

/// What every object has beside the schema's fields.
const COMMON: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Everything in `document` that `schema` does not allow.
pub(super) fn problems(schema: &Value, document: &Value) -> Vec<Problem> {
    let mut walk = Walk { problems: Vec::new() };
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|name, _| !COMMON.contains(&name.as_str()));
    }
    walk.value(schema, &document, "");
    walk.problems
}

struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    fn refuse(&mut self, path: &str, message: impl Into<String>) {
        self.problems.push(invalid(path, message));
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &str) {
        match (schema.get("type").and_then(Value::as_str), value) {
            (Some("object"), Value::Object(fields)) => self.object(schema, fields, path),
            (Some("array"), Value::Array(items)) => self.array(schema, items, path),
            (Some("string"), Value::String(text)) => self.string(schema, text, path),
            (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => self.number(schema, value, path),
            (Some("number"), Value::Number(_)) => self.number(schema, value, path),
            (Some("boolean"), Value::Bool(_)) => {}
            (Some("string"), Value::Number(_) | Value::Bool(_)) => {
                self.refuse(path, format!("must be a string: write it in quotes, \"{value}\""))
            }
            (Some(kind), _) => self.refuse(path, format!("must be of the type {kind}")),
            // Without a type it is Kubernetes' integer or string.
            (None, Value::String(_)) => {}
            (None, Value::Number(number)) if number.is_i64() => {}
            (None, _) => self.refuse(path, "must be a whole number or a string"),
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        for (name, value) in fields {
            match properties.and_then(|properties| properties.get(name)).or(others) {
                Some(schema) => self.value(schema, value, &join(path, name)),
                None => {
                    let known = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                    self.refuse(&join(path, name), format!("unknown field: there are {known}"));
                }
            }
        }
        for name in texts(schema, "required").filter(|name| !fields.contains_key(*name)) {
            self.refuse(&join(path, name), "is required");
        }
        self.within(schema, ["minProperties", "maxProperties"], fields.len(), "entries", path);
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &str) {
        self.within(schema, ["minItems", "maxItems"], items.len(), "items", path);
        let keys: Vec<&str> = texts(schema, "x-kubernetes-list-map-keys").collect();
        let unique = matches!(schema.get("x-kubernetes-list-type").and_then(Value::as_str), Some("set" | "map"));
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let key = if keys.is_empty() { vec![Some(item)] } else { keys.iter().map(|key| item.get(key)).collect() };
            if unique && !seen.insert(key) {
                self.refuse(
                    &path,
                    if keys.is_empty() { "is there twice".to_owned() } else { format!("has the same {} as another", keys.join(", ")) },
                );
            }
            self.value(schema.get("items").unwrap_or(&Value::Null), item, &path);
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        self.within(schema, ["minLength", "maxLength"], text.chars().count(), "characters", path);
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && !Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
        {
            self.refuse(path, format!("{text:?} does not match {pattern}"));
        }
        let allowed: Vec<&str> = texts(schema, "enum").collect();
        if !allowed.is_empty() && !allowed.contains(&text) {
            self.refuse(path, format!("{text:?} is none of {}", allowed.join(", ")));
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let number = value.as_f64().unwrap_or(f64::NAN);
        if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
            self.refuse(path, format!("{value} is less than {minimum}"));
        }
        if let Some(maximum) = bound("maximum").filter(|maximum| number > *maximum) {
            self.refuse(path, format!("{value} is more than {maximum}"));
        }
    }

    fn within(&mut self, schema: &Value, [minimum, maximum]: [&str; 2], count: usize, what: &str, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        if let Some(minimum) = bound(minimum).filter(|minimum| count < *minimum) {
            self.refuse(path, format!("must have at least {minimum} {what}"));
        }
        if let Some(maximum) = bound(maximum).filter(|maximum| count > *maximum) {
            self.refuse(path, format!("must have at most {maximum} {what}"));
        }
    }
}

fn texts<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
