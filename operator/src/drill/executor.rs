//! Carries a drill on by one step at a time: reads everything, decides, does one thing, writes the status if it changed. It knows the world by
//! traits only, so the same executor runs in a simulation.

mod trigger;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{ObservationSource, Phase};
use durable_write_crds::evidence::{CallOutcome, Claim, Evidence, digest};
use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;

use super::memory::Memory;
use super::observed::{EvidenceSeen, Observed};
use super::status::{self, Progress};
use super::step::{self, Ending, MAYBE_MADE, Step, next_step};
use super::timeline::Timeline;
use super::world::{Failure, Kubernetes, Rds, Surroundings};
use super::{build, dereference, evidence, lease};
use crate::settings::Settings;

/// How often a drill is looked at while something is under way.
const SOON: Duration = Duration::from_secs(1);
/// How often it is looked at while it waits for another.
const LATER: Duration = Duration::from_secs(5);
/// A claim that another process asked for before a drill ended is there by then: requests have a time-out of 10 s.
const CLAIM_LANDS: SignedDuration = SignedDuration::from_secs(15);

/// Carries drills on.
pub(super) struct Executor<K, R, S> {
    pub(super) kubernetes: K,
    pub(super) rds: R,
    pub(super) surroundings: S,
    pub(super) settings: Settings,
    memories: Mutex<HashMap<String, Memory>>,
}

/// When to look again; none: when the drill changes.
pub(super) type Next = Option<Duration>;

