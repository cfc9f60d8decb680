//! `drill …`: what talks to Kubernetes. What it shows is made by pure functions.

pub mod list;
pub mod new;
pub mod run;
mod watch;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::{FailoverDrillStatus, Verdict};
use durable_write_crds::evidence;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};

use crate::account::{Account, Seal};
use crate::cluster::{Cluster, explain};
use crate::report::{self, Format};

pub use watch::{Screen, follow};

/// What a process that ran a drill ends with: 0 Pass, 1 Fail, 2 every other end.
#[must_use]
pub fn exit_code(verdict: Option<Verdict>) -> u8 {
    match verdict {
        Some(Verdict::Pass) => 0,
        Some(Verdict::Fail) => 1,
        _ => 2,
    }
}

/// Reads a drill and its evidence.
///
/// # Errors
/// Neither is there, the drill may not be read, or the evidence is of an unknown form.
pub async fn account(cluster: &Cluster, name: &str) -> anyhow::Result<Account> {
    let drill = cluster.api::<FailoverDrill>().get_opt(name).await.map_err(|error| explain(error, "read the drill"))?;
    let reference = drill.as_ref().and_then(|drill| drill.status.as_ref()?.evidence.as_ref());
    let config_map = reference.map_or_else(|| evidence::config_map_name(name), |reference| reference.config_map_ref.name.clone());
    let config_map = match (cluster.api::<ConfigMap>().get_opt(&config_map).await, &drill) {
        (Ok(config_map), _) => config_map,
        // Who may run drills need not be allowed to read ConfigMaps.
        (Err(kube::Error::Api(status)), Some(drill)) if status.code == 403 => return Ok(Account::without_evidence(drill)),
        (Err(error), _) => return Err(explain(error, "read the evidence")),
    };
    Account::new(drill.as_ref(), config_map.as_ref()).with_context(|| format!("drill {}/{name}", cluster.namespace))
}

/// Prints everything that is known of a drill.
///
/// # Errors
/// As [`account`], or the writer fails.
pub async fn show(cluster: &Cluster, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    Ok(out.write_all(report::show(&account(cluster, name).await?).as_bytes())?)
}

/// Writes the report of a drill to a file or to `out`, and says how far its evidence can be trusted.
///
/// # Errors
/// As [`account`]; JSON is asked for and there is no evidence; or the file cannot be written.
pub async fn report(cluster: &Cluster, name: &str, format: Format, file: Option<&Path>, out: &mut impl Write) -> anyhow::Result<Seal> {
    let account = account(cluster, name).await?;
    let text = report::render(&account, format)?;
    match file {
        Some(file) => std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?,
        None => out.write_all(text.as_bytes())?,
    }
    Ok(account.seal)
}

/// Prints two drills side by side.
///
/// # Errors
/// As [`account`], or the writer fails.
pub async fn compare(cluster: &Cluster, names: [&str; 2], out: &mut impl Write) -> anyhow::Result<()> {
    let [one, other] = names;
    let (one, other) = (account(cluster, one).await?, account(cluster, other).await?);
    Ok(out.write_all(crate::compare::compare(&one, &other).as_bytes())?)
}

/// Asks the operator to end a drill.
///
/// # Errors
/// There is no such drill, it may not be changed, or the writer fails.
pub async fn abort(cluster: &Cluster, name: &str, out: &mut impl Write) -> anyhow::Result<()> {
    let drills = cluster.api::<FailoverDrill>();
    let drill = drills.get(name).await.map_err(|error| explain(error, "read the drill"))?;
    if let Some(verdict) = drill.status.as_ref().and_then(|status| status.verdict) {
        return Ok(writeln!(out, "drill {name} has ended already: {verdict}")?);
    }
    let patch = Patch::Merge(serde_json::json!({ "spec": { "abort": true } }));
    let drill = drills.patch(name, &PatchParams::default(), &patch).await.map_err(|error| explain(error, "abort the drill"))?;
    Ok(writeln!(out, "{}", aborted(name, drill.status.as_ref()))?)
}

fn aborted(name: &str, status: Option<&FailoverDrillStatus>) -> String {
    use durable_write_crds::conditions::drill_types::TRIGGERED;
    let triggered = status.is_some_and(|status| status.conditions.iter().any(|it| it.type_ == TRIGGERED && it.status == "True"));
    let failover = if triggered { "its failover was called for and is not undone" } else { "no failover was seen to be called for" };
    format!("drill {name} is asked to end; {failover}. Watch it: kubectl dw drill show {name}")
}
