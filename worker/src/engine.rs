//! The worker's decisions, without I/O: events in, effects out, time as an argument. The loop (`run`) carries the effects out and brings back
//! what became of them, so the same engine runs against AWS, against local servers and in a simulation.
//!
//! What may happen to a message: it is received and decoded; a lane writes it; then it is deleted. Where it can never be written, a copy goes
//! to the dead-letter queue first. Where nothing can be written now, it is held, and given back when that lasts.

mod acknowledging;
mod breaker;
mod flow;
mod held;
mod lane;
mod memory;
mod probes;
mod receiving;
mod report;
mod visibility;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::DurableWritePipelineSpec;
use tokio::time::Instant;

use crate::decode::{Decoder, Record};
use crate::fault::RowFault;
use crate::message::Message;
use crate::problem::Problem;
use crate::queue::{Failures, Handle, QueueError, QueueFacts};
use crate::sink::WriteError;
use acknowledging::Acknowledging;
use breaker::Breaker;
use flow::Phase;
use held::Messages;
use lane::Lane;
use probes::Probes;
use receiving::Receiving;

pub use report::Snapshot;

/// How long a received message stays invisible to other consumers, so that the groups of a lost worker are free within a minute.
pub const VISIBILITY: Duration = Duration::from_secs(60);
/// How long messages are held while nothing can be written; then they go back to the queue.
const HOLD: Duration = Duration::from_secs(15 * 60);

/// What the engine must know of the pipeline.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The queue keeps the order of each group.
    pub fifo: bool,
    /// The most rows of one statement.
    pub max_rows: usize,
    /// The most bytes of bodies of one statement.
    pub max_bytes: usize,
    /// How long a statement waits for more messages while there are more in the queue.
    pub max_wait: Duration,
    /// How many statements may be under way.
    pub connections: usize,
    /// How many bytes the messages may take, those on their way from the queue and what statements copy of them included.
    pub memory: u64,
}

impl Settings {
    /// The settings of a pipeline.
    #[must_use]
    pub fn new(spec: &DurableWritePipelineSpec) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let count = |count: i32| usize::try_from(count).unwrap_or(1).max(1);
        let (batching, workers) = (&spec.batching, &spec.workers);
        Self {
            fifo: spec.queue.is_fifo(),
            max_rows: count(batching.max_rows),
            max_bytes: size(batching.max_bytes.bytes()),
            max_wait: batching.max_wait.get(),
            connections: count(workers.connections),
            memory: workers.memory_budget.bytes(),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The queue was looked up and checked.
    QueueChecked(Result<QueueFacts, Problem>),
    /// A poll ended.
    Received {
        /// Which.
        poll: u64,
        /// When it was sent: visibility counts from before it.
        started: Instant,
        /// What it brought.
        result: Result<Vec<Message>, QueueError>,
    },
    /// A statement ended: with the number of rows that were not there before.
    Written {
        /// Which.
        write: u64,
        /// How.
        result: Result<u64, WriteError>,
    },
    /// A statement of a probe's messages ended: with the number of rows that were not there before.
    ProbesWritten {
        /// Which.
        write: u64,
        /// How.
        result: Result<u64, WriteError>,
    },
    /// A batch of deletes ended.
    Deleted {
        /// Which messages.
        keys: Vec<u64>,
        /// Those that failed.
        result: Result<Failures, QueueError>,
    },
    /// A batch of visibility extensions ended.
    Extended {
        /// Which messages.
        keys: Vec<u64>,
        /// When it was sent.
        started: Instant,
        /// Those that failed.
        result: Result<Failures, QueueError>,
    },
    /// Messages were given back, or will come back by themselves.
    Released {
        /// Which messages.
        keys: Vec<u64>,
    },
    /// The dead-letter queue took a message, or refused it.
    DeadLettered {
        /// Which message.
        key: u64,
        /// What it said.
        result: Result<(), QueueError>,
    },
    /// A writer was found.
    WriterFound {
        /// What tells this run of this server from every other.
        identity: String,
        /// The instance's name.
        name: String,
    },
    /// The search for the writer is kept from success by this.
    SeekHindered(Problem),
    /// The table was looked at.
    Prepared(Result<(), WriteError>),
    /// Time passed.
    Tick,
    /// The worker is to end.
    Drain,
}

/// What to do.
#[derive(Debug)]
pub enum Effect {
    /// Look the queue up.
    CheckQueue,
    /// Receive messages.
    Poll {
        /// The poll's number.
        poll: u64,
        /// The most messages.
        maximum: usize,
        /// How long to wait for the first.
        wait: Duration,
    },
    /// Write these rows in one statement.
    Write {
        /// The statement's number.
        write: u64,
        /// The rows, in order.
        rows: Vec<Arc<Record>>,
    },
    /// Write these messages of a probe in one statement.
    WriteProbes {
        /// The statement's number.
        write: u64,
        /// The messages.
        rows: Vec<Arc<Record>>,
    },
    /// Delete these messages.
    Delete(Vec<Handle>),
    /// Keep these messages invisible for [`VISIBILITY`] from now.
    Extend(Vec<Handle>),
    /// Give these messages back, in this order.
    Release(Vec<Handle>),
    /// Send a copy of this message to the dead-letter queue.
    DeadLetter {
        /// The message.
        handle: Handle,
        /// Why.
        fault: RowFault,
        /// Its idempotency key, where it has one.
        key: String,
    },
    /// Find the writer.
    Seek,
    /// Close every connection and give up every statement under way.
    CloseConnections,
    /// Look at the table, on a connection to the writer.
    Prepare,
}

/// The worker's state.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    decoder: Decoder,
    messages: Messages,
    lanes: BTreeMap<u64, Lane>,
    probes: Probes,
    receiving: Receiving,
    acknowledging: Acknowledging,
    breaker: Breaker,
    phase: Phase,
    queue: report::QueueView,
    database: report::DatabaseView,
    counters: durable_write_crds::wire::Counters,
    draining: bool,
    seeking: bool,
    /// The writer is not sought beside a slow statement before this.
    suspect_at: Instant,
    /// Since when no writer is known, or was not known last.
    outage_since: Instant,
    /// All held messages are looked through again at this time.
    tend_at: Instant,
    next: u64,
    effects: Vec<Effect>,
}

