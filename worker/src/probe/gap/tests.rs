use super::*;

const COOL_DOWN: Duration = Duration::from_secs(2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Writes begun each 100 ms, each ten milliseconds long: `o` is good on the old writer, `n` on the new one, `x` fails at once, `h` hangs.
fn run(text: &str) -> Gaps {
    let mut gaps = Gaps::new("old", COOL_DOWN);
    for (place, letter) in text.bytes().enumerate() {
        let began = ms(100 * u64::try_from(place).unwrap());
        let ended = began + if letter == b'h' { ms(2000) } else { ms(10) };
        let good = match letter {
            b'o' => Some("old".into()),
            b'n' => Some("new".into()),
            _ => None,
        };
        gaps.take_in(&Attempt { began, ended, good });
    }
    gaps
}

/// Lower and upper bound, and who writes afterwards.
fn bounds(text: &str) -> Option<(i64, Option<i64>, Option<String>)> {
    let gaps = run(text);
    let now = ms(100 * u64::try_from(text.len()).unwrap());
    let gap = gaps.found(now)?.report(Timestamp::UNIX_EPOCH);
    Some((gap.lower_milliseconds, gap.upper_milliseconds, gap.writer_after))
}

fn moved(lower: i64, upper: i64) -> Option<(i64, Option<i64>, Option<String>)> {
    Some((lower, Some(upper), Some("new".to_owned())))
}

#[test]
fn the_outage_is_between_the_ends_of_failures_and_the_begins_of_successes() {
    // The last good one begins at 200, the first good one of the streak ends at 610; failures end at 310 and begin at 500.
    assert_eq!(bounds("oooxxxnnnnn"), moved(190, 410));
    assert_eq!(bounds("oooxxxnnnn"), None, "four are no streak");
}

#[test]
fn a_failover_without_a_failed_write_is_a_short_outage() {
    assert_eq!(bounds("ooonnnnn"), moved(0, 110));
}

#[test]
fn a_hung_write_hides_nothing_as_others_begin_meanwhile() {
    // The first to end is the one that began first: at 2300.
    assert_eq!(bounds("ooohhhhhhhhhhhhhhhhhhhhhhhhhnnnnn"), moved(400, 2610));
    // One that fails at once among those that hang says more.
    assert_eq!(bounds("ooohhhxhhnnnnn"), moved(190, 710));
}

#[test]
fn a_recovery_that_flaps_counts_from_the_first_of_a_whole_streak() {
    assert_eq!(bounds("oooxxnnnnxnxnnnnn"), moved(790, 1010));
    // The old writer answers once more: the outage begins behind that.
    assert_eq!(bounds("oooxxnnoxnnnnn"), moved(0, 210));
}

#[test]
fn single_failures_of_the_baseline_are_no_outage_and_do_not_lengthen_it() {
    let quiet = "o".repeat(30);
    assert_eq!(bounds(&format!("oxooxooo{quiet}")), None);
    assert_eq!(bounds(&format!("oxoooooo{quiet}xxxnnnnn")), moved(190, 410));
}

#[test]
fn the_old_writer_is_the_writer_afterwards_only_when_no_other_came_for_the_whole_cool_down() {
    let outage = "ooo".to_owned() + &"x".repeat(10);
    let old = Some((890, Some(1110), Some("old".to_owned())));
    assert_eq!(bounds(&(outage.clone() + &"o".repeat(20))), None);
    assert_eq!(bounds(&(outage.clone() + &"o".repeat(21))), old);
    assert_eq!(bounds(&(outage.clone() + "oxoo" + &"o".repeat(21))), Some((1090, Some(1310), Some("old".to_owned()))));
    assert_eq!(bounds(&(outage + "oooooooxxnnnnn")), moved(90, 310));
}

#[test]
fn without_an_end_only_the_lower_bound_is_known() {
    let gaps = run("oooxxxx");
    assert_eq!(gaps.found(ms(60_000)), None);
    let gap = gaps.so_far().unwrap().report(Timestamp::UNIX_EPOCH);
    assert_eq!((gap.lower_milliseconds, gap.upper_milliseconds, gap.failed_attempts), (290, None, 4));
    assert!(run("ooo").so_far().is_none());
}

#[test]
fn changes_of_the_writer_are_counted_after_the_outage_too() {
    assert_eq!(run("oooxnnnnnnnooooo").changes(), 2);
}

mod whatever_happens {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The database stops to take writes at one moment and takes them again at another; each write meets it at a moment of its own. Some
        /// hang, some are refused for want of luck before it stops. Whatever they say, the truth is within the bounds.
        #[test]
        fn the_truth_is_within_the_bounds(
            stop in 1000..3000_u64,
            length in 0..4000_u64,
            writes in prop::collection::vec((0..90_u64, 0..90_u64, any::<bool>()), 160),
        ) {
            let mut gaps = Gaps::new("old", COOL_DOWN);
            for (place, (there, back, hangs)) in writes.into_iter().enumerate() {
                let began = 100 * u64::try_from(place).unwrap();
                let met = began + there;
                let (good, ended) = match met {
                    _ if met < stop => (Some("old".into()), met + back),
                    _ if met >= stop + length => (Some("new".into()), met + back),
                    _ if hangs => (None, began + 2000),
                    _ => (None, met + back),
                };
                gaps.take_in(&Attempt { began: ms(began), ended: ms(ended), good });
            }
            let gap = gaps.found(ms(20_000)).unwrap().report(Timestamp::UNIX_EPOCH);
            let truth = i64::try_from(length).unwrap();
            prop_assert!(gap.lower_milliseconds <= truth && truth <= gap.upper_milliseconds.unwrap(), "{truth} is not within {gap:?}");
        }
    }
}
