//! The report as one HTML file: nothing is loaded from elsewhere, nothing runs, and the template escapes whatever it is given.

use askama::Template;

use crate::account::Account;
use crate::text::{plain, time};

use super::chart::{Chart, chart};
use super::headline;
use super::sections::{Role, Section, roles, sections};

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    account: &'a Account,
    headline: String,
    verdict: &'static str,
    chart: Result<Chart, String>,
    series_note: Option<String>,
    sections: Vec<Section>,
    steps: Vec<Step>,
    roles: Vec<Role>,
    method: &'a [String],
}

/// One line of the steps as executed.
struct Step {
    at: String,
    uncertainty: String,
    observed: String,
    source: &'static str,
    reason: String,
    message: String,
}

/// The report.
pub(super) fn render(account: &Account) -> askama::Result<String> {
    let step = |step: &durable_write_crds::drill::Observation| Step {
        at: time(step.at.0),
        uncertainty: step.uncertainty_milliseconds.map_or_else(String::new, |milliseconds| format!("± {milliseconds} ms")),
        observed: time(step.observed_at.0),
        source: step.source.as_str(),
        reason: step.reason.clone(),
        message: step.message.clone(),
    };
    let details = account.evidence.as_ref();
    let page = Page {
        account,
        headline: headline(account),
        verdict: account.verdict.map_or("Open", |verdict| verdict.as_str()),
        chart: chart(account),
        series_note: details.and_then(|details| details.series.missing.clone()),
        sections: sections(account),
        steps: account.timeline.iter().map(step).collect(),
        roles: roles(account),
        method: details.map_or(&[], |details| &details.method),
    };
    // What is given may hold anything: control characters are no more part of a page than of a terminal.
    Ok(page.render()?.lines().map(plain).collect::<Vec<_>>().join("\n"))
}
