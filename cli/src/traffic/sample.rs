//! A sample message that fits a pipeline's columns. Pure: what is random or of now is derived from the run and the number.

use std::collections::{BTreeMap, HashMap};

use anyhow::bail;
use durable_write_crds::DurableWritePipelineSpec;
use durable_write_crds::pipeline::{Column, SystemAttribute};
use durable_write_worker::database::quote;
use durable_write_worker::decode::Decoder;
use durable_write_worker::message::{AttributeValue, Message, MessageAttribute};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

/// Unique numbers of runs that begin a second apart are so far apart: more than can be sent in it, so that runs after one another share none.
const NUMBERS_A_SECOND: i64 = 100_000;

/// Makes the messages of one run.
#[derive(Clone, Debug)]
pub struct Sampler {
    spec: DurableWritePipelineSpec,
    run: String,
    began: Timestamp,
    groups: u32,
    set: Vec<(String, String)>,
    /// Tells the uuids of two runs apart.
    salt: u64,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The body.
    pub body: String,
    /// Attributes of the type String.
    pub attributes: BTreeMap<String, String>,
    /// The message group.
    pub group: String,
    /// The deduplication id.
    pub id: String,
}

/// What kind of value a column is likely to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    UniqueNumber,
    Time,
    Uuid,
    Flag,
}

