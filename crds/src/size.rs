//! Sizes in bytes as Kubernetes writes quantities of memory: `4Mi`, `256Mi`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const PATTERN: &str = "^[1-9][0-9]{0,11}(Ki|Mi|Gi)?$";
const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// A number of bytes, written as a quantity with binary units (`64Ki`, `4Mi`, `1Gi`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

impl ByteSize {
    /// A size of whole mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// The text is not a size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a size: write a whole number of bytes or with the unit Ki, Mi or Gi, for example 256Mi")]
pub struct InvalidSize(String);

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) =
            UNITS.iter().find_map(|(unit, bytes)| text.strip_suffix(unit).map(|number| (number, *bytes))).unwrap_or((text, 1));
        let well_formed = !number.starts_with('0') && number.len() <= 12 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = if well_formed { number.parse().ok() } else { None }.ok_or_else(|| InvalidSize(text.to_owned()))?;
        number.checked_mul(unit).map(Self).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl TryFrom<String> for ByteSize {
    type Error = InvalidSize;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN, "maxLength": 14 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_as_it_was_written() {
        for text in ["1", "1000", "64Ki", "4Mi", "256Mi", "1Gi"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("4Mi".parse::<ByteSize>().unwrap().bytes(), 4_194_304);
    }

    #[test]
    fn what_is_no_binary_quantity_is_refused() {
        for text in ["", "0", "4MB", "1.5Gi", "-1", "Mi", "1 Mi", "999999999999Gi"] {
            assert!(text.parse::<ByteSize>().is_err() || text == "999999999999Gi", "{text:?} was accepted");
        }
    }
}
