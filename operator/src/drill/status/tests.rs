//! What a status says at each ending, and that the API server takes it.

use durable_write_crds::conditions::drill_reasons;
use durable_write_crds::drill::ObservationSource;
use durable_write_crds::evidence::Call;
use kube::CustomResourceExt;
use serde_json::Value;

use super::*;
use crate::drill::fixtures::{self, second};
use crate::drill::step::{Ending, ending};
use crate::drill::verdict::{Measured, judge};
use crate::drill::{evidence, step};
use crate::pipeline::fixtures::yaml;

mod limits;

fn call(outcome: CallOutcome) -> Call {
    Call { outcome, began: Some(second(30)), ended: Some(second(31)), message: None }
}

/// All was well, and another instance is the writer.
fn passed() -> (Call, Ending, Seen) {
    let (claim, result, call) = (fixtures::claim(), fixtures::result(), call(CallOutcome::Accepted));
    let known = step::Known::default();
    let measured = Measured { claim: &claim, call: &call, result: &result, events: &[], known: &known, target_is_writer: true };
    let mut seen = Seen::default();
    seen.note(claim.at, claim.at, ObservationSource::Operator, "Claimed", "the failover to payments-3 was claimed");
    let mut after = fixtures::cluster();
    after.instances.iter_mut().for_each(|instance| instance.writer = instance.name == "payments-3");
    seen.roles_after = evidence::roles(&after, second(90));
    seen.control_plane_milliseconds = Some(8900);
    (call.clone(), judge(&measured), seen)
}

fn document((call, ending, mut seen): (Call, Ending, Seen), probe: Option<&ProbeResult>) -> Evidence {
    seen.timeline.add_result(&call, probe, second(91));
    evidence::document(&fixtures::claim(), call, &ending, &seen, probe, second(91))
}

fn progress(phase: Phase) -> Progress<'static> {
    Progress {
        phase,
        reason: drill_reasons::PROGRESSING,
        message: "what it waits for",
        cluster: Some(evidence::cluster_status(&fixtures::cluster())),
        writer: Some("payments-1".to_owned()),
        target: Some("payments-3".to_owned()),
        roles: evidence::roles(&fixtures::cluster(), second(5)),
        triggered: None,
        recovered: None,
    }
}

fn with(status: FailoverDrillStatus) -> FailoverDrill {
    FailoverDrill { status: Some(status), ..fixtures::drill() }
}

/// Preflight passed, triggered, recovered, complete, passed, reconciling.
fn says(status: &FailoverDrillStatus) -> String {
    assert_eq!(status.conditions.len(), 6);
    status.conditions.iter().map(|condition| condition.status.as_str()).collect::<Vec<_>>().join(" ")
}

/// What the API server would refuse.
fn refusals(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let limit = |name: &str| schema[name].as_u64().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let refused = |what: &str| vec![format!("{path}: {what}")];
    match value {
        Value::Null if schema["nullable"] != true => refused("null"),
        Value::String(text) if text.chars().count() > limit("maxLength") => refused("too long"),
        Value::String(_) | Value::Number(_) if !["string", "integer"].iter().any(|type_| schema["type"] == *type_) => {
            refused("of another type")
        }
        Value::Array(items) if items.len() > limit("maxItems") => refused("too many"),
        Value::Array(items) => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().cloned().unwrap_or_default();
            let key = |item: &Value| keys.iter().map(|key| item[key.as_str().unwrap()].to_string()).collect::<Vec<_>>();
            let twice = !keys.is_empty() && (1..items.len()).any(|at| items[..at].iter().any(|other| key(other) == key(&items[at])));
            let each = items.iter().flat_map(|item| refusals(&schema["items"], item, path));
            each.chain(twice.then(|| format!("{path}: twice"))).collect()
        }
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, field)| refusals(&schema["properties"][name], field, &format!("{path}.{name}"))).collect()
        }
        _ => Vec::new(),
    }
}

