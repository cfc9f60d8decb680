//! The probe's loop: begins writes in time, asks the table and the queue now and then, and lets the course decide. Whatever may hang runs
//! beside it.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_crds::probe::{ProbeMark, ProbePlan, ProbeResult};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::clock::{At, Clock};
use super::count;
use super::course::{Course, Next, Stage};
use super::direct::{self, Done, Way};
use super::look::{self, LOOK_EVERY, Look, look, no_answer};
use super::port::Shown;
use super::servers::Servers;
use super::standing::Standing;
use super::{result, tables};
use crate::database::access::Access;
use crate::problem::Problem;
use crate::queue::sqs::{SendFailure, Sqs};
use crate::queue::{Depth, Queue};

/// How often it is decided how to go on: with each of a thousand events a second it would make the writes late.
const DECIDE_EVERY: Duration = Duration::from_millis(100);
/// How long the writer and the queue may take to answer for the first time, and the writer for the last time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the cluster may take to be given free: a pod that is stopped has 10 s.
const CLOSING: Duration = Duration::from_secs(8);
/// So many sends are under way at the most: a queue that hangs must not cost memory without end.
const MOST_SENDS: usize = 1024;
/// Beyond its deadline a drill needs this for its drain's late look and its count.
const SPARE: Duration = Duration::from_secs(300);

/// What the probe works on.
pub(super) struct Ground {
    pub(super) plan: ProbePlan,
    pub(super) clock: Clock,
    pub(super) access: Access,
    pub(super) queue: Arc<Sqs>,
    pub(super) shown: watch::Sender<Shown>,
}

/// What came back from beside the loop.
enum Event {
    Wrote(i64, Done),
    Sent(i64, Result<(), SendFailure>),
    Looked(At, Result<Look, Problem>),
    Depth(Option<Depth>),
}

impl Ground {
    fn servers(&self) -> Result<Servers, Problem> {
        Servers::read(&self.access, self.plan.direct_path)
    }

    /// Measures, from the first look at the queue to the count. The cluster may be claimed afterwards, whatever the result: close it.
    pub(super) async fn measure(&self) -> ProbeResult {
        let refused = |problem: Problem| result::refused(result::empty(&self.plan.drill, self.clock), &problem);
        let delay = match self.check_queue().await {
            Ok(delay) => delay,
            Err(problem) => return refused(problem),
        };
        if let Err(problem) = self.open(delay).await {
            return refused(problem);
        }
        match self.servers() {
            Ok(servers) => self.conduct(servers, delay).await,
            Err(problem) => refused(problem),
        }
    }

