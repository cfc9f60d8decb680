//! The facts of a drill as labelled lines, the same for every form of the report: what auditors ask for.

use durable_write_crds::conditions::drill_types;
use durable_write_crds::drill::{DirectPath, FailoverDrillSpec, Integrity};
use durable_write_crds::evidence::{Call, CallOutcome};
use durable_write_crds::probe::{ProbeResult, STREAK};
use jiff::Timestamp;

use crate::account::{Account, Details};
use crate::text::{UNKNOWN, length, or_unknown, time};

/// Facts that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// Label and value.
    pub facts: Vec<(&'static str, String)>,
}

/// All facts of a drill.
#[must_use]
pub fn sections(account: &Account) -> Vec<Section> {
    let details = account.evidence.as_ref();
    vec![
        Section { title: "Results", facts: results(account) },
        Section { title: "Drill", facts: identity(account) },
        Section { title: "Systems in scope", facts: scope(account) },
        Section { title: "Scenario", facts: scenario(account) },
        Section { title: "Objectives", facts: objectives(&account.spec) },
        Section { title: "Preconditions", facts: preconditions(account) },
        Section { title: "Evidence and tools", facts: tools(account, details) },
    ]
}

fn results(account: &Account) -> Vec<(&'static str, String)> {
    let recovery = &account.recovery;
    let of = |milliseconds: Option<i64>| or_unknown(milliseconds.map(length));
    let mut facts = vec![
        ("Recovery time (writes stood still)", recovery.interval().unwrap_or_else(|| "not measured".to_owned())),
        ("Data lost", lost(account.integrity.as_ref())),
    ];
    if let Some(integrity) = &account.integrity {
        facts.push(("Duplicated", integrity.duplicated.to_string()));
        facts.push(("Writes", writes(integrity)));
    }
    facts.extend([
        ("Probe messages dead-lettered", or_unknown(account.queue.dead_lettered_probes)),
        ("Backlog settled after", of(recovery.backlog_drained_milliseconds)),
        ("Longest time without an accepted message", of(recovery.accept_side_milliseconds)),
        ("RDS API named another writer after", of(recovery.control_plane_milliseconds)),
        ("Queue depth before, peak, after", {
            let queue = &account.queue;
            [queue.before, queue.peak, queue.after].map(or_unknown).join(", ")
        }),
    ]);
    if let Some(probe) = account.evidence.as_ref().and_then(|details| details.probe.as_ref()) {
        facts.extend(measured(probe));
    }
    facts
}

fn lost(integrity: Option<&Integrity>) -> String {
    match integrity {
        None => "not measured".to_owned(),
        Some(Integrity { lost, acknowledged, undrained: 0, .. }) => format!("{lost} of {acknowledged} confirmed writes"),
        Some(Integrity { lost, acknowledged, undrained, .. }) => format!(
            "{lost} of {acknowledged} confirmed writes; {undrained} more had not arrived when the time for the drain was over \
             (undrained): they may be late or lost"
        ),
    }
}

fn writes(integrity: &Integrity) -> String {
    let Integrity { sent, acknowledged, committed, unknown, unexpected, late, undrained, .. } = integrity;
    format!(
        "{sent} tried, {acknowledged} confirmed, {committed} found, {unknown} without an answer, {unexpected} found and never tried, \
         {late} late, {undrained} undrained"
    )
}

/// What the probe says of its own measuring.
fn measured(probe: &ProbeResult) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(gap) = &probe.gap {
        facts.push(("Failed attempts in the gap", gap.failed_attempts.to_string()));
    }
    facts.push(("Longest time without a row of the queue", or_unknown(probe.queue_gap_milliseconds.map(length))));
    facts.push(("Writes without an answer that were found", probe.recovered.to_string()));
    facts.push(("Ticks missed by the probe, in the gap", format!("{}, {}", probe.missed_ticks, probe.missed_ticks_in_gap)));
    facts.push(("Clock of the probe stepped by", length(probe.clock_step_milliseconds)));
    let offset = |offset: &durable_write_crds::probe::ClockOffset| {
        format!("{} {} ms ± {} ms", offset.instance, offset.milliseconds, offset.uncertainty_milliseconds)
    };
    if !probe.clock_offsets.is_empty() {
        facts.push(("Clocks of instances against the probe's", probe.clock_offsets.iter().map(offset).collect::<Vec<_>>().join("; ")));
    }
    facts
}

