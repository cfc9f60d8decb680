//! What an error of SQS means: it may work the next time, or somebody must act.

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use durable_write_crds::conditions::reasons;

use super::super::QueueError;
use super::queue_problem;
use crate::aws::{describe, no_credentials};
use crate::problem::Problem;

/// What the failure of a call means.
pub(super) fn call<E, R>(error: &SdkError<E, R>, action: &str) -> QueueError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match problem(error, action) {
        Some(problem) => QueueError::Problem(problem),
        None => QueueError::Transient(format!("{action}: {}", describe(error))),
    }
}

/// The problem that somebody must mend, if that is what the failure means.
pub(super) fn problem<E, R>(error: &SdkError<E, R>, action: &str) -> Option<Problem>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let text = describe(error);
    let Some(code) = error.as_service_error().and_then(ProvideErrorMetadata::code) else {
        let credentials = text.contains("credentials") || text.contains("CredentialsNotLoaded");
        return credentials.then(|| no_credentials("queue", &text));
    };
    let code = code.rsplit(['.', '#']).next().unwrap_or(code);
    match code {
        "QueueDoesNotExist" | "NonExistentQueue" | "QueueDeletedRecently" => {
            let message = format!(
                "the queue does not exist, or the workers may not see it ({action}: {code}): create it, or mend queue.name, the region or the workers' rights"
            );
            Some(queue_problem(reasons::QUEUE_MISSING, message))
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSecurity"
        | "MissingAuthenticationToken"
        | "AuthFailure" => {
            let message = format!(
                "{action} is denied ({code}): give the workers' role that right on the queue; `durable-write-worker check` prints the policy"
            );
            Some(queue_problem(reasons::QUEUE_ACCESS_DENIED, message))
        }
        _ if code.starts_with("Kms") && !code.contains("Throttl") => {
            let message =
                format!("{action} fails for the queue's key ({code}): give the workers' role kms:Decrypt and kms:GenerateDataKey on it");
            Some(queue_problem(reasons::QUEUE_ACCESS_DENIED, message))
        }
        _ => None,
    }
}
