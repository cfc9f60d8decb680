//! Metrics, made from the worker's state when they are asked for: the loop itself counts once.

use std::sync::atomic::{AtomicI64, AtomicU64};

use durable_write_crds::wire::WorkerState;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state as OpenMetrics text.
#[must_use]
pub fn render(state: &WorkerState) -> String {
    let mut registry = Registry::with_prefix("durable_write_worker");
    let counters = &state.counters;
    for (name, help, value) in [
        ("messages_received", "Messages received from the queue", counters.received),
        ("rows_written", "Rows written", counters.written),
        ("duplicates", "Messages whose row was there already", counters.duplicates),
        ("messages_acknowledged", "Messages deleted from the queue", counters.acknowledged),
        ("messages_dead_lettered", "Messages sent to the dead-letter queue", counters.dead_lettered),
        ("messages_released", "Messages given back to the queue unwritten", counters.released),
        ("outages", "Times that the writer was lost", counters.outages),
    ] {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let truth = |status: Option<bool>| i64::from(status.unwrap_or(false));
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let age = state.queue.oldest_seen.map(|oldest| state.at.duration_since(oldest).as_secs().max(0));
    for (name, help, value) in [
        ("messages_held", "Messages held now", Some(count(counters.held))),
        ("flowing", "1 while messages can be written", Some(truth(state.flowing.status))),
        ("stalled", "1 while somebody must act", Some(truth(state.stalled.status))),
        ("queue_ready", "1 while the queue can be used", Some(truth(state.queue_ready.status))),
        ("database_ready", "1 while database and table can be used", Some(truth(state.database_ready.status))),
        ("queue_visible", "Messages that wait in the queue, about", state.queue.visible),
        ("queue_in_flight", "Messages received and not yet deleted, about", state.queue.in_flight),
        ("queue_dead_lettered", "Messages in the dead-letter queue, about", state.queue.dead_lettered),
        ("queue_retention_seconds", "How long the queue keeps a message", state.queue.retention_seconds),
        ("oldest_message_age_seconds", "Age of the oldest message that may still be in the queue", age),
    ] {
        if let Some(value) = value {
            let gauge = Gauge::<i64, AtomicI64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        Err(_) => String::new(), // Writing to a String cannot fail.
    }
}