fn identity(account: &Account) -> Vec<(&'static str, String)> {
    let details = account.evidence.as_ref();
    let spec = &account.spec;
    let requested = match (&spec.requested_by, details.map(|details| details.claim.requested_by_verified)) {
        (None, _) => "not said".to_owned(),
        (Some(user), Some(true)) => format!("{user} (verified by the API server)"),
        (Some(user), Some(false)) => format!("{user} (claimed; nobody has verified it)"),
        (Some(user), None) => format!("{user} (claimed; only evidence would say whether it was verified)"),
    };
    let started = details.and_then(|details| details.probe.as_ref()).map(|probe| probe.started);
    let mut facts = vec![
        ("Drill", format!("{}/{}", account.namespace, account.name)),
        ("Unique id", account.uid.clone()),
        ("Requested by", requested),
        ("Reason", or_unknown(spec.reason.as_ref())),
        ("Change reference", or_unknown(spec.change_reference.as_ref())),
        ("Created", or_unknown(account.created.map(time))),
        ("Probe started", or_unknown(started.map(time))),
        ("Failover called for", called(account)),
        ("Concluded", or_unknown(account.concluded.map(time))),
        ("Duration", duration(account.created, account.concluded)),
    ];
    if !account.message.is_empty() {
        facts.push(("Conclusion", account.message.clone()));
    }
    facts
}

/// When the failover was called for, as far as it is known that it was.
fn called(account: &Account) -> String {
    let not = || "not called for".to_owned();
    match account.evidence.as_ref().map(|details| (&details.call, details.claim.at)) {
        Some((Call { outcome: CallOutcome::NotMade, .. }, _)) => not(),
        Some((Call { began: Some(began), .. }, _)) => time(*began),
        Some((_, claimed)) => format!("not known; if it was, soon after {}", time(claimed)),
        None => match account.condition(drill_types::TRIGGERED).map(|it| it.status.as_str()) {
            Some("False") => not(),
            Some("True") => "yes, as the status says; its steps say when".to_owned(),
            _ => UNKNOWN.to_owned(),
        },
    }
}

fn duration(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let milliseconds = from.zip(to).and_then(|(from, to)| i64::try_from(to.duration_since(from).as_millis()).ok());
    milliseconds.map_or_else(|| UNKNOWN.to_owned(), length)
}

fn scope(account: &Account) -> Vec<(&'static str, String)> {
    let details = account.evidence.as_ref();
    let mut facts = vec![("Pipeline", format!("{}/{}", account.namespace, account.spec.pipeline_ref.name))];
    if let Some(Details { claim, .. }) = details {
        let pipeline = &claim.pipeline;
        facts.push(("Pipeline's uid, generation", format!("{}, {}", pipeline.uid, pipeline.generation)));
        facts.push(("Queue", pipeline.queue.clone()));
        facts.push(("Table", pipeline.table.clone()));
        facts.push(("Kubernetes cluster", claim.kubernetes_cluster.clone()));
    }
    let cluster = account.cluster.as_ref();
    facts.push(("Aurora cluster", or_unknown(cluster.map(|cluster| &cluster.identifier))));
    facts.push(("Resource id", or_unknown(cluster.map(|cluster| &cluster.resource_id))));
    facts.push(("Engine version", or_unknown(cluster.map(|cluster| &cluster.engine_version))));
    facts
}

fn scenario(account: &Account) -> Vec<(&'static str, String)> {
    let FailoverDrillSpec { load, objectives, deadline, .. } = &account.spec;
    vec![
        (
            "What a drill does",
            format!(
                "The Aurora cluster is failed over once, from {} to {}, while the pipeline writes",
                account.writer_before.as_ref().map_or("the writer", String::as_str),
                account.target.as_ref().map_or("a reader", String::as_str)
            ),
        ),
        (
            "Load",
            format!(
                "{} messages a second through the queue; a direct write each {} {}",
                load.messages_per_second,
                load.direct_write_interval,
                match load.direct_path {
                    DirectPath::Instances => "to whichever instance takes it (path Instances)",
                    DirectPath::ClusterEndpoint => "to the cluster endpoint (path ClusterEndpoint)",
                }
            ),
        ),
        ("Warm-up, cool-down, deadline", format!("{}, {}, {deadline}", load.warm_up, load.cool_down)),
        (
            "Expected result",
            format!(
                "Another instance takes {STREAK} writes in a row within {}; of what was confirmed at most {} lost and {} written twice; \
                 the backlog is settled within {} more",
                objectives.recovery_time, objectives.lost, objectives.duplicated, objectives.backlog_drained
            ),
        ),
        ("Old writer, target, new writer", {
            [&account.writer_before, &account.target, &account.writer_after].map(|name| or_unknown(name.as_ref())).join(", ")
        }),
    ]
}

