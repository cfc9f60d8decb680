//! Judges a run by its history, after Jepsen's set-full and total-queue: what went in must come out once. It takes what was sent, the final
//! contents of the table and of the dead-letter queue, and knows nothing of how they came about. Judge only after the queue has drained.

mod report;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use report::Report;

/// What the sender knows of a message in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// SQS returned a message id for it, at least once.
    Acknowledged,
    /// No attempt was acknowledged, and at least one may have had its effect.
    Unknown,
    /// Every attempt was refused: it is not in the queue.
    Refused,
}

/// A message that the sender tried to send, whatever the number of attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The unique key.
    pub key: String,
    /// The group whose order is to be kept; none on a standard queue.
    pub group: Option<String>,
    /// Its place in the order of its group (without group: in the run).
    pub sequence: u64,
    /// What the sender knows.
    pub outcome: Outcome,
}

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key as it arrived.
    pub key: String,
    /// The sequence as it arrived.
    pub sequence: u64,
}

/// Compares what was sent with the rows, in the order in which they were written, and with the keys of the messages in the dead-letter
/// queue, copies included.
#[must_use]
pub fn judge(sent: &[Sent], rows: &[Row], dead_letters: &[String]) -> Report {
    let sent_by_key: HashMap<&str, &Sent> = sent.iter().map(|sent| (sent.key.as_str(), sent)).collect();
    let dead: HashSet<&str> = dead_letters.iter().map(String::as_str).collect();
    let mut report = Report { sent: sent_by_key.len(), rows: rows.len(), ..Report::default() };

    let mut written: HashSet<&str> = HashSet::new();
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        if !written.insert(&row.key) {
            report.duplicated.push(row.key.clone());
            continue;
        }
        let Some(sent) = sent_by_key.get(row.key.as_str()).filter(|sent| sent.outcome != Outcome::Refused) else {
            report.unexpected.push(row.key.clone());
            continue;
        };
        if row.sequence != sent.sequence {
            report.altered.push(row.key.clone());
        }
        if let Some(group) = &sent.group {
            let newest = newest.entry(group).or_default();
            if sent.sequence < *newest {
                report.out_of_order.push(row.key.clone());
            }
            *newest = sent.sequence.max(*newest);
        }
    }
    report.unexpected.extend(unexpected_dead_letters(&dead, &written, &sent_by_key));

    for sent in sent {
        let (in_table, in_dead_letters) = (written.contains(sent.key.as_str()), dead.contains(sent.key.as_str()));
        report.acknowledged += usize::from(sent.outcome == Outcome::Acknowledged);
        report.committed += usize::from(sent.outcome == Outcome::Acknowledged && in_table);
        let list = match (sent.outcome, in_table, in_dead_letters) {
            (Outcome::Refused, _, _) => continue,
            (_, true, true) => &mut report.in_both,
            (_, false, true) => &mut report.dead_lettered,
            (Outcome::Acknowledged, true, false) => continue,
            (Outcome::Acknowledged, false, false) => &mut report.lost,
            (Outcome::Unknown, true, false) => &mut report.recovered,
            (Outcome::Unknown, false, false) => &mut report.unknown,
        };
        list.push(sent.key.clone());
    }
    report
}

/// Dead letters that nobody sent; those that are also rows are in the list already.
fn unexpected_dead_letters(dead: &HashSet<&str>, written: &HashSet<&str>, sent: &HashMap<&str, &Sent>) -> Vec<String> {
    let mut keys: Vec<_> = dead
        .iter()
        .filter(|key| !written.contains(*key) && sent.get(*key).is_none_or(|sent| sent.outcome == Outcome::Refused))
        .map(|key| (*key).to_owned())
        .collect();
    keys.sort();
    keys
}
