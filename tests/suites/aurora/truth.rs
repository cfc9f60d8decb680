//! What the local Aurora says of an outage agrees with what clients of the instances' endpoints see.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_write_testbed::aurora::{Aurora, Behaviour, Fault, Timing, Truth};
use sqlx::{ConnectOptions, Executor};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::support::{ask, connect, eventually, start};

/// A commit by a fresh client: by whom it was acknowledged, and when it began and ended.
struct Good {
    by: String,
    begin: Instant,
    end: Instant,
}

/// What was acknowledged so far.
type Seen = Arc<Mutex<Vec<Good>>>;

fn count(seen: &Seen, counts: impl Fn(&Good) -> bool) -> usize {
    seen.lock().unwrap().iter().filter(|good| counts(good)).count()
}

/// Begins an attempt at two instances at once each 100 ms, until `new` has acknowledged some.
async fn observe(aurora: &Aurora, old: &str, new: &str, seen: &Seen) {
    let (mut ticks, mut attempts) = (interval(Duration::from_millis(100)), JoinSet::new());
    while count(seen, |good| good.by == new) < 5 {
        ticks.tick().await;
        for instance in aurora.instances().iter().filter(|instance| [old, new].contains(&instance.name.as_str())) {
            let options = aurora.client_options(&instance.endpoint).unwrap().disable_statement_logging();
            let seen = Arc::clone(seen);
            attempts.spawn(async move {
                let begin = Instant::now();
                let write = "INSERT INTO seen DEFAULT VALUES RETURNING aurora_db_instance_identifier()";
                let attempt = timeout(Duration::from_secs(5), async { ask(options.connect().await?, write).await }).await;
                if let Ok(Ok(by)) = attempt {
                    seen.lock().unwrap().push(Good { by, begin, end: Instant::now() });
                }
            });
        }
    }
    attempts.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_the_outage_that_is_true() {
    let aurora = start(Timing { detection: Duration::from_millis(100), ..Timing::default() }).await;
    connect(&aurora, &aurora.cluster_endpoint()).await.unwrap().execute("CREATE TABLE seen (id int)").await.unwrap();
    for fault in [Fault::WriterKilled, Fault::WriterHangs, Fault::Planned, Fault::WriterTurnsReader] {
        aurora.set_behaviour(Behaviour { outage: Duration::from_millis(800), ..Behaviour::default() });
        let old = aurora.writer().unwrap().name;
        let new = if old == "orders-1" { "orders-2" } else { "orders-1" };
        let seen = Seen::default();
        let fail = async {
            eventually("writes flow", async || count(&seen, |good| good.by == old) >= 3).await;
            aurora.fault(fault).await.unwrap()
        };
        let (failover, ()) = tokio::join!(fail, observe(&aurora, &old, new, &seen));
        assert_agrees(fault, &old, &failover.truth.unwrap(), &seen.lock().unwrap());
    }
}

/// A client's acknowledgements lie outside the gap, and those nearest to it are not far.
fn assert_agrees(fault: Fault, old: &str, truth: &Truth, seen: &[Good]) {
    let last = seen.iter().filter(|good| good.by == old).max_by_key(|good| good.end).unwrap();
    let first = seen.iter().filter(|good| good.by != old).min_by_key(|good| good.end).unwrap();
    let (shortest, longest) = (first.end - last.end, first.end - last.begin);
    eprintln!("{fault:?}: gap {:?}, uncertain by {:?}; a client saw {shortest:?} to {longest:?}", truth.gap, truth.uncertainty);
    let wall = Duration::try_from(truth.first_write.duration_since(truth.last_write)).unwrap();
    assert!(wall.abs_diff(truth.gap) < Duration::from_millis(50), "both clocks agree: {wall:?}");
    assert!(truth.gap >= Duration::from_millis(700), "{truth:?}");
    assert!(truth.uncertainty < Duration::from_secs(1), "{truth:?}");
    assert!(longest + truth.uncertainty >= truth.gap, "{fault:?}: no client can see less than {truth:?}");
    assert!(longest < truth.gap + Duration::from_secs(2), "{fault:?}: clients each 50 ms should see about {truth:?}");
}