fn objectives(spec: &FailoverDrillSpec) -> Vec<(&'static str, String)> {
    let objectives = &spec.objectives;
    vec![
        ("Recovery time", format!("at most {}", objectives.recovery_time)),
        ("Lost", format!("at most {}", objectives.lost)),
        ("Duplicated", format!("at most {}", objectives.duplicated)),
        ("Dead-lettered", format!("at most {}", objectives.dead_lettered)),
        ("Backlog drained", format!("within {}", objectives.backlog_drained)),
    ]
}

fn preconditions(account: &Account) -> Vec<(&'static str, String)> {
    let limits = &account.spec.preflight;
    let platform = "as the platform team has set it";
    let or_platform = |value: Option<String>| value.unwrap_or_else(|| platform.to_owned());
    let mut facts = vec![
        ("Most lag of the target", or_platform(limits.max_replica_lag.map(|lag| lag.to_string()))),
        ("Least readers", or_platform(limits.min_readers.map(|readers| readers.to_string()))),
        ("Least time since the last failover", or_platform(limits.min_interval.map(|interval| interval.to_string()))),
        ("Never triggered after", or_unknown(account.spec.not_after.as_ref().map(|time| time.0.to_string()))),
    ];
    match account.evidence.as_ref() {
        // The claim is only made when the preflight has passed and the probe is ready.
        Some(Details { claim, probe, .. }) => {
            let steady = probe.as_ref().and_then(|probe| probe.ready);
            facts.push(("Preflight", "passed".to_owned()));
            facts.push(("Baseline steady on the writer since", or_unknown(steady.map(time))));
            facts.push(("Looked at again and claimed", time(claim.at)));
        }
        None => {
            let passed = account.condition(drill_types::PREFLIGHT_PASSED);
            let told = passed.map(|it| match it.status.as_str() {
                "True" => "passed".to_owned(),
                "False" => format!("not passed: {}", it.message),
                _ => format!("not passed yet: {}", it.message),
            });
            facts.push(("Preflight", or_unknown(told)));
        }
    }
    facts
}

fn tools(account: &Account, details: Option<&Details>) -> Vec<(&'static str, String)> {
    let mut facts =
        vec![("Evidence", account.seal.text()), ("Digest of the evidence", account.seal.digest().unwrap_or(UNKNOWN).to_owned())];
    if let Some(details) = details {
        let probe = details.probe.as_ref().map_or(UNKNOWN, |probe| probe.version.as_str());
        facts.push(("ConfigMap", durable_write_crds::evidence::config_map_name(&account.name)));
        facts.push(("Form of the evidence", durable_write_crds::evidence::SCHEMA.to_owned()));
        facts.push(("Operator", details.operator_version.clone()));
        facts.push(("Probe", format!("{probe}, pod {}, image {}", details.claim.probe.pod, details.claim.probe.image)));
        facts.push((
            "Call for the failover",
            match &details.call.message {
                Some(message) => format!("{:?}: {message}", details.call.outcome),
                None => format!("{:?}", details.call.outcome),
            },
        ));
    }
    facts.push(("Report made by", format!("kubectl-dw {}", env!("CARGO_PKG_VERSION"))));
    facts
}

/// One instance before and after the failover.
pub(super) struct Role {
    pub instance: String,
    pub zone: String,
    pub tier: String,
    pub before: String,
    pub after: String,
    pub lag: String,
    pub probe_rows: String,
}

/// Every instance that was seen, with its roles before and after.
pub(super) fn roles(account: &Account) -> Vec<Role> {
    let (before, after) = (&account.roles_before, &account.roles_after);
    let new = after.iter().filter(|role| before.iter().all(|other| other.instance != role.instance));
    let role = |role: &durable_write_crds::drill::RoleStatus| {
        let at = |roles: &[durable_write_crds::drill::RoleStatus]| {
            or_unknown(roles.iter().find(|other| other.instance == role.instance).map(|other| other.role.clone()))
        };
        let shown = account.instances.iter().find(|instance| instance.name == role.instance);
        Role {
            instance: role.instance.clone(),
            zone: or_unknown(role.zone.as_ref()),
            tier: or_unknown(role.promotion_tier),
            before: at(before),
            after: at(after),
            lag: or_unknown(role.replica_lag_milliseconds.map(length)),
            probe_rows: shown.and_then(|instance| instance.probe_rows).map_or_else(|| "not measured".to_owned(), |rows| rows.to_string()),
        }
    };
    before.iter().chain(new).map(role).collect()
}
