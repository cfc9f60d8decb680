//! `drill list`.

use std::io::Write;

use durable_write_crds::FailoverDrill;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::cluster::{Cluster, explain};
use crate::text::{age, or_unknown};

/// Prints the drills of the namespace, or of all.
///
/// # Errors
/// They may not be listed, or the writer fails.
pub async fn list(cluster: &Cluster, all: bool, now: Timestamp, out: &mut impl Write) -> anyhow::Result<()> {
    let api = if all { Api::all(cluster.client.clone()) } else { cluster.api::<FailoverDrill>() };
    let mut drills = api.list(&ListParams::default()).await.map_err(|error| explain(error, "list drills"))?.items;
    drills.sort_by_key(|drill| (drill.creation_timestamp(), drill.namespace(), drill.name_any()));
    if drills.is_empty() {
        return Ok(writeln!(out, "no drills{}", if all { String::new() } else { format!(" in namespace {}", cluster.namespace) })?);
    }
    Ok(out.write_all(table(&drills, all, now).as_bytes())?)
}

/// Drills as a table, one a line.
#[must_use]
pub fn table(drills: &[FailoverDrill], with_namespace: bool, now: Timestamp) -> String {
    const HEADER: [&str; 11] = ["NAMESPACE", "NAME", "PIPELINE", "PHASE", "VERDICT", "RECOVERY", "LOST", "DUP", "FROM", "TO", "AGE"];
    let skipped = usize::from(!with_namespace);
    let rows = drills.iter().map(|drill| {
        let status = drill.status.clone().unwrap_or_default();
        let cells = [
            drill.namespace().unwrap_or_default(),
            drill.name_any(),
            drill.spec.pipeline_ref.name.clone(),
            or_unknown(status.phase),
            or_unknown(status.verdict),
            or_unknown(status.recovery.and_then(|recovery| recovery.summary)),
            or_unknown(status.integrity.as_ref().map(|integrity| integrity.lost)),
            or_unknown(status.integrity.as_ref().map(|integrity| integrity.duplicated)),
            or_unknown(status.writer_before),
            or_unknown(status.writer_after),
            or_unknown(drill.creation_timestamp().map(|created| age(created.0, now))),
        ];
        cells.into_iter().skip(skipped).collect()
    });
    crate::text::table(HEADER.get(skipped..).unwrap_or_default(), &rows.collect::<Vec<_>>())
}
