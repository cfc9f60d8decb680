use durable_write_crds::conditions::drill_reasons;

use super::super::direct::Good;
use super::super::gap::Taken;
use super::*;

const DRILL: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Every server's clock is five minutes ahead of the probe's.
const OFFSET: Offset = Offset { microseconds: 300_000_000, uncertainty: 1000 };

fn plan() -> ProbePlan {
    let seconds = |seconds: u64| durable_write_crds::Duration::from_millis(1000 * seconds);
    ProbePlan {
        drill: DRILL.to_owned(),
        drill_name: "test/default/drill".to_owned(),
        resource_id: "cluster-A".to_owned(),
        writer: "old".to_owned(),
        target: "new".to_owned(),
        max_replica_lag: seconds(1),
        messages_per_second: 10,
        direct_write_interval: durable_write_crds::Duration::from_millis(100),
        direct_path: Default::default(),
        warm_up: seconds(4),
        cool_down: seconds(3),
        backlog_drained: seconds(20),
        deadline: seconds(100),
    }
}

/// A probe whose world is told to it, a tenth of a second at a time.
struct World {
    course: Course,
    now: At,
    /// The instance that takes writes.
    writer: Option<&'static str>,
    /// Messages reach the table.
    pipeline: bool,
    /// The queue takes messages.
    accepts: bool,
    lag: i64,
    missed: u64,
    waiting: Vec<i64>,
}

impl World {
    fn new(plan: ProbePlan, delay: Duration) -> Self {
        let course = Course::new(plan, Timestamp::UNIX_EPOCH, delay, At::ZERO);
        Self { course, now: At::ZERO, writer: Some("old"), pipeline: true, accepts: true, lag: 0, missed: 0, waiting: Vec::new() }
    }

    fn step(&mut self) -> Next {
        self.now += Duration::from_millis(100);
        let now = self.now;
        if self.course.writes() {
            self.write();
            let seq = self.course.begin_send(now);
            let throttled = || SendFailure { refused: true, error: QueueError::Transient("throttled".to_owned()) };
            self.course.sent(seq, now, if self.accepts { Ok(()) } else { Err(throttled()) });
            self.waiting.extend(self.accepts.then_some(seq));
        }
        let settled = if self.pipeline && self.writer.is_some() { std::mem::take(&mut self.waiting) } else { Vec::new() };
        self.course.lags = Some([("new".to_owned(), self.lag)].into());
        self.course.looked(now, settled);
        self.course.decide(now)
    }

    /// A direct write.
    fn write(&mut self) {
        let now = self.now;
        let seq = self.course.begin_direct(now, std::mem::take(&mut self.missed));
        let ended = now + Duration::from_millis(5);
        let taken = |instance: &str| Taken { instance: instance.into(), sent: now, received: ended };
        let good = self.writer.map(|instance| Good { taken: taken(instance), offset: OFFSET });
        let fate = if good.is_some() { Fate::Confirmed } else { Fate::Refused };
        self.course.wrote(seq, Done { began: now, ended, fate, good, refusals: Vec::new(), problem: None });
    }

    /// Goes on for so many seconds, as long as nothing ends.
    fn go_on(&mut self, seconds: u64) -> Next {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            let next = self.step();
            if next != Next::GoOn {
                return next;
            }
        }
        Next::GoOn
    }

    fn refusal(&mut self) -> (&'static str, Duration) {
        match self.go_on(200) {
            Next::Refuse(problem) => (problem.reason, self.now),
            other => panic!("{other:?}"),
        }
    }
}

fn world() -> World {
    World::new(plan(), Duration::ZERO)
}

#[test]
fn a_baseline_is_steady_when_messages_are_old_enough_to_be_missed_and_not_before() {
    let mut world = world();
    world.go_on(5);
    assert!(!world.course.is_ready());
    world.go_on(2);
    assert!(world.course.is_ready());
}

#[test]
fn a_steady_probe_goes_through_outage_recovery_cool_down_and_drain_to_the_count() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(2);
    assert_eq!((world.course.stage, world.course.is_ready()), (Stage::Outage, false));
    world.writer = Some("new");
    world.go_on(1);
    assert_eq!(world.course.stage, Stage::Recovered);
    assert_eq!(world.go_on(10), Next::Count);
    assert!(world.course.drained.is_some());
    let recovered = world.course.recovered_at(world.now).unwrap();
    assert!(world.now >= recovered + Duration::from_secs(3) && world.now < recovered + Duration::from_secs(5), "{:?}", world.now);
}