    /// Looks the queue up, and says how long it delays messages.
    async fn check_queue(&self) -> Result<Duration, Problem> {
        let end = self.clock.now() + PATIENCE;
        loop {
            match self.queue.check().await {
                Ok(_) => break,
                Err(problem) if problem.reason != reasons::QUEUE_UNREACHABLE || self.clock.now() > end => return Err(problem),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
        let unknown =
            |error| Problem::new(reasons::QUEUE_UNREACHABLE, "queue", format!("SQS does not say the queue's DelaySeconds: {error:?}"));
        let seconds = self.queue.delay_seconds().await.map_err(unknown)?;
        Ok(Duration::from_secs(seconds.try_into().unwrap_or(0)))
    }

    /// When the drill is over at the latest, counted from its start, on a queue that delays its messages by so much.
    fn lifetime(&self, delay: Duration) -> Duration {
        self.plan.deadline.get() + self.plan.backlog_drained.get() + delay + SPARE
    }

    /// Looks for the tables, and claims the Aurora cluster.
    async fn open(&self, delay: Duration) -> Result<(), Problem> {
        let end = self.clock.now() + PATIENCE;
        let lifetime = self.lifetime(delay);
        loop {
            let opened = async {
                let mut writer = self.servers()?.writer(Some(&self.plan.writer)).await?;
                tables::open(&mut writer, &self.plan, lifetime).await
            };
            match timeout(PATIENCE, opened).await.unwrap_or_else(|_| Err(no_answer())) {
                Err(problem) if problem.reason == reasons::DATABASE_OUTAGE && self.clock.now() < end => sleep(LOOK_EVERY).await,
                result => return result,
            }
        }
    }

    /// Gives the cluster free; if that does not work, its claim runs out by itself.
    pub(super) async fn close(&self) {
        let once = async || {
            let mut writer = self.servers()?.writer(None).await?;
            tables::close(&mut writer, &self.plan.drill).await
        };
        let close = async {
            loop {
                match once().await {
                    // A probe is stopped in the midst of a failover as well: an open claim would keep the next drill away.
                    Err(problem) if problem.reason == reasons::DATABASE_OUTAGE => sleep(LOOK_EVERY).await,
                    closed => return closed,
                }
            }
        };
        if let Err(problem) = timeout(CLOSING, close).await.unwrap_or_else(|_| Err(no_answer())) {
            tracing::warn!(%problem, "the drill's row in durable_write.drill was not closed; it runs out by itself");
        }
    }

    async fn conduct(&self, servers: Servers, delay: Duration) -> ProbeResult {
        let now = self.clock.now();
        let (send, mut events) = mpsc::unbounded_channel();
        let mut work = Work {
            ground: self,
            course: Course::new(self.plan.clone(), self.clock.wall(At::ZERO), delay, now),
            way: Way {
                clock: self.clock,
                servers: servers.direct.clone(),
                standing: Standing::default(),
                drill: self.plan.drill.as_str().into(),
                alone: true,
            },
            servers,
            done: send,
            next_direct: now,
            next_send: now,
            next_look: now,
            looking: false,
            asking_depth: false,
            sends: 0,
        };
        let mut decide_at = now;
        loop {
            let now = self.clock.now();
            work.course.steps.observe(self.clock.wall(now), Timestamp::now());
            if now >= decide_at {
                decide_at = now + DECIDE_EVERY;
                match work.course.decide(now) {
                    Next::GoOn => {}
                    Next::Refuse(problem) => return result::refused(result::seen(&work.course, self.clock), &problem),
                    Next::Count => break,
                }
                self.shown.send_modify(|shown| *shown = Shown { state: work.course.state(), ready: work.course.is_ready() });
            }
            work.begin_what_is_due(now);
            tokio::select! {
                Some(event) = events.recv() => {
                    work.take_in(event);
                    while let Ok(event) = events.try_recv() {
                        work.take_in(event);
                    }
                }
                () = sleep_until(self.clock.instant(work.next_due().min(decide_at))) => {}
            }
        }
        self.shown.send_modify(|shown| *shown = Shown { state: work.course.state(), ready: false });
        work.count().await
    }
}

/// The loop's own state.
struct Work<'a> {
    ground: &'a Ground,
    course: Course,
    servers: Servers,
    way: Way,
    done: mpsc::UnboundedSender<Event>,
    next_direct: At,
    next_send: At,
    next_look: At,
    looking: bool,
    asking_depth: bool,
    sends: usize,
}

impl Work<'_> {
    fn next_due(&self) -> At {
        if self.course.writes() { self.next_direct.min(self.next_send).min(self.next_look) } else { self.next_look }
    }

