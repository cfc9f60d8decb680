//! An HTTP proxy in front of an endpoint, of AWS mostly, that counts the calls of each action and places faults by action. It knows the action of
//! the JSON protocol (header `X-Amz-Target`, SQS) and of the Query protocol (form field `Action`, RDS); that of another request is its method and
//! path. Bodies are passed on as they come, so that it costs little in a benchmark.

mod answer;
mod forward;
mod plan;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) use forward::serve;
use plan::Plan;

use super::with_port_of_first;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpFault {
    /// The endpoint acts on the request, then the connection is cut instead of the answer.
    ReplyLost,
    /// The connection is cut, the endpoint sees nothing.
    RequestLost,
    /// Of a batch of the JSON protocol (`SendMessageBatch`, `DeleteMessageBatch`, `ChangeMessageVisibilityBatch`), the entries at these
    /// positions do not reach the endpoint and are answered in `Failed`; the others are done.
    PartialFailure {
        /// Positions in the batch, from 0; those beyond its end are ignored.
        positions: Vec<usize>,
        /// The code of the failed entries, such as `InternalError` or `ReceiptHandleIsInvalid`.
        code: String,
        /// Whether the answer blames the sender: such an entry is not worth a retry.
        sender_fault: bool,
    },
    /// This answer instead of the endpoint's, which sees nothing.
    Error {
        /// The HTTP status.
        status: u16,
        /// The name of the error as in AWS's documentation, such as `ThrottlingException`, `AccessDeniedException`, `QueueDoesNotExist`.
        code: String,
    },
    /// No answer ever; the connection stays open until the client leaves.
    Hung {
        /// Whether the endpoint acts on the request.
        forward: bool,
    },
    /// Passed on after this time.
    Delayed(Duration),
}

/// Which calls of an action a fault is placed on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extent {
    /// The next calls, as many as this.
    Next(u64),
    /// All calls until [`HttpFaultProxy::clear`].
    UntilCleared,
    /// Each call with this probability, until cleared; the same seed chooses the same calls.
    Randomly {
        /// From 0 to 1.
        probability: f64,
        /// Start of the random numbers.
        seed: u64,
    },
}

/// The calls of one action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls that arrived at the proxy.
    pub received: u64,
    /// Those of them on which a fault was placed.
    pub faulted: u64,
}

/// A running proxy; it ends, and its connections are closed, when this is dropped.
#[derive(Debug)]
pub struct HttpFaultProxy {
    addresses: Vec<SocketAddr>,
    state: Arc<Mutex<State>>,
    _listeners: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    plan: Plan,
    calls: BTreeMap<String, Calls>,
}

impl HttpFaultProxy {
    /// Listens on each address of `listen` and forwards to `upstream`, without TLS on either side. Port 0 is a free one; on the second and
    /// later addresses it means the port of the first. The `Host` header is kept, so that URLs in answers lead through the proxy.
    ///
    /// # Errors
    /// An address cannot be bound.
    pub async fn start(listen: &[SocketAddr], upstream: SocketAddr) -> anyhow::Result<Self> {
        let mut proxy = Self { addresses: Vec::new(), state: Arc::default(), _listeners: JoinSet::new() };
        let forwarder = Arc::new(forward::Forwarder::new(upstream, proxy.state.clone()));
        for address in listen {
            let address = with_port_of_first(*address, &proxy.addresses);
            let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            proxy.addresses.push(listener.local_addr()?);
            let forwarder = forwarder.clone();
            proxy._listeners.spawn(serve(listener, move |request| forwarder.clone().call(request)));
        }
        Ok(proxy)
    }

    /// All addresses that it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The URL of its first address: the endpoint URL for the SDK.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.addresses.first().map(|address| format!("http://{address}")).unwrap_or_default()
    }

    /// Places a fault on calls of `action` (`ReceiveMessage`; `*` is every action). Of several faults that fit a call the one placed first
    /// is taken.
    pub fn place(&self, action: &str, fault: HttpFault, extent: Extent) {
        self.state().plan.add(action, fault, extent);
    }

    /// Removes all faults. Hung and delayed calls stay as they are.
    pub fn clear(&self) {
        self.state().plan = Plan::default();
    }

    /// The calls of `action` so far.
    #[must_use]
    pub fn calls(&self, action: &str) -> Calls {
        self.state().calls.get(action).copied().unwrap_or_default()
    }

    /// The calls of every action so far.
    #[must_use]
    pub fn all_calls(&self) -> BTreeMap<String, Calls> {
        self.state().calls.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Counts a call and says what happens to it.
    fn call(&mut self, action: &str) -> Option<HttpFault> {
        let fault = self.plan.fault(action);
        if !self.calls.contains_key(action) {
            self.calls.insert(action.to_owned(), Calls::default());
        }
        if let Some(calls) = self.calls.get_mut(action) {
            calls.received += 1;
            calls.faulted += u64::from(fault.is_some());
        }
        fault
    }
}
