//! The history checker turns red for each kind of fault, and only then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use durable_write_testbed::history::{Outcome, Report, Row, Sent, judge};
use proptest::prelude::*;
use proptest::sample::Index;

/// A run, by what the checker sees of it.
#[derive(Debug, Clone)]
struct Run {
    sent: Vec<Sent>,
    rows: Vec<Row>,
    dead_letters: Vec<String>,
}

fn sent(key: &str, group: &str, sequence: u64, outcome: Outcome) -> Sent {
    Sent { key: key.to_owned(), group: Some(group.to_owned()), sequence, outcome }
}

fn row_of(sent: &Sent) -> Row {
    Row { key: sent.key.clone(), sequence: sent.sequence }
}

/// Four messages of two groups, all acknowledged and written.
fn good() -> Run {
    use Outcome::Acknowledged;
    let sent = vec![
        sent("a0", "a", 0, Acknowledged),
        sent("a1", "a", 1, Acknowledged),
        sent("b0", "b", 0, Acknowledged),
        sent("a2", "a", 2, Acknowledged),
    ];
    Run { rows: sent.iter().map(row_of).collect(), sent, dead_letters: Vec::new() }
}

impl Run {
    fn judge(&self) -> Report {
        judge(&self.sent, &self.rows, &self.dead_letters)
    }
}

#[test]
fn a_good_run_is_clean() {
    let report = good().judge();
    assert!(report.is_clean());
    assert_eq!((report.sent, report.acknowledged, report.committed, report.rows), (4, 4, 4, 4));
}

#[test]
fn an_acknowledged_message_that_is_nowhere_is_lost() {
    let mut run = good();
    run.rows.remove(1);
    let report = run.judge();
    assert_eq!((&report.lost[..], report.committed), (&["a1".to_owned()][..], 3));
    assert!(!report.is_exactly_once());
}

#[test]
fn each_further_row_of_a_key_is_a_duplicate_and_no_matter_of_order() {
    let mut run = good();
    run.rows.extend([row_of(&run.sent[0]), row_of(&run.sent[0])]);
    let report = run.judge();
    assert_eq!(report.duplicated, ["a0", "a0"]);
    assert!(report.out_of_order.is_empty() && !report.is_exactly_once());
}

#[test]
fn a_row_after_a_later_one_of_its_group_is_out_of_order() {
    let mut run = good();
    run.rows.swap(1, 3);
    let report = run.judge();
    assert_eq!(report.out_of_order, ["a1"]);
    assert!(!report.is_exactly_once());
}

#[test]
fn groups_and_messages_without_a_group_have_no_order_among_them() {
    let mut run = good();
    run.rows.swap(0, 2);
    run.rows.swap(1, 2);
    assert!(run.judge().is_clean());
    run.sent.iter_mut().for_each(|sent| sent.group = None);
    run.rows.reverse();
    assert!(run.judge().is_clean());
}

#[test]
fn a_row_that_nobody_sent_or_that_was_refused_is_unexpected() {
    let mut run = good();
    run.sent[2].outcome = Outcome::Refused;
    run.rows.push(Row { key: "stranger".to_owned(), sequence: 0 });
    let report = run.judge();
    assert_eq!(report.unexpected, ["b0", "stranger"]);
    assert!(!report.is_exactly_once());
}

#[test]
fn a_dead_letter_that_nobody_sent_is_unexpected() {
    let mut run = good();
    run.dead_letters.push("stranger".to_owned());
    assert_eq!(run.judge().unexpected, ["stranger"]);
}

#[test]
fn a_row_with_another_sequence_is_altered() {
    let mut run = good();
    run.rows[3].sequence = 7;
    let report = run.judge();
    assert_eq!(report.altered, ["a2"]);
    assert!(!report.is_exactly_once());
}

#[test]
fn a_dead_letter_instead_of_a_row_is_neither_lost_nor_clean_and_copies_count_once() {
    let mut run = good();
    run.rows.remove(1);
    run.dead_letters.extend(["a1".to_owned(), "a1".to_owned()]);
    let report = run.judge();
    assert_eq!(report.dead_lettered, ["a1"]);
    assert!(report.is_exactly_once() && !report.is_clean());
}

#[test]
fn a_dead_letter_beside_a_row_is_in_both() {
    let mut run = good();
    run.dead_letters.push("a1".to_owned());
    let report = run.judge();
    assert_eq!(report.in_both, ["a1"]);
    assert!(report.is_exactly_once() && !report.is_clean());
}

