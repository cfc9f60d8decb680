//! The executor against a model of the API server, of RDS and of the probe, on a paused clock: processes are killed at every await, two run at
//! once, replies are lost or late, drills are deleted, made again and restored without status. Each seed is one history.

mod history;
mod judge;
mod kubernetes;
mod orphans;
mod probe;
mod process;
mod rds;
mod store;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use jiff::SignedDuration;

use history::{Ended, clock_set, history, killed_once, two_releases};

/// Kill points of all tests of this file together: at least so many.
const LEAST: usize = 2000;

fn in_its_own_time<T>(history: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(history)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Where processes were killed, and how often.
#[derive(Default)]
struct Kills(BTreeMap<String, usize>);

impl Kills {
    fn add(&mut self, ended: &Ended) {
        for (point, count) in &ended.kills {
            *self.0.entry(point.clone()).or_default() += count;
        }
    }

    fn count(&self) -> usize {
        self.0.values().sum()
    }
}

/// The one of 3,000 histories in which a claim landed after its drill had been aborted, when the Lease was given free at once.
#[test]
fn a_claim_that_lands_after_its_drill_was_aborted_meets_no_other_drill() {
    in_its_own_time(history(1619)).unwrap();
}

#[test]
fn whenever_processes_are_killed_each_drill_calls_once_at_most_and_ends_with_a_true_verdict() {
    let (first, seeds) = (number("DRILL_SEED", 0), number("DRILL_SEEDS", 120));
    let (mut kills, mut verdicts) = (Kills::default(), BTreeMap::<String, usize>::new());
    for seed in first..first + seeds {
        match in_its_own_time(history(seed)) {
            Ok(ended) => {
                kills.add(&ended);
                for (verdict, reason) in ended.verdicts {
                    *verdicts.entry(format!("{verdict}/{reason}")).or_default() += 1;
                }
            }
            Err(problem) => panic!("seed {seed} (run it alone with DRILL_SEED={seed} DRILL_SEEDS=1): {problem}"),
        }
    }
    println!("{seeds} histories, {} kills at {} points; {verdicts:?}", kills.count(), kills.0.len());
    if seeds >= 120 {
        assert!(kills.count() >= LEAST, "only {} kills", kills.count());
        for ending in
            ["Pass/ObjectivesMet", "Fail/PreviousWriterPromoted", "Error/FailoverRefused", "Error/TriggerUnknown", "Error/NoFailoverSeen"]
        {
            assert!(verdicts.contains_key(ending), "no drill ended {ending}, the model is broken: {verdicts:?}");
        }
    }
}

#[test]
fn killed_once_at_each_await_a_drill_passes_or_says_that_nobody_knows_whether_it_called() {
    let (mut kills, mut unknown) = (Kills::default(), BTreeSet::new());
    // What a seed changes is when requests arrive, so what else is under way when the process dies.
    for seed in 0..3 {
        for awaits in 1.. {
            let told = format!("seed {seed}, killed at await {awaits}");
            let ended = in_its_own_time(killed_once(seed, awaits)).unwrap_or_else(|problem| panic!("{told}: {problem}"));
            kills.add(&ended);
            let Some(killed) = ended.kills.keys().next() else { break };
            match &ended.verdicts[..] {
                [(Verdict::Pass, _)] => {}
                [(Verdict::Error, reason)] if reason == "TriggerUnknown" => {
                    unknown.insert(killed.clone());
                }
                verdicts => panic!("{told}, {killed}: {verdicts:?}"),
            }
        }
    }
    println!("{} kills, one in each history", kills.count());
    let unsure = ["after create ConfigMap", "before call", "during create ConfigMap"].map(str::to_owned);
    assert_eq!(unknown, BTreeSet::from(unsure), "where the claim was made and the call was not");
    for point in ["before create ConfigMap", "during call", "after call"] {
        assert!(kills.0.contains_key(point), "never killed {point}: {:?}", kills.0);
    }
}

#[test]
fn a_clock_that_is_set_while_no_operator_runs_ends_no_drill_in_its_failover() {
    for (seed, hours) in [(0, 1), (1, -1)] {
        let ended = in_its_own_time(clock_set(seed, SignedDuration::from_hours(hours))).unwrap();
        assert_eq!(ended.verdicts, [(Verdict::Pass, reasons::OBJECTIVES_MET.to_owned())], "by {hours} h");
    }
}

#[test]
fn two_releases_of_the_operator_run_no_two_drills_of_a_cluster_at_once() {
    let mut passed = 0;
    for seed in 0..20 {
        let ended = in_its_own_time(two_releases(seed)).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
        passed += ended.verdicts.iter().filter(|(verdict, _)| *verdict == Verdict::Pass).count();
    }
    assert!(passed > 0, "no drill passed, the model is broken");
}
