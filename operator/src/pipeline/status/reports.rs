//! What several workers say becomes one statement: the worst answer wins, and the text says how many of how many. The texts come from
//! pods of tenants, so they are cut and checked before they go into a status.

use std::collections::BTreeMap;

use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::{Report, WorkerState};

use crate::workers::{Answer, NoAnswer};

/// A condition without time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) status: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Draft {
    pub(super) fn new(status: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.to_owned(), message: message.into() }
    }
}

/// The states of the workers that answered.
pub(super) fn states(answers: &[Answer]) -> impl Iterator<Item = &WorkerState> {
    answers.iter().filter_map(|answer| answer.state.as_ref().ok())
}

/// What the workers that answered say together; `bad` is the status that wins. None when nobody answered.
pub(super) fn worst(answers: &[Answer], pick: impl Fn(&WorkerState) -> &Report, bad: bool) -> Option<Draft> {
    let reports: Vec<_> = states(answers).map(pick).collect();
    // From worse to better: it is so, it is not so, not known yet.
    [Some(bad), Some(!bad), None].into_iter().find_map(|status| {
        let alike: Vec<_> = reports.iter().copied().filter(|report| report.status == status).collect();
        let (reason, message) = most_frequent(&alike)?;
        let text = if answers.len() > 1 { format!("{} of {} workers: {message}", alike.len(), answers.len()) } else { message };
        Some(Draft { status, reason, message: text })
    })
}

/// The reason that most reports give, one that is out of the ordinary first, and a text of it. The same reports in any order give the same.
fn most_frequent(reports: &[&Report]) -> Option<(String, String)> {
    let mut count = BTreeMap::<_, usize>::new();
    for report in reports {
        *count.entry((report.reason != reasons::OK, checked_reason(&report.reason))).or_default() += 1;
    }
    let ((_, reason), _) =
        count.into_iter().max_by_key(|((unusual, reason), count)| (*unusual, *count, std::cmp::Reverse(reason.clone())))?;
    let message = reports.iter().filter(|report| checked_reason(&report.reason) == reason).map(|report| &report.message).min()?;
    Some((reason, message.chars().take(1024).collect()))
}

/// The reason, when the API server would take it.
fn checked_reason(reason: &str) -> String {
    let well_formed =
        reason.len() <= 64 && reason.starts_with(|c: char| c.is_ascii_alphabetic()) && reason.bytes().all(|c| c.is_ascii_alphanumeric());
    if well_formed { reason } else { "Unreadable" }.to_owned()
}

/// Why nobody answered, as a text.
pub(super) fn no_answer(answers: &[Answer]) -> Option<NoAnswer> {
    answers.iter().filter_map(|answer| answer.state.as_ref().err().copied()).min()
}

/// The writer, as the worker knows it that reached it last.
pub(super) fn writer(answers: &[Answer]) -> Option<String> {
    let knows = states(answers).filter(|state| state.database.writer.is_some());
    let newest = knows.max_by_key(|state| (state.flowing.status == Some(true), state.flowing.since))?;
    newest.database.writer.as_ref().map(|writer| writer.chars().take(259).collect())
}
