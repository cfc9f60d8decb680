//! A model of a database that fails over, asked by writes whose messages take any time: whatever they are told, the truth is within the bounds.

use proptest::prelude::*;

use super::*;

/// An attempt that takes longer has failed.
const LIMIT: u64 = 2000;
const HEAD_START: u64 = 300;

/// What becomes of the old writer.
#[derive(Clone, Copy, Debug)]
enum Old {
    Refuses,
    Hangs,
    /// It hangs until so long after the other's first commit, and is reset then.
    HangsUntil(u64),
}

/// The old writer takes writes before `stop`, the new one from `start` on.
#[derive(Clone, Copy, Debug)]
struct World {
    stop: u64,
    start: u64,
    old: Old,
    /// A reader that does not answer.
    other_hangs: bool,
}

/// How long each message of a write is on its way.
type Ways = [u64; 8];

impl World {
    fn takes_writes(self, server: &str, at: u64) -> bool {
        match server {
            "old" => at < self.stop,
            "new" => at >= self.start,
            _ => false,
        }
    }

    /// When a question is answered that is sent now, and whether with yes.
    fn answer(self, server: &str, sent: u64, there: u64, back: u64) -> Option<(u64, bool)> {
        let met = sent + there;
        let said = Some((met + back, self.takes_writes(server, met)));
        match (server, self.old) {
            ("old", Old::Hangs) if met >= self.stop => None,
            ("old", Old::HangsUntil(after)) if met >= self.stop => Some((met.max(self.start + after) + back, false)),
            ("other", _) if self.other_hangs => None,
            _ => said,
        }
    }

    /// A write as the probe does it: asks, and sends its INSERT to who says yes.
    fn write(self, began: u64, knows: bool, ways: &Ways) -> Attempt {
        let limit = began + LIMIT;
        let question =
            |server: &'static str, sent: u64, place: usize| (server, sent, self.answer(server, sent, ways[place], ways[place + 1]));
        let mut open = vec![question("old", began, 0)];
        let others = match open[0].2 {
            Some((answered, _)) if knows => answered.min(began + HEAD_START),
            None if knows => began + HEAD_START,
            _ => began,
        };
        open.extend([question("new", others, 2), question("other", others, 4)]);
        open.sort_by_key(|(_, _, answer)| answer.map_or(u64::MAX, |(answered, _)| answered));
        let (mut refusals, mut now) = (Vec::new(), began);
        for (server, sent, answer) in open {
            let Some((answered, yes)) = answer.filter(|(answered, _)| (*answered).max(now) < limit) else {
                refusals.push(silence(server, sent, limit));
                now = limit;
                continue;
            };
            now = now.max(answered);
            if !yes {
                refusals.push(refusal(server, sent, now));
                continue;
            }
            let sent = now;
            match self.answer(server, sent, ways[6], ways[7]).filter(|(received, _)| *received < limit) {
                Some((received, true)) => {
                    return Attempt { began: ms(began), ended: ms(received), good: taken(server, sent, received), refusals };
                }
                Some((received, false)) => {
                    now = received;
                    refusals.push(refusal(server, sent, now));
                }
                None => {
                    now = limit;
                    refusals.push(silence(server, sent, now));
                }
            }
        }
        Attempt { began: ms(began), ended: ms(now), good: None, refusals }
    }
}

fn old() -> impl Strategy<Value = Old> {
    prop_oneof![Just(Old::Refuses), Just(Old::Hangs), (0..3000_u64).prop_map(Old::HangsUntil)]
}

/// Most messages are quick, some are not.
fn way() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..20_u64, 1 => 0..400_u64]
}

proptest! {
    #[test]
    fn the_truth_is_within_the_bounds(
        stop in 1000..3000_u64,
        length in 0..5000_u64,
        old in old(),
        other_hangs: bool,
        writes in prop::collection::vec((any::<bool>(), prop::array::uniform8(way())), 160),
    ) {
        let world = World { stop, start: stop + length, old, other_hangs };
        let mut gaps = Gaps::new("old", COOL_DOWN);
        for (place, (knows, ways)) in writes.iter().enumerate() {
            gaps.take_in(&world.write(100 * u64::try_from(place).unwrap(), *knows, ways));
        }
        let gap = gaps.found(ms(20_000)).unwrap().report(Timestamp::UNIX_EPOCH);
        let truth = i64::try_from(length).unwrap();
        prop_assert!(gap.lower_milliseconds <= truth && truth <= gap.upper_milliseconds.unwrap(), "{truth} is not within {gap:?}");
    }

    /// When all messages take ten milliseconds, the bounds are as near as is promised: three intervals and 100 ms, and the time-out when the
    /// old writer hangs.
    #[test]
    fn the_bounds_are_near(stop in 1000..3000_u64, length in 0..5000_u64, old in old(), knows: bool) {
        let world = World { stop, start: stop + length, old, other_hangs: false };
        let mut gaps = Gaps::new("old", COOL_DOWN);
        (0..160).for_each(|place| gaps.take_in(&world.write(100 * place, knows, &[10; 8])));
        let gap = gaps.found(ms(20_000)).unwrap().report(Timestamp::UNIX_EPOCH);
        let most = if matches!(old, Old::Refuses) { 400 } else { 400 + i64::try_from(LIMIT).unwrap() };
        prop_assert!(gap.upper_milliseconds.unwrap() - gap.lower_milliseconds <= most, "wider than {most}: {gap:?}");
    }
}
