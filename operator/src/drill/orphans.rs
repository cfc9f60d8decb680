//! A claim that nobody looks after any more. When its drill was deleted, its evidence is completed and its Lease given free here; when its drill
//! had ended before the claim came (the request was late), the drill is taken up again. Nothing else is deleted.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{CLAIM_KEY, Claim};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Resource;

use super::dereference::{ask_rds, since_claim};
use super::executor::{Executor, StepError};
use super::observed::{EvidenceSeen, LeaseSeen, Observed, ProbeSeen, Workers};
use super::step::{ending, has_ended, is_settled};
use super::world::{Kubernetes, Rds, Surroundings};

impl<K: Kubernetes, R: Rds, S: Surroundings> Executor<K, R, S> {
    /// Completes the evidence in the ConfigMap of that name, when its drill is gone and nothing more can come of its call.
    pub(super) async fn look_after(&self, namespace: &str, config_map: &str) -> Result<(), StepError> {
        let Some(config_map) = self.kubernetes.get::<ConfigMap>(namespace, config_map).await? else { return Ok(()) };
        let Some(claim) = claim(&config_map) else { return Ok(()) };
        let evidence = EvidenceSeen::read(Some(config_map), &claim.drill.uid);
        let EvidenceSeen::Claimed(_, config_map) = &evidence else { return Ok(()) };
        let config_map = config_map.clone();
        let drill = self.kubernetes.get_drill(namespace, &claim.drill.name).await?;
        if let Some(drill) = drill.filter(|drill| drill.meta().uid.as_deref() == Some(claim.drill.uid.as_str())) {
            if drill.0.as_ref().is_ok_and(has_ended) {
                self.reopen(&claim.drill.uid);
                // On the heap: futures within futures have a depth that the compiler takes.
                Box::pin(self.look(namespace, &claim.drill.name, &claim.drill.uid)).await?;
            }
            return Ok(());
        }
        let (cluster, events) = ask_rds(&self.rds, Some(claim.cluster.identifier.clone()), since_claim(&claim)).await;
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
