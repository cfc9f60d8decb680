//! The report in Markdown.

use crate::account::Account;
use crate::text::{plain, time};

use super::{at, headline, sections};

/// The report.
pub(super) fn render(account: &Account) -> String {
    let mut text = format!("# Failover drill {}: {}\n", escape(&account.name), escape(&headline(account)));
    if !account.seal.is_sound() {
        text += &format!("\n> **{}**\n", escape(&account.seal.text()));
    }
    if !account.message.is_empty() {
        text += &format!("\n{}\n", escape(&account.message));
    }
    let criteria = account.criteria.iter().map(|criterion| {
        let message = criterion.message.clone().unwrap_or_default();
        [criterion.name.clone(), criterion.target.clone(), criterion.measured.clone(), criterion.result.to_string(), message]
    });
    text += &table("Criteria", ["Criterion", "Target", "Measured", "Result", "Message"], criteria);
    for section in sections(account) {
        let facts = section.facts.into_iter().map(|(label, value)| [label.to_owned(), value]);
        text += &table(section.title, ["", ""], facts);
    }
    let steps = account
        .timeline
        .iter()
        .map(|step| [at(step), time(step.observed_at.0), step.source.to_string(), step.reason.clone(), step.message.clone()]);
    text += &table("Steps as executed", ["At", "Observed", "Source", "Step", ""], steps);
    let roles = sections::roles(account).into_iter();
    let roles = roles.map(|role| [role.instance, role.zone, role.tier, role.before, role.after, role.lag, role.probe_rows]);
    text += &table("Instances", ["Instance", "Zone", "Tier", "Before", "After", "Lag before", "Probe rows"], roles);
    if let Some(details) = &account.evidence {
        text += "\n## Method\n\n";
        details.method.iter().for_each(|note| text += &format!("- {}\n", escape(note)));
    }
    text
}

/// A table with its title; nothing when it has no rows.
fn table<const N: usize>(title: &str, header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rows: String = rows.map(|row| line(&row.map(|cell| escape(&cell)))).collect();
    if rows.is_empty() {
        return String::new();
    }
    let rule = line(&[const { "---" }; N].map(str::to_owned));
    format!("\n## {title}\n\n{}{rule}{rows}", line(&header.map(str::to_owned)))
}

/// Text that Markdown takes for nothing but text, in one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in plain(text).chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}