fn is_taken(status: &FailoverDrillStatus) {
    let definition = serde_json::to_value(FailoverDrill::crd()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
    let value = serde_json::to_value(status).unwrap();
    assert_eq!(refusals(schema, &value, "status"), Vec::<String>::new());
    for condition in &status.conditions {
        let reason = condition.reason.as_str();
        assert!(!reason.is_empty() && reason.len() <= 64 && reason.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{reason:?}");
        assert!(condition.message.chars().count() <= LONGEST);
    }
    // What is read equals what was written, so that nothing is written when nothing changed.
    assert_eq!(&serde_json::from_value::<FailoverDrillStatus>(value).unwrap(), status);
}

#[test]
fn a_drill_that_goes_on_says_how_far_it_is() {
    let triggered = Some("the RDS API accepted the failover");
    for (phase, triggered, recovered, expected) in [
        (Phase::Pending, None, None, "Unknown False False False Unknown True"),
        (Phase::Preflight, None, None, "Unknown False False False Unknown True"),
        (Phase::Baseline, None, None, "True False False False Unknown True"),
        (Phase::Triggering, triggered, None, "True True False False Unknown True"),
        (Phase::FailingOver, triggered, None, "True True False False Unknown True"),
        (Phase::Recovering, triggered, Some("payments-3".to_owned()), "True True True False Unknown True"),
        (Phase::Draining, triggered, Some("payments-3".to_owned()), "True True True False Unknown True"),
    ] {
        let progress = Progress { triggered, recovered: recovered.clone(), ..progress(phase) };
        let status = in_progress(&fixtures::drill(), progress, &Seen::default(), second(10));
        assert_eq!(says(&status), expected, "{phase}");
        assert_eq!((status.phase, status.verdict, status.writer_after.clone()), (Some(phase), None, recovered));
        is_taken(&status);
    }
    let status = in_progress(&fixtures::drill(), Progress { triggered, ..progress(Phase::FailingOver) }, &Seen::default(), second(10));
    insta::assert_snapshot!("running", yaml(&status));
}

#[test]
fn what_is_known_of_the_cluster_stays_when_it_is_not_told_again() {
    let drill = with(in_progress(&fixtures::drill(), progress(Phase::Baseline), &Seen::default(), second(10)));
    let nothing = Progress { cluster: None, writer: None, target: None, roles: Vec::new(), ..progress(Phase::Baseline) };
    let status = in_progress(&drill, nothing, &Seen::default(), second(20));
    assert_eq!(Some(&status), drill.status.as_ref(), "also the times of the conditions");
}

#[test]
fn a_condition_has_the_time_of_its_last_turn() {
    let drill = with(in_progress(&fixtures::drill(), progress(Phase::Preflight), &Seen::default(), second(10)));
    let status = in_progress(&drill, Progress { message: "finer", ..progress(Phase::Baseline) }, &Seen::default(), second(20));
    let at = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_).unwrap().last_transition_time.0;
    assert_eq!((at(drill_types::PREFLIGHT_PASSED), at(drill_types::COMPLETE)), (second(20), second(10)));
}

#[test]
fn a_drill_that_ends_without_a_claim_is_complete_and_neither_passed_nor_failed() {
    let refused =
        ending(Verdict::Error, drill_reasons::NO_READER, "the cluster payments has 0 available readers and 1 are asked for: add readers");
    let aborted = ending(Verdict::Aborted, drill_reasons::ABORTED, "the drill was aborted before the failover was called for");
    let baseline = with(in_progress(&fixtures::drill(), progress(Phase::Baseline), &Seen::default(), second(10)));
    for (drill, ending, expected) in [
        (fixtures::drill(), &refused, "False False False True Unknown False"),
        (fixtures::drill(), &aborted, "False False False True Unknown False"),
        (baseline.clone(), &refused, "True False False True Unknown False"),
        (baseline, &aborted, "True False False True Unknown False"),
    ] {
        let status = ended(&drill, ending, None, &Seen::default(), second(20));
        assert_eq!(says(&status), expected);
        assert_eq!((status.phase, status.verdict), (Some(Phase::Concluded), Some(ending.verdict)));
        assert!(status.evidence.is_none() && status.recovery.is_none() && status.integrity.is_none());
        assert!(step::has_ended(&with(status.clone())));
        is_taken(&status);
    }
    let status = ended(&fixtures::drill(), &refused, Some(evidence::cluster_status(&fixtures::cluster())), &Seen::default(), second(20));
    insta::assert_snapshot!("refused", yaml(&status));
}

#[test]
fn a_drill_with_evidence_says_what_the_evidence_says() {
    let result = fixtures::result();
    let lost = |verdict, reason: &str| (call(CallOutcome::Unclear), ending(verdict, reason, "why"), Seen::default());
    let seen = |verdict, reason: &str| (call(CallOutcome::Accepted), ending(verdict, reason, "why"), passed().2);
    let refused = (call(CallOutcome::Refused), ending(Verdict::Error, drill_reasons::REFUSED, "why"), Seen::default());
    for (document, expected) in [
        (document(passed(), Some(&result)), "True True True True True False"),
        (document(seen(Verdict::Fail, drill_reasons::OBJECTIVE_MISSED), Some(&result)), "True True True True False False"),
        (document(seen(Verdict::Fail, drill_reasons::PREVIOUS_WRITER_PROMOTED), None), "True True True True False False"),
        (document(seen(Verdict::Inconclusive, drill_reasons::PROBE_LOST), None), "True True True True Unknown False"),
        (document(seen(Verdict::Aborted, drill_reasons::ABORTED), None), "True True True True Unknown False"),
        (document(lost(Verdict::Inconclusive, drill_reasons::PROBE_LOST), None), "True True False True Unknown False"),
        (document(lost(Verdict::Error, drill_reasons::TRIGGER_UNKNOWN), None), "True True False True Unknown False"),
        (document(refused, None), "True False False True Unknown False"),
    ] {
        let status = concluded(&fixtures::drill(), &document, "sha256:00", second(92));
        let reason = &document.reason;
        assert_eq!(says(&status), expected, "{reason}");
        assert_eq!((status.verdict, status.phase), (Some(document.verdict), Some(Phase::Concluded)), "{reason}");
        assert_eq!(status.integrity.is_some(), document.probe.is_some(), "{reason}");
        assert!(status.conditions.iter().all(|condition| condition.type_ == drill_types::PREFLIGHT_PASSED || condition.reason == *reason));
        assert_eq!(status.evidence.as_ref().unwrap().config_map_ref.name, "first-evidence");
        is_taken(&status);
        // Whatever was said before: the drill was restored, or ended for another reason by an operator that did not know of the claim.
        let before =
            with(ended(&fixtures::drill(), &ending(Verdict::Error, drill_reasons::TOO_SOON, "why"), None, &Seen::default(), second(92)));
        assert_eq!(concluded(&before, &document, "sha256:00", second(92)), status, "{reason}");
        let again = with(status.clone());
        assert_eq!(concluded(&again, &document, "sha256:00", second(200)), status, "{reason}: said again later");
    }
}

#[test]
fn a_drill_that_passed_in_whole() {
    let result = fixtures::result();
    insta::assert_snapshot!(
        "passed",
        yaml(&concluded(&fixtures::drill(), &document(passed(), Some(&result)), &format!("sha256:{}", "0".repeat(64)), second(92)))
    );
}

#[test]
fn the_roles_before_have_the_lag_that_the_probe_read() {
    let mut result = fixtures::result();
    let rows =
        |name: &str, lag| durable_write_crds::probe::InstanceRows { name: name.to_owned(), rows: None, lag_before_milliseconds: lag };
    result.instances = vec![rows("payments-2", Some(17)), rows("payments-3", None)];
    let status = concluded(&fixtures::drill(), &document(passed(), Some(&result)), "sha256:00", second(92));
    let lags = |roles: &[RoleStatus]| roles.iter().map(|role| role.replica_lag_milliseconds).collect::<Vec<_>>();
    assert_eq!((lags(&status.roles_before), lags(&status.roles_after)), (vec![None, Some(17), None], vec![None; 3]));
}

#[test]
fn the_writer_that_was_promoted_again_is_no_new_writer() {
    let (call, ending, mut seen) = passed();
    seen.roles_after = evidence::roles(&fixtures::cluster(), second(90));
    let mut result = fixtures::result();
    result.gap.as_mut().unwrap().writer_after = Some("payments-1".to_owned());
    let status = concluded(&fixtures::drill(), &document((call, ending, seen), Some(&result)), "sha256:00", second(92));
    assert_eq!((status.writer_after.as_deref(), says(&status).as_str()), (None, "True True False True True False"));
}

#[test]
fn the_longest_texts_are_such_that_the_api_server_takes_them() {
    let long = |length: usize| "ä".repeat(length);
    let mut claim = fixtures::claim();
    claim.target = long(63);
    let mut result = fixtures::result();
    result.gap.as_mut().unwrap().writer_after = Some(long(63));
    result.gap.as_mut().unwrap().upper_milliseconds = Some(2 * 3600 * 1000);
    result.instances = (0..20)
        .map(|at| durable_write_crds::probe::InstanceRows { name: format!("{at}"), rows: Some(i64::MAX), lag_before_milliseconds: None })
        .collect();
    let known = step::Known { pipeline_changed: Some(long(4000)), clock_step: i64::MIN + 1, ..step::Known::default() };
    let call = call(CallOutcome::Accepted);
    let mut judged = judge(&Measured { claim: &claim, call: &call, result: &result, events: &[], known: &known, target_is_writer: true });
    judged.message = long(9000);
    let mut seen = Seen::default();
    for at in 0..200 {
        seen.note(second(at), second(at), ObservationSource::RDSEvent, "FailoverStarted", &long(9000));
    }
    let document = evidence::document(&claim, call, &judged, &seen, Some(&result), second(91));
    is_taken(&concluded(&fixtures::drill(), &document, &format!("sha256:{}", "0".repeat(64)), second(92)));
    let from_the_probe = ending(Verdict::Error, drill_reasons::BASELINE_UNSTEADY, long(9000));
    is_taken(&ended(&fixtures::drill(), &from_the_probe, None, &seen, second(92)));
}

#[test]
fn each_turn_is_told_once() {
    let told = |before: Option<&FailoverDrillStatus>, after: &FailoverDrillStatus| {
        let line = |note: Note| format!("{} {}", if note.warning { "Warning" } else { "Normal" }, note.reason);
        notes(before, after).into_iter().map(line).collect::<Vec<_>>()
    };
    let drill = fixtures::drill();
    let preflight = in_progress(&drill, progress(Phase::Preflight), &Seen::default(), second(1));
    assert!(told(None, &preflight).is_empty());
    let baseline = in_progress(&with(preflight.clone()), progress(Phase::Baseline), &Seen::default(), second(2));
    assert_eq!(told(Some(&preflight), &baseline), ["Normal PreflightPassed"]);
    let triggered = Progress { triggered: Some("yes"), ..progress(Phase::Triggering) };
    let triggering = in_progress(&with(baseline.clone()), triggered, &Seen::default(), second(3));
    assert_eq!(told(Some(&baseline), &triggering), ["Normal Triggered"]);
    assert!(told(Some(&triggering), &triggering).is_empty());
    let end = |verdict, reason: &str| {
        let evidence = document((call(CallOutcome::Accepted), ending(verdict, reason, "why"), passed().2), None);
        concluded(&with(triggering.clone()), &evidence, "sha256:00", second(92))
    };
    assert_eq!(told(Some(&triggering), &end(Verdict::Pass, "ObjectivesMet")), ["Normal Recovered", "Normal ObjectivesMet"]);
    for (verdict, expected) in
        [(Verdict::Fail, "Warning X"), (Verdict::Inconclusive, "Warning X"), (Verdict::Error, "Warning X"), (Verdict::Aborted, "Normal X")]
    {
        assert_eq!(told(Some(&triggering), &end(verdict, "X")), ["Normal Recovered", expected]);
    }
}
