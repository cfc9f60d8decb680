//! A model of a database whose writer fails and moves: what was committed stays, whoever was told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_write_worker::decode::Record;
use durable_write_worker::problem::Problem;
use durable_write_worker::sink::{Class, Found, Sink, WriteError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::sleep;

/// What the writer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    Up,
    /// Connections are refused and broken.
    Down,
    /// Nothing answers.
    Hung,
}

struct State {
    writer: Writer,
    generation: u64,
    /// Rows by key, with how often the row was inserted (a second time would be a duplicate).
    rows: HashMap<String, u32>,
    /// Keys in the order of their commits.
    order: Vec<String>,
    statements: u64,
    /// Every row fails with this.
    fault: Option<(Class, &'static str)>,
    /// How often each message of a probe was written.
    probes: HashMap<(String, i64), u32>,
    /// The probe's tables refuse everything with this.
    probe_fault: Option<(Class, &'static str)>,
    /// Messages of the kind `homeless` have a partition.
    partition: bool,
}

#[derive(Clone)]
pub struct ModelDatabase {
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<StdRng>>,
    pub lost_reply: Arc<Mutex<f64>>,
    /// Connections that are open, and how many may be.
    open: Arc<AtomicUsize>,
    pub most_open: Arc<AtomicUsize>,
}

/// A connection to the writer of this generation.
pub struct Link {
    generation: u64,
    open: Arc<AtomicUsize>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ModelDatabase {
    pub fn new(seed: u64) -> Self {
        let state = State {
            writer: Writer::Up,
            generation: 0,
            rows: HashMap::new(),
            order: Vec::new(),
            statements: 0,
            fault: None,
            probes: HashMap::new(),
            probe_fault: None,
            partition: false,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
            lost_reply: Arc::default(),
            open: Arc::default(),
            most_open: Arc::new(usize::MAX.into()),
        }
    }

    /// The writer fails; a new one is another generation.
    pub fn set(&self, writer: Writer) {
        let mut state = self.state.lock().unwrap();
        if writer == Writer::Up {
            state.generation += 1;
        }
        state.writer = writer;
    }

    pub fn set_fault(&self, fault: Option<(Class, &'static str)>) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn set_probe_fault(&self, fault: Option<(Class, &'static str)>) {
        self.state.lock().unwrap().probe_fault = fault;
    }

    pub fn probes(&self) -> HashMap<(String, i64), u32> {
        self.state.lock().unwrap().probes.clone()
    }

    /// Makes the partition that messages of the kind `homeless` lack.
    pub fn add_partition(&self) {
        self.state.lock().unwrap().partition = true;
    }

    pub fn rows(&self) -> HashMap<String, u32> {
        self.state.lock().unwrap().rows.clone()
    }

    pub fn order(&self) -> Vec<String> {
        self.state.lock().unwrap().order.clone()
    }

    pub fn statements(&self) -> u64 {
        self.state.lock().unwrap().statements
    }

    fn link(&self, generation: u64) -> Link {
        self.open.fetch_add(1, Ordering::Relaxed);
        Link { generation, open: self.open.clone() }
    }

    async fn travel(&self) {
        let milliseconds = self.random.lock().unwrap().random_range(1..6);
        sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn error(class: Class, sqlstate: &str) -> WriteError {
    WriteError { class, sqlstate: Some(sqlstate.into()), column: None, problem: Problem::new("StatementFailed", "database", sqlstate) }
}

impl Sink for ModelDatabase {
    type Connection = Link;

    async fn seek(&self, report: impl Fn(Problem) + Send + Sync) -> Found<Link> {
        loop {
            {
                let state = self.state.lock().unwrap();
                if state.writer == Writer::Up {
                    let generation = state.generation;
                    return Found {
                        connection: self.link(generation),
                        identity: generation.to_string(),
                        name: format!("writer-{generation}"),
                    };
                }
            }
            report(Problem::new("DatabaseOutage", "database", "no writer"));
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn connect(&self) -> Result<Link, WriteError> {
        self.travel().await;
        let (writer, generation) = {
            let state = self.state.lock().unwrap();
            (state.writer, state.generation)
        };
        match writer {
            Writer::Up if self.open.load(Ordering::Relaxed) >= self.most_open.load(Ordering::Relaxed) => Err(error(Class::Outage, "53300")),
            Writer::Up => Ok(self.link(generation)),
            Writer::Down => Err(error(Class::Outage, "57P01")),
            Writer::Hung => std::future::pending().await,
        }
    }

    async fn prepare(&self, _: &mut Link) -> Result<(), WriteError> {
        self.travel().await;
        Ok(())
    }

    async fn write(&self, connection: &mut Link, rows: &[Arc<Record>]) -> Result<u64, WriteError> {
        self.reach(connection.generation).await?;
        let inserted = {
            let mut state = self.state.lock().unwrap();
            state.statements += 1;
            if let Some((class, sqlstate)) = state.fault {
                return Err(error(class, sqlstate));
            }
            if rows.iter().any(|row| row.message.body.contains("bad")) {
                return Err(error(Class::RowFault, "22P02"));
            }
            if !state.partition && rows.iter().any(|row| row.message.body.contains("homeless")) {
                return Err(error(Class::HoldThenRowFault, "23514"));
            }
            if rows.iter().any(|row| row.message.body.contains("raise")) {
                return Err(error(Class::Ambiguous, "P0001"));
            }
            let mut inserted = 0;
            for row in rows {
                let key = row.raw(0).unwrap().to_owned();
                if !state.rows.contains_key(&key) {
                    state.rows.insert(key.clone(), 1);
                    state.order.push(key);
                    inserted += 1;
                }
            }
            inserted
        };
        self.answer(inserted).await
    }

    async fn write_probes(&self, connection: &mut Link, rows: &[Arc<Record>]) -> Result<u64, WriteError> {
        self.reach(connection.generation).await?;
        let inserted = {
            let mut state = self.state.lock().unwrap();
            if let Some((class, sqlstate)) = state.probe_fault {
                return Err(error(class, sqlstate));
            }
            let before = state.probes.len();
            for mark in rows.iter().map(|row| row.probe.as_ref().unwrap()) {
                // As the key does: only the first is let through.
                state.probes.entry((mark.drill.clone(), mark.seq)).or_insert(1);
            }
            state.probes.len() - before
        };
        self.answer(inserted as u64).await
    }
}

impl ModelDatabase {
    /// The way to the writer, on a connection of this generation.
    async fn reach(&self, generation: u64) -> Result<(), WriteError> {
        self.travel().await;
        let (writer, same) = {
            let state = self.state.lock().unwrap();
            (state.writer, state.generation == generation)
        };
        match writer {
            Writer::Hung => std::future::pending().await,
            Writer::Down => Err(error(Class::Outage, "57P01")),
            Writer::Up if !same => Err(error(Class::Outage, "25006")),
            Writer::Up => Ok(()),
        }
    }

    /// The way back, on which an answer can be lost.
    async fn answer(&self, inserted: u64) -> Result<u64, WriteError> {
        self.travel().await;
        let lost = *self.lost_reply.lock().unwrap();
        if self.random.lock().unwrap().random_bool(lost) {
            return Err(error(Class::Outage, "08006"));
        }
        Ok(inserted)
    }
}
