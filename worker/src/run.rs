//! The loop: carries out what the engine decides and brings back what became of it. Every call runs beside the loop, so that nothing that
//! hangs holds up anything else.

use std::sync::Arc;
use std::time::Duration;

use durable_write_crds::conditions::reasons;
use durable_write_crds::wire::WorkerState;
use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout};

use crate::decode::Record;
use crate::engine::{Effect, Engine, Event, VISIBILITY};
use crate::problem::Problem;
use crate::queue::{Depth, Handle, Queue};
use crate::sink::{Class, Found, Sink, WriteError};

/// A statement that has not answered by then is given up; whether it was carried out is not known.
pub const STATEMENT_DEADLINE: Duration = Duration::from_secs(30);
/// How often the queue's depth is asked for.
const DEPTH_EVERY: Duration = Duration::from_secs(10);
/// The same after it was not answered.
const DEPTH_RETRY: Duration = Duration::from_secs(1);
/// How often the state that people see is made anew.
const STATE_EVERY: Duration = Duration::from_millis(500);
/// How many calls that extend or give back messages are under way.
const VISIBILITY_CALLS: usize = 8;
/// A drain that has not ended by then is cut off: what is still held comes back when its visibility ends.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(60);

/// What came back from beside the loop.
struct Done<C> {
    event: Event,
    connection: Option<Returned<C>>,
}

/// A connection that comes back.
enum Returned<C> {
    /// It was used for a statement; those of an earlier generation are closed.
    Used { generation: u64, connection: C },
    /// It found the writer, and carries the first batch.
    Found(C),
}

/// The loop's own state: connections, and what is under way.
struct Loop<Q, S: Sink> {
    queue: Arc<Q>,
    sink: Arc<S>,
    done: mpsc::UnboundedSender<Done<S::Connection>>,
    /// Idle connections to the writer, at most as many as the pipeline may have.
    idle: Vec<S::Connection>,
    most_idle: usize,
    /// Grows each time that all connections are closed.
    generation: u64,
    /// What uses a connection, to be given up when the writer is lost.
    statements: Vec<AbortHandle>,
    visibility: Arc<Semaphore>,
}

/// Moves messages until `stop` ends, then drains. The state that people see goes to `state`.
pub async fn run<Q: Queue, S: Sink>(
    mut engine: Engine,
    queue: Q,
    sink: S,
    state: watch::Sender<Option<WorkerState>>,
    stop: impl Future<Output = ()>,
) {
    let (done, mut came_back) = mpsc::unbounded_channel();
    let mut work = Loop {
        queue: Arc::new(queue),
        sink: Arc::new(sink),
        done,
        idle: Vec::new(),
        most_idle: engine.connections(),
        generation: 0,
        statements: Vec::new(),
        visibility: Arc::new(Semaphore::new(VISIBILITY_CALLS)),
    };
    let (depth, watcher) = watch_depth(work.queue.clone());
    let mut state_at = Instant::now();
    let mut deadline: Option<Instant> = None;
    let mut stop = std::pin::pin!(stop);
    let first = engine.handle(Event::Tick, Instant::now());
    work.carry_out(first, None);
    while !engine.is_drained() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
        let (event, returned) = tokio::select! {
            () = &mut stop, if deadline.is_none() => {
                tracing::info!("draining: nothing more is received; what is held is written, or given back");
                deadline = Some(Instant::now() + DRAIN_DEADLINE);
                (Event::Drain, None)
            }
            Some(done) = came_back.recv() => (done.event, done.connection),
            () = sleep_until(engine.wake_at(Instant::now()).min(state_at)) => (Event::Tick, None),
        };
        let found = work.take_back(returned);
        let now = Instant::now();
        let effects = engine.handle(event, now);
        work.carry_out(effects, found);
        if now >= state_at {
            state_at = now + STATE_EVERY;
            let wall = Timestamp::now();
            let snapshot = engine.snapshot(now, wall, *depth.borrow());
            state.send_modify(|last| *last = Some(snapshot.document(last.as_ref(), wall)));
        }
    }
    watcher.abort();
    tracing::info!(complete = engine.is_drained(), "drained");
}

impl<Q: Queue, S: Sink> Loop<Q, S> {
    /// Keeps a used connection; one that found the writer is for after the effects that close the others.
    fn take_back(&mut self, returned: Option<Returned<S::Connection>>) -> Option<S::Connection> {
        match returned? {
            Returned::Used { generation, connection } => {
                if generation == self.generation {
                    self.keep(Some(connection));
                }
                None
            }
            Returned::Found(connection) => Some(connection),
        }
    }

    fn keep(&mut self, connection: Option<S::Connection>) {
        self.idle.extend(connection);
        self.idle.truncate(self.most_idle);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, mut found: Option<S::Connection>) {
        if !effects.iter().any(|effect| matches!(effect, Effect::CloseConnections)) {
            self.keep(found.take());
        }
        for effect in effects {
            let queue = self.queue.clone();
            match effect {
                Effect::CheckQueue => self.call(async move { Event::QueueChecked(queue.check().await) }),
                Effect::Poll { poll, maximum, wait } => {
                    let started = Instant::now();
                    self.call(async move { Event::Received { poll, started, result: queue.receive(maximum, wait, VISIBILITY).await } });
                }
                Effect::Delete(handles) => {
                    self.call(async move { Event::Deleted { keys: keys(&handles), result: queue.delete(&handles).await } });
                }
                Effect::DeadLetter { handle, fault, key } => self.call(async move {
                    let result = queue.dead_letter(&handle.record.message, &fault, &key).await;
                    Event::DeadLettered { key: handle.key, result }
                }),
                Effect::Extend(handles) => self.extend(handles),
                Effect::Release(handles) => self.release(handles),
                Effect::CloseConnections => {
                    self.generation += 1;
                    self.idle.clear();
                    self.statements.drain(..).for_each(|task| task.abort());
                    self.keep(found.take());
                }
                Effect::Seek => self.seek(),
                Effect::Prepare => self.run_statement(Statement::Prepare),
                Effect::Write { write, rows } => self.run_statement(Statement::Write(write, rows)),
                Effect::WriteProbes { write, rows } => self.run_statement(Statement::WriteProbes(write, rows)),
            }
        }
    }