impl Sampler {
    /// A sampler for a pipeline. `set` has values of parts of the body, by JSON Pointer, that are not to be guessed.
    ///
    /// # Errors
    /// The worker could not decode the messages, or a pointer of `set` is none of the columns'.
    pub fn new(
        spec: &DurableWritePipelineSpec,
        run: &str,
        began: Timestamp,
        groups: u32,
        set: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let sampler =
            Self { spec: spec.clone(), run: run.to_owned(), began, groups: groups.max(1), set: set.to_vec(), salt: rand::random() };
        let pointers: Vec<&str> = spec.target.columns.iter().filter_map(|column| column.from.body.as_deref()).collect();
        if let Some((pointer, _)) = set.iter().find(|(pointer, _)| !pointers.contains(&pointer.as_str())) {
            bail!("--set {pointer}: no column is filled from there; the columns' are {}", pointers.join(" "));
        }
        let sample = sampler.message(1);
        let attribute = |text: &String| MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text(text.clone()) };
        let attributes: HashMap<_, _> = sample.attributes.iter().map(|(name, text)| (name.clone(), attribute(text))).collect();
        let message = Message { body: sample.body.clone(), group: Some(sample.group), attributes, ..Message::default() };
        match Decoder::new(spec).decode(&message) {
            Ok(_) => Ok(sampler),
            Err(fault) => bail!("the worker would refuse the message {}: {}; give the value with --set", sample.body, fault.message),
        }
    }

    /// Message `number` of the run, from 1.
    #[must_use]
    pub fn message(&self, number: u32) -> Sample {
        let mut body = Value::Object(Map::new());
        let mut attributes = BTreeMap::new();
        // The longer pointers first: a part that has parts of its own is not overwritten.
        let mut columns: Vec<&Column> = self.spec.target.columns.iter().collect();
        columns.sort_by_key(|column| std::cmp::Reverse(column.from.body.as_ref().map_or(0, |pointer| pointer.matches('/').count())));
        for column in columns {
            match (&column.from.body, &column.from.attribute) {
                (Some(pointer), _) if !pointer.is_empty() => insert(&mut body, pointer, self.value(column, pointer, number)),
                (_, Some(name)) => {
                    let value = self.guess(column, number);
                    attributes.insert(name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
                _ => {}
            }
        }
        if body.as_object().is_some_and(Map::is_empty) {
            body = json!({ "sample": number, "run": self.run });
        }
        Sample { body: body.to_string(), attributes, group: self.group(number), id: self.id(number) }
    }

    /// SQL that counts the rows of this run, as far as they can be told from others.
    #[must_use]
    pub fn query(&self) -> String {
        let table = quote::table(&self.spec.target.table);
        let own = |column: &&Column| {
            let given = column.from.body.as_ref().is_some_and(|pointer| self.set.iter().any(|(set, _)| set == pointer));
            self.is_key(column) && column.from.system.is_none() && !given && kind(&column.name, true) == Kind::Text
        };
        match self.spec.target.columns.iter().find(own) {
            Some(column) => format!("SELECT count(*) FROM {table} WHERE {} LIKE '{}-%';", quote::identifier(&column.name), self.run),
            None => format!("SELECT count(*) FROM {table};"),
        }
    }

    /// Which of `lanes` lanes a message belongs to: those of one group to the same.
    #[must_use]
    pub fn lane(&self, number: u32, lanes: u32) -> u32 {
        (number % self.groups) % lanes.max(1)
    }

    /// True when a column takes the message group: then a message of a standard queue needs one too.
    #[must_use]
    pub fn needs_group(&self) -> bool {
        self.spec.target.columns.iter().any(|column| column.from.system == Some(SystemAttribute::MessageGroupId))
    }

    fn id(&self, number: u32) -> String {
        format!("{}-{number}", self.run)
    }

    /// Where the group is the whole key, each message needs its own.
    fn group(&self, number: u32) -> String {
        let keys: Vec<_> = self.spec.target.columns.iter().filter(|column| self.is_key(column)).collect();
        match keys.as_slice() {
            [only] if only.from.system == Some(SystemAttribute::MessageGroupId) => self.id(number),
            _ => format!("group-{}", number % self.groups),
        }
    }

    fn is_key(&self, column: &Column) -> bool {
        self.spec.idempotency.target_key.columns.contains(&column.name)
    }

    fn value(&self, column: &Column, pointer: &str, number: u32) -> Value {
        let Some((_, template)) = self.set.iter().find(|(set, _)| set == pointer) else {
            return self.guess(column, number);
        };
        let text = template
            .replace("{number}", &number.to_string())
            .replace("{run}", &self.run)
            .replace("{now}", &self.time(number))
            .replace("{uuid}", &self.uuid(number));
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    fn guess(&self, column: &Column, number: u32) -> Value {
        match kind(&column.name, self.is_key(column)) {
            Kind::Text => self.id(number).into(),
            Kind::Number => number.into(),
            Kind::UniqueNumber => (self.began.as_second() * NUMBERS_A_SECOND + i64::from(number)).into(),
            Kind::Time => self.time(number).into(),
            Kind::Uuid => self.uuid(number).into(),
            Kind::Flag => number.is_multiple_of(2).into(),
        }
    }

    fn time(&self, number: u32) -> String {
        (self.began + SignedDuration::from_millis(number.into())).to_string()
    }

    /// A uuid of version 8: of our own making.
    fn uuid(&self, number: u32) -> String {
        let salt = format!("{:016x}", self.salt);
        let (one, two) = salt.split_at(8);
        let (three, four) = two.split_at(4);
        format!("{one}-{three}-8{}-8000-{:012x}", four.get(1..).unwrap_or("000"), number)
    }
}

/// Puts a value to where a pointer points, making what lacks on the way. What is there stays.
fn insert(body: &mut Value, pointer: &str, value: Value) {
    let steps: Vec<String> = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let Some((last, way)) = steps.split_last() else { return };
    let mut place = body;
    for step in way {
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    if let Some(fields) = place.as_object_mut() {
        fields.entry(last.clone()).or_insert(value);
    }
}

/// Guesses the kind from the words of a column's name: `placed_at`, `isGift`, `order_uuid`. A number fits text too; text does not fit a number.
fn kind(name: &str, key: bool) -> Kind {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_uppercase() {
            words.push(' ');
        }
        words.extend(character.to_lowercase());
    }
    let words: Vec<&str> = words.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    if has(&["at", "time", "date", "timestamp"]) {
        Kind::Time
    } else if has(&["uuid", "guid"]) {
        Kind::Uuid
    } else if key && has(&["number", "no", "seq", "sequence", "index", "offset", "version"]) {
        Kind::UniqueNumber
    } else if key {
        Kind::Text
    } else if has(&["is", "has", "flag", "enabled", "active"]) {
        Kind::Flag
    } else {
        Kind::Number
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn example(name: &str) -> DurableWritePipelineSpec {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples").join(name);
        durable_write_worker::manifest::load(&path).unwrap().spec
    }

    fn sampler(spec: &DurableWritePipelineSpec, set: &[(&str, &str)]) -> anyhow::Result<Sampler> {
        let set: Vec<_> = set.iter().map(|(pointer, value)| ((*pointer).to_owned(), (*value).to_owned())).collect();
        Sampler::new(spec, "dw-1", "2026-11-24T06:00:00Z".parse().unwrap(), 20, &set)
    }

    #[test]
    fn a_message_fits_the_columns_of_the_examples() {
        let orders = sampler(&example("orders.yaml"), &[]).unwrap();
        let message = orders.message(21);
        assert_eq!((message.body.as_str(), message.group.as_str()), (r#"{"amount":21,"id":"dw-1-21"}"#, "group-1"));
        assert_eq!(orders.query(), r#"SELECT count(*) FROM "shop"."orders" WHERE "id" LIKE 'dw-1-%';"#);
        let clicks = sampler(&example("clicks.yaml"), &[]).unwrap().message(3);
        assert_eq!(clicks.body, r#"{"number":179550000000003,"page":3,"session":"dw-1-3"}"#);
        assert_eq!(clicks.attributes.get("UserAgent").unwrap(), "3");
    }

    #[test]
    fn keys_are_unique_and_given_values_are_taken() {
        let spec = example("orders.yaml");
        let sampler = sampler(&spec, &[("/id", "{uuid}"), ("/amount", "9.90")]).unwrap();
        let bodies: std::collections::BTreeSet<_> = (1..=100).map(|number| sampler.message(number).body).collect();
        assert_eq!(bodies.len(), 100);
        let body: Value = serde_json::from_str(&sampler.message(7).body).unwrap();
        assert_eq!(body["amount"], 9.90);
        let id = body["id"].as_str().unwrap();
        assert!(id.len() == 36 && id.ends_with("-8000-000000000007"), "{id}");
        assert_eq!(sampler.query(), r#"SELECT count(*) FROM "shop"."orders";"#);
    }

    #[test]
    fn a_number_that_is_a_key_is_never_used_again_however_long_the_run_is() {
        let sampler = sampler(&example("clicks.yaml"), &[]).unwrap();
        let number = |message| serde_json::from_str::<Value>(&sampler.message(message).body).unwrap()["number"].as_i64().unwrap();
        assert!(number(1) < number(100_000) && number(100_000) < number(100_001) && number(100_001) < number(u32::MAX));
        assert!(number(u32::MAX) < 1 << 53, "JSON readers may hold no larger whole number");
    }

    #[test]
    fn what_the_worker_would_refuse_is_not_sent() {
        let spec = example("orders.yaml");
        assert!(sampler(&spec, &[("/id", "[1]")]).unwrap_err().to_string().contains("--set"));
        assert!(sampler(&spec, &[("/nothing", "1")]).unwrap_err().to_string().contains("/id"));
    }

    #[test]
    fn pointers_with_parts_of_their_own_and_escapes_are_made() {
        let mut body = json!({});
        insert(&mut body, "/a/b~1c/0", json!(1));
        insert(&mut body, "/a", json!(2));
        assert_eq!(body.pointer("/a/b~1c/0"), Some(&json!(1)));
    }

    #[test]
    fn kinds_are_guessed_from_whole_words() {
        let guessed = ["placedAt", "created_date", "category", "order_uuid", "isGift", "history"].map(|name| kind(name, false));
        assert_eq!(guessed, [Kind::Time, Kind::Time, Kind::Number, Kind::Uuid, Kind::Flag, Kind::Number]);
        assert_eq!((kind("number", true), kind("id", true)), (Kind::UniqueNumber, Kind::Text));
    }
}
