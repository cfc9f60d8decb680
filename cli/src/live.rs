//! What a running drill shows: from one status to the next, the lines that say what has happened since. Pure.

use std::time::Duration;

use durable_write_crds::FailoverDrillStatus;
use durable_write_crds::conditions::drill_types;
use durable_write_crds::drill::{Observation, RoleStatus, Verdict};
use durable_write_crds::evidence::{WRITES_BACK, WRITES_FAIL};
use jiff::Timestamp;

use crate::text::{or_unknown, plain, time};

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
        let note = if after.recovery.is_none() { "; its bounds come at the end" } else { "" };
        lines.push(format!("   write gap: {gap}{note}"));
    }
    if let Some(verdict) = after.verdict.filter(|_| before.verdict != after.verdict) {
        lines.extend(end(verdict, after));
    }
    lines.iter().map(|line| plain(line)).collect()
}

/// The line that a terminal shows below them, renewed each second: `running` since the drill was made, `failing` since the status was first
/// seen to say that writes fail.
#[must_use]
pub fn ticker(status: &FailoverDrillStatus, running: Duration, failing: Option<Duration>) -> String {
    let phase = status.phase.map_or("Waiting for the operator", |phase| phase.as_str());
    let mut parts = vec![format!("{:02}:{:02}", running.as_secs() / 60, running.as_secs() % 60), phase.to_owned()];
    let so_far = failing.map(|failing| format!("{} s and growing", failing.as_secs()));
    parts.extend(gap(status).or(so_far).map(|gap| format!("write gap {gap}")));
    if let Some(queue) = &status.queue {
        parts.push(format!("queue peak {}, now {}", or_unknown(queue.peak), or_unknown(queue.after)));
    }
    if let Some(writer) = status.writer_after.as_ref().or(status.writer_before.as_ref()) {
        parts.push(format!("writer {writer}"));
    }
    plain(&parts.join("  ·  "))
}

/// True from the time at which the operator saw writes fail until it saw them back.
#[must_use]
pub fn writes_fail(status: &FailoverDrillStatus) -> bool {
    seen(status, WRITES_FAIL).is_some() && seen(status, WRITES_BACK).is_none() && status.verdict.is_none()
}

fn seen(status: &FailoverDrillStatus, reason: &str) -> Option<Timestamp> {
    status.timeline.iter().find(|step| step.reason == reason).map(|step| step.at.0)
}

/// What was measured, else what the operator's looks at the probe make of it, which are a second or two apart.
fn gap(status: &FailoverDrillStatus) -> Option<String> {
    let about = || {
        let length = seen(status, WRITES_BACK)?.duration_since(seen(status, WRITES_FAIL)?);
        Some(format!("about {} s", length.as_secs()))
    };
    status.recovery.as_ref().and_then(|recovery| recovery.interval()).or_else(about)
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