    /// Runs a call to the queue beside the loop.
    fn call(&self, call: impl Future<Output = Event> + Send + 'static) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let event = call.await;
            done.send(Done { event, connection: None }).ok();
        });
    }

    fn extend(&self, handles: Vec<Handle>) {
        let (queue, permits) = (self.queue.clone(), self.visibility.clone());
        self.call(async move {
            let _permit = permits.acquire().await;
            let started = Instant::now();
            Event::Extended { keys: keys(&handles), started, result: queue.change_visibility(&handles, VISIBILITY).await }
        });
    }

    /// Gives messages back one call after the other, so that each group comes back in its order.
    fn release(&self, handles: Vec<Handle>) {
        let queue = self.queue.clone();
        self.call(async move {
            for batch in handles.chunks(10) {
                if let Err(error) = queue.change_visibility(batch, Duration::ZERO).await {
                    tracing::info!(?error, "messages were not given back; they come back when their visibility ends");
                    break;
                }
            }
            Event::Released { keys: keys(&handles) }
        });
    }

    fn seek(&self) {
        let (sink, done) = (self.sink.clone(), self.done.clone());
        tokio::spawn(async move {
            let hindered = done.clone();
            let report = move |problem| {
                hindered.send(Done { event: Event::SeekHindered(problem), connection: None }).ok();
            };
            let Found { connection, identity, name } = sink.seek(report).await;
            tracing::info!(writer = name, "writer found");
            done.send(Done { event: Event::WriterFound { identity, name }, connection: Some(Returned::Found(connection)) }).ok();
        });
    }

    /// Runs a statement beside the loop, on an idle connection or on a new one.
    fn run_statement(&mut self, statement: Statement) {
        let (sink, done, generation) = (self.sink.clone(), self.done.clone(), self.generation);
        let mut connection = self.idle.pop();
        let task = tokio::spawn(async move {
            let result = timeout(STATEMENT_DEADLINE, carry_out_statement(&*sink, &mut connection, &statement)).await;
            let result = result.unwrap_or_else(|_| Err(timed_out()));
            let usable = result.as_ref().err().is_none_or(|error| error.class.leaves_connection_usable());
            let connection = connection.filter(|_| usable).map(|connection| Returned::Used { generation, connection });
            let event = match statement {
                Statement::Prepare => Event::Prepared(result.map(|_| ())),
                Statement::Write(write, _) => Event::Written { write, result },
                Statement::WriteProbes(write, _) => Event::ProbesWritten { write, result },
            };
            done.send(Done { event, connection }).ok();
        });
        self.statements.retain(|task| !task.is_finished());
        self.statements.push(task.abort_handle());
    }
}

/// What is done on a connection to the writer.
enum Statement {
    /// Look at the table.
    Prepare,
    /// Write rows: the statement's number, and the rows.
    Write(u64, Vec<Arc<Record>>),
    /// Write messages of a probe: the same.
    WriteProbes(u64, Vec<Arc<Record>>),
}

impl Statement {
    /// What it means that there is no connection for it: for a probe's messages never more than that they must wait.
    fn unreached(&self, error: WriteError) -> WriteError {
        match self {
            Self::Prepare | Self::Write(..) => error,
            Self::WriteProbes(..) => WriteError { class: Class::Reconnect, ..error },
        }
    }
}

async fn carry_out_statement<S: Sink>(sink: &S, connection: &mut Option<S::Connection>, statement: &Statement) -> Result<u64, WriteError> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(sink.connect().await.map_err(|error| statement.unreached(error))?),
    };
    match statement {
        Statement::Prepare => sink.prepare(connection).await.map(|()| 0),
        Statement::Write(_, rows) => sink.write(connection, rows).await,
        Statement::WriteProbes(_, rows) => sink.write_probes(connection, rows).await,
    }
}

fn timed_out() -> WriteError {
    let message = format!("a statement was not answered within {} s", STATEMENT_DEADLINE.as_secs());
    let problem = Problem::new(reasons::DATABASE_OUTAGE, "database", message);
    WriteError { class: Class::Outage, sqlstate: None, column: None, problem }
}

/// Asks for the queue's depth now and then, for people.
fn watch_depth<Q: Queue>(queue: Arc<Q>) -> (watch::Receiver<Option<Depth>>, JoinHandle<()>) {
    let (send, receive) = watch::channel(None);
    let task = tokio::spawn(async move {
        loop {
            let depth = queue.depth().await;
            let pause = if depth.is_ok() { DEPTH_EVERY } else { DEPTH_RETRY };
            depth.ok().map(|depth| send.send_replace(Some(depth)));
            tokio::time::sleep(pause).await;
        }
    });
    (receive, task)
}

fn keys(handles: &[Handle]) -> Vec<u64> {
    handles.iter().map(|handle| handle.key).collect()
}
