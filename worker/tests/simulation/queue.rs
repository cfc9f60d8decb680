//! A model of SQS after its documentation: visibility, receive counts, group locks, expired handles, a dead-letter queue; and of its faults.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable_write_crds::probe::PROBE_ATTRIBUTE;
use durable_write_worker::fault::RowFault;
use durable_write_worker::message::{AttributeValue, Message, MessageAttribute};
use durable_write_worker::problem::Problem;
use durable_write_worker::queue::{Depth, EntryError, Failures, Handle, Queue, QueueError, QueueFacts};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

/// How likely each fault of a call is, from 0 to 1.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// The call takes effect, its answer is lost.
    pub lost_reply: f64,
    /// The call has no effect.
    pub refused: f64,
    /// One entry of a batch fails.
    pub entry: f64,
}

struct Stored {
    id: String,
    body: String,
    group: String,
    attributes: HashMap<String, MessageAttribute>,
    visible_at: Instant,
    receives: u32,
    handle: u64,
}

#[derive(Default)]
struct State {
    messages: BTreeMap<u64, Stored>,
    next: u64,
    handles: u64,
    /// Ids of dead letters and their reasons.
    dead: HashMap<String, String>,
    receives: HashMap<String, u32>,
    calls: HashMap<&'static str, u64>,
}

/// The model. Clones share its state.
#[derive(Clone)]
pub struct ModelQueue {
    fifo: bool,
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<StdRng>>,
    pub faults: Arc<Mutex<Faults>>,
}

impl ModelQueue {
    pub fn new(fifo: bool, seed: u64) -> Self {
        Self { fifo, state: Arc::default(), random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))), faults: Arc::default() }
    }

    pub fn send(&self, id: &str, group: &str, body: &str) {
        self.send_with(id, group, body, HashMap::new());
    }

    /// Sends a message with an attribute that makes it a probe's, if its body says the same.
    pub fn send_marked(&self, id: &str, group: &str, body: &str, mark: &str) {
        let value = AttributeValue::Text(mark.to_owned());
        let attribute = MessageAttribute { data_type: "String".to_owned(), value };
        self.send_with(id, group, body, HashMap::from([(PROBE_ATTRIBUTE.to_owned(), attribute)]));
    }

    fn send_with(&self, id: &str, group: &str, body: &str, attributes: HashMap<String, MessageAttribute>) {
        let mut state = self.state.lock().unwrap();
        let place = state.next;
        state.next += 1;
        let (id, body, group, visible_at) = (id.into(), body.into(), group.into(), Instant::now());
        let stored = Stored { id, body, group, attributes, visible_at, receives: 0, handle: 0 };
        state.messages.insert(place, stored);
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.state.lock().unwrap().messages.len()
    }

    pub fn dead(&self) -> HashMap<String, String> {
        self.state.lock().unwrap().dead.clone()
    }

    pub fn most_receives(&self) -> u32 {
        self.state.lock().unwrap().receives.values().copied().max().unwrap_or(0)
    }

    pub fn calls(&self, action: &'static str) -> u64 {
        self.state.lock().unwrap().calls.get(action).copied().unwrap_or(0)
    }

    fn chance(&self, probability: f64) -> bool {
        self.random.lock().unwrap().random_bool(probability)
    }

    async fn travel(&self) {
        let milliseconds = self.random.lock().unwrap().random_range(1..8);
        sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Wraps an effect in the faults of the way to the service.
    async fn call<T>(&self, action: &'static str, effect: impl FnOnce(&mut State) -> T) -> Result<T, QueueError> {
        self.travel().await;
        let faults = *self.faults.lock().unwrap();
        *self.state.lock().unwrap().calls.entry(action).or_default() += 1;
        if self.chance(faults.refused) {
            return Err(QueueError::Transient("refused".into()));
        }
        let result = effect(&mut self.state.lock().unwrap());
        self.travel().await;
        if self.chance(faults.lost_reply) { Err(QueueError::Transient("reply lost".into())) } else { Ok(result) }
    }

    async fn batch(&self, action: &'static str, handles: &[Handle], effect: impl Fn(&mut State, u64)) -> Result<Failures, QueueError> {
        let entry = self.faults.lock().unwrap().entry;
        let refused: Vec<bool> = handles.iter().map(|_| self.chance(entry)).collect();
        let fifo = self.fifo;
        self.call(action, |state| {
            let mut failures = Vec::new();
            for (handle, refused) in handles.iter().zip(refused) {
                let number: u64 = handle.record.message.receipt_handle.parse().unwrap();
                let found =
                    state.messages.iter().find(|(_, stored)| stored.handle == number).map(|(place, stored)| (*place, stored.visible_at));
                match found {
                    _ if refused => failures.push((handle.key, EntryError::Transient)),
                    Some((place, visible_at)) if !fifo || visible_at > Instant::now() => effect(state, place),
                    Some(_) => failures.push((handle.key, EntryError::Expired)),
                    None if fifo => failures.push((handle.key, EntryError::Expired)),
                    None => {}
                }
            }
            failures
        })
        .await
    }
}

