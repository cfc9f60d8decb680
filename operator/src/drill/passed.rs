//! Which drills have passed, for the metrics. The evidence says so, as it outlives its drill and the operator; what is kept of it in memory is
//! no more than that. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{EVIDENCE_KEY, Evidence};
use durable_write_crds::{DurableWritePipeline, FailoverDrill};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::step::has_ended;
use crate::metrics::{DrillMetrics, Drilled, PipelineLabel};

/// What is kept of the evidence of a drill that passed.
#[derive(Serialize, Deserialize, Debug)]
struct Passed {
    /// The uid of the pipeline: another one of its name has not passed anything.
    pipeline: String,
    ended: i64,
    upper_milliseconds: Option<i64>,
}

/// Takes away what nobody reads of a ConfigMap with evidence.
pub(super) fn shorten(config_map: &mut ConfigMap) {
    config_map.managed_fields_mut().clear();
    let passed = read(config_map).and_then(|passed| serde_json::to_string(&passed).ok());
    config_map.data = passed.map(|passed| BTreeMap::from([(EVIDENCE_KEY.to_owned(), passed)]));
}

fn read(config_map: &ConfigMap) -> Option<Passed> {
    let evidence: Evidence = serde_json::from_str(document(config_map)?).ok()?;
    (evidence.verdict == Verdict::Pass).then(|| Passed {
        ended: evidence.concluded.as_second(),
        upper_milliseconds: evidence.probe.and_then(|probe| probe.gap?.upper_milliseconds),
        pipeline: evidence.claim.pipeline.uid,
    })
}

/// Only what nobody can change any more.
fn document(config_map: &ConfigMap) -> Option<&String> {
    config_map.data.as_ref()?.get(EVIDENCE_KEY).filter(|_| config_map.immutable == Some(true))
}

/// What drills, their evidence as [`shorten`] leaves it, and pipelines say together.
pub(super) fn metrics<'a>(
    drills: impl Iterator<Item = &'a FailoverDrill>,
    evidence: &[Arc<ConfigMap>],
    pipelines: impl Iterator<Item = &'a DurableWritePipeline>,
) -> DrillMetrics {
    let mut metrics = DrillMetrics::default();
    for drill in drills.filter(|drill| has_ended(drill)) {
        let verdict = drill.status.as_ref().and_then(|status| status.verdict).unwrap_or(Verdict::Unknown);
        *metrics.verdicts.entry(verdict.as_str().to_owned()).or_default() += 1;
    }
    let passed: Vec<Passed> = evidence.iter().filter_map(|kept| serde_json::from_str(document(kept)?).ok()).collect();
    let mut last: HashMap<&str, &Passed> = HashMap::new();
    for passed in &passed {
        let known = last.entry(&passed.pipeline).or_insert(passed);
        if known.ended < passed.ended {
            *known = passed;
        }
    }
    let can_be_drilled = |pipeline: &&DurableWritePipeline| pipeline.spec.database.aurora.is_some();
    metrics.pipelines = pipelines.filter(can_be_drilled).map(|pipeline| drilled(pipeline, &last)).collect();
    metrics
}

fn drilled(pipeline: &DurableWritePipeline, last: &HashMap<&str, &Passed>) -> (PipelineLabel, Drilled) {
    let passed = pipeline.metadata.uid.as_deref().and_then(|uid| last.get(uid));
    let upper = passed.and_then(|passed| passed.upper_milliseconds).and_then(|upper| u64::try_from(upper).ok());
    let label = PipelineLabel { namespace: pipeline.namespace().unwrap_or_default(), pipeline: pipeline.name_any() };
    let drilled = Drilled {
        created: pipeline.creation_timestamp().map_or(0, |created| created.0.as_second()),
        passed: passed.map(|passed| passed.ended),
        recovery: upper.map(|upper| std::time::Duration::from_millis(upper).as_secs_f64()),
    };
    (label, drilled)
}

