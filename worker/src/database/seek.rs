//! The search for the writer: every server is asked again each 100 ms, without waiting for the answers before, so that a server that hangs
//! hides nothing and a new writer is found within 100 ms of being one. A server that answered as a reader is asked again on the connection
//! that stands, so that a search costs the servers few new connections.
//!
//! Many clients that search at once can keep a server so busy with new connections that it ends none of them in time, and to a client it looks
//! as if it hung. So the next attempt waits the longer, the more are under way: 100, 400, 900 ms; and one at each server is patient. A server
//! that did hang loses little by it: once it goes on, it answers those that hang on it.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout};

use super::tls::Endpoint;
use crate::problem::Problem;
use crate::sink::Found;

/// How often each server is asked at first.
const FAST: Duration = Duration::from_millis(100);
/// How long it is asked so often.
const FAST_FOR: Duration = Duration::from_secs(60);
/// How often each server is asked later, and while somebody must mend something first: a wrong password does not get right by haste.
const SLOW: Duration = Duration::from_secs(1);
/// An attempt that takes longer has failed.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The same for the one patient attempt at each server.
pub(super) const PATIENT_ATTEMPT: Duration = Duration::from_secs(15);

/// A server that may be the writer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// For people.
    pub(super) name: String,
    /// Where it listens.
    pub(super) endpoint: Endpoint,
}

/// What a server said.
#[derive(Debug)]
pub(super) enum Answer<C> {
    /// It accepts writes.
    Writer(Found<C>),
    /// It does not; the connection can be asked again.
    Reader(C),
    /// It did not answer, or not well.
    Failed(Problem),
}

/// Asks the servers until one is the writer. With `alone`, a server that claims to be the writer is only believed when no other claims it too:
/// after a promotion on stock PostgreSQL the old primary may still do so.
pub(super) async fn seek<C, A: Future<Output = Answer<C>>>(
    targets: impl Fn() -> Result<Vec<Target>, Problem>,
    attempt: impl Fn(Target, Option<C>) -> A,
    alone: bool,
    report: impl Fn(Problem),
) -> Found<C> {
    let started = Instant::now();
    let mut search = Search::new();
    let mut attempts = FuturesUnordered::new();
    let mut next = started;
    loop {
        tokio::select! {
            biased;
            Some((attempt, answer)) = attempts.next(), if !attempts.is_empty() => {
                if let Some(found) = search.answered(attempt, answer, alone) {
                    return found;
                }
            }
            () = sleep_until(next) => {
                if let Some(found) = search.undisputed() {
                    return found;
                }
                // Too late is too little processor for what is under way: the more is begun, the less of it ends.
                let starved = next.elapsed() > FAST / 2;
                match targets() {
                    Ok(targets) => for target in targets {
                        let Some(begun) = search.begin(target, starved) else { continue };
                        let standing = search.standing.remove(&begun.target);
                        let asked = timeout(begun.limit(), attempt(begun.target.clone(), standing));
                        attempts.push(async move { (begun, asked.await.ok()) });
                    },
                    Err(problem) => { search.failures.insert(String::new(), problem); }
                }
                search.report(&report);
                let fast = started.elapsed() < FAST_FOR && !search.is_for_somebody_to_mend();
                next = Instant::now() + if fast { FAST } else { SLOW };
            }
        }
    }
}

/// An attempt that has begun.
struct Attempt {
    target: Target,
    is_patient: bool,
}

impl Attempt {
    fn limit(&self) -> Duration {
        if self.is_patient { PATIENT_ATTEMPT } else { ATTEMPT }
    }
}

/// How a server was asked until now.
struct Asked {
    /// How many attempts are under way, and whether one of them is patient.
    under_way: u32,
    is_patient: bool,
    /// When the last one began.
    last: Instant,
}

struct Search<C> {
    asked: HashMap<Target, Asked>,
    /// Connections to readers, to ask again.
    standing: HashMap<Target, C>,
    /// Why a server did not answer well, by name.
    failures: HashMap<String, Problem>,
    /// Who claims to be the writer, by identity, while claims must be undisputed.
    claims: HashMap<String, Found<C>>,
    reported: Option<Problem>,
}

impl<C> Search<C> {
    fn new() -> Self {
        Self { asked: HashMap::new(), standing: HashMap::new(), failures: HashMap::new(), claims: HashMap::new(), reported: None }
    }

    /// The next attempt at a server, unless it is too early for one.
    fn begin(&mut self, target: Target, starved: bool) -> Option<Attempt> {
        let now = Instant::now();
        let asked = self.asked.entry(target.clone()).or_insert(Asked { under_way: 0, is_patient: false, last: now });
        let pace = if starved { SLOW } else { FAST };
        if now - asked.last < pace * asked.under_way.pow(2) {
            return None;
        }
        let attempt = Attempt { target, is_patient: !asked.is_patient };
        asked.under_way += 1;
        asked.is_patient = true;
        asked.last = now;
        Some(attempt)
    }

