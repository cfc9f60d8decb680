//! Reports of a drill: an account in, text out. Nothing here reads or writes anything.

pub mod chart;
mod html;
mod junit;
mod markdown;
mod sections;
mod show;

use anyhow::Context;
use clap::ValueEnum;
use durable_write_crds::drill::Observation;

use crate::account::Account;
use crate::text::time;

pub use sections::{Section, sections};
pub use show::show;

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Markdown, for a change record or a pull request
    Md,
    /// One file without anything external, with a chart
    Html,
    /// The evidence as it is stored
    Json,
    /// One test case for each criterion, for CI
    Junit,
}

/// The report of a drill.
///
/// # Errors
/// JSON is asked for and there is no evidence.
pub fn render(account: &Account, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Md => Ok(markdown::render(account)),
        Format::Html => html::render(account).context("write the report"),
        Format::Junit => junit::render(account).context("write the report"),
        Format::Json => {
            let details = account.evidence.as_ref();
            let document = details.map(|details| details.document.clone());
            document.with_context(|| format!("{}; -o md, html and junit can tell what is known", account.seal.text()))
        }
    }
}

/// When something happened, and how far that may be off.
fn at(step: &Observation) -> String {
    let uncertainty = step.uncertainty_milliseconds.map_or_else(String::new, |milliseconds| format!(" ± {milliseconds} ms"));
    time(step.at.0) + &uncertainty
}

/// The line that stands above everything: the verdict and why.
#[must_use]
pub fn headline(account: &Account) -> String {
    let verdict = account.verdict.map_or("not concluded", |verdict| verdict.as_str());
    match account.reason.as_str() {
        "" => verdict.to_owned(),
        reason => format!("{verdict} ({reason})"),
    }
}
