//! The ledger of one channel: what became of each write as far as the probe was told, and, held against the rows in the end, what is lost,
//! doubled or was never asked for. Five bytes for each write: 500 a second for two hours are 18 MB.

use durable_write_crds::drill::Integrity;

use super::clock::{At, floor};

/// What the probe knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is under way; in the end the same as unknown.
    Open,
    /// It was confirmed.
    Confirmed,
    /// It was refused for certain.
    Refused,
    /// Nobody said what became of it.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Entry(u8);

impl Entry {
    const SETTLED: u8 = 4;
    const OVERDUE: u8 = 8;

    fn fate(self) -> Fate {
        match self.0 & 3 {
            0 => Fate::Open,
            1 => Fate::Confirmed,
            2 => Fate::Refused,
            _ => Fate::Unknown,
        }
    }

    fn end(&mut self, fate: Fate) {
        self.0 = self.0 & !3 | fate as u8;
    }

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// All writes of one channel, numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Entry>,
    /// When each began, in milliseconds.
    began: Vec<u32>,
    /// Up to this number nothing is waited for.
    low: usize,
}

impl Ledger {
    /// A write begins: its number.
    pub(super) fn begin(&mut self, at: At) -> i64 {
        self.entries.push(Entry(Fate::Open as u8));
        self.began.push(u32::try_from(floor(at)).unwrap_or(u32::MAX));
        number(self.entries.len())
    }

    /// A write has ended.
    pub(super) fn end(&mut self, seq: i64, fate: Fate) {
        if let Some(entry) = self.entry(seq) {
            entry.end(fate);
        }
    }

    /// A write was seen in the table.
    pub(super) fn settle(&mut self, seq: i64) {
        if let Some(entry) = self.entry(seq) {
            entry.0 |= Entry::SETTLED;
        }
    }

    fn entry(&mut self, seq: i64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    /// All with greater numbers are worth a look into the table.
    pub(super) fn low(&mut self) -> i64 {
        let done = |entry: &&Entry| entry.has(Entry::SETTLED) || matches!(entry.fate(), Fate::Refused | Fate::Unknown);
        self.low += self.entries.get(self.low..).unwrap_or_default().iter().take_while(done).count();
        number(self.low)
    }

    /// How many confirmed writes that began by then have not been seen in the table, and how many were confirmed.
    pub(super) fn unsettled(&self, by: At) -> usize {
        let by = u32::try_from(floor(by)).unwrap_or(u32::MAX);
        let late = self.entries.iter().zip(&self.began).skip(self.low).take_while(|(_, began)| **began <= by);
        late.filter(|(entry, _)| entry.fate() == Fate::Confirmed && !entry.has(Entry::SETTLED)).count()
    }

    /// True when some write that was confirmed has been seen in the table.
    pub(super) fn any_settled(&self) -> bool {
        self.low > 0 || self.entries.iter().any(|entry| entry.has(Entry::SETTLED))
    }

    /// How many of those that began from `from` to `to` were confirmed.
    pub(super) fn confirmed_between(&self, from: At, to: At) -> u64 {
        let place = |at: At| self.began.partition_point(|began| i64::from(*began) < floor(at));
        let between = self.entries.get(place(from)..place(to)).unwrap_or_default();
        u64::try_from(between.iter().filter(|entry| entry.fate() == Fate::Confirmed).count()).unwrap_or(u64::MAX)
    }

    /// The time for settling is over: what is not settled now is late.
    pub(super) fn mark_overdue(&mut self) {
        for entry in self.entries.iter_mut().skip(self.low) {
            if entry.fate() == Fate::Confirmed && !entry.has(Entry::SETTLED) {
                entry.0 |= Entry::OVERDUE;
            }
        }
    }

    /// Begins to hold the rows against the ledger.
    pub(super) fn tally(&self) -> Tallying<'_> {
        Tallying { ledger: self, tally: Tally { integrity: self.promised(), recovered: 0, rows: 0 } }
    }

    /// What is to be found; all of it counts as lost until it is found.
    fn promised(&self) -> Integrity {
        let count = |is: fn(Fate) -> bool| number(self.entries.iter().filter(|entry| is(entry.fate())).count());
        let acknowledged = count(|fate| fate == Fate::Confirmed);
        Integrity {
            sent: number(self.entries.len()),
            acknowledged,
            lost: acknowledged,
            unknown: count(|fate| matches!(fate, Fate::Unknown | Fate::Open)),
            ..Integrity::default()
        }
    }
}

/// Rows that are held against a ledger, number by number.
pub(super) struct Tallying<'a> {
    ledger: &'a Ledger,
    tally: Tally,
}