    /// What came of an attempt; nothing if it was given up.
    fn answered(&mut self, attempt: Attempt, answer: Option<Answer<C>>, alone: bool) -> Option<Found<C>> {
        let Attempt { target, is_patient } = attempt;
        if let Some(asked) = self.asked.get_mut(&target) {
            asked.under_way -= 1;
            asked.is_patient &= !is_patient;
        }
        let answer = answer.unwrap_or_else(|| Answer::Failed(no_answer()));
        match answer {
            Answer::Writer(found) if !alone => return Some(found),
            Answer::Writer(found) => {
                self.claims.insert(found.identity.clone(), found);
            }
            Answer::Reader(connection) => {
                self.failures.remove(&target.name);
                self.standing.insert(target, connection);
            }
            Answer::Failed(problem) => {
                self.failures.insert(target.name, problem);
            }
        }
        None
    }

    /// The one server that has claimed to be the writer since the last tick. Two claimants are none.
    fn undisputed(&mut self) -> Option<Found<C>> {
        let mut claims = std::mem::take(&mut self.claims).into_values();
        match (claims.next(), claims.next()) {
            (claim, None) => claim,
            (Some(one), Some(other)) => {
                let message = format!("{} and {} both claim to be the writer: fence the one that is not", one.name, other.name);
                self.failures.insert(String::new(), Problem::new(reasons::DATABASE_OUTAGE, "database", message));
                None
            }
            (None, Some(_)) => None,
        }
    }

    /// True when no server is a reader or in an outage: all refuse for a reason that time alone does not mend.
    fn is_for_somebody_to_mend(&self) -> bool {
        self.standing.is_empty()
            && !self.failures.is_empty()
            && self.failures.values().all(|problem| problem.reason != reasons::DATABASE_OUTAGE)
    }

    /// Says what hinders the search, when that has changed: first what somebody must mend.
    fn report(&mut self, report: &impl Fn(Problem)) {
        let mut failures: Vec<(&String, &Problem)> = self.failures.iter().collect();
        failures.sort_by_key(|(name, problem)| (problem.reason == reasons::DATABASE_OUTAGE, *name));
        let Some((_, first)) = failures.first() else { return };
        let problem = if first.reason == reasons::DATABASE_OUTAGE {
            let each: Vec<String> = failures.iter().map(|(name, problem)| format!("{name}: {}", problem.message)).collect();
            Problem::new(reasons::DATABASE_OUTAGE, "database", format!("no writer answers ({})", each.join("; ")))
        } else {
            (*first).clone()
        };
        if self.reported.as_ref() != Some(&problem) {
            self.reported = Some(problem.clone());
            report(problem);
        }
    }
}

