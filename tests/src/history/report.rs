//! The result of a run, and how it prints.

use std::fmt;

/// What became of the messages of a run. The lists hold keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that the sender tried to send.
    pub sent: usize,
    /// Those that SQS acknowledged.
    pub acknowledged: usize,
    /// Acknowledged messages with a row.
    pub committed: usize,
    /// Rows in the table, duplicates and unexpected ones included.
    pub rows: usize,
    /// Acknowledged, and neither in the table nor in the dead-letter queue.
    pub lost: Vec<String>,
    /// Once for each row beyond the first of a key.
    pub duplicated: Vec<String>,
    /// In the table or the dead-letter queue, though never sent, or refused.
    pub unexpected: Vec<String>,
    /// Rows with another sequence than was sent.
    pub altered: Vec<String>,
    /// Rows written after a later one of their group.
    pub out_of_order: Vec<String>,
    /// In the dead-letter queue only.
    pub dead_lettered: Vec<String>,
    /// In the table and in the dead-letter queue: a redrive has to skip them.
    pub in_both: Vec<String>,
    /// The answer to the send was lost, and there is a row: no error.
    pub recovered: Vec<String>,
    /// The answer to the send was lost, and there is neither row nor dead letter: no error.
    pub unknown: Vec<String>,
}

impl Report {
    /// True when each acknowledged message has exactly one row or is in the dead-letter queue, and the rows are in order and unaltered.
    /// Whether messages may be dead-lettered is the test's to say.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        [&self.lost, &self.duplicated, &self.unexpected, &self.altered, &self.out_of_order].iter().all(|keys| keys.is_empty())
    }

    /// True when also nothing was dead-lettered.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_exactly_once() && self.dead_lettered.is_empty() && self.in_both.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in [("sent", self.sent), ("acknowledged", self.acknowledged), ("committed", self.committed)] {
            writeln!(formatter, "{name:<14}{count:>8}")?;
        }
        for (name, keys, always) in [
            ("lost", &self.lost, true),
            ("duplicated", &self.duplicated, true),
            ("dead-lettered", &self.dead_lettered, true),
            ("out of order", &self.out_of_order, true),
            ("unexpected", &self.unexpected, false),
            ("altered", &self.altered, false),
            ("in both", &self.in_both, false),
            ("recovered", &self.recovered, false),
            ("unknown", &self.unknown, false),
        ] {
            if always || !keys.is_empty() {
                writeln!(formatter, "{name:<14}{:>8}{}", keys.len(), examples(keys))?;
            }
        }
        Ok(())
    }
}

/// The first keys of a list.
fn examples(keys: &[String]) -> String {
    match keys {
        [] => String::new(),
        [first @ .., _] if first.len() >= 3 => format!("  {}, …", keys.iter().take(3).cloned().collect::<Vec<_>>().join(", ")),
        all => format!("  {}", all.join(", ")),
    }
}
