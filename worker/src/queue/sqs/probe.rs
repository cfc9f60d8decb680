//! What a drill's probe needs of a queue: to send marked messages, each once, and to know how long the queue delays them.

use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};
use durable_write_crds::probe::{PROBE_ATTRIBUTE, ProbeBody, ProbeMark};

use super::{Sqs, errors};
use crate::queue::QueueError;

/// The groups of a probe on a FIFO queue: one alone would measure how fast one group goes.
const GROUPS: i64 = 8;

/// Why a message was not confirmed.
#[derive(Debug)]
pub struct SendFailure {
    /// True when it is certainly not in the queue.
    pub refused: bool,
    /// What SQS said.
    pub error: QueueError,
}

impl Sqs {
    /// How long the queue delays each message, in seconds.
    ///
    /// # Errors
    /// SQS does not say.
    pub async fn delay_seconds(&self) -> Result<i64, QueueError> {
        let name = QueueAttributeName::DelaySeconds;
        let call = self.client.get_queue_attributes().queue_url(&self.located()?.url).attribute_names(name.clone());
        let answer = call.send().await.map_err(|error| errors::call(&error, "GetQueueAttributes"))?;
        Ok(answer.attributes().and_then(|attributes| attributes.get(&name)?.parse().ok()).unwrap_or(0))
    }

    /// Sends a probe's message, without the SDK's own retries: each send is one attempt.
    ///
    /// # Errors
    /// It was not confirmed; it may be in the queue all the same.
    pub async fn send_probe(&self, mark: &ProbeMark) -> Result<(), SendFailure> {
        let refused = |error| SendFailure { refused: true, error };
        let located = self.located().map_err(refused)?;
        let body = serde_json::to_string(&ProbeBody { durable_write_probe: mark.clone() }).unwrap_or_default();
        let attribute = MessageAttributeValue::builder().data_type("String").string_value(mark.attribute()).build();
        let attribute = attribute.map_err(|error| refused(QueueError::Transient(error.to_string())))?;
        let mut call = self.client.send_message().queue_url(&located.url).message_body(body).message_attributes(PROBE_ATTRIBUTE, attribute);
        if located.fifo {
            let group = format!("durable-write/{}/{}", mark.drill, mark.seq.rem_euclid(GROUPS));
            call = call.message_group_id(group).message_deduplication_id(format!("{}/{}", mark.drill, mark.seq));
        }
        let once = aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled());
        let answer = call.customize().config_override(once).send().await;
        answer.map(|_| ()).map_err(|error| SendFailure { refused: is_refused(&error), error: errors::call(&error, "SendMessage") })
    }
}

/// True when the message is certainly not in the queue: it was not sent, or SQS said that the sender is at fault.
fn is_refused<E>(error: &SdkError<E, aws_smithy_runtime_api::http::Response>) -> bool {
    match error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(answer) => answer.raw().status().as_u16() < 500,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::operation::send_message::SendMessageError;
    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_runtime_api::http::Response;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    type Failed = SdkError<SendMessageError, Response>;

    #[test]
    fn a_message_is_certainly_not_in_the_queue_only_when_sqs_has_refused_it_or_never_saw_it() {
        let answered = |status: u16| {
            let answer = Response::new(status.try_into().unwrap(), SdkBody::empty());
            is_refused(&Failed::service_error(SendMessageError::unhandled("said SQS"), answer))
        };
        assert!(answered(400) && answered(403), "refused or throttled");
        assert!(!answered(500) && !answered(503), "SQS may have taken it before it failed");
        assert!(!is_refused(&Failed::timeout_error("no answer")));
        assert!(!is_refused(&Failed::dispatch_failure(ConnectorError::io("reset".into()))));
        assert!(is_refused(&Failed::construction_failure("nothing was sent")));
    }
}
