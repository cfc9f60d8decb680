//! What is told as Kubernetes Events: a condition that turned bad, with its reason, and one that turned good again. Nothing else, so that
//! nobody learns to overlook them.

use durable_write_crds::conditions::types;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// An Event to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::pipeline) struct Note {
    pub(in crate::pipeline) warning: bool,
    /// The condition's reason when it turned bad, its type when it turned good.
    pub(in crate::pipeline) reason: String,
    pub(in crate::pipeline) message: String,
    /// The condition's type.
    pub(in crate::pipeline) action: String,
}

/// The conditions that are told, most telling first, with the status that is bad.
const TOLD: [(&str, &str); 6] = [
    (types::STALLED, "True"),
    (types::QUEUE_READY, "False"),
    (types::DATABASE_READY, "False"),
    (types::FLOWING, "False"),
    (types::WITHIN_RETENTION, "False"),
    (types::READY, "False"),
];

/// What to tell of the step from `previous` to `next`: each reason once, however many conditions share it.
pub(in crate::pipeline) fn notes(previous: &[Condition], next: &[Condition]) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    for (type_, bad) in TOLD {
        let find = |conditions: &'_ [Condition]| conditions.iter().find(|condition| condition.type_ == type_).cloned();
        let before = find(previous);
        let Some(now) = find(next) else { continue };
        let good = if bad == "True" { "False" } else { "True" };
        let turned_bad = now.status == bad && before.as_ref().is_none_or(|before| before.status != bad || before.reason != now.reason);
        let turned_good = now.status == good && before.as_ref().is_some_and(|before| before.status != good) && type_ != types::STALLED;
        let reason = if turned_bad { now.reason } else { type_.to_owned() };
        if (turned_bad || turned_good) && !notes.iter().any(|note| note.reason == reason) {
            // Suspension and scaling to zero are what somebody asked for.
            let warning = turned_bad && !asked_for(&reason);
            notes.push(Note { warning, reason, message: now.message, action: type_.to_owned() });
        }
    }
    notes
}

fn asked_for(reason: &str) -> bool {
    use durable_write_crds::conditions::reasons::{SCALED_TO_ZERO, SUSPENDED};
    matches!(reason, SUSPENDED | SCALED_TO_ZERO)
}
