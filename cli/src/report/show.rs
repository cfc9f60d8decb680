//! A drill as text for the terminal.

use std::fmt::Write;

use crate::account::Account;
use crate::text::{plain, table, time};

use super::{at, headline, sections};

/// Everything that is known of a drill.
#[must_use]
pub fn show(account: &Account) -> String {
    let mut text = format!("VERDICT\n  {}\n", plain(&headline(account)));
    for section in sections(account) {
        writeln!(text, "\n{}", section.title.to_uppercase()).ok();
        for (label, value) in section.facts {
            writeln!(text, "  {label:<52} {}", plain(&value)).ok();
        }
    }
    if !account.criteria.is_empty() {
        text += &format!("\nCRITERIA\n{}", criteria(account));
    }
    if !account.timeline.is_empty() {
        text += &format!("\nSTEPS\n{}", steps(account));
    }
    if !account.roles_before.is_empty() {
        text += &format!("\nINSTANCES\n{}", instances(account));
    }
    text
}

fn criteria(account: &Account) -> String {
    let rows = account.criteria.iter().map(|criterion| {
        let message = criterion.message.clone().unwrap_or_default();
        vec![criterion.name.clone(), criterion.target.clone(), criterion.measured.clone(), criterion.result.to_string(), message]
    });
    table(&["NAME", "TARGET", "MEASURED", "RESULT", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn steps(account: &Account) -> String {
    let rows = account
        .timeline
        .iter()
        .map(|step| vec![at(step), time(step.observed_at.0), step.source.to_string(), step.reason.clone(), step.message.clone()]);
    table(&["AT", "OBSERVED", "SOURCE", "REASON", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn instances(account: &Account) -> String {
    let rows = super::sections::roles(account)
        .into_iter()
        .map(|role| vec![role.instance, role.zone, role.tier, role.before, role.after, role.lag, role.probe_rows]);
    table(&["NAME", "ZONE", "TIER", "BEFORE", "AFTER", "LAG BEFORE", "PROBE ROWS"], &rows.collect::<Vec<_>>())
}
