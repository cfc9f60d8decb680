//! What the demo prints in the end.

use std::fmt::Write;
use std::path::Path;

use crate::cluster::Cluster;
use crate::environment::Role;

use super::drive::{NAMESPACE, Outcome, PIPELINE, QUEUE, TABLE};

pub(super) async fn print(cluster: &Cluster, outcome: &Outcome, environment: &Path) -> anyhow::Result<()> {
    let pods = cluster.kubectl(["get", "pods", "--all-namespaces"]).await?;
    let pipelines = cluster.kubectl(["get", "durablewritepipelines", "--namespace", NAMESPACE]).await?;
    println!("\n{pods}\n{pipelines}\n{}\n{}", text(outcome)?, advice(environment));
    Ok(())
}

fn text(outcome: &Outcome) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(text, "{QUEUE} to {TABLE}, {} messages a second, the writer failed over once by a drill:", outcome.per_second)?;
    write!(text, "{}", outcome.report)?;
    match outcome.write_gap {
        Some(gap) => writeln!(text, "write gap     {:>8.3} s, the longest time without a new row", gap.as_secs_f64())?,
        None => writeln!(text, "write gap      unknown")?,
    }
    writeln!(text, "\n{:<12}{:<8}{:<8}{:>13}", "instance", "before", "after", "rows written")?;
    for role in &outcome.before {
        let after = outcome.after.iter().find(|after| after.instance == role.instance);
        let rows = outcome.rows_by.get(&role.instance).copied().unwrap_or(0);
        writeln!(text, "{:<12}{:<8}{:<8}{rows:>13}", role.instance, name(role), after.map_or("gone", name))?;
    }
    writeln!(text)?;
    let verdict = match (outcome.is_good(), outcome.drill.success()) {
        (true, _) => "The drill passed; nothing was lost, doubled, dead-lettered or out of order.",
        (false, false) => "THE DRILL DID NOT PASS.",
        (false, true) => "THE DRILL PASSED, BUT WHAT WAS SENT BESIDE IT IS NOT AS IT SHOULD BE.",
    };
    writeln!(text, "{verdict}\nReport of the drill: {}", outcome.drill_report.display())?;
    Ok(text)
}

fn name(role: &Role) -> &'static str {
    if role.writer { "writer" } else { "reader" }
}

fn advice(environment: &Path) -> String {
    format!(
        "It stays up. To look further, let kubectl, helm, psql and aws of this shell talk to it:
  . {}
  kubectl dw status {PIPELINE}
  kubectl dw drill list
  kubectl logs --selector app.kubernetes.io/instance={PIPELINE} --tail 20
  psql --command 'SELECT written_by, count(*), max(written_at) FROM {TABLE} GROUP BY 1'
Again, in the same environment: the same command
To take it down:                make down",
        environment.display()
    )
}
