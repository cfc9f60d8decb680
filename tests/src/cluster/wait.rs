//! Waiting for conditions.

use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use tokio::time::{Instant, sleep};

/// Asks again and again until the answer is yes; the error says what was waited for and what the last answer was.
pub(super) async fn until(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    loop {
        let Err(error) = ask().await else { return Ok(()) };
        if Instant::now() > end {
            return Err(error.context(format!("waited {} s for {what}", limit.as_secs())));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The API server says that it is ready.
pub(super) async fn api_server(client: &Client) -> anyhow::Result<()> {
    let request = hyper::Request::get("/readyz").body(Vec::new())?;
    client.request_text(request).await?;
    Ok(())
}

/// Pods can be made in the namespace `default`.
pub(super) async fn service_account(client: &Client) -> anyhow::Result<()> {
    match Api::<ServiceAccount>::namespaced(client.clone(), "default").get_opt("default").await? {
        Some(_) => Ok(()),
        None => bail!("the service account `default` is not there yet"),
    }
}
