//! What the loop needs of a queue. The loop knows only this trait; SQS implements it, and so does the model in the simulation.

pub mod sqs;

use std::future::Future;
use std::time::Duration;

use crate::fault::RowFault;
use crate::message::Message;
use crate::problem::Problem;

/// What was found out about a queue before anything is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFacts {
    /// The largest message that it takes, in bytes.
    pub maximum_message_size: usize,
    /// How long it keeps a message.
    pub retention: Duration,
}

/// How many messages are where, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Waiting to be received.
    pub visible: i64,
    /// Received and not yet deleted.
    pub in_flight: i64,
    /// In the dead-letter queue.
    pub dead_lettered: Option<i64>,
}

/// Why a call to the queue failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// It may work the next time: throttled, a fault of the service or of the way to it.
    Transient(String),
    /// It will not work until somebody acts: a right, a key, the queue itself is missing.
    Problem(Problem),
}

/// Why one entry of a batch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// It may work the next time.
    Transient,
    /// It will never work: the handle has expired or is not known.
    Expired,
}

/// The receipt handle of a message, with the number that the caller knows it by.
#[derive(Clone, Debug)]
pub struct Handle {
    /// The caller's number.
    pub key: u64,
    /// The record whose message's receipt handle is meant.
    pub record: std::sync::Arc<crate::decode::Record>,
}

/// The entries of a batch that failed; those not named have succeeded.
pub type Failures = Vec<(u64, EntryError)>;

/// A queue that hands out messages until they are deleted.
///
/// Every method may take effect although it fails: an answer can be lost. Callers must be right in both cases.
pub trait Queue: Send + Sync + 'static {
    /// Looks the queue and its dead-letter queue up and checks that they can be used. Sends and receives nothing.
    fn check(&self) -> impl Future<Output = Result<QueueFacts, Problem>> + Send;

    /// How many messages are where.
    fn depth(&self) -> impl Future<Output = Result<Depth, QueueError>> + Send;

    /// Takes up to `maximum` messages, waiting up to `wait` for the first. They stay invisible to others for `visibility`.
    fn receive(
        &self,
        maximum: usize,
        wait: Duration,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Message>, QueueError>> + Send;

    /// Deletes up to ten messages.
    fn delete(&self, handles: &[Handle]) -> impl Future<Output = Result<Failures, QueueError>> + Send;

    /// Makes up to ten messages visible after `visibility` from now; at once when it is zero.
    fn change_visibility(&self, handles: &[Handle], visibility: Duration) -> impl Future<Output = Result<Failures, QueueError>> + Send;

    /// Puts a copy of a message into the dead-letter queue, with the reason.
    fn dead_letter(&self, message: &Message, fault: &RowFault, key: &str) -> impl Future<Output = Result<(), QueueError>> + Send;
}
