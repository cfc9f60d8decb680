//! What a new version of the operator does to pipelines that are there.

use std::collections::BTreeSet;

use durable_write_crds::conditions::{reasons, types};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::ground::{Ground, Home, eventually, smallest};
use crate::workers::Workers;

const NEW: &str = "localhost/durable-write:new";
/// More than may roll at a time, by two.
const PIPELINES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// The pipelines whose Deployments have the new image.
async fn rolled(home: &Home) -> BTreeSet<String> {
    let all = home.api::<Deployment>().list(&ListParams::default()).await.unwrap();
    let image = |deployment: &Deployment| deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.clone();
    let new = all.iter().filter(|deployment| image(deployment).as_deref() == Some(NEW));
    new.map(|deployment| deployment.labels()["durablewrite.dev/pipeline"].clone()).collect()
}

async fn waiting(home: &Home) -> BTreeSet<String> {
    let mut waiting = BTreeSet::new();
    for name in PIPELINES {
        let conditions = home.pipeline(name).await.status.unwrap().conditions;
        if conditions.iter().any(|condition| condition.type_ == types::RECONCILING && condition.reason == reasons::WAITING_FOR_ROLLOUTS) {
            waiting.insert(name.to_owned());
        }
    }
    waiting
}

#[tokio::test]
async fn an_upgrade_rolls_few_pipelines_at_a_time_and_what_a_spec_asks_for_at_once() {
    // A cluster of its own, as all pipelines of a cluster count.
    let ground = Ground::new().await;
    let home = ground.namespace().await;
    let workers = Workers::play(&home).await;
    for name in PIPELINES {
        ground.apply(&home, &smallest(name, name)).await.unwrap();
    }
    for name in PIPELINES {
        home.condition(name, types::READY, "True", reasons::OK).await;
        home.condition(name, types::RECONCILING, "False", reasons::OK).await;
    }
    // No pod becomes ready from now on, so no rollout ends.
    drop(workers);
    ground.stop_operator().await;
    ground.start_operator(NEW).await;
    let held_back = eventually("two pipelines to wait", async || match waiting(&home).await {
        two if two.len() == 2 => Ok(two),
        other => Err(format!("{other:?}")),
    })
    .await;
    let first = eventually("the three others to roll", async || match rolled(&home).await {
        three if three.len() >= 3 => Ok(three),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(first.len() == 3 && first.is_disjoint(&held_back), "{first:?} roll, {held_back:?} wait");

    // After a restart that many still roll, and scaling is no reason to roll.
    ground.stop_operator().await;
    let before = ground.writes_in(&home.name).len();
    ground.start_operator(NEW).await;
    let [scaled, changed] = Vec::from_iter(&held_back)[..] else { panic!("{held_back:?}") };
    let patch = async |name: &str, patch: &str| {
        ground.kubectl(&home, &["patch", "dwp", name, "--type=merge", "--patch", patch]).await.unwrap();
    };
    eventually("the operator to have looked again", async || {
        let writes = ground.writes_in(&home.name).split_off(before);
        let applied = format!("/deployments/{scaled}-worker");
        if writes.iter().any(|path| path.ends_with(&applied)) { Ok(()) } else { Err(format!("{writes:?}")) }
    })
    .await;
    patch(scaled, r#"{"spec": {"workers": {"replicas": 3}}}"#).await;
    let deployment = format!("deployment/{scaled}-worker");
    ground.kubectl(&home, &["wait", "--for=jsonpath={.spec.replicas}=3", &deployment, "--timeout=40s"]).await.unwrap();
    assert_eq!(rolled(&home).await, first);

    patch(changed, r#"{"spec": {"batching": {"maxRows": 7}}}"#).await;
    eventually("the changed pipeline to roll", async || match rolled(&home).await {
        rolled if rolled.contains(changed) && !rolled.contains(scaled) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;

    let _workers = Workers::play(&home).await;
    for name in PIPELINES {
        home.condition(name, types::RECONCILING, "False", reasons::OK).await;
    }
    assert_eq!(rolled(&home).await.len(), PIPELINES.len());
}
