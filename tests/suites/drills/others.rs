//! Several drills of one Aurora cluster, drills that are deleted, and drills of those who may not.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use durable_write_testbed::environment::{RELEASE, open_to};
use serde_json::json;

use crate::drill::Drill;
use crate::ground::{Ground, drill_ground};
use crate::pipeline::Pipeline;

#[tokio::test]
async fn two_drills_of_one_cluster_from_two_namespaces_run_one_after_the_other() {
    let ground = drill_ground().await;
    let (left, right) = tokio::join!(Pipeline::to_drill(&ground, "left"), Pipeline::to_drill(&ground, "right"));
    let before = ground.aurora().timeline().len();
    let drills = tokio::join!(Drill::create(&left, "one", json!({})), Drill::create(&right, "two", json!({})));
    tokio::join!(waits_or_runs(&drills.0), waits_or_runs(&drills.1));
    let (one, two) = (drills.0.evidence().await, drills.1.evidence().await);
    let (first, second) = if one.claim.at < two.claim.at { (one, two) } else { (two, one) };
    assert!(second.claim.at > first.concluded, "the second was claimed at {} and the first ended at {}", second.claim.at, first.concluded);
    assert_eq!(ground.aurora().timeline().len() - before, 2);
    ground.leave("left").await;
    ground.leave("right").await;
}

/// However long it waits for the other, the state in which that brings the cluster and the pipeline meanwhile is not its own.
async fn waits_or_runs(drill: &Drill<'_>) {
    drill.ends(Verdict::Pass, reasons::OBJECTIVES_MET).await;
}

#[tokio::test]
async fn a_drill_that_is_deleted_while_it_runs_is_completed_and_does_not_run_again_when_it_comes_back() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "gone").await;
    let before = ground.aurora().failover_calls().received;
    let drill = Drill::create(&orders, "gone", json!({})).await;
    let claim = drill.claimed().await;
    let object = drill.object().await;
    drill.delete().await;
    drill.create_again(object).await;
    drill.ends(Verdict::Error, reasons::NAME_USED_BEFORE).await;

    let evidence = drill.completed_evidence().await;
    assert_eq!((evidence.verdict, evidence.reason.as_str()), (Verdict::Aborted, reasons::DRILL_DELETED));
    assert_eq!(evidence.claim.nonce, claim.nonce);
    assert_eq!(ground.aurora().failover_calls().received - before, 1);
    ground.leave("gone").await;
}

#[tokio::test]
async fn nobody_drills_a_cluster_that_is_not_opened_to_the_namespace_or_without_the_right() {
    let ground = drill_ground().await;
    let orders = Pipeline::to_drill(&ground, "strangers").await;
    let before = ground.aurora().failover_calls().received;
    for (name, opened) in [("not-opened", "friends family"), ("of-a-part", "stranger strangers-too")] {
        ground.aurora().set_tags(open_to(opened));
        let drill = Drill::create(&orders, name, json!({})).await;
        drill.ends(Verdict::Error, reasons::NOT_OPENED).await;
        assert!(drill.config_maps.get_opt(&durable_write_crds::evidence::config_map_name(name)).await.unwrap().is_none());
        assert!(drill.probe().await.is_none(), "a probe was started");
    }
    assert_eq!(ground.aurora().failover_calls().received, before);
    who_may_drill_in_one_namespace_may_not_in_another(&ground, &orders).await;
    ground.leave("strangers").await;
}

async fn who_may_drill_in_one_namespace_may_not_in_another(ground: &Ground, orders: &Pipeline<'_>) {
    let role = format!("--clusterrole={}-drill-runner", RELEASE.name);
    orders.kubectl(&["create", "rolebinding", "runner", &role, "--user=runner"]).await;
    let manifest = json!({
        "apiVersion": "durablewrite.dev/v1alpha1", "kind": "FailoverDrill", "metadata": {"name": "elsewhere"},
        "spec": {"pipelineRef": {"name": orders.name}},
    });
    let create = async |namespace| {
        let create = ["create", "--dry-run=server", "--as=runner", "--namespace", namespace, "-f", "-"];
        ground.cluster().kubectl_with(create, &manifest.to_string()).await
    };
    create("strangers").await.unwrap();
    let refused = create("default").await.unwrap_err().to_string();
    assert!(refused.contains("cannot create resource \"failoverdrills\""), "{refused}");
}
