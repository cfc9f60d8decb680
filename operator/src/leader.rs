//! Which of several operators acts: the one that holds the Lease. A Lease is no fence, so what must not happen twice has one of its own (a
//! drill's claim); and nothing that cannot be undone is begun when the renewal is overdue.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};

use crate::pipeline::names::MANAGER;
use crate::settings::Settings;

/// The name of the Lease.
const LEASE: &str = MANAGER;
/// How long the Lease holds after it was renewed, in seconds.
const HOLDS: u64 = 30;
/// It is renewed so long before, in seconds.
const GRACE: u64 = 15;
/// What must not be begun when the renewal is overdue is begun while the Lease holds for so long at least, in seconds.
const MARGIN: i64 = 12;
/// How long to wait until an API server that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(5);

/// Does `work` while this process leads, and hands over when that has ended by `shutdown`.
///
/// # Errors
/// The Lease was lost, or `work` failed.
pub(crate) async fn lead<W: Future<Output = anyhow::Result<()>>>(
    client: &Client,
    settings: &Settings,
    shutdown: impl Future<Output = ()> + Clone,
    work: impl FnOnce() -> W,
) -> anyhow::Result<()> {
    let manager = tokio::select! {
        manager = manager(client, settings) => manager,
        () = shutdown.clone() => return Ok(()),
    };
    let (mut leads, task) = manager.watch().await;
    let leading = async {
        leads.wait_for(|leads| *leads).await.context("the leader election ended")?;
        tracing::info!(identity = settings.identity, "leads");
        anyhow::Ok(())
    };
    let elected = tokio::select! {
        elected = leading => elected.map(|()| true),
        () = shutdown.clone() => Ok(false),
    };
    let result = match elected {
        Ok(true) => tokio::select! {
            result = work() => result,
            _ = leads.wait_for(|leads| !*leads) => Err(anyhow::anyhow!("another process may lead now: this one ends, and starts again")),
        },
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    // Closing the channel makes the task give the Lease free.
    drop(leads);
    match tokio::time::timeout(RETRY, task).await {
        Ok(Ok(Ok(_))) => tracing::info!("the leader's Lease is free"),
        _ => tracing::warn!("the leader's Lease could not be given free: it ends by its time"),
    }
    result
}

async fn manager(client: &Client, settings: &Settings) -> LeaseManager {
    loop {
        let builder = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(&settings.namespace)
            .with_identity(&settings.identity)
            .with_field_manager(format!("{MANAGER}-{}", settings.identity))
            .with_duration(HOLDS)
            .with_grace(GRACE);
        match builder.build().await {
            Ok(manager) => return manager,
            Err(error) => {
                tracing::warn!(%error, namespace = settings.namespace, "the leader's Lease cannot be read or made: install the chart's roles");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// True when the Lease is this process's and holds long enough to begin what cannot be undone.
pub(crate) async fn leads_for_long(client: &Client, settings: &Settings) -> bool {
    let leases = Api::<Lease>::namespaced(client.clone(), &settings.namespace);
    let Ok(Ok(lease)) = tokio::time::timeout(RETRY, leases.get(LEASE)).await else { return false };
    holds(&lease, &settings.identity, Timestamp::now())
}

fn holds(lease: &Lease, identity: &str, now: Timestamp) -> bool {
    let Some(spec) = &lease.spec else { return false };
    let left = spec
        .renew_time
        .as_ref()
        .map(|renewed| i64::from(spec.lease_duration_seconds.unwrap_or(0)) - now.duration_since(renewed.0).as_secs());
    spec.holder_identity.as_deref() == Some(identity) && left.is_some_and(|left| left >= MARGIN)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    #[test]
    fn nothing_is_begun_with_the_renewal_overdue_or_under_another_leader() {
        let renewed = Timestamp::from_second(1_800_000_000).unwrap();
        let lease = Lease {
            spec: Some(LeaseSpec {
                holder_identity: Some("a".to_owned()),
                lease_duration_seconds: Some(30),
                renew_time: Some(MicroTime(renewed)),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        let after = |seconds| renewed + jiff::SignedDuration::from_secs(seconds);
        assert!(holds(&lease, "a", after(15)));
        assert!(!holds(&lease, "a", after(19)));
        assert!(!holds(&lease, "b", after(1)));
        assert!(!holds(&Lease::default(), "a", after(1)));
    }
}
