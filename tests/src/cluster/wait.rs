//! What is waited for when a cluster starts.

use anyhow::bail;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

pub(super) use crate::wait::until;

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
