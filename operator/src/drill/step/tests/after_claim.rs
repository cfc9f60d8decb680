//! After the claim, or what is left of it.

use durable_write_crds::evidence::{CLAIM_KEY, EVIDENCE_KEY, LABEL};

use super::*;
use crate::drill::step::fate::{LONGEST, SHOWS};

#[test]
fn a_call_that_was_refused_ends_at_once() {
    let mut world = World::claimed(1);
    world.answered(CallOutcome::Refused);
    assert_eq!(ended(world.step()), (Verdict::Error, reasons::REFUSED.to_owned()));
}

#[test]
fn after_a_restart_it_is_only_watched_and_unknown_comes_late() {
    let mut world = World::claimed(10);
    world.known.call = None;
    assert!(matches!(world.step(), Step::Observe(Phase::FailingOver, false)));
    world.known.since_claim = Some(SHOWS);
    let mut made = World::claimed(10);
    made.known = world.known.clone();
    assert_eq!(ended(world.step()), (Verdict::Error, reasons::TRIGGER_UNKNOWN.to_owned()));
    made.promote("payments-3");
    assert!(matches!(made.step(), Step::Observe(Phase::Recovering, false)), "the target is the writer: it was made");
    made.cluster().status = "failing-over".to_owned();
    made.promote("payments-1");
    assert!(matches!(made.step(), Step::Observe(..)), "something is under way");
}

#[test]
fn writes_that_stood_still_and_stayed_with_the_old_writer_are_nobodys_failover() {
    let mut world = World::claimed(100);
    let mut result = fixtures::result();
    result.gap.as_mut().unwrap().writer_after = Some("payments-1".to_owned());
    world.observed.probe = ProbeSeen::read(Some(fixtures::ended(&result)), &world.drill);
    (world.known.call, world.known.since_claim) = (None, Some(SHOWS));
    assert_eq!(ended(world.step()), (Verdict::Error, reasons::TRIGGER_UNKNOWN.to_owned()));
    world.answered(CallOutcome::Accepted);
    world.known.since_claim = Some(SHOWS);
    assert_eq!(ended(world.step()), (Verdict::Fail, reasons::PREVIOUS_WRITER_PROMOTED.to_owned()));
}

#[test]
fn single_writes_that_fail_are_no_failover() {
    let failed = |attempts: u32, after: Option<&str>| {
        let mut world = World::claimed(100);
        let mut result = fixtures::result();
        let gap = result.gap.as_mut().unwrap();
        (gap.failed_attempts, gap.writer_after) = (attempts.into(), after.map(str::to_owned));
        gap.upper_milliseconds = gap.upper_milliseconds.filter(|_| after.is_some());
        world.observed.probe = ProbeSeen::read(Some(fixtures::ended(&result)), &world.drill);
        world
    };
    for after in [Some("payments-1"), None] {
        let world = failed(STREAK - 1, after);
        assert_eq!(ended(world.step()), (Verdict::Error, reasons::NO_FAILOVER_SEEN.to_owned()), "{after:?}");
        assert_ne!(ended(failed(STREAK, after).step()).1, reasons::NO_FAILOVER_SEEN, "{after:?}");
    }
    let mut told = failed(1, Some("payments-1"));
    told.known.events = vec![ClusterEvent { at: second(35), kind: EventKind::PreviousWriterPromoted, message: String::new() }];
    assert_eq!(ended(told.step()), (Verdict::Fail, reasons::PREVIOUS_WRITER_PROMOTED.to_owned()), "RDS says so");
    let short = failed(0, Some("payments-3"));
    assert_eq!(ended(short.step()).0, Verdict::Pass, "another instance took the writes");
}

#[test]
fn events_that_were_told_once_count_when_the_last_look_does_not_see_them() {
    let mut world = World::claimed(100);
    world.promote("payments-3");
    world.end_probe();
    world.observed.events = Err("throttled".to_owned());
    assert_eq!(ended(world.step()).0, Verdict::Pass);
    let another = EventKind::Started(Some("payments-2".to_owned()));
    for (kind, reason) in [
        (EventKind::PreviousWriterPromoted, reasons::PREVIOUS_WRITER_PROMOTED),
        (EventKind::Failed, reasons::FAILOVER_FAILED),
        (another, reasons::ANOTHER_FAILOVER),
    ] {
        world.known.events = vec![ClusterEvent { at: second(35), kind, message: String::new() }];
        assert_eq!(ended(world.step()).1, reason);
    }
}

