//! Faults around a failover: answers that are lost, a recovery that flaps, readers that hang, lag or are not who they seem.

use std::time::Duration;

use durable_write_crds::probe::ProbePlan;
use durable_write_testbed::aurora::{Behaviour, Timing};
use durable_write_testbed::proxy::tcp::TcpFault;

use crate::ground::{END, Probe, assert_whole, flowing, pipeline, plan, turn};
use crate::pipelines::{Cluster, SOON, own_cluster, until};

/// Each tenth direct write is refused as by a reader, the others take so long that some are under way at any time; and the drill is never closed.
const SLOWLY: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE read_only_sql_transaction; END $$;
    CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(TG_ARGV[0]::float8); RETURN NEW; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON durable_write.probe_direct FOR EACH ROW WHEN (NEW.seq % 10 = 0) EXECUTE FUNCTION refuse();
    CREATE TRIGGER slowly BEFORE INSERT ON durable_write.probe_direct FOR EACH ROW EXECUTE FUNCTION slowly('0.3');
    CREATE TRIGGER slowly BEFORE UPDATE ON durable_write.drill FOR EACH ROW EXECUTE FUNCTION slowly('60')";
const UNDER_WAY: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT INTO durable_write.probe_direct%'";

/// The reader that is not to become the writer.
fn bystander(cluster: &Cluster, plan: &ProbePlan) -> String {
    let names = cluster.instances().into_iter().map(|instance| instance.name);
    names.into_iter().find(|name| *name != plan.writer && *name != plan.target).unwrap()
}

#[tokio::test]
async fn what_is_not_known_of_a_direct_write_is_said_so_and_the_result_is_there_before_the_probe_ends() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-answers").await;
    let _worker = flowing(&pipeline).await;
    let plan = plan(&cluster);
    let mut probe = Probe::start(&pipeline, &plan);
    probe.ready().await;
    pipeline.sql(SLOWLY).await;
    let under_way = async || pipeline.rows::<(i64,)>(UNDER_WAY).await[0].0;
    until("writes are under way", SOON, async || under_way().await >= 2).await;
    let writer = cluster.instance_proxy(&plan.writer).unwrap();
    writer.fault(TcpFault::ReplyLost).await;
    until("they are committed", SOON, async || under_way().await == 0).await;
    writer.fault(TcpFault::Cut).await;
    // Who hangs holds nobody up.
    let reader = cluster.instance_proxy(&bystander(&cluster, &plan)).unwrap();
    reader.fault(TcpFault::BlackHole).await;
    let failover = cluster.fail_over(Some(&plan.target)).await.unwrap();
    writer.heal().await;
    reader.heal().await;

    let result = probe.killed_with_a_result(END).await;
    assert_whole(&result);
    let direct = &result.direct_channel;
    assert!(direct.unknown >= result.recovered && result.recovered >= 1, "committed, but the answer was lost: {result:#?}");
    assert!(direct.sent - direct.acknowledged - direct.unknown >= 1, "25006 is a refusal for certain: {result:#?}");
    assert_eq!(result.gap.unwrap().writer_after, failover.to);
}

#[tokio::test]
async fn a_recovery_counts_when_it_flaps_no_more_and_of_readers_only_what_they_say_themselves() {
    let _turn = turn().await;
    let cluster = own_cluster(Timing::default()).await;
    let pipeline = pipeline(&cluster, "probe-flaps.fifo").await;
    let _worker = flowing(&pipeline).await;
    let plan = ProbePlan { cool_down: durable_write_crds::Duration::from_millis(5000), ..plan(&cluster) };
    let bystander = bystander(&cluster, &plan);
    let flapping = Duration::from_secs(2);
    cluster.set_behaviour(Behaviour { flapping, ..Behaviour::default() });
    cluster.set_replica_lag(&plan.target, Duration::from_secs(8)).unwrap();
    let mut probe = Probe::start(&pipeline, &plan);
    until("the target lags too much", SOON, async || probe.state().await.is_ok_and(|state| state.message.contains(" lags "))).await;
    cluster.set_replica_lag(&plan.target, Duration::ZERO).unwrap();
    probe.ready().await;
    let failover = cluster.fail_over(Some(&plan.target)).await.unwrap();
    cluster.set_replica_lag(&bystander, Duration::from_secs(3)).unwrap();
    // The old writer's name leads elsewhere.
    let mut topology = pipeline.topology();
    let endpoint = topology.instances.iter().find(|instance| instance.name == bystander).unwrap().endpoint.clone();
    topology.instances.iter_mut().find(|instance| instance.name == plan.writer).unwrap().endpoint = endpoint;
    pipeline.mounts.write_topology(&topology).unwrap();

    let result = probe.result(END).await;
    assert_whole(&result);
    assert_eq!((&result.gap.as_ref().unwrap().writer_after, result.writer_changes), (&failover.to, 1));
    let gap = result.gap.as_ref().unwrap();
    let steady = failover.steady.unwrap().duration_since(failover.truth.unwrap().last_write);
    let steady = i64::try_from(steady.as_millis()).unwrap();
    assert!(gap.lower_milliseconds >= 1800 && gap.lower_milliseconds <= steady + 100, "writes were steady after {steady} ms: {gap:?}");
    assert!(gap.upper_milliseconds.unwrap() >= steady - 100, "writes were steady after {steady} ms: {gap:?}");
    let all = Some(result.queue_channel.committed + result.direct_channel.committed);
    for instance in &result.instances {
        assert_eq!(instance.rows, all.filter(|_| instance.name != plan.writer), "{}: {result:#?}", instance.name);
    }
}
