//! What the proxy says in the stead of the endpoint.

use anyhow::Context;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::HeaderValue;
use hyper::{Response, http};
use serde_json::{Value, json};

const JSON: &str = "application/x-amz-json-1.0";

/// An error of the JSON protocol as SQS sends it: the name in the body, and the code of the older Query protocol in a header, by which the
/// SDK knows the error.
pub(super) fn json_error(status: u16, code: &str) -> http::Result<Response<Full<Bytes>>> {
    let blame = if status < 500 { "Sender" } else { "Receiver" };
    let body = json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": "placed by the fault proxy"});
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, JSON)
        .header("x-amzn-query-error", format!("{};{blame}", query_code(code)))
        .body(body.to_string().into())
}

/// The code of an SQS error in the Query protocol.
fn query_code(code: &str) -> String {
    match code {
        "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue".to_owned(),
        "QueueNameExists" => "QueueAlreadyExists".to_owned(),
        "BatchEntryIdsNotDistinct"
        | "BatchRequestTooLong"
        | "EmptyBatchRequest"
        | "InvalidBatchEntryId"
        | "MessageNotInflight"
        | "PurgeQueueInProgress"
        | "QueueDeletedRecently"
        | "TooManyEntriesInBatchRequest"
        | "UnsupportedOperation" => format!("AWS.SimpleQueueService.{code}"),
        "KmsAccessDenied" => "KMS.AccessDeniedException".to_owned(),
        "KmsOptInRequired" => "KMS.OptInRequired".to_owned(),
        "KmsThrottled" => "KMS.ThrottlingException".to_owned(),
        "KmsDisabled" | "KmsInvalidKeyUsage" | "KmsInvalidState" | "KmsNotFound" => code.replacen("Kms", "KMS.", 1) + "Exception",
        _ => code.to_owned(),
    }
}

/// An error of the Query protocol, as RDS and STS send it.
pub(super) fn query_error(status: u16, code: &str) -> http::Result<Response<Full<Bytes>>> {
    let blame = if status < 500 { "Sender" } else { "Receiver" };
    let body = format!(
        "<ErrorResponse><Error><Type>{blame}</Type><Code>{code}</Code><Message>placed by the fault proxy</Message></Error>\
         <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
    );
    Response::builder().status(status).header(CONTENT_TYPE, "text/xml").body(body.into())
}

/// A batch request taken apart.
pub(super) struct Batch {
    /// The request with the entries that go on, if any.
    pub forwarded: Option<String>,
    /// The entries of the answer's `Failed`.
    pub failed: Vec<Value>,
}

impl Batch {
    /// Takes the entries at `positions` out of a request.
    pub(super) fn split(request: &[u8], positions: &[usize], code: &str, sender_fault: bool) -> anyhow::Result<Self> {
        let mut request: Value = serde_json::from_slice(request).context("a partial failure needs a request of the JSON protocol")?;
        let entries = request.get_mut("Entries").and_then(Value::as_array_mut).context("a partial failure needs a batch action")?;
        let mut failed = Vec::new();
        let mut position = 0;
        entries.retain(|entry| {
            let fails = positions.contains(&position);
            if fails {
                failed.push(json!({"Id": entry["Id"], "Code": code, "SenderFault": sender_fault, "Message": "placed by the fault proxy"}));
            }
            position += 1;
            !fails
        });
        let empty = entries.is_empty();
        Ok(Self { forwarded: (!empty).then(|| request.to_string()), failed })
    }
}

/// The answer to a batch of which nothing reached the endpoint.
pub(super) fn json_success() -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from_static(br#"{"Successful":[]}"#));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    answer
}

/// The endpoint's answer with more entries in `Failed`; an error passes unchanged.
pub(super) fn with_failed(answer: Response<Bytes>, more: Vec<Value>) -> anyhow::Result<Response<Full<Bytes>>> {
    let (mut head, body) = answer.into_parts();
    if !head.status.is_success() {
        return Ok(Response::from_parts(head, body.into()));
    }
    let mut body: Value = serde_json::from_slice(&body).context("the endpoint's answer is not JSON")?;
    let failed = body.as_object_mut().context("the endpoint's answer is no object")?.entry("Failed").or_insert_with(|| json!([]));
    failed.as_array_mut().context("Failed is no list")?.extend(more);
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, body.to_string().into()))
}
