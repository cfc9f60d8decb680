//! What takes memory, so that all of it stays within the budget whatever the messages' size: the messages that are held, what polls may
//! bring, and what statements copy.

use super::Engine;
use super::held::Key;

/// How often a message is in memory while it is received: the answer in the pieces in which it came and as a whole, each up to twice as long
/// as the message where every character is escaped, then the message, and what the allocator has not given back yet. As measured.
const RECEIVE_COPIES: u64 = 6;
/// How often the values of a row are in memory while they are written: unescaped, as the statement's parameters, and in the connection's
/// buffer, which grows by doubling.
const STATEMENT_COPIES: u64 = 4;

impl Engine {
    /// How much of the budget is free, in bytes.
    fn free_memory(&self) -> u64 {
        let statements = self.lanes.values().map(|lane| lane.bytes).sum::<u64>() + self.probes.bytes();
        self.settings.memory.saturating_sub(self.messages.bytes()).saturating_sub(self.receiving.reserved()).saturating_sub(statements)
    }

    /// How many messages of the queue's largest size the next poll may bring, and what one of them takes, in bytes.
    pub(super) fn room_for_poll(&self, maximum_message_size: usize) -> (usize, u64) {
        let size = u64::try_from(maximum_message_size).unwrap_or(u64::MAX).max(1);
        let each = size.saturating_mul(RECEIVE_COPIES);
        // One message must always be writable, or what is held would never go.
        let free = self.free_memory().saturating_sub(size.saturating_mul(STATEMENT_COPIES));
        (usize::try_from(free / each).unwrap_or(usize::MAX), each)
    }

    /// How many bytes of values the next lane may write; none when others must end before.
    pub(super) fn room_for_lane(&self) -> u64 {
        self.free_memory() / STATEMENT_COPIES
    }

