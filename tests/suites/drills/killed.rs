//! The operator in drills: killed at every boundary of a phase and again in its successor's first look, and before and after the effects of
//! the claim and of the call, which makes 22 points; with replies that are lost, with a clock that is set, with an API server that is away,
//! and with another operator beside it. Each drill calls for at most one failover and ends with a true verdict.

use anyhow::ensure;
use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{CriterionResult, Phase, Verdict};
use durable_write_testbed::proxy::http::{Calls, Extent, HttpFault};
use futures::future::join_all;
use serde_json::json;

use crate::LANES;
use crate::drill::{Drill, criterion};
use crate::ground::{drill_grounds, until};
use crate::host_operator::HostOperator;
use crate::pipeline::Pipeline;

const CALL: &str = "FailoverDBCluster";
const LOOK: &str = "DescribeDBClusters";
const NAMESPACES: [&str; LANES] = ["kills-1", "kills-2", "kills-3", "kills-4"];

#[tokio::test]
async fn whatever_befalls_the_operator_a_drill_calls_once_at_most_and_ends_truly() {
    let grounds = drill_grounds().await;
    // Of one worker each, and later two drills at a time with few direct writes: more starves the databases of two cores.
    let of_one_worker = async |(ground, namespace)| {
        let pipeline = Pipeline::to_drill(ground, namespace).await;
        pipeline.scale(1).await;
        pipeline.settled(1).await;
        pipeline
    };
    let pipelines = join_all(grounds.iter().zip(NAMESPACES).map(of_one_worker)).await;
    let lanes: [Lane<'_>; LANES] = std::array::from_fn(|number| Lane { orders: &pipelines[number] });
    let mut operator = HostOperator::start(&grounds[0]).await;
    killed_at_every_phase(&lanes, &mut operator).await;
    let [before_call, after_claim] = killed_in_the_call_and_in_the_claim([&lanes[0], &lanes[2]], [false, true], &mut operator).await;
    let unknown = async {
        // Nobody calls after reading a claim: it must be waited for long enough that nothing can come any more.
        tokio::join!(
            before_call.ends(0, Verdict::Error, reasons::TRIGGER_UNKNOWN),
            after_claim.ends(0, Verdict::Error, reasons::TRIGGER_UNKNOWN)
        )
    };
    let known = async {
        let [after_call, before_claim] = killed_in_the_call_and_in_the_claim([&lanes[1], &lanes[3]], [true, false], &mut operator).await;
        tokio::join!(after_call.passes(), before_claim.passes());
        replies_are_lost([&lanes[1], &lanes[3]], &operator).await;
        two_operators_lead([&lanes[1], &lanes[3]]).await;
    };
    tokio::join!(unknown, known);
    the_clock_is_set(&lanes[0], &operator).await;
    the_api_server_is_away(&lanes[1], &mut operator).await;
    operator.stop().await;
    for (ground, namespace) in grounds.iter().zip(NAMESPACES) {
        ground.leave(namespace).await;
    }
}

/// A pipeline on an Aurora of its own.
struct Lane<'g> {
    orders: &'g Pipeline<'g>,
}

/// A drill, and how many failovers were called for before it.
struct Run<'g> {
    lane: &'g Lane<'g>,
    drill: Drill<'g>,
    before: u64,
}

impl<'g> Lane<'g> {
    fn failovers(&self) -> u64 {
        self.orders.ground.aurora().failover_calls().took_effect
    }

    async fn drill(&'g self, name: &str) -> Run<'g> {
        Run {
            before: self.failovers(),
            drill: Drill::create(self.orders, name, json!({"load": {"directWriteInterval": "500ms"}})).await,
            lane: self,
        }
    }

    /// The create of a claim: nothing else that the operator makes by POST is a ConfigMap.
    fn claim(&self) -> String {
        format!("POST /api/v1/namespaces/{}/configmaps", self.orders.namespace)
    }

    fn calls(&self) -> Calls {
        self.orders.ground.aurora().rds_proxy().calls(CALL)
    }

    /// Kills the operator, and then its successor in the midst of its first look.
    async fn kill_with_its_successor(&self, operator: &mut HostOperator<'_>) {
        let looks = || self.orders.ground.aurora().rds_proxy().calls(LOOK).received;
        operator.kill();
        let before = looks();
        until("the successor to look at the cluster", async || {
            ensure!(looks() > before, "it has not");
            Ok(())
        })
        .await;
        operator.kill();
    }
}

impl Run<'_> {
    fn called(&self) -> u64 {
        self.lane.failovers() - self.before
    }

    async fn ends(self, calls: u64, verdict: Verdict, reason: &str) {
        self.drill.ends(verdict, reason).await;
        assert_eq!(self.called(), calls, "{}", self.drill.name);
        self.lane.orders.ground.aurora().settled().await;
    }

    async fn passes(self) {
        self.ends(1, Verdict::Pass, reasons::OBJECTIVES_MET).await;
    }

    /// Killed between claim and call, nobody may call any more.
    async fn ends_truly(self) {
        let status = self.drill.concluded().await;
        let called = self.called();
        match called {
            0 => assert_eq!(status.verdict, Some(Verdict::Error), "{status:#?}"),
            1 => assert!(matches!(status.verdict, Some(Verdict::Pass | Verdict::Inconclusive)), "{status:#?}"),
            _ => panic!("{called} calls: {status:#?}"),
        }
        self.lane.orders.ground.aurora().settled().await;
    }
}