fn no_answer() -> Problem {
    Problem::new(reasons::DATABASE_OUTAGE, "database", format!("no answer within {} s", ATTEMPT.as_secs()))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    fn target(name: &str) -> Target {
        Target { name: name.to_owned(), endpoint: Endpoint { host: name.to_owned(), port: 5432 } }
    }

    fn writer(name: &str) -> Answer<u32> {
        Answer::Writer(Found { connection: 0, identity: name.to_owned(), name: name.to_owned() })
    }

    /// P6: one that refuses is asked each 100 ms, and the first attempt that succeeds wins.
    #[tokio::test(start_paused = true)]
    async fn a_new_writer_is_found_within_100_ms_when_it_refused_before() {
        for up_after in [1_000, 1_050, 7_777, 30_001] {
            let up = Instant::now() + Duration::from_millis(up_after);
            let ask = |_, _: Option<u32>| async move { if Instant::now() < up { Answer::Failed(no_answer()) } else { writer("a") } };
            seek(|| Ok(vec![target("a")]), ask, false, |_| {}).await;
            assert!(up.elapsed() <= FAST, "found {:?} after it was there", up.elapsed());
        }
    }

    /// The same of one from which nothing came before, as of a machine that was lost; attempts that are under way stay without an answer.
    #[tokio::test(start_paused = true)]
    async fn a_new_writer_is_found_within_a_second_though_every_earlier_attempt_hangs() {
        for up_after in [1_000, 1_050, 7_777, 30_001] {
            let up = Instant::now() + Duration::from_millis(up_after);
            let ask = |_, _: Option<u32>| async move {
                if Instant::now() < up {
                    std::future::pending::<()>().await;
                }
                writer("a")
            };
            seek(|| Ok(vec![target("a")]), ask, false, |_| {}).await;
            assert!(up.elapsed() <= Duration::from_secs(1), "found {:?} after it was there", up.elapsed());
        }
    }

    /// P6: a server that hangs keeps nobody from another that is promoted.
    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_promoted_is_found_within_100_ms_beside_one_that_hangs() {
        let up = Instant::now() + Duration::from_millis(7_777);
        let ask = |target: Target, _: Option<u32>| async move {
            match target.name.as_str() {
                "a" => std::future::pending().await,
                _ if Instant::now() < up => Answer::Reader(0),
                _ => writer("b"),
            }
        };
        seek(|| Ok(vec![target("a"), target("b")]), ask, false, |_| {}).await;
        assert!(up.elapsed() <= FAST, "found {:?} after it was there", up.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_is_tried_once_a_second() {
        let attempts = Cell::new(0);
        let start = Instant::now();
        seek(
            || Ok(vec![target("a")]),
            |_, _: Option<u32>| {
                attempts.set(attempts.get() + 1);
                async move {
                    let wrong = Problem::new(reasons::AUTHENTICATION_FAILED, "database.credentials", "wrong password");
                    if start.elapsed() < Duration::from_secs(10) { Answer::Failed(wrong) } else { writer("a") }
                }
            },
            false,
            |_| {},
        )
        .await;
        assert!(attempts.get() <= 13, "{} attempts in 10 s", attempts.get());
    }

    /// Attempts that cost more processor than there is must not keep each other from ending. (By the true clock, as it is the one that runs on.)
    #[tokio::test]
    async fn a_writer_is_found_although_an_attempt_takes_more_work_than_the_time_between_two() {
        let work = || async {
            for _ in 0..10 {
                std::thread::sleep(Duration::from_millis(20));
                tokio::task::yield_now().await;
            }
            writer("a")
        };
        let targets = || Ok(vec![target("a"), target("b"), target("c")]);
        let found = timeout(Duration::from_secs(10), seek(targets, |_, _| work(), false, |_| {})).await;
        assert_eq!(found.expect("attempts keep each other from ending").name, "a");
    }

    /// Eight clients begin a connection each 100 ms at a server that shares its processor among all of them: each costs 100 ms of it, so the
    /// server has eight times as much to do as it can.
    #[tokio::test(start_paused = true)]
    async fn many_clients_do_not_keep_a_server_too_busy_to_answer_any_of_them() {
        struct Begun<'a>(&'a Cell<u32>);
        impl Drop for Begun<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }
        let under_way = Cell::new(0);
        let connect = async || {
            under_way.set(under_way.get() + 1);
            let _begun = Begun(&under_way);
            let step = Duration::from_millis(10);
            for _ in 0..10 {
                tokio::time::sleep(step * under_way.get()).await;
            }
            writer("a")
        };
        let start = Instant::now();
        let client = || seek(|| Ok(vec![target("a")]), |_, _| connect(), false, |_| {});
        let clients: FuturesUnordered<_> = (0..8).map(|_| client()).collect();
        let all = timeout(Duration::from_secs(50), clients.count()).await;
        assert_eq!(all.ok(), Some(8), "{:?}, {} connections are being opened", start.elapsed(), under_way.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_asked_again_on_the_connection_that_stands() {
        let connections = Cell::new(0_u32);
        let start = Instant::now();
        let found = seek(
            || Ok(vec![target("a")]),
            |_, standing| {
                let connection = standing.unwrap_or_else(|| {
                    connections.set(connections.get() + 1);
                    connections.get()
                });
                async move {
                    let answer = Found { connection, identity: "a".to_owned(), name: "a".to_owned() };
                    if start.elapsed() < Duration::from_secs(5) { Answer::Reader(connection) } else { Answer::Writer(answer) }
                }
            },
            false,
            |_| {},
        )
        .await;
        assert_eq!((found.connection, connections.get()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn two_servers_that_claim_to_be_the_writer_are_none_until_one_gives_up() {
        let start = Instant::now();
        let problems = RefCell::new(Vec::new());
        let found = seek(
            || Ok(vec![target("a"), target("b")]),
            |target, _| async move {
                let both = start.elapsed() < Duration::from_secs(3);
                if both || target.name == "b" { writer(&target.name) } else { Answer::Reader(0) }
            },
            true,
            |problem| problems.borrow_mut().push(problem),
        )
        .await;
        assert_eq!(found.name, "b");
        assert!(start.elapsed() >= Duration::from_secs(3));
        assert!(problems.borrow().iter().any(|problem| problem.message.contains("both claim")), "{problems:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_must_mend_is_said_before_what_may_pass() {
        let start = Instant::now();
        let problems = RefCell::new(Vec::new());
        seek(
            || Ok(vec![target("a"), target("b")]),
            |target, _| async move {
                match target.name.as_str() {
                    _ if start.elapsed() > Duration::from_secs(2) => writer("a"),
                    "a" => Answer::Failed(no_answer()),
                    _ => Answer::Failed(Problem::new(reasons::AUTHENTICATION_FAILED, "database.credentials", "wrong password")),
                }
            },
            false,
            |problem| problems.borrow_mut().push(problem.reason),
        )
        .await;
        assert_eq!(problems.into_inner(), [reasons::AUTHENTICATION_FAILED]);
    }
}
