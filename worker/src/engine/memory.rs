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
        let statements: u64 = self.lanes.values().map(|lane| lane.bytes).sum();
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

    use proptest::prelude::*;
    use tokio::time::Instant;

    use crate::decode::{Decoder, Record};
    use crate::engine::{Effect, Engine, Event, Settings};
    use crate::message::Message;
    use crate::queue::QueueFacts;

    const LARGEST: usize = 16 * 1024;
    /// In proportion as small as the smallest that a manifest may ask for.
    const BUDGET: u64 = 64 * LARGEST as u64;

    fn engine() -> Engine {
        let spec = serde_json::from_value(serde_json::json!({
            "queue": {"name": "orders"},
            "database": {"postgres": {"writer": "localhost:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "db"}}},
            "target": {"table": {"name": "orders"}, "columns": [
                {"name": "id", "from": {"body": "/id"}}, {"name": "text", "from": {"body": "/text"}}, {"name": "payload", "from": {"body": ""}}]},
            "idempotency": {"targetKey": {"columns": ["id"]}},
        }))
        .unwrap();
        let settings = Settings { memory: BUDGET, max_bytes: 4 * LARGEST, ..Settings::new(&spec) };
        Engine::new(settings, Decoder::new(&spec), Instant::now())
    }

    /// What was asked of queue and database and has not been answered.
    #[derive(Default)]
    struct UnderWay {
        polls: Vec<(u64, usize)>,
        writes: Vec<(u64, Vec<Arc<Record>>)>,
        deletes: Vec<Vec<u64>>,
    }

    impl UnderWay {
        fn take_in(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Poll { poll, maximum, .. } => self.polls.push((poll, maximum)),
                    Effect::Write { write, rows } => self.writes.push((write, rows)),
                    Effect::Delete(handles) => self.deletes.push(handles.iter().map(|handle| handle.key).collect()),
                    _ => {}
                }
            }
        }

        /// Something of it, `choice` says what, is answered; bodies are of these sizes.
        fn answer(&mut self, choice: usize, now: Instant, bodies: &mut impl Iterator<Item = usize>) -> Event {
            match choice % 3 {
                0 if !self.polls.is_empty() => {
                    let (poll, maximum) = self.polls.swap_remove(choice / 3 % self.polls.len());
                    let messages = bodies.by_ref().take(maximum).map(message).collect();
                    Event::Received { poll, started: now, result: Ok(messages) }
                }
                1 if !self.writes.is_empty() => {
                    let (write, rows) = self.writes.swap_remove(choice / 3 % self.writes.len());
                    Event::Written { write, result: Ok(rows.len() as u64) }
                }
                2 if !self.deletes.is_empty() => {
                    let keys = self.deletes.swap_remove(choice / 3 % self.deletes.len());
                    Event::Deleted { keys, result: Ok(Vec::new()) }
                }
                _ => Event::Tick,
            }
        }
    }

    fn message(size: usize) -> Message {
        let text = "x".repeat(size.saturating_sub(30));
        let id = rand::random::<u64>().to_string();
        Message { body: format!(r#"{{"id": "{id}", "text": "{text}"}}"#), id, receive_count: 1, ..Message::default() }
    }

    proptest! {
        /// P7. A single message is always let through: it may go beyond the budget by the copies of its own values.
        #[test]
        fn whatever_comes_in_whatever_order_memory_stays_within_its_budget_and_all_of_it_is_written(
            sizes in prop::collection::vec(prop_oneof![30..600_usize, LARGEST - 100..LARGEST], 1..400),
            choices in prop::collection::vec(any::<usize>(), 1..2000),
        ) {
            let (mut engine, mut under_way, mut now) = (engine(), UnderWay::default(), Instant::now());
            let count = sizes.len() as u64;
            let mut bodies = sizes.into_iter();
            let facts = QueueFacts { maximum_message_size: LARGEST, retention: Duration::from_secs(3600) };
            for event in [Event::QueueChecked(Ok(facts)), Event::WriterFound { identity: "a".into(), name: "a".into() }, Event::Prepared(Ok(()))] {
                under_way.take_in(engine.handle(event, now));
            }
            for choice in choices.into_iter().chain((0..).flat_map(|turn| [turn * 3, turn * 3 + 1, turn * 3 + 2])).take(20_000) {
                now += Duration::from_millis(10);
                let event = under_way.answer(choice, now, &mut bodies);
                under_way.take_in(engine.handle(event, now));
                let statements: u64 = engine.lanes.values().map(|lane| lane.bytes).sum();
                let taken = engine.messages.bytes() + engine.receiving.reserved() + statements;
                prop_assert!(taken <= BUDGET + 2 * super::STATEMENT_COPIES * LARGEST as u64, "{taken} of {BUDGET} bytes are taken");
                if engine.counters.acknowledged == count {
                    return Ok(());
                }
            }
            prop_assert!(false, "{} of {count} messages were written and deleted: the rest never is", engine.counters.acknowledged);
        }
    }
}
