//! Two drills side by side.

use durable_write_crds::drill::Integrity;

use crate::account::Account;
use crate::report::headline;
use crate::text::{UNKNOWN, length, or_unknown, table};

/// What was measured, and what differs in how it was measured.
#[must_use]
pub fn compare(one: &Account, other: &Account) -> String {
    let header = ["", one.name.as_str(), other.name.as_str()];
    let row = |(label, of): &(&str, fn(&Account) -> String)| vec![(*label).to_owned(), of(one), of(other)];
    let measured: Vec<_> = MEASURED.iter().map(row).collect();
    let unknown = |(_, of): &&Row| of(one) == UNKNOWN && of(other) == UNKNOWN;
    let (unknown, known): (Vec<&Row>, Vec<&Row>) = CIRCUMSTANCES.iter().partition(unknown);
    let labels = |rows: &[&Row]| rows.iter().map(|(label, _)| *label).collect::<Vec<_>>().join("; ");
    let (same, differing): (Vec<&Row>, Vec<&Row>) = known.into_iter().partition(|(_, of)| of(one) == of(other));
    let mut text = table(&header, &measured);
    if !differing.is_empty() {
        text += "\nWhat differs in how they were run:\n";
        text += &table(&header, &differing.into_iter().map(row).collect::<Vec<_>>());
    }
    text += &format!("\nThe same: {}\n", labels(&same));
    if !unknown.is_empty() {
        text += &format!("\nNot known of either: {}\n", labels(&unknown));
    }
    for account in [one, other].iter().filter(|account| !account.seal.is_sound()) {
        text += &format!("\n{}: {}\n", crate::text::plain(&account.name), account.seal.text());
    }
    text
}

/// A label and how its value is found.
type Row = (&'static str, fn(&Account) -> String);

const MEASURED: &[Row] = &[
    ("Verdict", headline),
    ("Recovery time", |account| or_unknown(account.recovery.interval())),
    ("Longest time without a row of the queue", |account| {
        let probe = account.evidence.as_ref().and_then(|details| details.probe.as_ref());
        or_unknown(probe.and_then(|probe| probe.queue_gap_milliseconds).map(length))
    }),
    ("Longest time without an accepted message", |account| or_unknown(account.recovery.accept_side_milliseconds.map(length))),
    ("RDS API named another writer after", |account| or_unknown(account.recovery.control_plane_milliseconds.map(length))),
    ("Backlog settled after", |account| or_unknown(account.recovery.backlog_drained_milliseconds.map(length))),
    ("Queue depth at the most", |account| or_unknown(account.queue.peak)),
    ("Confirmed writes", |account| of(account, |integrity| integrity.acknowledged)),
    ("Lost", |account| of(account, |integrity| integrity.lost)),
    ("Duplicated", |account| of(account, |integrity| integrity.duplicated)),
    ("Unexpected", |account| of(account, |integrity| integrity.unexpected)),
    ("Late", |account| of(account, |integrity| integrity.late)),
    ("Undrained", |account| of(account, |integrity| integrity.undrained)),
    ("Probe messages dead-lettered", |account| or_unknown(account.queue.dead_lettered_probes)),
];

const CIRCUMSTANCES: &[Row] = &[
    ("Pipeline", |account| format!("{}/{}", account.namespace, account.spec.pipeline_ref.name)),
    ("Pipeline's generation", |account| or_unknown(account.evidence.as_ref().map(|details| details.claim.pipeline.generation))),
    ("Aurora cluster", |account| or_unknown(account.cluster.as_ref().map(|cluster| &cluster.identifier))),
    ("Resource id", |account| or_unknown(account.cluster.as_ref().map(|cluster| &cluster.resource_id))),
    ("Engine version", |account| or_unknown(account.cluster.as_ref().map(|cluster| &cluster.engine_version))),
    (
        "Number of instances",
        |account| if account.roles_before.is_empty() { UNKNOWN.to_owned() } else { account.roles_before.len().to_string() },
    ),
    ("From", |account| or_unknown(account.writer_before.as_ref())),
    ("To", |account| or_unknown(account.writer_after.as_ref())),
    ("Messages a second", |account| account.spec.load.messages_per_second.to_string()),
    ("Direct write each", |account| account.spec.load.direct_write_interval.to_string()),
    ("Direct path", |account| format!("{:?}", account.spec.load.direct_path)),
    ("Warm-up", |account| account.spec.load.warm_up.to_string()),
    ("Cool-down", |account| account.spec.load.cool_down.to_string()),
    ("Deadline", |account| account.spec.deadline.to_string()),
    ("Objective: recovery time", |account| account.spec.objectives.recovery_time.to_string()),
    ("Objective: lost, duplicated, dead-lettered", |account| {
        let objectives = &account.spec.objectives;
        format!("{}, {}, {}", objectives.lost, objectives.duplicated, objectives.dead_lettered)
    }),
    ("Objective: backlog drained", |account| account.spec.objectives.backlog_drained.to_string()),
    ("Operator", |account| or_unknown(account.evidence.as_ref().map(|details| &details.operator_version))),
    ("Probe", |account| {
        let probe = account.evidence.as_ref().and_then(|details| details.probe.as_ref());
        or_unknown(probe.map(|probe| &probe.version))
    }),
    ("Image of the probe", |account| or_unknown(account.evidence.as_ref().map(|details| &details.claim.probe.image))),
];

fn of(account: &Account, figure: fn(&Integrity) -> i64) -> String {
    or_unknown(account.integrity.as_ref().map(figure))
}
