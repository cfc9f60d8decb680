use durable_write_crds::probe::ProbeBody;

use super::*;
use crate::decode::Decoder;
use crate::engine::{Event, Settings};
use crate::message::MessageAttribute;
use crate::problem::Problem;
use crate::queue::QueueFacts;

/// A worker that has found its writer, with what it asked for.
struct World {
    engine: Engine,
    now: Instant,
    polls: Vec<u64>,
    writes: Vec<u64>,
    probes: Vec<u64>,
    seeks: usize,
    closes: usize,
}

impl World {
    fn new(connections: usize) -> Self {
        let spec = serde_json::from_value(serde_json::json!({
            "queue": {"name": "orders"},
            "database": {"postgres": {"writer": "localhost:5432"}, "name": "shop", "credentials": {"secretRef": {"name": "db"}}},
            "target": {"table": {"name": "orders"}, "columns": [{"name": "id", "from": {"body": "/id"}}]},
            "idempotency": {"targetKey": {"columns": ["id"]}},
        }))
        .unwrap();
        let now = Instant::now();
        let engine = Engine::new(Settings { connections, ..Settings::new(&spec) }, Decoder::new(&spec), now);
        let mut world = Self { engine, now, polls: Vec::new(), writes: Vec::new(), probes: Vec::new(), seeks: 0, closes: 0 };
        let facts = QueueFacts { maximum_message_size: 1024, retention: Duration::from_secs(3600) };
        world.tell(Event::QueueChecked(Ok(facts)));
        world.tell(Event::WriterFound { identity: "1".to_owned(), name: "writer".to_owned() });
        world.tell(Event::Prepared(Ok(())));
        world.receive(vec![user(0)]);
        world.written(Ok(1));
        (world.seeks, world.closes) = (0, 0);
        world
    }

    fn tell(&mut self, event: Event) {
        for effect in self.engine.handle(event, self.now) {
            match effect {
                Effect::Poll { poll, .. } => self.polls.push(poll),
                Effect::Write { write, .. } => self.writes.push(write),
                Effect::WriteProbes { write, .. } => self.probes.push(write),
                Effect::Seek => self.seeks += 1,
                Effect::CloseConnections => self.closes += 1,
                _ => {}
            }
        }
    }

    fn receive(&mut self, messages: Vec<Message>) {
        if self.polls.is_empty() {
            self.wait(25);
        }
        let poll = self.polls.pop().unwrap();
        self.tell(Event::Received { poll, started: self.now, result: Ok(messages) });
    }

    fn written(&mut self, result: Result<u64, WriteError>) {
        let write = self.writes.remove(0);
        self.tell(Event::Written { write, result });
    }

    fn probes_written(&mut self, result: Result<u64, WriteError>) {
        let write = self.probes.remove(0);
        self.tell(Event::ProbesWritten { write, result });
    }

    fn wait(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.tell(Event::Tick);
    }
}

fn user(number: i64) -> Message {
    Message { id: format!("u{number}"), body: format!(r#"{{"id": {number}}}"#), ..Message::default() }
}

fn probe(seq: i64) -> Message {
    let mark = ProbeMark { drill: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(), seq, expires: i64::MAX };
    let attribute = MessageAttribute { data_type: "String".to_owned(), value: AttributeValue::Text(mark.attribute()) };
    let body = serde_json::to_string(&ProbeBody { durable_write_probe: mark }).unwrap();
    Message { id: format!("p{seq}"), body, attributes: [(PROBE_ATTRIBUTE.to_owned(), attribute)].into(), ..Message::default() }
}

fn error(class: Class) -> WriteError {
    WriteError { class, sqlstate: None, column: None, problem: Problem::new("StatementFailed", "database", "test") }
}

#[test]
fn a_probe_that_waits_while_the_pipeline_is_at_fault_does_not_keep_the_worker_busy() {
    let mut world = World::new(4);
    world.receive(vec![probe(1), user(1)]);
    world.probes_written(Err(error(Class::Retry)));
    world.written(Err(error(Class::Ambiguous)));
    assert!(matches!(world.engine.phase, Phase::Paused { .. }));
    world.wait(100);
    let wakes = world.engine.wake_at(world.now);
    assert!(wakes > world.now + Duration::from_millis(100), "it wakes again after {:?}", wakes - world.now);
}
