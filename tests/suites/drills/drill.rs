//! A drill of a test's own: created as people do, awaited, and read with its evidence.

use std::time::Duration;

use anyhow::{Context, ensure};
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_crds::evidence::{self, Claim, Evidence};
use durable_write_crds::layout::HTTP_PORT;
use durable_write_crds::probe::ProbeState;
use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use durable_write_testbed::environment::merge;
use durable_write_testbed::wait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::ground::{Ground, until};
use crate::pipeline::Pipeline;

/// When each drill of a test has ended, and with it each of its phases. That nobody calls after a claim is seen only after a while.
const END: Duration = Duration::from_secs(240);

/// A drill.
pub struct Drill<'g> {
    ground: &'g Ground,
    namespace: String,
    pub name: String,
    drills: Api<FailoverDrill>,
    pub config_maps: Api<ConfigMap>,
    pods: Api<Pod>,
}

impl<'g> Drill<'g> {
    /// Creates a drill that is over as soon as it can be and costs little, with these changes of its spec, of a pipeline that flows: one that
    /// is still in the outage of the drill before would be refused.
    pub async fn create(pipeline: &Pipeline<'g>, name: &str, changes: Value) -> Self {
        pipeline.flows().await;
        let mut spec = json!({
            "pipelineRef": {"name": pipeline.name},
            "load": {"messagesPerSecond": 10, "directWriteInterval": "200ms", "warmUp": "2s", "coolDown": "2s"},
            "objectives": {"recoveryTime": "20s", "backlogDrained": "60s"},
            "deadline": "3m",
        });
        merge(&mut spec, &changes);
        let drill = Self {
            ground: pipeline.ground,
            namespace: pipeline.namespace.clone(),
            name: name.to_owned(),
            drills: pipeline.api(),
            config_maps: pipeline.api(),
            pods: pipeline.api(),
        };
        let metadata = json!({"name": name});
        let object = json!({"apiVersion": "durablewrite.dev/v1alpha1", "kind": "FailoverDrill", "metadata": metadata, "spec": spec});
        drill.create_object(&object).await;
        drill
    }

    async fn create_object(&self, object: &Value) {
        let create = ["create", "--namespace", &self.namespace, "-f", "-"];
        self.ground.cluster().kubectl_with(create, &object.to_string()).await.unwrap();
    }

    /// Deletes it and creates it again as it was, but for its status, as a backup brings it back.
    pub async fn restore(&self) {
        let object = self.object().await;
        self.delete().await;
        self.create_again(object).await;
    }

    pub async fn create_again(&self, mut object: FailoverDrill) {
        object.status = None;
        object.metadata.resource_version = None;
        self.create_object(&serde_json::to_value(object).unwrap()).await;
    }

    pub async fn delete(&self) {
        self.ground.kubectl(&["--namespace", &self.namespace, "delete", "drill", &self.name]).await;
    }