#[test]
fn each_kind_of_unsteadiness_is_refused_with_its_reason() {
    let mut differs = world();
    differs.writer = Some("third");
    let (reason, at) = differs.refusal();
    assert_eq!(reason, drill_reasons::WRITER_DIFFERS);
    assert!(at < Duration::from_secs(2), "it is told at once");

    let mut nobody = world();
    nobody.pipeline = false;
    assert_eq!(nobody.refusal(), (drill_reasons::BASELINE_UNSTEADY, Duration::from_secs(34)));

    let mut lags = world();
    lags.lag = 1001;
    assert_eq!(lags.refusal().0, drill_reasons::REPLICA_LAGS);

    let mut down = world();
    down.writer = None;
    assert_eq!(down.refusal().0, drill_reasons::BASELINE_UNSTEADY);

    let mut thief = world();
    let next = (0..400).map(|_| {
        // Some messages never arrive.
        if thief.waiting.len() % 3 == 2 {
            thief.waiting.remove(0);
        }
        let seq = thief.course.begin_send(thief.now);
        thief.course.sent(seq, thief.now, Ok(()));
        thief.step()
    });
    let end = next.into_iter().find(|next| *next != Next::GoOn);
    assert!(matches!(end, Some(Next::Refuse(problem)) if problem.reason == drill_reasons::ANOTHER_CONSUMER));
}

#[test]
fn a_queue_that_refuses_the_probe_is_told_at_once() {
    let mut world = world();
    world.go_on(1);
    let seq = world.course.begin_send(world.now);
    let problem = Problem::new("QueueAccessDenied", "queue", "SendMessage is denied");
    world.course.sent(seq, world.now, Err(SendFailure { refused: true, error: QueueError::Problem(problem) }));
    assert!(matches!(world.course.decide(world.now), Next::Refuse(problem) if problem.reason == "QueueAccessDenied"));
}

#[test]
fn ticks_that_the_probe_misses_make_a_baseline_unsteady_and_are_counted_in_the_gap() {
    let mut world = world();
    for _ in 0..80 {
        world.missed = 1;
        world.step();
    }
    assert!(!world.course.is_ready());
    world.go_on(4);
    assert!(world.course.is_ready());
    world.writer = None;
    world.missed = 3;
    world.go_on(1);
    world.writer = Some("new");
    world.go_on(1);
    world.missed = 2;
    world.go_on(1);
    let span = world.course.gaps.found(world.now).cloned();
    assert_eq!(world.course.missed(span.as_ref()), (5, 3));
}

#[test]
fn a_delay_of_the_queue_is_added_to_every_deadline() {
    let mut world = World::new(plan(), Duration::from_secs(60));
    world.pipeline = false;
    assert_eq!(world.refusal().1, Duration::from_secs(94));
}

#[test]
fn a_delay_that_leaves_no_time_to_measure_is_refused_at_once() {
    let mut world = World::new(plan(), Duration::from_secs(92));
    let (reason, at) = world.refusal();
    assert_eq!((reason, at), (drill_reasons::BASELINE_UNSTEADY, Duration::from_millis(100)));
    let mut fits = World::new(plan(), Duration::from_secs(91));
    assert_eq!(fits.go_on(50), Next::GoOn);
}

#[test]
fn a_recovery_that_does_not_last_for_the_cool_down_is_none() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(2);
    world.writer = Some("new");
    world.go_on(1);
    assert!(world.course.stage == Stage::Recovered && world.course.drained.is_some());
    world.writer = None;
    world.go_on(10);
    assert_eq!((world.course.stage, world.course.recovered_at(world.now), world.course.drained), (Stage::Outage, None, None));
    world.writer = Some("new");
    let back = world.now;
    assert_eq!(world.go_on(10), Next::Count);
    let (recovered, drained) = (world.course.recovered_at(world.now).unwrap(), world.course.drained.unwrap());
    assert!(recovered > back && drained >= recovered && world.now >= recovered + Duration::from_secs(3), "{recovered:?} {drained:?}");
    assert_eq!(world.course.gaps.changes(), 1);
}

#[test]
fn a_write_that_hangs_at_the_end_of_the_cool_down_is_waited_for() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(1);
    world.writer = Some("new");
    world.go_on(1);
    let (began, hangs) = (world.now, world.course.begin_direct(world.now, 0));
    world.go_on(5);
    assert!(world.course.writes());
    let failed = Done { began, ended: world.now, fate: Fate::Unknown, good: None, refusals: Vec::new(), problem: None };
    world.course.wrote(hangs, failed);
    world.step();
    assert!(!world.course.writes());
}

#[tokio::test]
async fn a_queue_that_accepts_nothing_from_the_outage_to_the_end_shows_as_a_pause_and_as_no_load() {
    use super::super::{clock::Clock, result};
    let mut world = world();
    world.go_on(7);
    (world.writer, world.accepts) = (None, false);
    world.go_on(2);
    world.writer = Some("new");
    assert_eq!(world.go_on(20), Next::Count);
    let accept = result::seen(&world.course, Clock::start()).accept;
    assert!((5000..6000).contains(&accept.longest_gap_milliseconds), "{accept:?}");
    assert!(accept.failed >= 50 && accept.acknowledged_in_gap <= 1, "{accept:?}");
}