impl Tallying<'_> {
    /// A number has so many rows.
    pub(super) fn add(&mut self, seq: i64, count: i64) {
        let Tally { integrity, recovered, rows } = &mut self.tally;
        let place = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        let entry = place.and_then(|place| self.ledger.entries.get(place).copied());
        *rows += count;
        integrity.duplicated += count - 1;
        match entry.map(|entry| (entry.fate(), entry.has(Entry::OVERDUE))) {
            Some((Fate::Confirmed, late)) => {
                integrity.committed += 1;
                integrity.lost -= 1;
                integrity.late += i64::from(late);
            }
            Some((Fate::Unknown | Fate::Open, _)) => {
                integrity.committed += 1;
                *recovered += 1;
            }
            Some((Fate::Refused, _)) | None => integrity.unexpected += 1,
        }
    }

    /// All numbers were added.
    pub(super) fn end(self) -> Tally {
        self.tally
    }
}

/// How the rows of a channel compare with its ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) integrity: Integrity,
    /// Unknown writes that were found.
    pub(super) recovered: i64,
    /// All rows.
    pub(super) rows: i64,
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// 1 and 2 are confirmed, 3 refused, 4 unknown, 5 never answered.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for seq in 1..=5 {
            assert_eq!(ledger.begin(Duration::from_millis(100 * seq)), i64::try_from(seq).unwrap());
        }
        for (seq, fate) in [(1, Fate::Confirmed), (2, Fate::Confirmed), (3, Fate::Refused), (4, Fate::Unknown)] {
            ledger.end(seq, fate);
        }
        ledger
    }

    fn held_against(ledger: &Ledger, rows: &[(i64, i64)]) -> Tally {
        let mut tally = ledger.tally();
        rows.iter().for_each(|(seq, count)| tally.add(*seq, *count));
        tally.end()
    }

    fn tally(rows: &[(i64, i64)]) -> (i64, i64, i64, i64, i64) {
        let Tally { integrity, recovered, rows: all } = held_against(&ledger(), rows);
        assert_eq!(all, rows.iter().map(|(_, count)| count).sum::<i64>());
        (integrity.lost, integrity.duplicated, integrity.unexpected, integrity.committed, recovered)
    }

    #[test]
    fn each_way_to_go_wrong_has_its_own_number() {
        assert_eq!(tally(&[(1, 1), (2, 1)]), (0, 0, 0, 2, 0));
        assert_eq!(tally(&[(1, 1)]), (1, 0, 0, 1, 0), "confirmed and absent is lost");
        assert_eq!(tally(&[(1, 1), (2, 3)]), (0, 2, 0, 2, 0), "rows beyond the first are doubled");
        assert_eq!(tally(&[(1, 1), (2, 1), (3, 1)]), (0, 0, 1, 2, 0), "refused and present is unexpected");
        assert_eq!(tally(&[(1, 1), (2, 1), (4, 1), (5, 1)]), (0, 0, 0, 4, 2), "unknown and present is recovered");
        assert_eq!(tally(&[(1, 1), (2, 1), (6, 1), (0, 1), (-1, 1)]), (0, 0, 3, 2, 0), "never attempted is unexpected");
        let integrity = held_against(&ledger(), &[]).integrity;
        assert_eq!((integrity.sent, integrity.acknowledged, integrity.unknown), (5, 2, 2));
    }

    #[test]
    fn what_is_settled_only_after_the_deadline_is_late_and_not_lost() {
        let mut ledger = ledger();
        ledger.settle(1);
        ledger.mark_overdue();
        ledger.settle(2);
        let integrity = held_against(&ledger, &[(1, 1), (2, 1)]).integrity;
        assert_eq!((integrity.late, integrity.lost), (1, 0));
    }

    #[test]
    fn the_look_into_the_table_begins_behind_what_is_done_with() {
        let mut ledger = ledger();
        assert_eq!(ledger.low(), 0);
        ledger.settle(2);
        assert_eq!((ledger.low(), ledger.unsettled(Duration::from_secs(9))), (0, 1));
        assert_eq!(ledger.unsettled(Duration::from_millis(50)), 0, "nothing began by then");
        ledger.settle(1);
        assert_eq!((ledger.low(), ledger.unsettled(Duration::from_secs(9))), (4, 0), "5 may still be confirmed");
    }

    #[test]
    fn what_was_confirmed_is_counted_by_the_time_of_its_begin() {
        let between = |from, to| ledger().confirmed_between(Duration::from_millis(from), Duration::from_millis(to));
        assert_eq!((between(50, 150), between(50, 950), between(150, 950)), (1, 2, 1));
        assert_eq!(between(250, 950), 0, "refused, unknown and not answered");
        assert_eq!(between(950, 50), 0);
    }

    #[test]
    fn the_longest_drill_takes_bounded_memory() {
        let mut ledger = Ledger::default();
        for write in 0..3_600_000_u64 {
            let seq = ledger.begin(Duration::from_millis(2 * write));
            ledger.end(seq, Fate::Confirmed);
            ledger.settle(seq);
        }
        assert_eq!(ledger.low(), 3_600_000);
        assert!(ledger.entries.capacity() + 4 * ledger.began.capacity() <= 5 * (1 << 22), "as vectors grow by doubling");
    }
}
