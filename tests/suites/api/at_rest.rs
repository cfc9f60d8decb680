//! That the operator says nothing when there is nothing new. The name puts it among the first, as it takes a
//! minute and tests start in the order of names.

use std::time::Duration;

use durable_write_crds::conditions::{reasons, types};
use tokio::time::sleep;

use crate::ground::{eventually, ground, manifest, smallest};
use crate::rds::Described;
use crate::workers::Workers;

#[tokio::test]
async fn at_rest_nothing_is_written() {
    let ground = ground().await;
    let home = ground.namespace().await;
    let _workers = Workers::play(&home).await;
    ground.rds.put(Described {
        identifier: "rest".to_owned(),
        engine: "aurora-postgresql",
        instances: vec!["rest-1".to_owned(), "rest-2".to_owned()],
        tags: Vec::new(),
    });
    ground.apply(&home, &smallest("flowing", "flowing")).await.unwrap();
    ground.apply(&home, &manifest("aurora", "aurora", "aurora: {clusterIdentifier: rest}")).await.unwrap();
    home.is_older_than_now("flowing").await;
    ground.apply(&home, &smallest("refused", "flowing")).await.unwrap();
    ground.apply(&home, &format!("{}  suspend: true\n", smallest("suspended", "suspended"))).await.unwrap();
    home.condition("flowing", types::READY, "True", reasons::OK).await;
    home.condition("aurora", types::READY, "True", reasons::OK).await;
    home.condition("refused", types::READY, "False", reasons::QUEUE_IN_USE).await;
    home.condition("suspended", types::RECONCILING, "False", reasons::OK).await;
    // Settled: the counts of pods and what the Deployments' own controller adds have been seen.
    let settled = eventually("the writes to end", async || {
        let before = ground.writes_in(&home.name).len();
        sleep(Duration::from_secs(12)).await;
        let after = ground.writes_in(&home.name).len();
        if before == after { Ok(after) } else { Err(format!("{before} and then {after}")) }
    })
    .await;
    // The one test that must let time pass: each pipeline is looked at three times or more, and numbers fall due once.
    sleep(Duration::from_secs(35)).await;
    let writes = ground.writes_in(&home.name);
    assert!(settled > 10, "the writes are not seen at all: {writes:?}");
    assert_eq!(writes.len(), settled, "{:?}", &writes[settled..]);
}