#[test]
fn a_cluster_that_is_gone_or_cannot_be_asked_for_is_waited_for_and_no_longer() {
    let table: [Change; 3] = [
        |world| world.observed.cluster = ClusterSeen::Missing,
        |world| world.observed.cluster = ClusterSeen::Unknown("throttled".to_owned()),
        |world| {
            world.cluster().resource_id = "cluster-OTHER".to_owned();
            world.promote("payments-3");
        },
    ];
    for change in table {
        let after = |since_claim: Duration| {
            let mut world = World::claimed(20);
            change(&mut world);
            world.known.since_claim = Some(since_claim);
            world
        };
        let (open, settled) = (SHOWS * 3 - Duration::from_secs(1), SHOWS * 3);
        for (since_claim, ends) in [(open, false), (settled, true)] {
            let mut aborted = after(since_claim);
            aborted.drill.spec.abort = true;
            assert_eq!(matches!(aborted.step(), Step::Conclude(_)), ends, "{:?}", aborted.step());
        }
        let mut measured = after(settled);
        measured.end_probe();
        assert_eq!(ended(measured.step()).0, Verdict::Pass, "what was measured stands");
        let mut lost = after(settled);
        lost.observed.probe = ProbeSeen::None;
        assert_eq!(ended(lost.step()), (Verdict::Error, reasons::NO_FAILOVER_SEEN.to_owned()));
        lost.known.moved = true;
        assert_eq!(ended(lost.step()), (Verdict::Inconclusive, reasons::PROBE_LOST.to_owned()), "it was seen before");
    }
}

#[test]
fn endings_after_the_claim() {
    let table: [(Verdict, &str, Change); 5] = [
        (Verdict::Inconclusive, reasons::PROBE_LOST, |world| world.observed.probe = ProbeSeen::None),
        (Verdict::Inconclusive, reasons::PROBE_LOST, |world| {
            let mut pod = fixtures::pod(false);
            pod.status.as_mut().unwrap().phase = Some("Failed".to_owned());
            world.observed.probe = ProbeSeen::read(Some(pod), &world.drill);
        }),
        (Verdict::Inconclusive, reasons::PIPELINE_CHANGED, |world| {
            world.known.pipeline_changed = Some("the pipeline was edited".to_owned())
        }),
        (Verdict::Inconclusive, reasons::DEADLINE_EXCEEDED, |world| world.now = second(901)),
        (Verdict::Inconclusive, reasons::CLOCK_STEPPED, |world| {
            world.known.clock_step = 6000;
            world.end_probe();
        }),
    ];
    for (verdict, reason, change) in table {
        let mut world = World::claimed(20);
        world.promote("payments-3");
        change(&mut world);
        assert_eq!(ended(world.step()), (verdict, reason.to_owned()));
    }
    let mut nothing = World::claimed(100);
    nothing.now = second(901);
    assert_eq!(ended(nothing.step()), (Verdict::Error, reasons::NO_FAILOVER_SEEN.to_owned()));
}

