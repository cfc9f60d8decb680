//! What gives a pod on EKS its AWS identity, as the agent of EKS Pod Identity does: a URL that answers with temporary credentials.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::{Json, Router, routing::get};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::aurora::AwsIdentity;

/// How long credentials last, as on EKS.
const LASTS: SignedDuration = SignedDuration::from_hours(6);

/// A running agent; it ends when dropped.
#[derive(Debug)]
pub struct PodIdentity {
    url: String,
    gives: Arc<Mutex<Value>>,
    served: JoinHandle<()>,
}

impl Drop for PodIdentity {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl PodIdentity {
    /// Starts an agent that gives `identity`.
    ///
    /// # Errors
    /// It cannot listen.
    pub async fn start(identity: &AwsIdentity) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for pods that want an identity")?;
        let url = format!("http://{}/v1/credentials", listener.local_addr()?);
        let gives = Arc::new(Mutex::new(answer(identity)));
        let given = gives.clone();
        let give = async move || Json(given.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let served =
            tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/credentials", get(give))).await.unwrap_or(()) });
        Ok(Self { url, gives, served })
    }

    /// Gives another identity from now on.
    pub fn set(&self, identity: &AwsIdentity) {
        *self.gives.lock().unwrap_or_else(PoisonError::into_inner) = answer(identity);
    }

    /// For `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn answer(identity: &AwsIdentity) -> Value {
    json!({
        "AccessKeyId": identity.access_key_id,
        "SecretAccessKey": identity.secret_access_key,
        "Token": identity.session_token,
        "Expiration": (Timestamp::now() + LASTS).to_string(),
    })
}
