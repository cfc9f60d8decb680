//! A drill that was deleted after its claim: nobody reconciles it any more, so its evidence is completed and its Lease given free here.
//! Nothing else is deleted.

use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{CLAIM_KEY, Claim};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ConfigMap;

use super::dereference::ask_rds;
use super::executor::{Executor, StepError};
use super::observed::{EvidenceSeen, LeaseSeen, Observed, ProbeSeen, Workers};
use super::step::{ending, is_settled};
use super::world::{Kubernetes, Rds, Surroundings};

impl<K: Kubernetes, R: Rds, S: Surroundings> Executor<K, R, S> {
    /// Completes the evidence in the ConfigMap of that name, when its drill is gone and nothing more can come of its call.
    pub(super) async fn look_after(&self, namespace: &str, config_map: &str) -> Result<(), StepError> {
        let Some(config_map) = self.kubernetes.get::<ConfigMap>(namespace, config_map).await? else { return Ok(()) };
        let Some(claim) = claim(&config_map) else { return Ok(()) };
        let evidence = EvidenceSeen::read(Some(config_map), &claim.drill.uid);
        let EvidenceSeen::Claimed(_, config_map) = &evidence else { return Ok(()) };
        let config_map = config_map.clone();
        let drill = self.kubernetes.get::<FailoverDrill>(namespace, &claim.drill.name).await?;
        if drill.is_some_and(|drill| drill.metadata.uid.as_deref() == Some(claim.drill.uid.as_str())) {
            return Ok(());
        }
        let since = claim.at.checked_sub(SignedDuration::from_secs(5)).ok();
        let (cluster, events) = ask_rds(&self.rds, Some(claim.cluster.identifier.clone()), since).await;
        let observed = Observed {
            evidence,
            pipeline: None,
            workers: Workers::default(),
            probe: ProbeSeen::None,
            lease: LeaseSeen::NotAsked,
            cluster,
            events,
        };
        let mut memory = self.take(&claim.drill.uid);
        memory.observe(&observed, None, self.surroundings.now(), self.surroundings.instant());
        if is_settled(&observed, &memory.known, &claim) {
            let ending = ending(Verdict::Aborted, reasons::DRILL_DELETED, "the drill was deleted while it ran");
            self.complete(&claim, &config_map, &observed, &ending, &mut memory).await?;
            self.free_lease(&claim.cluster.resource_id, &claim.drill.uid).await?;
        } else {
            self.put(&claim.drill.uid, memory);
        }
        Ok(())
    }
}

fn claim(config_map: &ConfigMap) -> Option<Claim> {
    serde_json::from_str(config_map.data.as_ref()?.get(CLAIM_KEY)?).ok()
}
