//! A drill of a test's own: created as people do, awaited, and read with its evidence.

use anyhow::{Context, ensure};
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_crds::evidence::{self, Claim, Evidence};
use durable_write_crds::{FailoverDrill, FailoverDrillStatus};
use durable_write_testbed::environment::merge;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde_json::{Value, json};

use crate::ground::{Ground, until};
use crate::pipeline::Pipeline;

/// A drill.
pub struct Drill<'g> {
    ground: &'g Ground,
    namespace: String,
    pub name: String,
    drills: Api<FailoverDrill>,
    pub config_maps: Api<ConfigMap>,
}

impl<'g> Drill<'g> {
    /// Creates a drill that is over as soon as it can be, with these changes of its spec.
    pub async fn create(pipeline: &Pipeline<'g>, name: &str, changes: Value) -> Self {
        let mut spec = json!({
            "pipelineRef": {"name": pipeline.name},
            "load": {"messagesPerSecond": 20, "warmUp": "2s", "coolDown": "2s"},
            "objectives": {"recoveryTime": "20s", "backlogDrained": "60s"},
            "deadline": "3m",
        });
        merge(&mut spec, &changes);
        let manifest = json!({
            "apiVersion": "durablewrite.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": name}, "spec": spec,
        });
        let create = ["create", "--namespace", &pipeline.namespace, "-f", "-"];
        pipeline.ground.cluster().kubectl_with(create, &manifest.to_string()).await.unwrap();
        Self {
            ground: pipeline.ground,
            namespace: pipeline.namespace.clone(),
            name: name.to_owned(),
            drills: pipeline.api(),
            config_maps: pipeline.api(),
        }
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
        until(&format!("drill {} to be in {phase}", self.name), async || {
            let status = self.drills.get(&self.name).await?.status.unwrap_or_default();
            let now = status.phase.and_then(place);
            ensure!(now >= place(phase), "{:?} {:?}", status.phase, status.conditions);
            Ok(())
        })
        .await;
    }

    /// Waits as people do until the drill has ended.
    pub async fn concluded(&self) -> FailoverDrillStatus {
        let object = format!("drill/{}", self.name);
        let wait = ["wait", &object, "--for=condition=Complete", "--timeout=240s", "--namespace", &self.namespace];
        if let Err(error) = self.ground.cluster().kubectl(wait).await {
            panic!("{error:#}: {:#?}", self.object().await.status);
        }
        self.object().await.status.unwrap()
    }

    /// Waits for the end and checks the verdict and its reason; in the evidence too, when there is any.
    pub async fn ends(&self, verdict: Verdict, reason: &str) -> FailoverDrillStatus {
        let status = self.concluded().await;
        let complete = status.conditions.iter().find(|condition| condition.type_ == "Complete").unwrap();
        assert_eq!((status.verdict, complete.reason.as_str()), (Some(verdict), reason), "{}: {status:#?}", self.name);
        assert!(!complete.message.is_empty(), "{}", self.name);
        if status.evidence.is_some() {
            let evidence = self.evidence().await;
            assert_eq!((evidence.verdict, evidence.reason.as_str()), (verdict, reason));
        }
        status
    }

    /// Waits until the claim is made, which is right before the call.
    pub async fn claimed(&self) -> Claim {
        until(&format!("drill {} to be claimed", self.name), async || {
            let map = self.config_maps.get(&evidence::config_map_name(&self.name)).await?;
            let claim = map.data.as_ref().and_then(|data| data.get(evidence::CLAIM_KEY)).context("no claim in it")?;
            Ok(serde_json::from_str(claim)?)
        })
        .await
    }

    /// The evidence, as the digest in the status vouches for it.
    pub async fn evidence(&self) -> Evidence {
        let reference = self.object().await.status.unwrap().evidence.expect("a drill that was claimed has evidence");
        let map = self.config_maps.get(&reference.config_map_ref.name).await.unwrap();
        assert_eq!(map.immutable, Some(true));
        let text = &map.data.unwrap()[evidence::EVIDENCE_KEY];
        assert_eq!(evidence::digest(text), reference.digest);
        serde_json::from_str(text).unwrap()
    }
}

/// How a criterion came out.
pub fn criterion(status: &FailoverDrillStatus, name: &str) -> CriterionResult {
    let found = status.criteria.iter().find(|criterion| criterion.name == name);
    found.unwrap_or_else(|| panic!("no criterion {name}: {:?}", status.criteria)).result
}