    fn begin_what_is_due(&mut self, now: At) {
        if self.course.writes() && now >= self.next_direct {
            self.write(now);
        }
        while self.course.writes() && now >= self.next_send {
            self.next_send += Duration::from_secs(1) / self.ground.plan.messages_per_second.max(1);
            // What could not be sent in time is not made up for all at once.
            if now > self.next_send + Duration::from_secs(1) {
                self.next_send = now;
            }
            self.send(now);
        }
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look(now);
        }
    }

    fn write(&mut self, now: At) {
        let interval = self.ground.plan.direct_write_interval.get();
        let late = now.saturating_sub(self.next_direct);
        let missed = u32::try_from(late.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.next_direct += interval.saturating_mul(missed.saturating_add(1));
        let seq = self.course.begin_direct(now, missed.into());
        let known = self.course.known();
        let alone = self.course.ready.is_none();
        let way = Way { servers: self.servers.direct.clone(), alone, ..self.way.clone() };
        let done = self.done.clone();
        tokio::spawn(async move { done.send(Event::Wrote(seq, direct::write(way, known, seq).await)) });
    }

    fn send(&mut self, now: At) {
        if self.sends >= MOST_SENDS {
            return;
        }
        self.sends += 1;
        let seq = self.course.begin_send(now);
        let plan = &self.ground.plan;
        let expires = self.ground.clock.wall(self.ground.lifetime(self.course.delay)).as_second();
        let mark = ProbeMark { drill: plan.drill.clone(), seq, expires };
        let (queue, done) = (self.ground.queue.clone(), self.done.clone());
        tokio::spawn(async move { done.send(Event::Sent(seq, queue.send_probe(&mark).await)) });
    }

    /// Asks the table and the queue, unless they have not answered yet.
    fn look(&mut self, now: At) {
        // The topology and the password may change while the probe runs.
        if let Ok(servers) = self.ground.servers() {
            self.servers = servers;
        }
        if !std::mem::replace(&mut self.looking, true) {
            let (servers, done, drill) = (self.servers.clone(), self.done.clone(), self.ground.plan.drill.clone());
            let (known, low) = (self.course.gaps.last_instance().cloned(), self.course.queue.low());
            if let Some(writer) = self.course.known() {
                let readers = self.servers.instances.iter().filter(|server| server.name != writer).cloned().collect();
                let (standing, clock) = (self.way.standing.clone(), self.way.clock);
                tokio::spawn(async move { standing.keep(clock, readers).await });
            }
            tokio::spawn(async move { done.send(Event::Looked(now, look(&servers, known, &drill, low).await)) });
        }
        if !std::mem::replace(&mut self.asking_depth, true) {
            let (queue, done) = (self.ground.queue.clone(), self.done.clone());
            tokio::spawn(async move { done.send(Event::Depth(queue.depth().await.ok())) });
        }
    }

    fn take_in(&mut self, event: Event) {
        let now = self.ground.clock.now();
        match event {
            Event::Wrote(seq, done) => self.course.wrote(seq, done),
            Event::Sent(seq, result) => {
                self.sends -= 1;
                self.course.sent(seq, now, result);
            }
            Event::Looked(asked, look) => {
                self.looking = false;
                self.next_look = self.next_look.max(look::next(asked, now, look.is_ok()));
                match look {
                    Ok(look) => {
                        self.course.lags = look.lags.or(self.course.lags.take());
                        self.course.looked(asked, look.settled);
                    }
                    Err(problem) => tracing::debug!(%problem, "the table did not answer"),
                }
            }
            Event::Depth(depth) => {
                self.asking_depth = false;
                if let Some(depth) = depth {
                    self.course.saw_depth(now, depth);
                }
            }
        }
    }

    async fn count(&mut self) -> ProbeResult {
        debug_assert!(self.course.stage == Stage::Counting);
        let end = self.ground.clock.now() + PATIENCE;
        // As late as can be: what was dead-lettered in the drain is in it.
        if let Ok(depth) = self.ground.queue.depth().await {
            self.course.saw_depth(self.ground.clock.now(), depth);
        }
        let known = self.course.gaps.last_instance().cloned();
        loop {
            let counted = timeout(tables::COUNT, count::count(&self.course, &self.servers, known.clone())).await;
            match counted.unwrap_or_else(|_| Err(no_answer())) {
                Ok(mut counts) => {
                    counts.instances = count::instances(&self.servers, &self.ground.plan.drill, counts.total).await;
                    return result::completed(&self.course, counts, self.ground.clock);
                }
                Err(problem) if self.ground.clock.now() >= end => {
                    let message = format!("the rows could not be counted: {problem}");
                    let problem = Problem { message, field: String::new(), ..problem };
                    return result::refused(result::seen(&self.course, self.ground.clock), &problem);
                }
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
    }
}
