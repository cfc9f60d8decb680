//! Each fault gives its verdict and reason.

use durable_write_crds::probe::ClockOffset;

use super::*;
use crate::drill::fixtures::{self, millisecond, second};

struct World {
    claim: Claim,
    call: Call,
    result: ProbeResult,
    events: Vec<ClusterEvent>,
    known: Known,
    target_is_writer: bool,
}

fn event(at: i64, kind: EventKind) -> ClusterEvent {
    ClusterEvent { at: second(at), kind, message: String::new() }
}

fn started(at: i64, to: &str) -> ClusterEvent {
    event(at, EventKind::Started(Some(to.to_owned())))
}

fn sound() -> World {
    World {
        claim: fixtures::claim(),
        call: Call { outcome: CallOutcome::Accepted, began: None, ended: None, message: None },
        result: fixtures::result(),
        events: vec![started(31, "payments-3"), event(38, EventKind::Completed)],
        known: Known::default(),
        target_is_writer: true,
    }
}

fn ending(world: &World) -> Ending {
    let World { claim, call, result, events, known, target_is_writer } = world;
    let ending = judge(&Measured { claim, call, result, events, known, target_is_writer: *target_is_writer });
    assert!(!ending.message.is_empty());
    ending
}

fn verdict(change: impl FnOnce(&mut World)) -> (Verdict, String) {
    let mut world = sound();
    change(&mut world);
    let ending = ending(&world);
    (ending.verdict, ending.reason)
}

fn gap(world: &mut World) -> &mut Gap {
    world.result.gap.as_mut().unwrap()
}

fn is(verdict: Verdict, reason: &str) -> (Verdict, String) {
    (verdict, reason.to_owned())
}

#[test]
fn a_sound_drill_passes() {
    assert_eq!(verdict(|_| {}), is(Verdict::Pass, reasons::OBJECTIVES_MET));
}

#[test]
fn missed_objectives_fail() {
    for (what, change) in [
        ("a lost message", (|world| world.result.queue_channel.lost = 1) as fn(&mut World)),
        ("a lost direct write", |world| world.result.direct_channel.lost = 1),
        ("a doubled row", |world| world.result.queue_channel.duplicated = 1),
        ("an unexpected row", |world| world.result.direct_channel.unexpected = 1),
        ("a backlog that is still there", |world| {
            world.result.queue_channel.undrained = 7;
            world.result.drained_milliseconds = None;
        }),
        ("a slow drain", |world| world.result.drained_milliseconds = Some(300_001)),
        ("no drain", |world| world.result.drained_milliseconds = None),
        ("a slow recovery", |world| (gap(world).lower_milliseconds, gap(world).upper_milliseconds) = (60_001, Some(60_300))),
        ("no recovery in time", |world| {
            gap(world).lower_milliseconds = 60_001;
            gap(world).upper_milliseconds = None;
            gap(world).first_good_ended = None;
            world.result.drained_milliseconds = None;
            // Nearly all of it was measured well.
            (gap(world).failed_attempts, world.result.missed_ticks_in_gap, world.result.accept.acknowledged_in_gap) = (601, 1, 3000);
        }),
    ] {
        if what == "a slow recovery" {
            assert_eq!(
                verdict(|world| {
                    change(world);
                    world.result.accept.acknowledged_in_gap = 3000;
                })
                .0,
                Verdict::Fail,
                "{what}"
            );
            continue;
        }
        assert_eq!(verdict(change), is(Verdict::Fail, reasons::OBJECTIVE_MISSED), "{what}");
    }
}

#[test]
fn what_was_not_measured_soundly_is_inconclusive() {
    for (reason, change) in [
        (
            reasons::AMBIGUOUS_INTERVAL,
            (|world| {
                (gap(world).lower_milliseconds, gap(world).upper_milliseconds) = (59_900, Some(60_100));
                world.result.accept.acknowledged_in_gap = 3000;
            }) as fn(&mut World),
        ),
        (reasons::NO_LOAD, |world| world.result.accept.acknowledged_in_gap = 10),
        (reasons::NO_LOAD, |world| world.result.accept.acknowledged = 0),
        (reasons::NO_LOAD, |world| world.result.gap = None),
        (reasons::NO_LOAD, |world| {
            // An outage without an end, in which hardly anything was sent.
            (gap(world).upper_milliseconds, gap(world).first_good_ended, gap(world).failed_attempts) = (None, None, 601);
            world.result.drained_milliseconds = None;
        }),
        (reasons::BACKLOG_NOT_DRAINED, |world| world.result.queue_channel.undrained = 7),
        (reasons::MISSED_TICKS, |world| world.result.missed_ticks_in_gap = 30),
        (reasons::PIPELINE_CHANGED, |world| world.known.pipeline_changed = Some("the pipeline was edited".to_owned())),
        (reasons::CLOCK_STEPPED, |world| world.known.clock_step = -3_600_000),
        (reasons::CLOCK_STEPPED, |world| world.result.clock_step_milliseconds = 5001),
        (reasons::CLOCKS_UNCERTAIN, |world| {
            let instance = "payments-3".to_owned();
            world.result.clock_offsets.push(ClockOffset { instance, milliseconds: 0, uncertainty_milliseconds: 6001 });
        }),
        (reasons::ANOTHER_FAILOVER, |world| gap(world).last_good_began = millisecond(24_900)),
        (reasons::ANOTHER_FAILOVER, |world| {
            gap(world).last_good_began = millisecond(27_000);
            gap(world).first_good_ended = Some(millisecond(29_000));
        }),
        (reasons::ANOTHER_FAILOVER, |world| world.events.push(started(50, "payments-3"))),
        (reasons::ANOTHER_FAILOVER, |world| world.events = vec![started(31, "payments-2")]),
        (reasons::ANOTHER_FAILOVER, |world| gap(world).writer_after = Some("payments-2".to_owned())),
        (reasons::ANOTHER_FAILOVER, |world| world.result.writer_changes = 3),
    ] {
        assert_eq!(verdict(change), is(Verdict::Inconclusive, reason));
    }
}

