//! `status`: a pipeline as text.

use std::fmt::Write as _;

use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::drill::list;
use crate::text::{age, or_unknown, plain, table};

/// How many of the last drills are shown.
const DRILLS: usize = 5;

/// Conditions, queue, database, workers and the last drills of a pipeline. `drills` may be of any pipeline.
#[must_use]
pub fn status(pipeline: &DurableWritePipeline, drills: &[FailoverDrill], now: Timestamp) -> String {
    let name = pipeline.name_any();
    let status = pipeline.status.clone().unwrap_or_default();
    let mut text =
        format!("{}/{}{}\n\n", pipeline.namespace().unwrap_or_default(), name, if pipeline.spec.suspend { " (suspended)" } else { "" });
    if status.conditions.is_empty() {
        text += "No operator has looked at it yet.\n";
    }
    let conditions = status.conditions.iter().map(|condition| {
        let age = age(condition.last_transition_time.0, now);
        vec![condition.type_.clone(), condition.status.clone(), age, condition.reason.clone(), condition.message.clone()]
    });
    if !status.conditions.is_empty() {
        text += &table(&["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"], &conditions.collect::<Vec<_>>());
    }
    let queue = status.queue.unwrap_or_default();
    let queue_name = pipeline.spec.queue.queue_name();
    let oldest = queue.oldest_seen.map_or_else(String::new, |time| format!("; the oldest was sent {} ago", age(time.0, now)));
    let mut line = |label: &str, value: String| {
        let line = format!("{label:<10} {}", plain(&value));
        writeln!(text, "{}", line.trim_end()).ok();
    };
    line("", String::new());
    line(
        "Queue",
        format!(
            "{queue_name}: {} waiting, {} in flight, {} dead-lettered{oldest}",
            or_unknown(queue.visible),
            or_unknown(queue.in_flight),
            or_unknown(queue.dead_lettered)
        ),
    );
    let table_name = &pipeline.spec.target.table;
    let database = status.database.unwrap_or_default();
    line("Table", format!("{}.{} in {}", table_name.schema, table_name.name, pipeline.spec.database.name));
    line("Writer", or_unknown(database.writer));
    for instance in database.instances {
        line("", format!("{} {} {}", instance.name, instance.role, instance.zone.unwrap_or_default()));
    }
    let ready = status.workers.map(|workers| workers.ready);
    line("Workers", format!("{} of {} ready", or_unknown(ready), pipeline.spec.workers.replicas));
    text + "\n" + &last_drills(&name, drills, now)
}

fn last_drills(pipeline: &str, drills: &[FailoverDrill], now: Timestamp) -> String {
    let mut drills: Vec<FailoverDrill> = drills.iter().filter(|drill| drill.spec.pipeline_ref.name == pipeline).cloned().collect();
    if drills.is_empty() {
        return "No drill has run yet: kubectl dw drill run ".to_owned() + pipeline + " --dry-run\n";
    }
    drills.sort_by_key(|drill| std::cmp::Reverse(drill.creation_timestamp()));
    drills.truncate(DRILLS);
    list::table(&drills, false, now)
}