impl State {
    fn take(&mut self, fifo: bool, maximum: usize, visibility: Duration) -> Vec<Message> {
        let now = Instant::now();
        let mut locked: HashSet<String> = HashSet::new();
        if fifo {
            locked.extend(self.messages.values().filter(|stored| stored.visible_at > now).map(|stored| stored.group.clone()));
        }
        let mut taken = Vec::new();
        for (place, stored) in &mut self.messages {
            if taken.len() == maximum || stored.visible_at > now || locked.contains(&stored.group) {
                continue;
            }
            self.handles += 1;
            stored.handle = self.handles;
            stored.visible_at = now + visibility;
            stored.receives += 1;
            *self.receives.entry(stored.id.clone()).or_default() += 1;
            taken.push(Message {
                id: stored.id.clone(),
                receipt_handle: stored.handle.to_string(),
                body: stored.body.clone(),
                receive_count: stored.receives,
                group: Some(stored.group.clone()),
                sequence: Some(place.to_string()),
                attributes: stored.attributes.clone(),
                ..Message::default()
            });
        }
        taken
    }
}

impl Queue for ModelQueue {
    async fn check(&self) -> Result<QueueFacts, Problem> {
        Ok(QueueFacts { maximum_message_size: 1024 * 1024, retention: Duration::from_secs(14 * 86_400) })
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }

    async fn receive(&self, maximum: usize, wait: Duration, visibility: Duration) -> Result<Vec<Message>, QueueError> {
        let end = Instant::now() + wait;
        loop {
            let fifo = self.fifo;
            let some = !self.state.lock().unwrap().messages.is_empty();
            let messages = if some || Instant::now() >= end {
                self.call("receive", |state| state.take(fifo, maximum, visibility)).await?
            } else {
                Vec::new()
            };
            if !messages.is_empty() || Instant::now() >= end {
                return Ok(messages);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn delete(&self, handles: &[Handle]) -> Result<Failures, QueueError> {
        self.batch("delete", handles, |state, place| {
            state.messages.remove(&place);
        })
        .await
    }

    async fn change_visibility(&self, handles: &[Handle], visibility: Duration) -> Result<Failures, QueueError> {
        let action = if visibility.is_zero() { "release" } else { "extend" };
        self.batch(action, handles, |state, place| {
            if let Some(stored) = state.messages.get_mut(&place) {
                stored.visible_at = Instant::now() + visibility;
            }
        })
        .await
    }

    async fn dead_letter(&self, message: &Message, fault: &RowFault, _: &str) -> Result<(), QueueError> {
        self.call("dead-letter", |state| {
            state.dead.insert(message.id.clone(), fault.sqlstate.clone().unwrap_or_else(|| fault.reason.clone()));
        })
        .await
    }
}
