//! All phases and all endings, as a table of what differs from a world in which all is well.

mod after_claim;

use durable_write_crds::Duration as Length;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::drill::fixtures::{self, second};
use crate::drill::observed::{ClusterSeen, Workers};
use crate::drill::rds::{ClusterEvent, EventKind};
use crate::drill::{evidence, status};

struct World {
    drill: FailoverDrill,
    observed: Observed,
    known: Known,
    settings: Settings,
    now: Timestamp,
}

impl World {
    /// Before anything was done.
    fn new() -> Self {
        let observed = Observed {
            evidence: EvidenceSeen::None,
            pipeline: Some(fixtures::pipeline()),
            workers: Workers::default(),
            probe: ProbeSeen::None,
            lease: LeaseSeen::Read { lease: None, holder_gone: false },
            cluster: ClusterSeen::Found(fixtures::cluster()),
            events: Ok(Vec::new()),
        };
        let settings = crate::pipeline::fixtures::settings();
        Self { drill: fixtures::drill(), observed, known: Known::default(), settings, now: second(1) }
    }

    fn step(&self) -> Step {
        next_step(&self.drill, &self.observed, &self.known, &self.settings, self.now)
    }

    /// With the Lease held.
    fn leased() -> Self {
        let mut world = Self::new();
        let Step::WriteLease(lease, _) = world.step() else { panic!("{:?}", world.step()) };
        world.observed.lease = LeaseSeen::Read { lease: Some(lease), holder_gone: false };
        world
    }

    /// With the probe's pod.
    fn probing(ready: bool) -> Self {
        let mut world = Self::leased();
        world.observed.probe = ProbeSeen::read(Some(fixtures::pod(ready)), &world.drill);
        world.now = second(10);
        world
    }

    /// Claimed at second 30, and looked at so many seconds later.
    fn claimed(after: i64) -> Self {
        let mut world = Self::probing(true);
        let claim = fixtures::claim();
        let object = evidence::claim_object(&claim).unwrap();
        world.observed.evidence = EvidenceSeen::read(Some(object), fixtures::UID);
        world.now = second(30 + after);
        world.known.since_claim = Some(Duration::from_secs(u64::try_from(after).unwrap()));
        world.answered(CallOutcome::Accepted);
        world
    }

    /// So many seconds after the drill was made, with the Lease renewed just before.
    fn at(mut self, seconds: i64) -> Self {
        self.now = second(seconds);
        if let LeaseSeen::Read { lease: Some(lease), .. } = &mut self.observed.lease {
            lease.spec.as_mut().unwrap().renew_time.as_mut().unwrap().0 = second(seconds - 1);
        }
        self
    }

    fn taken_by_another(mut self) -> Self {
        if let LeaseSeen::Read { lease: Some(lease), .. } = &mut self.observed.lease {
            lease.spec.as_mut().unwrap().holder_identity = Some("other".to_owned());
        }
        self
    }

    fn answered(&mut self, outcome: CallOutcome) {
        self.known.call = Some(Call { outcome, began: Some(second(30)), ended: Some(second(31)), message: Some("why".to_owned()) });
    }

    fn cluster(&mut self) -> &mut super::super::rds::AuroraCluster {
        match &mut self.observed.cluster {
            ClusterSeen::Found(cluster) => cluster,
            _ => panic!("no cluster"),
        }
    }

    fn promote(&mut self, name: &str) {
        for instance in &mut self.cluster().instances {
            instance.writer = instance.name == name;
        }
    }

    fn end_probe(&mut self) {
        self.observed.probe = ProbeSeen::read(Some(fixtures::ended(&fixtures::result())), &self.drill);
    }
}

fn ended(step: Step) -> (Verdict, String) {
    match step {
        Step::End(ending) | Step::Conclude(ending) => {
            assert!(!ending.message.is_empty());
            (ending.verdict, ending.reason)
        }
        other => panic!("{other:?}"),
    }
}