    /// What a lane with these messages takes.
    pub(super) fn lane_bytes(&self, keys: &[Key]) -> u64 {
        let rows = keys.iter().filter_map(|key| self.messages.get(*key)).map(|held| held.row_bytes);
        rows.sum::<u64>().saturating_mul(STATEMENT_COPIES)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use durable_write_crds::probe::{PROBE_ATTRIBUTE, ProbeBody, ProbeMark};
    use proptest::prelude::*;
    use tokio::time::Instant;

    use crate::decode::{Decoder, Record};
    use crate::engine::{Effect, Engine, Event, Settings};
    use crate::message::{AttributeValue, Message, MessageAttribute};
    use crate::problem::Problem;
    use crate::queue::QueueFacts;
    use crate::sink::{Class, WriteError};

    const LARGEST: usize = 16 * 1024;
    /// In proportion as small as the smallest that a manifest may ask for.
    const BUDGET: u64 = 64 * LARGEST as u64;

    fn engine(fifo: bool) -> Engine {
        let queue = if fifo { "orders.fifo" } else { "orders" };
        let spec = serde_json::from_value(serde_json::json!({
            "queue": {"name": queue},
            "database": {"postgres": {"writer": "localhost:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "db"}}},
            "target": {"table": {"name": "orders"}, "columns": [
                {"name": "id", "from": {"body": "/id"}}, {"name": "text", "from": {"body": "/text"}}, {"name": "payload", "from": {"body": ""}}]},
            "idempotency": {"targetKey": {"columns": ["id"]}},
        }))
        .unwrap();
        let settings = Settings { memory: BUDGET, max_bytes: 4 * LARGEST, ..Settings::new(&spec) };
        Engine::new(settings, Decoder::new(&spec), Instant::now())
    }

    /// What was asked of queue and database and has not been answered, and the messages that are still in the queue.
    struct Outside {
        sizes: std::iter::Enumerate<std::vec::IntoIter<usize>>,
        polls: Vec<(u64, usize)>,
        writes: Vec<(u64, Vec<Arc<Record>>)>,
        probes: Option<(u64, usize)>,
        others: Vec<Event>,
    }

    impl Outside {
        fn take_in(&mut self, effects: Vec<Effect>, now: Instant) {
            for effect in effects {
                match effect {
                    Effect::Poll { poll, maximum, .. } => self.polls.push((poll, maximum)),
                    Effect::Write { write, rows } => self.writes.push((write, rows)),
                    Effect::WriteProbes { write, rows } => self.probes = Some((write, rows.len())),
                    Effect::CloseConnections => {
                        self.writes.clear();
                        self.probes = None;
                    }
                    Effect::CheckQueue => {
                        let facts = QueueFacts { maximum_message_size: LARGEST, retention: Duration::from_secs(3600) };
                        self.others.push(Event::QueueChecked(Ok(facts)));
                    }
                    Effect::Seek => self.others.push(Event::WriterFound { identity: format!("{now:?}"), name: "writer".into() }),
                    Effect::Prepare => self.others.push(Event::Prepared(Ok(()))),
                    Effect::Delete(handles) => {
                        let keys = handles.iter().map(|handle| handle.key).collect();
                        self.others.push(Event::Deleted { keys, result: Ok(Vec::new()) });
                    }
                    Effect::Extend(handles) => {
                        let keys = handles.iter().map(|handle| handle.key).collect();
                        self.others.push(Event::Extended { keys, started: now, result: Ok(Vec::new()) });
                    }
                    Effect::Release(handles) => {
                        self.others.push(Event::Released { keys: handles.iter().map(|handle| handle.key).collect() })
                    }
                    Effect::DeadLetter { handle, .. } => self.others.push(Event::DeadLettered { key: handle.key, result: Ok(()) }),
                }
            }
        }

        /// One of the things asked for is answered; `choice` says which, and, for a statement, how.
        fn answer(&mut self, choice: usize, may_fail: bool, now: Instant) -> Event {
            let (kind, which) = (choice % 4, choice / 4);
            match kind {
                0 if !self.polls.is_empty() => {
                    let (poll, maximum) = self.polls.swap_remove(which % self.polls.len());
                    let messages = self.sizes.by_ref().take(maximum).map(|(number, size)| message(number, size)).collect();
                    Event::Received { poll, started: now, result: Ok(messages) }
                }
                1 if !self.writes.is_empty() => {
                    let (write, rows) = self.writes.swap_remove(which % self.writes.len());
                    let failures = [Class::Outage, Class::RowFault, Class::HoldThenRowFault, Class::Ambiguous, Class::Retry];
                    let failure = failures.get(which % 16).filter(|_| may_fail);
                    Event::Written { write, result: failure.map_or(Ok(rows.len() as u64), |class| Err(error(*class))) }
                }
                3 if self.probes.is_some() => {
                    let (write, rows) = self.probes.take().unwrap();
                    let failure = [Class::Outage, Class::Catalogue, Class::Ambiguous].get(which % 8).filter(|_| may_fail);
                    Event::ProbesWritten { write, result: failure.map_or(Ok(rows as u64), |class| Err(error(*class))) }
                }
                2 if !self.others.is_empty() => self.others.swap_remove(which % self.others.len()),
                _ => Event::Tick,
            }
        }
    }

    fn error(class: Class) -> WriteError {
        WriteError {
            class,
            sqlstate: Some(format!("{class:?}")),
            column: None,
            problem: Problem::new("StatementFailed", "database", "test"),
        }
    }

    fn message(number: usize, size: usize) -> Message {
        let text = "x".repeat(size.saturating_sub(30));
        let (id, group) = (number.to_string(), Some((number % 5).to_string()));
        if number % 7 == 3 {
            return Message { id, group, receive_count: 1, ..probe(number) };
        }
        Message { body: format!(r#"{{"id": "{id}", "text": "{text}"}}"#), id, group, receive_count: 1, ..Message::default() }
    }

    fn probe(number: usize) -> Message {
        let drill = "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned();
        // Of drills that are over and of some that are not.
        let mark =
            ProbeMark { drill, seq: i64::try_from(number).unwrap() + 1, expires: if number.is_multiple_of(2) { 0 } else { i64::MAX } };
        let value = AttributeValue::Text(mark.attribute());
        let attribute = MessageAttribute { data_type: "String".to_owned(), value };
        let body = serde_json::to_string(&ProbeBody { durable_write_probe: mark }).unwrap();
        Message { body, attributes: [(PROBE_ATTRIBUTE.to_owned(), attribute)].into(), ..Message::default() }
    }

    proptest! {
        /// P7. A single message is always let through: it may go beyond the budget by the copies of its own values.
        #[test]
        fn whatever_comes_and_fails_in_whatever_order_memory_stays_within_its_budget_and_nothing_is_forgotten(
            fifo: bool,
            sizes in prop::collection::vec(prop_oneof![30..600_usize, LARGEST - 100..LARGEST], 1..400),
            choices in prop::collection::vec(any::<usize>(), 1..2000),
        ) {
            let (mut engine, mut now) = (engine(fifo), Instant::now());
            let users = (0..sizes.len()).filter(|number| number % 7 != 3).count() as u64;
            let mut outside = Outside { sizes: sizes.into_iter().enumerate(), polls: Vec::new(), writes: Vec::new(), probes: None, others: Vec::new() };
            let (random, orderly) = (choices.into_iter().map(|choice| (choice, true)), (0..).map(|turn| (turn, false)));
            for (choice, may_fail) in random.chain(orderly).take(50_000) {
                now += Duration::from_millis(10);
                let event = outside.answer(choice, may_fail, now);
                outside.take_in(engine.handle(event, now), now);
                engine.messages.assert_consistent();
                let statements = engine.lanes.values().map(|lane| lane.bytes).sum::<u64>() + engine.probes.bytes();
                let taken = engine.messages.bytes() + engine.receiving.reserved() + statements;
                prop_assert!(taken <= BUDGET + 2 * super::STATEMENT_COPIES * LARGEST as u64, "{taken} of {BUDGET} bytes are taken");
                let counters = engine.counters;
                if outside.sizes.len() == 0 && engine.messages.len() == 0 {
                    prop_assert_eq!((counters.received, counters.acknowledged + counters.released), (users, users), "probes are counted");
                    return Ok(());
                }
            }
            let counters = engine.counters;
            prop_assert!(false, "of {users} messages some are neither deleted nor given back: {counters:?}");
        }
    }
}