/// The first drill is at the boundary of a phase at each kill; the other begins later, and is somewhere.
async fn killed_at_every_phase(lanes: &[Lane<'_>; LANES], operator: &mut HostOperator<'_>) {
    let phases = lanes[0].drill("phases").await;
    for phase in [Phase::Pending, Phase::Preflight] {
        phases.drill.is_in(phase).await;
        lanes[0].kill_with_its_successor(operator).await;
    }
    let somewhere = lanes[1].drill("somewhere").await;
    for phase in [Phase::Baseline, Phase::Triggering] {
        phases.drill.is_in(phase).await;
        lanes[0].kill_with_its_successor(operator).await;
    }
    phases.drill.claimed().await;
    lanes[0].kill_with_its_successor(operator).await;
    for phase in [Phase::FailingOver, Phase::Recovering, Phase::Draining, Phase::Concluded] {
        phases.drill.is_in(phase).await;
        lanes[0].kill_with_its_successor(operator).await;
    }
    tokio::join!(phases.ends_truly(), somewhere.ends_truly());
}

/// The call for a failover and the create of a claim hang, each before or after its effect; then the operator is killed.
async fn killed_in_the_call_and_in_the_claim<'g>(
    [of_call, of_claim]: [&'g Lane<'g>; 2],
    [call_done, claim_done]: [bool; 2],
    operator: &mut HostOperator<'_>,
) -> [Run<'g>; 2] {
    of_call.orders.ground.aurora().rds_proxy().place(CALL, HttpFault::Hung { forward: call_done }, Extent::Next(1));
    operator.kubernetes().place(&of_claim.claim(), HttpFault::Hung { forward: claim_done }, Extent::Next(1));
    let hung = |operator: &HostOperator<'_>| of_call.calls().faulted + operator.kubernetes().calls(&of_claim.claim()).faulted;
    let before = hung(operator);
    let (call, claim) = tokio::join!(of_call.drill("hung"), of_claim.drill("hung"));
    until("a call and a claim to hang", async || {
        let now = hung(operator) - before;
        ensure!(now == 2, "{now} do: {:#?} {:#?}", call.drill.object().await.status, claim.drill.object().await.status);
        Ok(())
    })
    .await;
    operator.kill();
    [call, claim]
}

/// Neither is made a second time: not by the SDK, and not by the operator.
async fn replies_are_lost([call, claim]: [&Lane<'_>; 2], operator: &HostOperator<'_>) {
    call.orders.ground.aurora().rds_proxy().place(CALL, HttpFault::ReplyLost, Extent::Next(1));
    operator.kubernetes().place(&claim.claim(), HttpFault::ReplyLost, Extent::Next(1));
    let lost = (call.calls().faulted, operator.kubernetes().calls(&claim.claim()));
    let (of_call, of_claim) = tokio::join!(call.drill("lost-reply"), claim.drill("lost-reply"));
    tokio::join!(of_call.passes(), of_claim.passes());
    let now = (call.calls().faulted, operator.kubernetes().calls(&claim.claim()));
    assert_eq!((now.0 - lost.0, now.1.faulted - lost.1.faulted, now.1.received - lost.1.received), (1, 1, 1));
}

/// As two releases do: each leads by a Lease of its own, and both carry on every drill.
async fn two_operators_lead(lanes: [&Lane<'_>; 2]) {
    let other = HostOperator::beside(lanes[0].orders.ground, NAMESPACES[1]).await;
    let received: Vec<_> = lanes.iter().map(|lane| lane.calls().received).collect();
    let runs = join_all(lanes.iter().map(|lane| lane.drill("two-operators"))).await;
    let claims = |lane: &Lane<'_>| other.kubernetes().calls(&lane.claim()).received;
    join_all(runs.into_iter().map(Run::passes)).await;
    for (lane, received) in lanes.iter().zip(received) {
        assert_eq!(lane.calls().received - received, 1);
    }
    eprintln!("· claims that the second operator tried: {:?}", lanes.map(claims));
}

/// By an hour, which is far beyond the deadline.
async fn the_clock_is_set(lane: &Lane<'_>, operator: &HostOperator<'_>) {
    let run = lane.drill("clock").await;
    run.drill.claimed().await;
    operator.set_clock(3600);
    let status = run.drill.ends(Verdict::Inconclusive, reasons::CLOCK_STEPPED).await;
    operator.set_clock(0);
    assert_eq!(criterion(&status, "clocks"), CriterionResult::Inconclusive);
    assert_eq!(run.called(), 1);
}

/// From the call until the probe has ended: it measures by itself, and its result waits in its pod.
async fn the_api_server_is_away(lane: &Lane<'_>, operator: &mut HostOperator<'_>) {
    let run = lane.drill("api-away").await;
    run.drill.claimed().await;
    operator.kubernetes().place("*", HttpFault::RequestLost, Extent::UntilCleared);
    run.drill.has_no_probe().await;
    operator.kubernetes().clear();
    // It has ended when it could not renew its lease; a kubelet would start it anew.
    operator.kill();
    run.passes().await;
}