/// What is done to a world in which all is well.
type Change = fn(&mut World);

#[test]
fn a_drill_goes_its_way_step_by_step() {
    assert!(matches!(World::new().step(), Step::WriteLease(_, Phase::Preflight)));
    match World::leased().step() {
        Step::StartProbe(pins) => assert_eq!((pins.writer.as_str(), pins.target.as_str()), ("payments-1", "payments-3"), "the lowest tier"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(World::probing(false).step(), Step::Wait(Phase::Baseline, ..)));
    assert!(matches!(World::probing(true).step(), Step::Trigger(_)));
    let mut world = World::claimed(1);
    assert!(matches!(world.step(), Step::Observe(Phase::FailingOver, false)));
    world.promote("payments-3");
    assert!(matches!(world.step(), Step::Observe(Phase::Recovering, false)));
    world.known.stage = Some("Draining".to_owned());
    assert!(matches!(world.step(), Step::Observe(Phase::Draining, false)));
    world.end_probe();
    assert_eq!(ended(world.step()), (Verdict::Pass, reasons::OBJECTIVES_MET.to_owned()));
}

#[test]
fn every_ending_before_the_claim_is_an_error_with_its_reason() {
    let table: [(&str, Change); 24] = [
        (reasons::DRILLS_DISABLED, |world| world.settings.drills_enabled = false),
        (reasons::TOO_LATE, |world| world.drill.spec.not_after = Some(Time(second(0)))),
        (reasons::PIPELINE_MISSING, |world| world.observed.pipeline = None),
        (reasons::PIPELINE_NOT_READY, |world| world.observed.pipeline.as_mut().unwrap().spec.suspend = true),
        (reasons::PIPELINE_NOT_READY, |world| world.observed.pipeline.as_mut().unwrap().spec.workers.replicas = 0),
        (reasons::PIPELINE_NOT_READY, |world| world.observed.pipeline.as_mut().unwrap().status = None),
        (reasons::PIPELINE_NOT_READY, |world| {
            world.observed.pipeline.as_mut().unwrap().status.as_mut().unwrap().conditions[1].status = "False".to_owned();
        }),
        (reasons::PIPELINE_NOT_READY, |world| world.observed.workers.rolling = true),
        (reasons::NOT_AURORA, |world| world.observed.pipeline.as_mut().unwrap().spec.database.aurora = None),
        (reasons::NOT_AURORA, |world| world.cluster().engine = "neptune".to_owned()),
        (reasons::CLUSTER_NOT_FOUND, |world| world.observed.cluster = ClusterSeen::Missing),
        (reasons::CLUSTER_UNKNOWN, |world| {
            world.observed.cluster = ClusterSeen::Unknown("denied".to_owned());
            world.known.silent = Some(RDS_SILENCE);
        }),
        (reasons::CLUSTER_NOT_AVAILABLE, |world| world.cluster().status = "modifying".to_owned()),
        (reasons::NOT_OPENED, |world| world.cluster().tags.clear()),
        (reasons::NOT_OPENED, |world| world.cluster().tags = [("durablewrite.dev/drills.other".to_owned(), "@all".to_owned())].into()),
        (reasons::NOT_OPENED, |world| world.cluster().tags = [("durablewrite.dev/drills.test".to_owned(), "shop-2 bar".to_owned())].into()),
        (reasons::NO_READER, |world| world.settings.drills_min_readers = 3),
        (reasons::NO_READER, |world| world.drill.spec.preflight.min_readers = Some(3)),
        (reasons::NO_READER, |world| world.cluster().instances.retain(|instance| instance.writer)),
        (reasons::TARGET_UNSUITABLE, |world| world.drill.spec.target_instance = Some("payments-1".to_owned())),
        (reasons::TARGET_UNSUITABLE, |world| world.drill.spec.target_instance = Some("orders-9".to_owned())),
        (reasons::TOO_SOON, |world| {
            world.settings.drills_min_interval = Length::from_millis(3_600_000);
            world.drill.spec.preflight.min_interval = Some(Length::from_millis(0));
            world.observed.events = Ok(vec![ClusterEvent { at: second(-1800), kind: EventKind::Completed, message: String::new() }]);
        }),
        (reasons::EVIDENCE_NAME_TAKEN, |world| world.observed.evidence = EvidenceSeen::read(Some(ConfigMap::default()), fixtures::UID)),
        (reasons::NAME_USED_BEFORE, |world| {
            let object = evidence::claim_object(&fixtures::claim()).unwrap();
            world.observed.evidence = EvidenceSeen::read(Some(object), "another uid");
        }),
    ];
    for (reason, change) in table {
        // At the start, and again right before the trigger.
        for mut world in [World::new(), World::probing(true)] {
            if reason == reasons::TARGET_UNSUITABLE && world.observed.probe.ours().is_some() {
                continue;
            }
            change(&mut world);
            assert_eq!(ended(world.step()), (Verdict::Error, reason.to_owned()));
        }
    }
}

#[test]
fn what_changed_after_the_preflight_is_never_triggered() {
    let table: [fn(&mut World); 3] = [
        |world| world.promote("payments-2"),
        |world| world.cluster().resource_id = "cluster-OTHER".to_owned(),
        |world| world.observed.pipeline.as_mut().unwrap().metadata.generation = Some(5),
    ];
    for change in table {
        let mut world = World::probing(true);
        change(&mut world);
        assert_eq!(ended(world.step()).1, reasons::CHANGED_BEFORE_TRIGGER);
    }
}

#[test]
fn rds_that_does_not_answer_is_waited_for_a_while() {
    let mut world = World::new();
    world.observed.cluster = ClusterSeen::Unknown("denied".to_owned());
    assert!(matches!(world.step(), Step::Wait(Phase::Preflight, reasons::CLUSTER_UNKNOWN, _)));
    let mut world = World::probing(true);
    world.observed.cluster = ClusterSeen::Unknown("throttled".to_owned());
    assert!(
        matches!(world.step(), Step::Wait(Phase::Baseline, reasons::CLUSTER_UNKNOWN, _)),
        "the preflight has passed: {:?}",
        world.step()
    );
}

#[test]
fn another_drill_on_the_cluster_is_waited_for_until_the_deadline() {
    let mut world = World::leased().taken_by_another();
    assert!(matches!(world.step(), Step::Wait(Phase::Pending, reasons::ANOTHER_DRILL, _)));
    world.now = second(860);
    assert_eq!(ended(world.step()), (Verdict::Error, reasons::ANOTHER_DRILL.to_owned()));
}

#[test]
fn what_another_drill_does_to_the_cluster_ends_none_that_waits_for_it() {
    let table: [Change; 5] = [
        |world| world.cluster().status = "failing-over".to_owned(),
        |world| world.cluster().instances.iter_mut().for_each(|instance| instance.status = "rebooting".to_owned()),
        |world| world.cluster().instances.retain(|instance| instance.writer),
        |world| world.observed.pipeline.as_mut().unwrap().status.as_mut().unwrap().conditions[1].status = "False".to_owned(),
        |world| {
            world.settings.drills_min_interval = Length::from_millis(3_600_000);
            world.observed.events = Ok(vec![ClusterEvent { at: second(0), kind: EventKind::Started(None), message: String::new() }]);
        },
    ];
    for change in table {
        let mut alone = World::leased();
        change(&mut alone);
        assert_eq!(ended(alone.step()).0, Verdict::Error, "with nobody to wait for");
        let mut world = World::leased().taken_by_another();
        change(&mut world);
        assert!(matches!(world.step(), Step::Wait(Phase::Pending, reasons::ANOTHER_DRILL, _)), "{:?}", world.step());
        world.cluster().tags.clear();
        assert_eq!(ended(world.step()).1, reasons::NOT_OPENED, "to strangers nothing is told of others");
    }
}

#[test]
fn an_outage_of_the_pipeline_that_has_just_begun_is_waited_for_and_triggers_nothing() {
    for (mut world, phase) in [(World::new(), Phase::Preflight), (World::probing(true), Phase::Baseline)] {
        let begun = world.now;
        let flowing = &mut world.observed.pipeline.as_mut().unwrap().status.as_mut().unwrap().conditions[1];
        (flowing.status, flowing.reason) = ("False".to_owned(), "DatabaseOutage".to_owned());
        flowing.last_transition_time = Time(begun);
        world.now = begun + SignedDuration::from_secs(15);
        assert!(matches!(world.step(), Step::Wait(waits, reasons::PIPELINE_NOT_READY, _) if waits == phase), "{:?}", world.step());
        world.now = begun + SignedDuration::from_secs(31);
        assert_eq!(ended(world.step()), (Verdict::Error, reasons::PIPELINE_NOT_READY.to_owned()));
    }
}

#[test]
fn a_probe_that_fails_before_the_claim_ends_the_drill() {
    let mut slow = World::probing(false);
    slow.now = second(300);
    slow.observed.lease = World::leased().observed.lease;
    let renewed = slow.step();
    assert!(matches!(renewed, Step::WriteLease(_, Phase::Baseline)), "the Lease is renewed first");
    if let Step::WriteLease(lease, _) = renewed {
        slow.observed.lease = LeaseSeen::Read { lease: Some(lease), holder_gone: false };
    }
    assert_eq!(ended(slow.step()).1, reasons::BASELINE_UNSTEADY);

    let mut refused = World::probing(false);
    let mut result = fixtures::result();
    (result.outcome, result.reason) = (ProbeOutcome::Refused, Some(reasons::PROBE_TABLES_MISSING.to_owned()));
    refused.observed.probe = ProbeSeen::read(Some(fixtures::ended(&result)), &refused.drill);
    assert_eq!(ended(refused.step()), (Verdict::Error, reasons::PROBE_TABLES_MISSING.to_owned()));

    let mut gone = World::leased();
    gone.known.probe = Some("pod-uid".to_owned());
    assert_eq!(ended(gone.step()).1, reasons::BASELINE_UNSTEADY, "it is never replaced");

    let mut replaced = World::probing(true);
    replaced.known.probe = Some("another".to_owned());
    assert_eq!(ended(replaced.step()).1, reasons::BASELINE_UNSTEADY, "a look-alike does not count");
}

#[test]
fn abort_and_deletion_end_a_drill_before_and_after_the_claim() {
    for (reason, change) in [
        (reasons::ABORTED, (|drill| drill.spec.abort = true) as fn(&mut FailoverDrill)),
        (reasons::DRILL_DELETED, |drill| drill.metadata.deletion_timestamp = Some(Time(second(1)))),
    ] {
        let mut world = World::new();
        change(&mut world.drill);
        assert_eq!(ended(world.step()), (Verdict::Aborted, reason.to_owned()));
        let mut world = World::claimed(2);
        change(&mut world.drill);
        assert!(matches!(world.step(), Step::Observe(_, true)), "the load stops at once, the Lease stays until nothing more can come");
        world.promote("payments-3");
        assert_eq!(ended(world.step()), (Verdict::Aborted, reason.to_owned()));
    }
}

#[test]
fn a_drill_that_has_ended_stays_ended_whatever_it_could_do_now() {
    let mut world = World::new();
    let seen = super::super::memory::Seen::default();
    world.drill.status = Some(status::ended(&world.drill, &error(reasons::TOO_SOON, "x"), None, &seen, second(2)));
    assert!(matches!(world.step(), Step::CleanUp));
}

#[test]
fn a_failover_that_can_no_longer_be_measured_is_not_called_for() {
    // The deadline is at 900 s; a failover takes 60 s at the most, and 30 s of cooling down.
    assert!(matches!(World::probing(true).at(809).step(), Step::Trigger(_)));
    let late = World::probing(true).at(811).step();
    assert_eq!(ended(late), (Verdict::Error, reasons::DEADLINE_EXCEEDED.to_owned()));
    let mut slow = World::probing(false).at(811);
    let ProbeSeen::Ours(probe) = &mut slow.observed.probe else { panic!() };
    probe.created = second(800);
    assert_eq!(ended(slow.step()).1, reasons::BASELINE_UNSTEADY, "it cannot come in time any more");
    // Before that, 20 s of warming up and some for the pod.
    assert!(matches!(World::leased().at(774).step(), Step::StartProbe(_)));
    let Step::End(late) = World::leased().at(776).step() else { panic!() };
    assert_eq!(late.reason, reasons::DEADLINE_EXCEEDED);
    assert!(late.message.contains("124 s are left") && late.message.contains("need 125 s"), "{}", late.message);
    // No baseline is shorter than 6 s.
    let short = |seconds| {
        let mut world = World::leased().at(seconds);
        world.drill.spec.load.warm_up = Length::from_millis(2000);
        world.step()
    };
    assert!(matches!(short(788), Step::StartProbe(_)));
    assert_eq!(ended(short(790)).1, reasons::DEADLINE_EXCEEDED);
}

#[test]
fn a_failover_that_the_probe_has_no_time_left_to_measure_is_not_called_for() {
    // It has 110 s, of which a failover takes 60 at the most.
    let after = |ready, seconds: i64| {
        let mut world = World::probing(ready).at(600 + seconds);
        let ProbeSeen::Ours(probe) = &mut world.observed.probe else { panic!() };
        (probe.created, probe.started, probe.plan.deadline) = (second(590), Some(second(600)), Length::from_millis(110_000));
        world.step()
    };
    assert!(matches!(after(true, 49), Step::Trigger(_)));
    assert_eq!(ended(after(true, 51)), (Verdict::Error, reasons::DEADLINE_EXCEEDED.to_owned()));
    assert!(matches!(after(false, 49), Step::Wait(Phase::Baseline, ..)));
    assert_eq!(ended(after(false, 51)).1, reasons::BASELINE_UNSTEADY);
    assert!(matches!(after(true, -3600), Step::Trigger(_)), "it has not run longer than it does");
}

#[test]
fn a_process_that_comes_after_the_claim_counts_the_deadline_anew_whatever_the_clock_says() {
    let left = |claimed, now| left(&fixtures::drill(), claimed, second(now)).as_secs();
    assert_eq!([left(false, 100), left(false, 3700), left(false, -3500)], [800, -2800, 900]);
    assert_eq!([left(true, 100), left(true, 3700), left(true, -3500)], [900; 3]);
}

#[test]
fn what_a_probe_says_keeps_no_drill_from_its_end() {
    let mut refused = World::probing(false);
    let mut result = fixtures::result();
    (result.outcome, result.reason) = (ProbeOutcome::Refused, Some("no reason of a condition".to_owned()));
    refused.observed.probe = ProbeSeen::read(Some(fixtures::ended(&result)), &refused.drill);
    assert_eq!(ended(refused.step()).1, reasons::BASELINE_UNSTEADY);

    let mut absurd = World::claimed(20);
    absurd.promote("payments-3");
    let mut result = fixtures::result();
    (result.queue_channel.lost, result.direct_channel.lost) = (i64::MAX, i64::MAX);
    absurd.observed.probe = ProbeSeen::read(Some(fixtures::ended(&result)), &absurd.drill);
    assert_eq!(ended(absurd.step()), (Verdict::Inconclusive, reasons::PROBE_LOST.to_owned()));
}