#[cfg(test)]
mod tests {
    use super::super::evidence::{claim_object, completed, document};
    use super::super::fixtures::{self, second};
    use super::super::memory::Seen;
    use super::super::{status, step};
    use super::*;
    use durable_write_crds::evidence::{Call, CallOutcome};
    use jiff::Timestamp;

    /// Evidence of that verdict, of a drill of the pipeline with that uid.
    fn evidence(verdict: Verdict, pipeline: &str, ended: Timestamp) -> ConfigMap {
        let mut claim = fixtures::claim();
        claim.pipeline.uid = pipeline.to_owned();
        let call = Call { outcome: CallOutcome::Accepted, began: None, ended: None, message: None };
        let ending = step::ending(verdict, "ObjectivesMet", "why");
        let document = document(&claim, call, &ending, &Seen::default(), Some(&fixtures::result()), ended);
        completed(&claim_object(&claim).unwrap(), &document).unwrap().0
    }

    fn kept(mut evidence: ConfigMap) -> Arc<ConfigMap> {
        shorten(&mut evidence);
        Arc::new(evidence)
    }

    fn of_the_pipeline(evidence: &[Arc<ConfigMap>]) -> Drilled {
        let metrics = metrics([].into_iter(), evidence, [fixtures::pipeline()].iter());
        let [(label, drilled)] = &metrics.pipelines[..] else { panic!("{metrics:?}") };
        assert_eq!((label.namespace.as_str(), label.pipeline.as_str()), ("shop", "payments"));
        *drilled
    }

    #[test]
    fn the_last_drill_that_passed_counts_and_no_other_verdict() {
        let uid = fixtures::pipeline().metadata.uid.unwrap();
        let never = Drilled { created: fixtures::pipeline().metadata.creation_timestamp.unwrap().0.as_second(), ..Drilled::default() };
        assert_eq!(of_the_pipeline(&[]), never);
        for verdict in [Verdict::Fail, Verdict::Inconclusive, Verdict::Aborted, Verdict::Error] {
            assert_eq!(of_the_pipeline(&[kept(evidence(verdict, &uid, second(9)))]), never, "{verdict}");
        }
        let passed = |ended| kept(evidence(Verdict::Pass, &uid, second(ended)));
        let last = Drilled { passed: Some(second(90).as_second()), recovery: Some(7.3), ..never };
        assert_eq!(of_the_pipeline(&[passed(10), passed(90), passed(50), kept(evidence(Verdict::Fail, &uid, second(99)))]), last);
        assert_eq!(of_the_pipeline(&[kept(evidence(Verdict::Pass, "another of its name", second(9)))]), never);
        let mut open = evidence(Verdict::Pass, &uid, second(9));
        open.immutable = None;
        assert_eq!(of_the_pipeline(&[kept(open)]), never, "it can be changed yet");
    }

    #[test]
    fn a_claim_that_is_open_is_kept_without_its_text() {
        let open = kept(claim_object(&fixtures::claim()).unwrap());
        assert_eq!((open.data.as_ref(), open.immutable), (None, None));
        let concluded = kept(evidence(Verdict::Pass, "uid", second(9)));
        assert!(concluded.data.as_ref().unwrap()[EVIDENCE_KEY].len() < 100);
    }

    #[test]
    fn drills_that_have_ended_are_counted_by_verdict_and_pipelines_without_aurora_cannot_be_drilled() {
        let ended = |verdict| {
            let mut drill = fixtures::drill();
            drill.status = Some(status::ended(&drill, &step::ending(verdict, "X", "why"), None, &Seen::default(), second(1)));
            drill
        };
        let drills = [ended(Verdict::Error), fixtures::drill(), ended(Verdict::Error), ended(Verdict::Aborted)];
        let metrics = metrics(drills.iter(), &[], [crate::pipeline::fixtures::orders()].iter());
        assert_eq!(metrics.verdicts, HashMap::from([("Error".to_owned(), 2), ("Aborted".to_owned(), 1)]));
        assert!(metrics.pipelines.is_empty());
    }
}
