//! What a running drill shows: from one status to the next, the lines that say what has happened since. Pure.

use std::time::Duration;

use durable_write_crds::FailoverDrillStatus;
use durable_write_crds::conditions::drill_types;
use durable_write_crds::drill::{Observation, RoleStatus, Verdict};

use crate::text::{interval, or_unknown, plain, time};

/// The lines that tell what is new since the status before.
#[must_use]
pub fn lines(before: &FailoverDrillStatus, after: &FailoverDrillStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(phase) = after.phase.filter(|_| after.phase != before.phase) {
        lines.push(format!("== {phase}"));
    }
    if before.roles_before.is_empty() && !after.roles_before.is_empty() {
        lines.push(format!("   roles before: {}", roles(&after.roles_before)));
        lines.push(format!("   target: {}", or_unknown(after.target.as_ref())));
    }
    lines.extend(after.timeline.iter().filter(|step| !before.timeline.contains(step)).map(step));
    if before.roles_after != after.roles_after && !after.roles_after.is_empty() {
        lines.push(format!("   roles after: {}", roles(&after.roles_after)));
    }
    if let Some(gap) = gap(after).filter(|_| gap(before) != gap(after)) {
        lines.push(format!("   write gap: {gap}"));
    }
    if let Some(verdict) = after.verdict.filter(|_| before.verdict != after.verdict) {
        lines.extend(end(verdict, after));
    }
    lines.iter().map(|line| plain(line)).collect()
}

/// The line that a terminal shows below them, renewed each second.
#[must_use]
pub fn ticker(status: &FailoverDrillStatus, running: Duration) -> String {
    let phase = status.phase.map_or("Waiting for the operator", |phase| phase.as_str());
    let mut parts = vec![format!("{:02}:{:02}", running.as_secs() / 60, running.as_secs() % 60), phase.to_owned()];
    if let Some(writer) = status.writer_after.as_ref().or(status.writer_before.as_ref()) {
        parts.push(format!("writer {writer}"));
    }
    if let Some(queue) = &status.queue {
        parts.push(format!("queue peak {}, now {}", or_unknown(queue.peak), or_unknown(queue.after)));
    }
    parts.extend(gap(status).map(|gap| format!("gap {gap}")));
    plain(&parts.join("  ·  "))
}

fn step(step: &Observation) -> String {
    format!("   {}  {:<8}  {}: {}", time(step.at.0), step.source, step.reason, step.message)
}

fn roles(roles: &[RoleStatus]) -> String {
    let role = |role: &RoleStatus| {
        let zone = role.zone.as_ref().map_or_else(String::new, |zone| format!(" in {zone}"));
        format!("{} {}{zone}", role.instance, role.role)
    };
    roles.iter().map(role).collect::<Vec<_>>().join(", ")
}

fn gap(status: &FailoverDrillStatus) -> Option<String> {
    let recovery = status.recovery.as_ref()?;
    interval(recovery.lower_bound_milliseconds, recovery.upper_bound_milliseconds)
}

fn end(verdict: Verdict, status: &FailoverDrillStatus) -> Vec<String> {
    let mut lines: Vec<String> = status
        .criteria
        .iter()
        .map(|criterion| {
            let message = criterion.message.as_ref().map_or_else(String::new, |message| format!(": {message}"));
            format!("   {:<12} {} {} (asked for {}){message}", criterion.result, criterion.name, criterion.measured, criterion.target)
        })
        .collect();
    let complete = status.conditions.iter().find(|condition| condition.type_ == drill_types::COMPLETE);
    lines.push(match complete {
        Some(complete) => format!("{verdict} ({}): {}", complete.reason, complete.message),
        None => verdict.to_string(),
    });
    lines
}