/// Why a step failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Kubernetes(#[from] Failure),
    #[error("a document could not be written: {0}")]
    Document(#[from] serde_json::Error),
    #[error(transparent)]
    Pod(#[from] build::Unbuildable),
}

impl<K: Kubernetes, R: Rds, S: Surroundings> Executor<K, R, S> {
    pub(super) fn new(kubernetes: K, rds: R, surroundings: S, settings: Settings) -> Self {
        Self { kubernetes, rds, surroundings, settings, memories: Mutex::default() }
    }

    /// Carries the drill on by one step.
    pub(super) async fn look(&self, namespace: &str, name: &str, uid: &str) -> Result<Next, StepError> {
        let mut memory = self.take(uid);
        if memory.done {
            self.put(uid, memory);
            return Ok(None);
        }
        let result = self.step(namespace, name, uid, &mut memory).await;
        memory.failures = if result.is_ok() { 0 } else { memory.failures.saturating_add(1) };
        self.put(uid, memory);
        result
    }

    /// How often in a row looks at the drill have failed.
    pub(super) fn failures(&self, uid: &str) -> u32 {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).get(uid).map_or(1, |memory| memory.failures)
    }

    /// Forgets that nothing is left to do for the drill.
    pub(super) fn reopen(&self, uid: &str) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).retain(|other, memory| other != uid || !memory.done);
    }

    /// Forgets all drills but those.
    pub(super) fn keep(&self, exists: impl Fn(&str) -> bool) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| exists(uid));
    }

    pub(super) fn take(&self, uid: &str) -> Memory {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).remove(uid).unwrap_or_default()
    }

    pub(super) fn put(&self, uid: &str, memory: Memory) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), memory);
    }

    async fn step(&self, namespace: &str, name: &str, uid: &str, memory: &mut Memory) -> Result<Next, StepError> {
        let drill = self.kubernetes.get::<FailoverDrill>(namespace, name).await?;
        let Some(drill) = drill.filter(|drill| drill.metadata.uid.as_deref() == Some(uid)) else { return Ok(None) };
        if let Some(status) = drill.status.as_ref().filter(|_| memory.seen.timeline == Timeline::default()) {
            // Another process has seen this: it is kept for the report.
            memory.seen.timeline = Timeline::of(&status.timeline);
        }
        let observed = self.observe(&drill, memory).await?;
        let step = next_step(&drill, &observed, &memory.known, &self.settings, self.surroundings.now());
        self.execute(&drill, &observed, step, memory).await
    }

    async fn observe(&self, drill: &FailoverDrill, memory: &mut Memory) -> Result<Observed, StepError> {
        let now = self.surroundings.now();
        let observed = dereference::dereference(&self.kubernetes, &self.rds, &self.settings, drill, now).await?;
        let running = observed.probe.ours().filter(|probe| probe.end.is_none());
        let state = match running {
            Some(probe) => self.surroundings.probe_state(&probe.pod).await,
            None => None,
        };
        let (now, instant) = (self.surroundings.now(), self.surroundings.instant());
        memory.observe(&observed, state.as_ref(), now, instant);
        memory.count_down(step::left(drill, observed.evidence.claim().is_some(), now), instant);
        Ok(observed)
    }

    async fn execute(&self, drill: &FailoverDrill, observed: &Observed, step: Step, memory: &mut Memory) -> Result<Next, StepError> {
        match step {
            Step::Wait(phase, reason, message) => {
                self.tell_progress(drill, observed, memory, phase, reason, &message).await?;
                Ok(Some(if phase == Phase::Pending { LATER } else { SOON }))
            }
            Step::WriteLease(lease, phase) => {
                // The status says first of which cluster: it is to be given free also when that is gone.
                if self.tell_progress(drill, observed, memory, phase, PROGRESSING, "the cluster's Lease is taken").await? {
                    self.write_lease(&lease).await?;
                }
                Ok(Some(Duration::ZERO))
            }
            Step::StartProbe(pins) => {
                let left = step::remaining(drill, &memory.known, self.surroundings.now());
                let pod = build::pod(drill, &pins, &self.settings, left)?;
                match self.kubernetes.create(&pod).await {
                    Ok(created) => memory.known.probe = created.uid(),
                    // It is there: the next look says whose it is.
                    Err(Failure::Conflict) => {}
                    Err(Failure::Refused(why)) => return self.end(drill, observed, &refused("the probe's pod", &why), memory).await,
                    Err(failure) => return Err(failure.into()),
                }
                self.tell_progress(drill, observed, memory, Phase::Baseline, PROGRESSING, "the probe is started").await?;
                Ok(Some(SOON))
            }
            Step::Trigger(_) => self.trigger(drill, memory).await,
            Step::Observe(phase, stop) => {
                // One that has ended is still to be read.
                if stop && observed.probe.ours().is_some_and(|probe| probe.end.is_none()) {
                    self.stop_probe(observed).await?;
                }
                self.tell_progress(drill, observed, memory, phase, PROGRESSING, "the failover is watched").await?;
                Ok(Some(SOON))
            }
            Step::End(ending) => self.end(drill, observed, &ending, memory).await,
            Step::Conclude(ending) => self.conclude(drill, observed, &ending, memory).await,
            Step::Finish(evidence, digest) => self.finish(drill, observed, &evidence, &digest, memory).await,
            Step::CleanUp => self.clean_up(drill, observed, memory).await,
        }
    }

    async fn write_lease(&self, lease: &Lease) -> Result<(), Failure> {
        let written = if lease.metadata.resource_version.is_some() {
            self.kubernetes.replace(lease).await
        } else {
            self.kubernetes.create(lease).await
        };
        match written {
            // Another drill was faster: the next look sees it.
            Ok(_) | Err(Failure::Conflict | Failure::Missing) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes the probe's pod, unless all of it has ended: a sidecar may live on after the probe.
    async fn stop_probe(&self, observed: &Observed) -> Result<(), Failure> {
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
        let over = |pod: &Pod| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
        match observed.probe.ours().filter(|probe| !over(&probe.pod) && probe.pod.metadata.deletion_timestamp.is_none()) {
            Some(probe) => self.kubernetes.delete(&probe.pod).await,
            None => Ok(()),
        }
    }

    /// Gives the Lease of the cluster free when this drill holds it.
    pub(super) async fn free_lease(&self, resource_id: &str, uid: &str) -> Result<(), Failure> {
        let lease = self.kubernetes.get::<Lease>(&self.settings.namespace, &lease::name(resource_id)).await?;
        match lease.filter(|lease| lease::holder(lease).is_some_and(|holder| holder.uid == uid)) {
            Some(lease) => self.kubernetes.delete(&lease).await,
            None => Ok(()),
        }
    }

    async fn end(&self, drill: &FailoverDrill, observed: &Observed, ending: &Ending, memory: &mut Memory) -> Result<Next, StepError> {
        let now = self.surroundings.now();
        memory.seen.note_once(now, ObservationSource::Operator, &ending.reason, &ending.message);
        let cluster = observed.cluster.found().map(evidence::cluster_status);
        let next = status::ended(drill, ending, cluster, &memory.seen, now);
        if !self.write_status(drill, next).await? {
            return Ok(Some(SOON));
        }
        self.clean_up(drill, observed, memory).await
    }

    /// Lets go of the probe and the Lease of a drill that has ended without a claim: of the Lease, which keeps other drills away, only when no
    /// claim can come any more.
    async fn clean_up(&self, drill: &FailoverDrill, observed: &Observed, memory: &mut Memory) -> Result<Next, StepError> {
        self.stop_probe(observed).await?;
        let now = self.surroundings.now();
        if memory.seen.timeline.has("ProbeReady") && step::ended(drill).is_none_or(|ended| now.duration_since(ended).abs() < CLAIM_LANDS) {
            return Ok(Some(SOON));
        }
        let planned = observed.probe.ours().map(|probe| probe.plan.resource_id.clone());
        let described = observed.cluster.found().map(|cluster| cluster.resource_id.clone());
        let shown = drill.status.as_ref().and_then(|status| status.cluster.as_ref()).map(|cluster| cluster.resource_id.clone());
        if let Some(resource_id) = planned.or(described).or(shown) {
            self.free_lease(&resource_id, &drill.uid().unwrap_or_default()).await?;
        }
        *memory = Memory::done();
        Ok(None)
    }

    async fn conclude(&self, drill: &FailoverDrill, observed: &Observed, ending: &Ending, memory: &mut Memory) -> Result<Next, StepError> {
        let EvidenceSeen::Claimed(claim, config_map) = &observed.evidence else { return Ok(Some(Duration::ZERO)) };
        let document = match self.complete(claim, config_map, observed, ending, memory).await {
            Ok(document) => document,
            Err(StepError::Kubernetes(Failure::Refused(why))) => {
                let message = format!("the Kubernetes API refused the evidence, which is tried again: {why}");
                self.tell_progress(drill, observed, memory, Phase::Draining, reasons::KUBERNETES_REFUSED, &message).await?;
                return Err(Failure::Refused(why).into());
            }
            Err(error) => return Err(error),
        };
        self.finish(drill, observed, &document.0, &document.1, memory).await
    }

    /// Completes the evidence; gives the document and its digest.
    pub(super) async fn complete(
        &self,
        claim: &Claim,
        config_map: &ConfigMap,
        observed: &Observed,
        ending: &Ending,
        memory: &mut Memory,
    ) -> Result<(Evidence, String), StepError> {
        let now = self.surroundings.now();
        let probe = observed.probe.ours().filter(|probe| probe.uid == claim.probe.uid);
        let result = probe.and_then(|probe| probe.end.as_ref()?.result.as_deref().ok());
        let call = memory.known.call.clone().unwrap_or(MAYBE_MADE);
        memory.seen.timeline.add_result(&call, result, now);
        memory.seen.note_once(now, ObservationSource::Operator, "Concluded", &format!("{}: {}", ending.verdict, ending.reason));
        let document = evidence::document(claim, call, ending, &memory.seen, result, now);
        match self.store(config_map, &document).await {
            Ok(digest) => Ok((document, digest)),
            Err(StepError::Kubernetes(Failure::Refused(why))) => {
                let document = evidence::without_series(document, &why);
                let digest = self.store(config_map, &document).await?;
                Ok((document, digest))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts the document beside its claim, for good; gives its digest.
    async fn store(&self, config_map: &ConfigMap, document: &Evidence) -> Result<String, StepError> {
        let (completed, text) = evidence::completed(config_map, document)?;
        self.kubernetes.replace(&completed).await?;
        Ok(digest(&text))
    }

    async fn finish(
        &self,
        drill: &FailoverDrill,
        observed: &Observed,
        evidence: &Evidence,
        digest: &str,
        memory: &mut Memory,
    ) -> Result<Next, StepError> {
        let next = status::concluded(drill, evidence, digest, self.surroundings.now());
        if !self.write_status(drill, next).await? {
            return Ok(Some(SOON));
        }
        self.stop_probe(observed).await?;
        self.free_lease(&evidence.claim.cluster.resource_id, &evidence.claim.drill.uid).await?;
        *memory = Memory::done();
        Ok(None)
    }

    /// Writes how far the drill is. False: as of [`Self::write_status`].
    async fn tell_progress(
        &self,
        drill: &FailoverDrill,
        observed: &Observed,
        memory: &Memory,
        phase: Phase,
        reason: &str,
        message: &str,
    ) -> Result<bool, Failure> {
        let now = self.surroundings.now();
        let claim = observed.evidence.claim();
        let plan = observed.probe.ours().map(|probe| &probe.plan);
        let cluster = observed.cluster.found();
        let recovered = claim.and_then(|claim| Some(cluster?.writer().filter(|writer| *writer != claim.writer)?.to_owned()));
        let triggered = match &memory.known.call {
            Some(call) if call.outcome == CallOutcome::Accepted => Some("the RDS API accepted the failover"),
            Some(call) if matches!(call.outcome, CallOutcome::Refused | CallOutcome::NotMade) => None,
            Some(_) => Some("the RDS API may have taken the call for the failover"),
            None => claim.map(|_| "the failover was claimed and may have been called for"),
        };
        let progress = Progress {
            phase,
            reason,
            message,
            cluster: cluster.map(evidence::cluster_status),
            writer: claim.map(|claim| claim.writer.clone()).or_else(|| plan.map(|plan| plan.writer.clone())),
            target: claim.map(|claim| claim.target.clone()).or_else(|| plan.map(|plan| plan.target.clone())),
            roles: claim
                .map(|claim| claim.roles.clone())
                .or_else(|| cluster.map(|cluster| evidence::roles(cluster, now)))
                .unwrap_or_default(),
            triggered,
            recovered,
        };
        self.write_status(drill, status::in_progress(drill, progress, &memory.seen, now)).await
    }

    /// Writes the status if it changed, and tells of it. False: the drill is not as it was read, so that the next look decides anew.
    async fn write_status(&self, drill: &FailoverDrill, next: FailoverDrillStatus) -> Result<bool, Failure> {
        if drill.status.as_ref() == Some(&next) {
            return Ok(true);
        }
        match self.kubernetes.write_status(drill, &next).await {
            Ok(()) => {}
            Err(Failure::Missing | Failure::Conflict) => return Ok(false),
            Err(failure) => return Err(failure),
        }
        for note in status::notes(drill.status.as_ref(), &next) {
            self.kubernetes.publish(drill, note).await;
        }
        Ok(true)
    }
}

const PROGRESSING: &str = reasons::PROGRESSING;

fn refused(what: &str, why: &str) -> Ending {
    step::error(reasons::KUBERNETES_REFUSED, format!("the Kubernetes API refused {what}, and nothing was triggered: {why}"))
}

#[cfg(test)]
mod tests;