impl Engine {
    /// A worker that knows nothing yet: it looks for the queue and for the writer.
    #[must_use]
    pub fn new(settings: Settings, decoder: Decoder, now: Instant) -> Self {
        let fifo = settings.fifo;
        let mut engine = Self {
            settings,
            decoder,
            messages: Messages::new(fifo),
            lanes: BTreeMap::new(),
            probes: Probes::new(now),
            receiving: Receiving::new(now),
            acknowledging: Acknowledging::default(),
            breaker: Breaker::default(),
            phase: Phase::Seeking,
            queue: report::QueueView::default(),
            database: report::DatabaseView::default(),
            counters: durable_write_crds::wire::Counters::default(),
            draining: false,
            seeking: false,
            suspect_at: now,
            outage_since: now,
            tend_at: now,
            next: 0,
            effects: vec![Effect::CheckQueue],
        };
        engine.seek();
        engine
    }

    /// Takes in what happened and decides what to do.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::QueueChecked(result) => self.on_queue_checked(result, now),
            Event::Received { poll, started, result } => self.on_received(poll, started, result, now),
            Event::Written { write, result } => self.on_written(write, result, now),
            Event::ProbesWritten { write, result } => self.on_probes_written(write, result, now),
            Event::Deleted { keys, result } => self.on_deleted(&keys, result, now),
            Event::Extended { keys, started, result } => self.on_extended(&keys, started, result),
            Event::Released { keys } => self.on_released(&keys),
            Event::DeadLettered { key, result } => self.on_dead_lettered(key, result, now),
            Event::WriterFound { identity, name } => self.on_writer_found(identity, name, now),
            Event::SeekHindered(problem) => self.on_seek_hindered(problem),
            Event::Prepared(result) => self.on_prepared(result, now),
            Event::Tick => {}
            Event::Drain => self.draining = true,
        }
        self.decide(now);
        std::mem::take(&mut self.effects)
    }

    /// What can be done now, whatever happened.
    fn decide(&mut self, now: Instant) {
        self.resume_flow(now);
        self.tend_held(now);
        self.start_lanes(now);
        self.resume_lanes(now);
        self.write_probes(now);
        self.send_dead_letters(now);
        self.send_deletes(now);
        self.check_queue_again(now);
        self.start_polls(now);
    }

    /// When to come back with a [`Event::Tick`] at the latest.
    #[must_use]
    pub fn wake_at(&self, now: Instant) -> Instant {
        let regular = now + Duration::from_millis(500);
        let wishes = [
            self.lanes_wake_at(now),
            self.flow_wake_at(),
            self.probes_wake_at(now),
            self.acknowledging.wake_at(self.settings.max_wait),
            self.receiving.wake_at(now),
        ];
        wishes.into_iter().flatten().fold(regular, Instant::min).max(now + Duration::from_millis(1))
    }

    /// True when a drain has ended: nothing is held and nothing is under way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.messages.len() == 0 && self.receiving.in_flight() == 0
    }

    /// How many statements may be under way.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.settings.connections
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn handle_of(&self, key: u64) -> Option<Handle> {
        self.messages.get(key).map(|held| Handle { key, record: held.record.clone() })
    }
}