#[test]
fn the_old_writer_that_comes_back_and_a_failed_failover_fail() {
    let back = |world: &mut World| {
        gap(world).writer_after = Some("payments-1".to_owned());
        world.target_is_writer = false;
    };
    assert_eq!(
        verdict(|world| {
            back(world);
            world.events.clear();
        }),
        is(Verdict::Fail, reasons::PREVIOUS_WRITER_PROMOTED)
    );
    assert_eq!(
        verdict(|world| world.events.push(event(40, EventKind::PreviousWriterPromoted))),
        is(Verdict::Fail, reasons::PREVIOUS_WRITER_PROMOTED)
    );
    assert_eq!(verdict(|world| world.events.push(event(40, EventKind::Failed))), is(Verdict::Fail, reasons::FAILOVER_FAILED));
}

#[test]
fn events_that_are_missing_late_or_doubled_change_nothing() {
    assert_eq!(verdict(|world| world.events.clear()).0, Verdict::Pass);
    assert_eq!(verdict(|world| world.events = vec![started(31, "payments-3"), started(31, "payments-3")]).0, Verdict::Pass);
    assert_eq!(verdict(|world| world.events.push(started(600, "payments-1"))).0, Verdict::Pass, "after it was measured");
    assert_eq!(verdict(|world| world.events = vec![started(31, "payments-3")]).0, Verdict::Pass, "only 0072");
}

#[test]
fn a_failover_without_a_failed_attempt_is_a_short_one() {
    let short = |world: &mut World| {
        let gap = gap(world);
        (gap.first_failed_ended, gap.last_failed_began, gap.failed_attempts) = (None, None, 0);
        (gap.lower_milliseconds, gap.upper_milliseconds) = (0, Some(60));
        world.result.accept.acknowledged_in_gap = 0;
    };
    assert_eq!(verdict(short).0, Verdict::Pass);
}

#[test]
fn a_proven_loss_fails_even_when_it_was_measured_badly_but_not_when_the_pipeline_changed() {
    let lost = |world: &mut World| {
        world.result.queue_channel.lost = 1;
        world.result.missed_ticks_in_gap = 70;
    };
    assert_eq!(verdict(lost), is(Verdict::Fail, reasons::OBJECTIVE_MISSED));
    let changed = |world: &mut World| {
        lost(world);
        world.known.pipeline_changed = Some("the pipeline was suspended".to_owned());
    };
    assert_eq!(verdict(changed), is(Verdict::Inconclusive, reasons::PIPELINE_CHANGED));
}

fn criterion(name: &str, change: impl FnOnce(&mut World)) -> Criterion {
    let mut world = sound();
    change(&mut world);
    ending(&world).criteria.into_iter().find(|criterion| criterion.name == name).unwrap()
}

#[test]
fn what_is_only_still_queued_is_not_lost() {
    let lost = criterion("lost", |world| world.result.queue_channel.undrained = 7);
    assert_eq!((lost.measured.as_str(), lost.result), ("0", CriterionResult::Inconclusive));
    assert_eq!(lost.message.as_deref(), Some("7 acknowledged messages had not arrived when the time for the drain was over"));
    let both = |world: &mut World| (world.result.queue_channel.undrained, world.result.queue_channel.lost) = (7, 1);
    assert_eq!(criterion("lost", both).result, CriterionResult::Fail, "a proven loss stays one");
}

#[test]
fn dead_letters_of_the_probe_are_told_only_as_far_as_they_are_known() {
    use CriterionResult::{Inconclusive, Pass};
    for (missing, growth, objective, measured, result) in [
        (0, Some(9), 0, "0", Pass),
        (0, None, 0, "0", Pass),
        (3, Some(0), 0, "0", Pass),
        (3, Some(9), 0, "at most 3", Inconclusive),
        (3, Some(2), 0, "at most 2", Inconclusive),
        (3, Some(2), 2, "at most 2", Pass),
        (3, None, 5, "not measured", Inconclusive),
    ] {
        let change = |world: &mut World| {
            world.result.queue_channel.lost = missing;
            world.result.dead_letter_growth = growth;
            world.claim.spec.objectives.dead_lettered = objective;
        };
        let judged = criterion("deadLettered", change);
        assert_eq!((judged.measured.as_str(), judged.result), (measured, result), "{missing} missing, grown by {growth:?}");
        assert_eq!(verdict(change).0, if missing > 0 { Verdict::Fail } else { Verdict::Pass }, "what is missing is lost all the same");
    }
    assert_eq!(
        criterion("deadLettered", |world| {
            world.result.queue_channel.undrained = 3;
            world.result.dead_letter_growth = Some(1);
        })
        .measured,
        "at most 1"
    );
}
