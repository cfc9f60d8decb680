//! What keeps a pipeline from working, said so that somebody can act on it.

use std::fmt;

/// Something that keeps the pipeline from working until somebody acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// One of [`durable_write_crds::conditions::reasons`].
    pub reason: &'static str,
    /// The field of the spec that it belongs to, for example `target.columns[amount]`; empty when the message names several.
    pub field: String,
    /// What it is and what to do.
    pub message: String,
}

impl Problem {
    /// A problem of `field`.
    #[must_use]
    pub fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason, field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}
