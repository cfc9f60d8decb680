//! What a status says of a drill that runs, of figures that are not known, and of texts that are too long.

use durable_write_crds::drill::DrillQueue;

use super::*;
use crate::drill::fixtures::millisecond;
use crate::drill::step::error;
use crate::drill::verdict;

/// The evidence of a drill in which every text is as long as it can be.
fn longest() -> Evidence {
    let name = format!("application-autoscaling-{}", "0".repeat(39));
    assert_eq!(name.len(), 63);
    let mut claim = fixtures::claim();
    claim.target = name.clone();
    claim.roles = (0..20).map(|number| RoleStatus { instance: format!("{number}"), ..claim.roles[0].clone() }).collect();
    claim.roles.truncate(16);
    let mut result = fixtures::result();
    let gap = result.gap.as_mut().unwrap();
    gap.writer_after = Some("w".repeat(3000));
    (gap.lower_milliseconds, gap.upper_milliseconds) = (999_999_999_999, Some(999_999_999_999));
    result.delay_seconds = 999_999_999;
    result.instances = (0..40)
        .map(|number| durable_write_crds::probe::InstanceRows {
            name: format!("{}{}", "i".repeat(70), number),
            rows: Some(1),
            lag_before_milliseconds: None,
        })
        .collect();
    let call = Call { outcome: CallOutcome::Accepted, began: None, ended: None, message: None };
    let known = crate::drill::step::Known { pipeline_changed: Some("x".repeat(2000)), ..Default::default() };
    let measured = verdict::Measured { claim: &claim, call: &call, result: &result, events: &[], known: &known, target_is_writer: false };
    let ending = verdict::judge(&measured);
    let mut seen = Seen::default();
    seen.timeline.add_result(&call, Some(&result), second(99));
    seen.note(second(98), second(98), durable_write_crds::drill::ObservationSource::Operator, &"r".repeat(2000), &"m".repeat(2000));
    evidence::document(&claim, call, &ending, &seen, Some(&result), second(99))
}

#[test]
fn no_text_keeps_a_drill_from_its_end() {
    let status = concluded(&fixtures::drill(), &longest(), &"d".repeat(71), second(100));
    is_taken(&status);
    let failover = status.criteria.iter().find(|criterion| criterion.name == "failover").unwrap();
    assert_eq!(failover.target, "one, to the target");
    let ending = error(&"R".repeat(64), "x".repeat(5000));
    is_taken(&ended(&fixtures::drill(), &ending, None, &Seen::default(), second(3)));
}

fn progress(recovered: Option<&str>) -> Progress<'static> {
    Progress {
        phase: Phase::FailingOver,
        reason: reasons::PROGRESSING,
        message: "the failover is watched",
        cluster: None,
        writer: None,
        target: None,
        roles: Vec::new(),
        triggered: Some("the RDS API accepted the failover"),
        recovered: recovered.map(str::to_owned),
    }
}

#[test]
fn a_running_drill_shows_its_queue_and_the_roles_once_the_writer_has_changed() {
    let mut drill = fixtures::drill();
    let mut seen = Seen::default();
    seen.roles_after = evidence::roles(&fixtures::cluster(), millisecond(40_100));
    assert!(in_progress(&drill, progress(None), &seen, second(40)).roles_after.is_empty(), "nothing has changed yet");
    seen.queue = Some(DrillQueue { peak: Some(370), after: Some(12), ..DrillQueue::default() });
    let status = in_progress(&drill, progress(Some("payments-3")), &seen, second(40));
    assert_eq!((status.roles_after.len(), status.queue.clone()), (3, seen.queue.clone()));
    is_taken(&status);
    drill.status = Some(status.clone());
    seen.roles_after = evidence::roles(&fixtures::cluster(), second(50));
    assert_eq!(in_progress(&drill, progress(Some("payments-3")), &seen, second(50)), status, "a later look alone is no change");
}

#[test]
fn dead_letters_that_are_not_known_are_not_said_to_be_none() {
    let mut result = fixtures::result();
    assert_eq!(result.queue().dead_lettered_probes, Some(0));
    (result.queue_channel.lost, result.dead_letter_growth) = (1, Some(4));
    assert_eq!(result.queue().dead_lettered_probes, None);
    result.dead_letter_growth = None;
    assert_eq!(result.queue().dead_lettered_probes, None);
}

#[test]
fn a_drill_whose_claim_is_lost_is_not_said_not_to_have_triggered() {
    let triggered = |status: &FailoverDrillStatus| {
        status.conditions.iter().find(|condition| condition.type_ == drill_types::TRIGGERED).unwrap().status.clone()
    };
    let mut drill = fixtures::drill();
    let now = |drill: &FailoverDrill, reason: &str| triggered(&ended(drill, &error(reason, "x"), None, &Seen::default(), second(60)));
    assert_eq!(now(&drill, reasons::TOO_SOON), "False");
    assert_eq!(now(&drill, reasons::EVIDENCE_MISSING), "Unknown");
    drill.status = Some(in_progress(&drill, progress(None), &Seen::default(), second(40)));
    assert_eq!(now(&drill, reasons::EVIDENCE_MISSING), "True");
    let aborted = ending(Verdict::Aborted, reasons::ABORTED, "x");
    assert_eq!(ended(&drill, &aborted, None, &Seen::default(), second(60)).verdict, Some(Verdict::Aborted));
}