#[test]
fn a_send_without_an_answer_is_recovered_or_unknown_and_no_fault() {
    let mut run = good();
    run.sent[0].outcome = Outcome::Unknown;
    run.sent[2].outcome = Outcome::Unknown;
    run.rows.remove(2);
    let report = run.judge();
    assert_eq!((&report.recovered[..], &report.unknown[..]), (&["a0".to_owned()][..], &["b0".to_owned()][..]));
    assert_eq!((report.acknowledged, report.committed), (2, 2));
    assert!(report.is_clean());
}

#[test]
fn the_report_prints_as_a_table_with_examples() {
    let mut run = good();
    run.rows.clear();
    run.dead_letters.push("b0".to_owned());
    insta::assert_snapshot!(run.judge().to_string(), @r"
    sent                 4
    acknowledged         4
    committed            0
    lost                 3  a0, a1, a2
    duplicated           0
    dead-lettered        1  b0
    out of order         0
    ");
}

/// A fault to plant in a correct run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Lose,
    Double,
    Swap,
    Invent,
    Alter,
}

/// A correct run: groups in any interleaving, some messages dead-lettered, some sends refused or without an answer, half of the latter written.
fn correct_run() -> impl Strategy<Value = Run> {
    let outcome = prop_oneof![8 => Just(Outcome::Acknowledged), 1 => Just(Outcome::Unknown), 1 => Just(Outcome::Refused)];
    proptest::collection::vec((0..4u8, outcome, 0..10u8), 2..60).prop_map(|messages| {
        let mut run = Run { sent: Vec::new(), rows: Vec::new(), dead_letters: Vec::new() };
        let mut next = [0; 4];
        for (group, outcome, fate) in messages {
            let sequence = next[usize::from(group)];
            next[usize::from(group)] += 1;
            let sent = sent(&format!("{group}-{sequence}"), &group.to_string(), sequence, outcome);
            match (outcome, fate) {
                (Outcome::Refused, _) | (Outcome::Unknown, 0..5) => {}
                (_, 9) => run.dead_letters.push(sent.key.clone()),
                _ => run.rows.push(row_of(&sent)),
            }
            run.sent.push(sent);
        }
        run
    })
}

/// Plants the fault, if the run has a place for it.
fn plant(run: &mut Run, fault: Fault, place: Index) -> Option<()> {
    let outcome = |run: &Run, key: &str| run.sent.iter().find(|sent| sent.key == key).map(|sent| sent.outcome);
    let acknowledged: Vec<_> = (0..run.rows.len()).filter(|row| outcome(run, &run.rows[*row].key) == Some(Outcome::Acknowledged)).collect();
    if acknowledged.is_empty() {
        return None;
    }
    let row = acknowledged[place.index(acknowledged.len())];
    match fault {
        Fault::Lose => drop(run.rows.remove(row)),
        Fault::Double => run.rows.push(run.rows[row].clone()),
        Fault::Alter => run.rows[row].sequence += 1000,
        Fault::Invent => run.rows.insert(row, Row { key: "invented".to_owned(), sequence: 0 }),
        Fault::Swap => {
            let group = |row: &Row| row.key.split('-').next().map(str::to_owned);
            let later = (row + 1..run.rows.len()).find(|later| group(&run.rows[*later]) == group(&run.rows[row]))?;
            run.rows.swap(row, later);
        }
    }
    Some(())
}

proptest! {
    #[test]
    fn a_correct_run_is_never_flagged(run in correct_run()) {
        let report = run.judge();
        prop_assert!(report.is_exactly_once(), "{report}");
        prop_assert_eq!(report.committed + report.recovered.len(), run.rows.len());
        prop_assert_eq!(report.dead_lettered.len(), run.dead_letters.len());
    }

    #[test]
    fn one_planted_fault_is_always_flagged_by_its_name(
        mut run in correct_run(),
        fault in prop_oneof![Just(Fault::Lose), Just(Fault::Double), Just(Fault::Swap), Just(Fault::Invent), Just(Fault::Alter)],
        place in any::<Index>(),
    ) {
        prop_assume!(plant(&mut run, fault, place).is_some());
        let report = run.judge();
        let found = [
            (Fault::Lose, report.lost.len()),
            (Fault::Double, report.duplicated.len()),
            (Fault::Swap, report.out_of_order.len()),
            (Fault::Invent, report.unexpected.len()),
            (Fault::Alter, report.altered.len()),
        ];
        prop_assert!(!report.is_exactly_once(), "{report}");
        for (kind, count) in found {
            prop_assert_eq!(count > 0, kind == fault, "{:?} was planted:\n{}", fault, report);
        }
    }
}