#[test]
fn evidence_that_is_complete_is_only_told() {
    let mut world = World::claimed(5);
    let EvidenceSeen::Claimed(claim, object) = &world.observed.evidence else { panic!() };
    let labels = object.metadata.labels.as_ref().unwrap();
    assert_eq!(labels.iter().collect::<Vec<_>>(), [(&LABEL.to_owned(), &"true".to_owned())], "no watch of pipelines' children holds it");
    let call = Call { outcome: CallOutcome::Accepted, began: None, ended: None, message: None };
    let seen = crate::drill::memory::Seen::default();
    let document = evidence::document(claim, call, &error(reasons::PROBE_LOST, "x"), &seen, None, second(99));
    let (completed, text) = evidence::completed(object, &document).unwrap();
    world.observed.evidence = EvidenceSeen::read(Some(completed), fixtures::UID);
    match world.step() {
        Step::Finish(found, digest) => assert_eq!((*found, digest), (document, durable_write_crds::evidence::digest(&text))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_that_does_not_come_back_is_not_waited_for_for_ever() {
    for status in ["stopped", "upgrading", "inaccessible-encryption-credentials"] {
        let mut world = World::claimed(20);
        world.promote("payments-3");
        world.end_probe();
        world.cluster().status = status.to_owned();
        world.known.since_claim = Some(LONGEST - Duration::from_secs(1));
        assert!(matches!(world.step(), Step::Observe(_, true)), "{status}");
        world.known.since_claim = Some(LONGEST);
        assert_eq!(ended(world.step()).0, Verdict::Pass, "{status}: what was measured stands");
    }
}

#[test]
fn a_writer_that_changed_is_never_said_not_to_have() {
    let mut other = World::claimed(20);
    other.promote("payments-2");
    other.known.since_claim = Some(SHOWS);
    other.observed.probe = ProbeSeen::None;
    assert_eq!(ended(other.step()), (Verdict::Inconclusive, reasons::PROBE_LOST.to_owned()), "another than the target");
    let mut back = World::claimed(20);
    back.known.since_claim = Some(SHOWS);
    back.known.moved = true;
    back.observed.probe = ProbeSeen::None;
    assert_eq!(ended(back.step()), (Verdict::Inconclusive, reasons::PROBE_LOST.to_owned()), "there and back");
}

#[test]
fn a_clock_that_is_set_ahead_ends_no_drill_in_its_failover() {
    let mut world = World::claimed(20);
    world.now = second(4000);
    world.known.left = Some(SignedDuration::from_secs(850));
    assert!(matches!(world.step(), Step::Observe(Phase::FailingOver, false)), "{:?}", world.step());
    world.known.left = Some(SignedDuration::from_secs(-1));
    assert!(matches!(world.step(), Step::Observe(_, true)), "by the clock that nobody sets");
}

#[test]
fn a_claim_that_was_deleted_while_its_drill_ran_is_not_made_again() {
    for mut world in [World::probing(true), World::new()] {
        world.answered(CallOutcome::Unclear);
        assert_eq!(ended(world.step()), (Verdict::Error, reasons::EVIDENCE_MISSING.to_owned()));
    }
    let mut another_process = World::probing(true);
    let mut condition = fixtures::pipeline().status.unwrap().conditions.remove(0);
    condition.type_ = drill_types::TRIGGERED.to_owned();
    another_process.drill.status.get_or_insert_default().conditions = vec![condition];
    assert_eq!(ended(another_process.step()), (Verdict::Error, reasons::EVIDENCE_MISSING.to_owned()));
}

#[test]
fn evidence_of_an_unknown_form_is_neither_called_for_again_nor_anothers() {
    let claim = |change: fn(&mut serde_json::Value)| {
        let mut claim = serde_json::to_value(fixtures::claim()).unwrap();
        change(&mut claim);
        claim.to_string()
    };
    let newer = claim(|claim| claim["schema"] = "durablewrite.dev/drill-evidence/v2".into());
    let missing = claim(|claim| drop(claim.as_object_mut().unwrap().remove("writer")));
    let anothers = claim(|claim| {
        claim["schema"] = "durablewrite.dev/drill-evidence/v2".into();
        claim["drill"]["uid"] = "another".into();
    });
    for (text, reason) in [
        (newer, reasons::EVIDENCE_UNREADABLE),
        (missing, reasons::EVIDENCE_UNREADABLE),
        ("not JSON".to_owned(), reasons::EVIDENCE_UNREADABLE),
        (anothers, reasons::NAME_USED_BEFORE),
    ] {
        let mut world = World::probing(true);
        let mut object = evidence::claim_object(&fixtures::claim()).unwrap();
        object.data = Some([(CLAIM_KEY.to_owned(), text)].into());
        world.observed.evidence = EvidenceSeen::read(Some(object), fixtures::UID);
        assert_eq!(ended(world.step()), (Verdict::Error, reason.to_owned()));
    }
    let mut world = World::probing(true);
    let mut object = evidence::claim_object(&fixtures::claim()).unwrap();
    object.data.get_or_insert_default().insert(EVIDENCE_KEY.to_owned(), "{}".to_owned());
    object.immutable = Some(true);
    world.observed.evidence = EvidenceSeen::read(Some(object), fixtures::UID);
    assert_eq!(ended(world.step()).1, reasons::EVIDENCE_UNREADABLE);
}

#[test]
fn a_call_that_its_process_did_not_make_ends_at_once() {
    let mut world = World::claimed(1);
    world.answered(CallOutcome::NotMade);
    assert_eq!(ended(world.step()), (Verdict::Error, reasons::NOT_CALLED.to_owned()));
}
