//! The claim and the call: the only place that calls for a failover.

use std::time::Duration;

use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Phase;
use durable_write_crds::evidence::{Call, CallOutcome, Claim};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::{Executor, Next, PROGRESSING, SOON, StepError, refused};
use crate::drill::evidence;
use crate::drill::memory::Memory;
use crate::drill::observed::EvidenceSeen;
use crate::drill::rds::Answer;
use crate::drill::step::{self, MAYBE_MADE, Step, next_step};
use crate::drill::world::{Failure, Kubernetes, Rds, Surroundings};

impl<K: Kubernetes, R: Rds, S: Surroundings> Executor<K, R, S> {
    /// Reads and decides once more, makes the claim, and calls. No other path calls, and none calls after reading a claim.
    pub(super) async fn trigger(&self, drill: &FailoverDrill, memory: &mut Memory) -> Result<Next, StepError> {
        let began = self.surroundings.instant();
        let fresh = self.kubernetes.get::<FailoverDrill>(&drill.namespace().unwrap_or_default(), &drill.name_any()).await?;
        let Some(fresh) = fresh.filter(|fresh| fresh.metadata.uid == drill.metadata.uid) else { return Ok(None) };
        let observed = self.observe(&fresh, memory).await?;
        let now = self.surroundings.now();
        let (pins, probe) = match (next_step(&fresh, &observed, &memory.known, &self.settings, now), observed.probe.ours()) {
            (Step::Trigger(pins), Some(probe)) => (pins, probe),
            // Something changed: the next look deals with it.
            _ => return Ok(Some(Duration::ZERO)),
        };
        let claim = evidence::claim(&fresh, &pins, probe, &self.settings, self.surroundings.nonce(), now);
        if !self.surroundings.leads().await || self.surroundings.instant().duration_since(began) > step::CLAIM_HOLDS {
            let why = "the baseline is steady; waits until this process surely leads and the Kubernetes and RDS APIs answer quickly";
            self.tell_progress(&fresh, &observed, memory, Phase::Baseline, PROGRESSING, why).await?;
            return Ok(Some(SOON));
        }
        let claimed = self.surroundings.instant();
        match self.make_claim(&claim).await {
            Ok(true) => {}
            Ok(false) => return Ok(Some(Duration::ZERO)),
            Err(StepError::Kubernetes(Failure::Refused(why))) => {
                return self.end(&fresh, &observed, &refused("the claim", &why), memory).await;
            }
            Err(error) => return Err(error),
        }
        memory.claimed(claimed);
        let call = self.call(&claim, claimed).await;
        memory.seen.timeline.add_result(&call, None, self.surroundings.now());
        memory.known.call = Some(call);
        self.tell_progress(&fresh, &observed, memory, Phase::Triggering, PROGRESSING, "the failover is claimed and called for").await?;
        Ok(Some(SOON))
    }

    /// True when the claim was created by this very call. A reply may be lost: then the claim with this nonce is this call's.
    async fn make_claim(&self, claim: &Claim) -> Result<bool, StepError> {
        let object = evidence::claim_object(claim)?;
        match self.kubernetes.create(&object).await {
            Ok(_) => Ok(true),
            Err(Failure::Unclear(_) | Failure::Conflict) => {
                let found = self.kubernetes.get::<ConfigMap>(&claim.drill.namespace, &object.name_any()).await?;
                let found = EvidenceSeen::read(found, &claim.drill.uid);
                Ok(matches!(&found, EvidenceSeen::Claimed(found, _) if found.nonce == claim.nonce))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Calls for the failover, unless the claim is too old by the monotonic clock.
    async fn call(&self, claim: &Claim, claimed: tokio::time::Instant) -> Call {
        if self.surroundings.instant().duration_since(claimed) > step::CLAIM_HOLDS {
            return Call { outcome: CallOutcome::NotMade, ..MAYBE_MADE };
        }
        let began = Some(self.surroundings.now());
        let answer = self.rds.fail_over(&claim.cluster.identifier, &claim.target).await;
        let (outcome, message) = match answer {
            Answer::Accepted => (CallOutcome::Accepted, None),
            Answer::Refused(why) => (CallOutcome::Refused, Some(why)),
            Answer::Unclear(why) => (CallOutcome::Unclear, Some(why)),
        };
        Call { outcome, began, ended: Some(self.surroundings.now()), message: message.map(|message| message.chars().take(512).collect()) }
    }
}
