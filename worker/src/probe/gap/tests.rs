use super::*;

const COOL_DOWN: Duration = Duration::from_secs(2);

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn taken(instance: &str, sent: u64, received: u64) -> Option<Taken> {
    Some(Taken { instance: instance.into(), sent: ms(sent), received: ms(received) })
}

fn refusal(server: &str, asked: u64, ended: u64) -> Refusal {
    Refusal { server: server.into(), asked: ms(asked), ended: ms(ended), silent: false }
}

fn silence(server: &str, asked: u64, ended: u64) -> Refusal {
    Refusal { silent: true, ..refusal(server, asked, ended) }
}

/// Writes begun each 100 ms, each ten milliseconds long: `o` is good on the old writer, `n` on the new one, `x` fails at once, `h` hangs.
fn run(text: &str) -> Gaps {
    let mut gaps = Gaps::new("old", COOL_DOWN);
    for (place, letter) in text.bytes().enumerate() {
        let began = 100 * u64::try_from(place).unwrap();
        let ended = began + if letter == b'h' { 2000 } else { 10 };
        let good = match letter {
            b'o' => taken("old", began, ended),
            b'n' => taken("new", began, ended),
            _ => None,
        };
        gaps.take_in(&Attempt { began: ms(began), ended: ms(ended), good, refusals: Vec::new() });
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
fn a_recovery_after_which_writes_stop_again_was_none() {
    let moved_once = "oooxxxnnnnn";
    assert_eq!(bounds(moved_once), moved(190, 410));
    assert_eq!(bounds(&format!("{moved_once}xxxxx")), None);
    assert_eq!(bounds(&format!("{moved_once}hhhhh")), None);
    assert_eq!(bounds(&format!("{moved_once}xnxnnxnxnnx")), None, "no streak between the five that failed");
    assert_eq!(run(&format!("{moved_once}xxxxx")).so_far().unwrap().report(Timestamp::UNIX_EPOCH).lower_milliseconds, 1190);
    assert!(run(&format!("{moved_once}xxxxx")).is_open());
    // As if there had been no good writes in between.
    assert_eq!(bounds(&format!("{moved_once}xxxxxnnnnn")), moved(1190, 1410));
    assert_eq!(bounds("ooonnnnnxxxxxnnnnn"), moved(390, 1110));
    let old = Some((1190, Some(1410), Some("old".to_owned())));
    assert_eq!(bounds(&format!("{moved_once}xxxxx{}", "o".repeat(21))), old);
}

#[test]
fn writes_that_fail_now_and_then_after_the_recovery_do_not_take_it_back() {
    assert_eq!(bounds(&format!("oooxxxnnnnn{}", "xnnnnn".repeat(20))), moved(190, 410));
    assert_eq!(bounds("oooxxxnnnnnxxxxnnnnnxxxx"), moved(190, 410), "four are no streak");
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

/// Lower and upper bound when the last write on the old writer begins at 0, the given ones follow, and five good ones on the new writer begin
/// at 1000, sent after 40 and answered after 50 ms.
fn bounds_with(attempts: &[(u64, u64, Option<Taken>, Vec<Refusal>)]) -> (i64, i64) {
    let mut gaps = Gaps::new("old", COOL_DOWN);
    let mut take = |began, ended, good: Option<Taken>, refusals: &[Refusal]| {
        gaps.take_in(&Attempt { began: ms(began), ended: ms(ended), good, refusals: refusals.to_vec() });
    };
    take(0, 50, taken("old", 40, 50), &[]);
    attempts.iter().for_each(|(began, ended, good, refusals)| take(*began, *ended, good.clone(), refusals));
    (10..15).for_each(|place| take(100 * place, 100 * place + 50, taken("new", 100 * place + 40, 100 * place + 50), &[]));
    let gap = gaps.found(ms(60_000)).unwrap().report(Timestamp::UNIX_EPOCH);
    (gap.lower_milliseconds, gap.upper_milliseconds.unwrap())
}

#[test]
fn a_servers_own_answer_counts_whenever_the_attempt_ended() {
    assert_eq!(bounds_with(&[(100, 600, None, vec![]), (700, 1200, None, vec![])]), (100, 1010));
    let first = vec![refusal("old", 100, 110), refusal("new", 110, 600), refusal("other", 110, 300)];
    let last = vec![refusal("old", 700, 701), refusal("other", 960, 970), refusal("new", 900, 1200)];
    assert_eq!(bounds_with(&[(100, 600, None, first), (700, 1200, None, last)]), (790, 1010), "from 110 to 900");
}

#[test]
fn an_attempt_that_succeeded_in_the_end_says_how_long_its_server_refused_before() {
    let asked = vec![refusal("old", 100, 110), refusal("new", 300, 310)];
    assert_eq!(bounds_with(&[(100, 340, taken("other", 320, 340), asked)]), (190, 1010));
}

#[test]
fn a_refusal_before_the_last_good_write_was_answered_says_nothing_of_the_outage() {
    // It is refused at 20, but a commit came as late as 50 perhaps.
    let early = vec![refusal("old", 10, 20), refusal("new", 500, 510)];
    assert_eq!(bounds_with(&[(10, 510, None, early)]), (450, 1010));
}

#[test]
fn silence_tells_of_the_end_only_when_there_was_no_answer() {
    let answered = (100, 110, None, vec![refusal("old", 100, 110), refusal("new", 100, 110)]);
    let silent = (800, 2800, None, vec![silence("old", 800, 2800), silence("new", 800, 2800)]);
    assert_eq!(bounds_with(&[answered, silent.clone()]), (0, 1010), "the probe may have been slow at 800");
    assert_eq!(bounds_with(&[(100, 110, None, vec![refusal("old", 100, 110)]), silent]), (690, 1010));
}

#[test]
fn the_first_answer_ends_the_outage_whoever_began_first() {
    let slow = vec![(900, 2500, taken("new", 1400, 2500), vec![])];
    assert_eq!(bounds_with(&slow).1, 1010);
}

#[test]
fn who_refuses_after_the_first_good_write_was_late() {
    let late = vec![refusal("old", 900, 910), refusal("new", 1100, 1110)];
    assert_eq!(bounds_with(&[(900, 1110, None, late)]), (140, 1010), "to 1050 at most");
}

mod whatever_happens;
