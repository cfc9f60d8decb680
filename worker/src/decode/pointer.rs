//! Finds several JSON Pointers (RFC 6901) in one pass over a text, as places in it, and checks that the whole text is JSON.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A tree of pointers: each node is a step, with the columns that end there.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    children: Vec<(String, Pointers)>,
    columns: Vec<usize>,
}

impl Pointers {
    /// The tree of these pointers, each with the place where its value belongs.
    pub(super) fn new<'a>(pointers: impl Iterator<Item = (usize, &'a str)>) -> Self {
        let mut root = Self::default();
        for (column, pointer) in pointers {
            let steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
            steps.fold(&mut root, Self::child).columns.push(column);
        }
        root
    }

    /// True when there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.children.is_empty() && self.columns.is_empty()
    }

    /// Where each pointer's value stands in the text. Of a member that stands there twice the last counts.
    pub(super) fn find(&self, text: &str, found: &mut [Option<Range<usize>>]) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Search { node: self, text, found }.deserialize(&mut deserializer)?;
        deserializer.end()
    }

    fn child(&mut self, step: String) -> &mut Self {
        let place = self.children.iter().position(|(name, _)| *name == step).unwrap_or_else(|| {
            self.children.push((step, Self::default()));
            self.children.len() - 1
        });
        // The place was found or made on the line above.
        #[allow(clippy::indexing_slicing)]
        &mut self.children[place].1
    }

    fn get(&self, step: &str) -> Option<&Self> {
        self.children.iter().find(|(name, _)| name == step).map(|(_, child)| child)
    }

    /// Forgets what an earlier member of the same name had.
    fn clear(&self, found: &mut [Option<Range<usize>>]) {
        for &column in &self.columns {
            if let Some(place) = found.get_mut(column) {
                *place = None;
            }
        }
        self.children.iter().for_each(|(_, child)| child.clear(found));
    }
}

struct Search<'t, 'f> {
    node: &'t Pointers,
    text: &'t str,
    found: &'f mut [Option<Range<usize>>],
}

impl<'t> DeserializeSeed<'t> for Search<'t, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.node.columns.is_empty() {
            return deserializer.deserialize_any(self);
        }
        let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
        let start = raw.as_ptr().addr() - self.text.as_ptr().addr();
        for &column in &self.node.columns {
            if let Some(place) = self.found.get_mut(column) {
                *place = Some(start..start + raw.len());
            }
        }
        if self.node.children.is_empty() {
            return Ok(());
        }
        serde_json::Deserializer::from_str(raw).deserialize_any(self).map_err(D::Error::custom)
    }
}

/// Reads a member's name and answers with the node that it leads to, without a copy of the name.
struct Step<'n>(&'n Pointers);

impl<'t, 'n> DeserializeSeed<'t> for Step<'n> {
    type Value = Option<&'n Pointers>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Step<'n> {
    type Value = Option<&'n Pointers>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name))
    }
}

impl<'t> Visitor<'t> for Search<'t, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(step) = members.next_key_seed(Step(self.node))? {
            match step {
                Some(node) => {
                    node.clear(self.found);
                    members.next_value_seed(Search { node, text: self.text, found: self.found })?;
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut elements: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let more = match self.node.get(&index.to_string()) {
                Some(node) => elements.next_element_seed(Search { node, text: self.text, found: self.found })?.is_some(),
                None => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