#[test]
fn a_confirmation_that_comes_after_the_stop_lengthens_no_pause() {
    let mut world = world();
    world.go_on(6);
    let late = world.course.begin_send(world.now);
    world.writer = None;
    world.go_on(1);
    world.writer = Some("new");
    while world.course.writes() {
        world.step();
    }
    world.course.sent(late, world.now + Duration::from_secs(8), Ok(()));
    assert!(world.course.accept.longest_gap_milliseconds <= 100, "{:?}", world.course.accept);
}

#[test]
fn an_outage_that_was_found_stays_found_whatever_fails_while_the_probe_stops() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(1);
    world.writer = Some("old");
    while world.course.writes() {
        assert_eq!(world.step(), Next::GoOn);
    }
    let recovered = world.course.recovered_at(world.now);
    assert!(recovered.is_some());
    world.writer = None;
    world.write();
    assert_eq!(world.course.recovered_at(world.now), recovered);
}

#[test]
fn the_pause_is_sought_by_the_clock_of_the_server_that_wrote_the_rows() {
    let mut world = world();
    world.go_on(8);
    world.writer = None;
    world.go_on(2);
    world.writer = Some("new");
    world.go_on(1);
    let span = world.course.found(world.now).unwrap();
    let (from, to) = super::super::count::window(&world.course, span);
    assert!((306_500..=307_500).contains(&from) && (310_000..=310_500).contains(&to), "{from} to {to}");
}

#[test]
fn what_never_arrives_ends_the_drain_at_its_deadline_and_one_later_look() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(1);
    (world.writer, world.pipeline) = (Some("new"), false);
    assert_eq!(world.go_on(100), Next::Count);
    assert_eq!(world.course.drained, None);
    let recovered = world.course.recovered_at(world.now).unwrap();
    let took = world.now.checked_sub(recovered).unwrap();
    assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31), "20 s for the drain, 10 s for the late look: {took:?}");
}

#[test]
fn what_arrives_in_the_later_look_is_late() {
    let mut world = world();
    world.go_on(6);
    world.writer = None;
    world.go_on(1);
    (world.writer, world.pipeline) = (Some("new"), false);
    assert_eq!(world.go_on(25), Next::GoOn);
    world.pipeline = true;
    assert_eq!(world.go_on(10), Next::Count);
    let mut tally = world.course.queue.tally();
    (1..=world.course.queue.tally().end().integrity.sent).for_each(|seq| tally.add(seq, 1));
    let integrity = tally.end().integrity;
    assert!(integrity.late > 0 && integrity.lost == 0, "{integrity:?}");
    assert_eq!(world.course.drained, None);
}

/// What the probe would say of the messages that are absent after these readings of the queue's depth: lost and undrained.
fn absent(world: &mut World, depths: &[i64]) -> (i64, i64) {
    use super::super::{clock::Clock, count::Counts, result};
    for visible in depths {
        world.course.saw_depth(world.now, Depth { visible: *visible, in_flight: 1, dead_lettered: None });
    }
    let (queue, direct) = (world.course.queue.tally().end(), world.course.direct.tally().end());
    let counts = Counts { queue, direct, queue_gap: None, total: 0, instances: Vec::new() };
    let result = result::completed(&world.course, counts, Clock::start());
    (result.queue_channel.lost, result.queue_channel.undrained)
}

#[tokio::test]
async fn what_is_absent_is_lost_only_when_the_queue_has_no_backlog_any_more() {
    let mut world = world();
    world.course.saw_depth(world.now, Depth { visible: 3, in_flight: 2, dead_lettered: None });
    world.go_on(7);
    let acknowledged = world.course.queue.tally().end().integrity.acknowledged;
    assert!(acknowledged > 0 && world.course.is_ready());
    assert_eq!(absent(&mut world, &[]), (0, acknowledged), "nothing is known of the queue");
    assert_eq!(absent(&mut world, &[4000, 3000, 2000]), (0, acknowledged), "it is still being drained");
    assert_eq!(absent(&mut world, &[24, 0]), (0, acknowledged), "a single reading says little");
    assert_eq!(absent(&mut world, &[24]), (acknowledged, 0), "two seconds' messages beyond the baseline are no backlog");
    assert_eq!(absent(&mut world, &[25]), (0, acknowledged));
}

#[test]
fn without_an_outage_the_probe_gives_up_at_its_deadline_and_counts_all_the_same() {
    let mut world = world();
    assert_eq!(world.go_on(200), Next::Count);
    assert!(world.now >= Duration::from_secs(100) && world.now < Duration::from_secs(103), "{:?}", world.now);
    assert!(world.course.gaps.found(world.now).is_none());
}

#[test]
fn at_most_a_minute_is_shown() {
    let mut world = world();
    world.go_on(90);
    let state = world.course.state();
    assert_eq!((state.seconds.len(), state.stage.as_str()), (60, "Steady"));
    assert!(state.seconds.iter().rev().skip(1).all(|second| second.accepted == 10 && second.committed == 10), "{state:?}");
}
