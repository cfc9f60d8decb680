//! Pipelines when the chart is uninstalled, and when it comes back.

use durable_write_testbed::environment::{RELEASE, Release, install, uninstall};
use kube::ResourceExt;

use crate::ground::{Ground, ground};
use crate::pipeline::Pipeline;

const OTHER: Release = Release { name: "other", namespace: "elsewhere", definitions: false };

async fn install_release(ground: &Ground, release: &Release) {
    install(ground.cluster(), release, ground.access(), ground.image(), &ground.sqs_proxy().endpoint()).await.unwrap();
}

#[tokio::test]
async fn after_uninstalling_workers_go_on_another_release_adopts_them_and_nothing_that_is_deleted_hangs() {
    let ground = ground().await;
    ground.namespace("kept").await;
    ground.namespace("lost").await;
    let kept = Pipeline::like_the_example(&ground, "kept", "kept.fifo", 5).await;
    let lost = Pipeline::like_the_example(&ground, "lost", "lost", 5).await;
    tokio::join!(kept.start(), lost.start());

    uninstall(ground.cluster(), &RELEASE).await.unwrap();
    for pipeline in [&kept, &lost] {
        let sent = pipeline.send("alone", 200, None).finish().await.unwrap();
        pipeline.has_moved("alone", &sent).await;
    }

    let (template, workers) = (kept.template().await, kept.pods().await);
    install_release(&ground, &OTHER).await;
    kept.scale(3).await;
    kept.settled(3).await;
    let now = kept.pods().await;
    assert!(workers.iter().all(|worker| now.iter().any(|pod| pod.uid() == worker.uid())), "workers were replaced");
    assert_eq!(kept.template().await, template);

    uninstall(ground.cluster(), &OTHER).await.unwrap();
    let pipeline_goes = async {
        kept.kubectl(&["delete", "dwp", &kept.name, "--timeout=30s"]).await;
        kept.no_pod_is_left().await;
    };
    tokio::join!(pipeline_goes, ground.kubectl(&["delete", "namespace", "lost", OTHER.namespace, "--timeout=90s"]));
    install_release(&ground, &RELEASE).await;
    ground.leave("kept").await;
}