    /// Asks for its end, as `kubectl dw drill abort` does.
    pub async fn abort(&self) {
        let patch = json!({"spec": {"abort": true}});
        self.drills.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn object(&self) -> FailoverDrill {
        self.drills.get(&self.name).await.unwrap()
    }

    /// Waits until the drill is in this phase, or in a later one.
    pub async fn is_in(&self, phase: Phase) {
        const ORDER: [Phase; 8] = [
            Phase::Pending,
            Phase::Preflight,
            Phase::Baseline,
            Phase::Triggering,
            Phase::FailingOver,
            Phase::Recovering,
            Phase::Draining,
            Phase::Concluded,
        ];
        let place = |phase: Phase| ORDER.iter().position(|other| *other == phase);
        let what = format!("drill {} to be in {phase}", self.name);
        let reached = wait::until(&what, END, async || {
            let status = self.drills.get(&self.name).await?.status.unwrap_or_default();
            let now = status.phase.and_then(place);
            ensure!(now >= place(phase), "{:?} {:?}", status.phase, status.conditions);
            Ok(())
        });
        reached.await.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits as people do until the drill has ended.
    pub async fn concluded(&self) -> FailoverDrillStatus {
        let object = format!("drill/{}", self.name);
        let timeout = format!("--timeout={}s", END.as_secs());
        let wait = ["wait", &object, "--for=condition=Complete", &timeout, "--namespace", &self.namespace];
        if let Err(error) = self.ground.cluster().kubectl(wait).await {
            panic!("{error:#}: {:#?}", self.object().await.status);
        }
        self.object().await.status.unwrap()
    }

    /// Waits for the end and checks the verdict and its reason; in the evidence too, when there is any.
    pub async fn ends(&self, verdict: Verdict, reason: &str) -> FailoverDrillStatus {
        let status = self.concluded().await;
        let complete = status.conditions.iter().find(|condition| condition.type_ == "Complete").unwrap();
        if (status.verdict, complete.reason.as_str()) != (Some(verdict), reason) {
            let truth = self.ground.aurora().timeline();
            let log = self.ground.cluster().kubectl(["logs", "--namespace", &self.namespace, &format!("{}-probe", self.name)]).await;
            panic!("{} is not {verdict}/{reason}: {status:#?}\n{:#?}\n{}", self.name, truth.last(), log.unwrap_or_default());
        }
        assert!(!complete.message.is_empty(), "{}", self.name);
        if status.evidence.is_some() {
            let evidence = self.evidence().await;
            assert_eq!((evidence.verdict, evidence.reason.as_str()), (verdict, reason));
            eprintln!("· {} of {}: {}", self.name, self.namespace, course(&evidence));
        }
        status
    }

    /// Its probe's pod, if there is one.
    pub async fn probe(&self) -> Option<Pod> {
        self.pods.get_opt(&format!("{}-probe", self.name)).await.unwrap()
    }

    /// Waits until its probe is gone or has ended.
    pub async fn has_no_probe(&self) {
        until(&format!("the probe of {} to end", self.name), async || {
            let phase = self.probe().await.and_then(|pod| pod.status?.phase);
            ensure!(phase.as_deref().is_none_or(|phase| phase == "Succeeded" || phase == "Failed"), "{phase:?}");
            Ok(())
        })
        .await;
    }

    /// Waits until its probe has seen writes come back for good.
    pub async fn has_recovered(&self) {
        let path = format!("/api/v1/namespaces/{}/pods/{}-probe:{HTTP_PORT}/proxy/state", self.namespace, self.name);
        until(&format!("the probe of {} to see the recovery", self.name), async || {
            let status = self.object().await.status.unwrap_or_default();
            assert!(status.verdict.is_none(), "{}: {status:#?}", self.name);
            let state: ProbeState = serde_json::from_str(&self.ground.cluster().kubectl(["get", "--raw", &path]).await?)?;
            ensure!(state.stage == "Recovered", "it is in the stage {}", state.stage);
            Ok(())
        })
        .await;
    }

    /// Waits until the claim is made, which is right before the call.
    pub async fn claimed(&self) -> Claim {
        until(&format!("drill {} to be claimed", self.name), async || {
            let status = self.object().await.status.unwrap_or_default();
            assert!(status.verdict != Some(Verdict::Error), "{}: {status:#?}", self.name);
            let map = self.config_maps.get(&evidence::config_map_name(&self.name)).await?;
            let claim = map.data.as_ref().and_then(|data| data.get(evidence::CLAIM_KEY)).context("no claim in it")?;
            Ok(serde_json::from_str(claim)?)
        })
        .await
    }

    /// The evidence, as the digest in the status vouches for it.
    pub async fn evidence(&self) -> Evidence {
        let reference = self.object().await.status.unwrap().evidence.expect("a drill that was claimed has evidence");
        assert_eq!(reference.config_map_ref.name, evidence::config_map_name(&self.name));
        let text = self.evidence_text().await;
        assert_eq!(evidence::digest(&text), reference.digest);
        serde_json::from_str(&text).unwrap()
    }

    /// The evidence as it stands there for good.
    pub async fn evidence_text(&self) -> String {
        until(&format!("the evidence of {} to be complete", self.name), async || {
            let map = self.config_maps.get(&evidence::config_map_name(&self.name)).await?;
            ensure!(map.immutable == Some(true), "it may still change");
            map.data.unwrap_or_default().remove(evidence::EVIDENCE_KEY).context("it has no document")
        })
        .await
    }

    /// The evidence of a drill that is gone.
    pub async fn completed_evidence(&self) -> Evidence {
        serde_json::from_str(&self.evidence_text().await).unwrap()
    }
}

/// When what happened, in seconds from the create.
fn course(evidence: &Evidence) -> String {
    let since = |at: Timestamp| at.duration_since(evidence.claim.drill.created).as_secs_f64();
    let entries = evidence.timeline.iter().map(|entry| format!("{} {:.1}", entry.reason, since(entry.at.0)));
    entries.collect::<Vec<_>>().join(", ")
}

/// How a criterion came out.
pub fn criterion(status: &FailoverDrillStatus, name: &str) -> CriterionResult {
    let found = status.criteria.iter().find(|criterion| criterion.name == name);
    found.unwrap_or_else(|| panic!("no criterion {name}: {:?}", status.criteria)).result
}
