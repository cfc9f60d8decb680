//! A new version of the operator gives every pipeline another pod template. Were all rolled at once, the workers of all teams would connect
//! to their databases in the same moment: so few pipelines roll at a time, unless their own spec asks for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use kube::ResourceExt;

use super::names::{GENERATION_ANNOTATION, TEMPLATE_ANNOTATION, is_controlled_by};

/// How many pipelines roll at a time for what their own spec has not asked for.
pub(super) const AT_ONCE: usize = 3;

/// What Kubernetes says of a Deployment once all pods are of its template and available; it says so until the next template.
const COMPLETE: &str = "NewReplicaSetAvailable";

/// Pipelines, by uid, that have begun to roll to a template which the watch does not yet show. What it shows needs no memory.
#[derive(Default)]
pub(super) struct Rollouts(Mutex<HashMap<String, String>>);

impl Rollouts {
    /// Leaves in `wanted` the pod template that is there while it is not the pipeline's turn; then gives the hash of the one held back.
    ///
    /// `held_back` is what the last look at the pipeline `uid` held back, `at_once` how many pipelines may roll, `deployments` are all that the
    /// watch shows.
    pub(super) fn hold_back(
        &self,
        uid: &str,
        wanted: &mut Deployment,
        held_back: Option<&str>,
        at_once: usize,
        deployments: impl FnOnce() -> Vec<Arc<Deployment>>,
    ) -> Option<String> {
        let template = annotation(wanted, TEMPLATE_ANNOTATION)?.clone();
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: what any look has begun is either here or there.
        let deployments = deployments();
        let live = deployments.iter().find(|deployment| is_controlled_by(&deployment.metadata, uid))?;
        if annotation(live, TEMPLATE_ANNOTATION) == Some(&template) {
            return None;
        }
        let can_wait = can_wait(live, wanted, held_back == Some(template.as_str()));
        begun.retain(|uid, template| is_unseen(uid, template, &deployments));
        if can_wait && !begun.contains_key(uid) && rolling(uid, &begun, &deployments) >= at_once {
            keep_template(live, wanted);
            return Some(template);
        }
        begun.insert(uid.to_owned(), template);
        None
    }

    /// Forgets what the pipeline `uid` has begun, as it could not be applied.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// True when only the platform asks for the new template, and pods would be made of it. `was_held_back` says that the same one was held back
/// before: then a change of the spec since, such as of the scale, has not asked for it.
fn can_wait(live: &Deployment, wanted: &Deployment, was_held_back: bool) -> bool {
    let made_for = annotation(live, GENERATION_ANNOTATION);
    let same_spec = made_for.is_none() || made_for == annotation(wanted, GENERATION_ANNOTATION);
    (same_spec || was_held_back) && replicas(wanted) > 0
}

/// How many pipelines besides `uid` roll.
fn rolling(uid: &str, begun: &HashMap<String, String>, deployments: &[Arc<Deployment>]) -> usize {
    let seen = deployments.iter().filter(|deployment| is_rolling(deployment));
    let others =
        seen.filter(|deployment| !begun.keys().map(String::as_str).chain([uid]).any(|uid| is_controlled_by(&deployment.metadata, uid)));
    others.count() + begun.keys().filter(|begun| *begun != uid).count()
}

/// True while the Deployment of `uid` is shown with another template.
fn is_unseen(uid: &str, template: &String, deployments: &[Arc<Deployment>]) -> bool {
    let deployment = deployments.iter().find(|deployment| is_controlled_by(&deployment.metadata, uid));
    deployment.is_some_and(|deployment| annotation(deployment, TEMPLATE_ANNOTATION) != Some(template))
}

/// True while Kubernetes replaces pods. One that it has given up, that is paused or has no pods holds up nobody.
pub(crate) fn is_rolling(deployment: &Deployment) -> bool {
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if paused || replicas(deployment) == 0 {
        return false;
    }
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation < deployment.metadata.generation {
        return true;
    }
    let complete = |condition: &DeploymentCondition| condition.type_ == "Progressing" && condition.reason.as_deref() == Some(COMPLETE);
    // For a template that was there before, Kubernetes leaves the condition as it is until the first new pod is there.
    let updated = status.updated_replicas.unwrap_or(0);
    let replaced = updated >= replicas(deployment) && status.replicas.unwrap_or(0) <= updated;
    failure(deployment).is_none() && !(replaced && status.conditions.iter().flatten().any(complete))
}

/// Why Kubernetes cannot start the pods.
pub(super) fn failure(deployment: &Deployment) -> Option<&DeploymentCondition> {
    let conditions = deployment.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let fails = |condition: &&DeploymentCondition| {
        (condition.type_ == "ReplicaFailure" && condition.status == "True")
            || (condition.type_ == "Progressing" && condition.status == "False")
    };
    conditions.iter().filter(fails).max_by_key(|condition| condition.type_ == "ReplicaFailure")
}

fn keep_template(live: &Deployment, wanted: &mut Deployment) {
    if let (Some(live), Some(wanted)) = (&live.spec, &mut wanted.spec) {
        wanted.template = live.template.clone();
    }
    let kept = annotation(live, TEMPLATE_ANNOTATION).cloned();
    let annotations = wanted.annotations_mut();
    annotations.remove(TEMPLATE_ANNOTATION);
    annotations.extend(kept.map(|kept| (TEMPLATE_ANNOTATION.to_owned(), kept)));
}

fn annotation<'a>(deployment: &'a Deployment, name: &str) -> Option<&'a String> {
    deployment.annotations().get(name)
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DeploymentStatus;

    use super::*;
    use crate::pipeline::{build, fixtures};

    /// What the operator wants for a pipeline of that uid, from the image and with the number of rows in a batch.
    fn wanted(uid: &str, image: &str, generation: i64, rows: i32) -> Deployment {
        let mut pipeline = fixtures::orders();
        pipeline.metadata.uid = Some(uid.to_owned());
        pipeline.metadata.generation = Some(generation);
        pipeline.spec.batching.max_rows = rows;
        let mut settings = fixtures::settings();
        settings.worker_image = image.to_owned();
        build::build(&fixtures::accepted(&pipeline), &settings).unwrap().deployment
    }

    /// As Kubernetes shows it, with a condition `Progressing` of that status and reason.
    fn live(uid: &str, image: &str, progressing: (&str, &str)) -> Deployment {
        let mut deployment = wanted(uid, image, 1, 500);
        deployment.metadata.generation = Some(1);
        let (status, reason) = (progressing.0.to_owned(), Some(progressing.1.to_owned()));
        deployment.status = Some(DeploymentStatus {
            observed_generation: Some(1),
            conditions: Some(vec![DeploymentCondition {
                type_: "Progressing".to_owned(),
                status,
                reason,
                ..DeploymentCondition::default()
            }]),
            replicas: Some(2),
            updated_replicas: Some(2),
            ..DeploymentStatus::default()
        });
        deployment
    }

    fn at_rest(uid: &str) -> Deployment {
        live(uid, "old", ("True", COMPLETE))
    }

    fn under_way(uid: &str) -> Deployment {
        live(uid, "new", ("True", "ReplicaSetUpdated"))
    }

    fn all(deployments: &[Deployment]) -> Vec<Arc<Deployment>> {
        deployments.iter().cloned().map(Arc::new).collect()
    }

    /// Whether a pipeline at rest may take the new image beside these.
    fn may_roll_beside(others: &[Deployment]) -> bool {
        let mut new = wanted("this", "new", 1, 500);
        let shown = all(&[&[at_rest("this")], others].concat());
        Rollouts::default().hold_back("this", &mut new, None, AT_ONCE, || shown).is_none()
    }

    #[test]
    fn a_new_image_waits_while_as_many_roll_as_may_at_a_time() {
        assert!(may_roll_beside(&[under_way("1"), under_way("2"), at_rest("3")]));
        assert!(!may_roll_beside(&[under_way("1"), under_way("2"), under_way("3")]));
        let mut unobserved = at_rest("3");
        unobserved.metadata.generation = Some(2);
        assert!(!may_roll_beside(&[under_way("1"), under_way("2"), unobserved]));
        let mut back_to_an_old_template = at_rest("3");
        back_to_an_old_template.status.as_mut().unwrap().updated_replicas = Some(0);
        assert!(!may_roll_beside(&[under_way("1"), under_way("2"), back_to_an_old_template]));
    }

    #[test]
    fn none_begins_while_a_drill_runs() {
        let shown = all(&[at_rest("this")]);
        let mut new = wanted("this", "new", 1, 500);
        assert!(Rollouts::default().hold_back("this", &mut new, None, 0, || shown).is_some());
    }

    #[test]
    fn one_that_is_stuck_paused_or_without_pods_holds_up_nobody() {
        let stuck = live("3", "new", ("False", "ProgressDeadlineExceeded"));
        let mut paused = under_way("3");
        paused.spec.as_mut().unwrap().paused = Some(true);
        let mut scaled_to_zero = under_way("3");
        scaled_to_zero.spec.as_mut().unwrap().replicas = Some(0);
        for third in [stuck, paused, scaled_to_zero] {
            assert!(may_roll_beside(&[under_way("1"), under_way("2"), third.clone()]), "{third:?}");
        }
    }

    #[test]
    fn looks_at_the_same_moment_do_not_slip_past_the_limit() {
        let rollouts = Rollouts::default();
        // The watch shows all of them at rest, however often they are looked at.
        let uids: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let shown = all(&uids.iter().map(|uid| at_rest(uid)).collect::<Vec<_>>());
        let looks = uids.iter().chain(&uids).filter(|uid| {
            let mut new = wanted(uid, "new", 1, 500);
            rollouts.hold_back(uid, &mut new, None, AT_ONCE, || shown.clone()).is_none()
        });
        assert_eq!(looks.count(), 2 * AT_ONCE, "the same ones, at both looks");
        // One could not be applied, and another has ended.
        rollouts.forget("0");
        let mut shown = shown;
        shown[1] = Arc::new(live("1", "new", ("True", COMPLETE)));
        let next =
            ["5", "6", "7"].map(|uid| rollouts.hold_back(uid, &mut wanted(uid, "new", 1, 500), None, AT_ONCE, || shown.clone()).is_none());
        assert_eq!(next, [true, true, false]);
    }

    #[test]
    fn what_is_held_back_leaves_the_template_and_nothing_else() {
        let shown = all(&[at_rest("this"), under_way("1"), under_way("2"), under_way("3")]);
        let mut new = wanted("this", "new", 1, 500);
        new.spec.as_mut().unwrap().replicas = Some(9);
        let template = new.annotations()[TEMPLATE_ANNOTATION].clone();
        let held_back = Rollouts::default().hold_back("this", &mut new, None, AT_ONCE, || shown);
        assert_eq!(held_back, Some(template));
        let mut expected = wanted("this", "old", 1, 500);
        expected.spec.as_mut().unwrap().replicas = Some(9);
        assert_eq!(new, expected);
    }

    #[test]
    fn a_change_of_the_spec_rolls_at_once_unless_it_changes_no_template() {
        let shown = all(&[at_rest("this"), under_way("1"), under_way("2"), under_way("3")]);
        let look = |mut wanted: Deployment, held_back: Option<&str>| {
            Rollouts::default().hold_back("this", &mut wanted, held_back, AT_ONCE, || shown.clone())
        };
        assert_eq!(look(wanted("this", "new", 2, 7), None), None, "another batch");
        let held_back = look(wanted("this", "new", 1, 500), None);
        assert_eq!(look(wanted("this", "new", 2, 500), held_back.as_deref()), held_back, "another scale");
        assert_eq!(look(wanted("this", "new", 3, 7), held_back.as_deref()), None, "another batch after that");
        let mut suspended = wanted("this", "new", 1, 500);
        suspended.spec.as_mut().unwrap().replicas = Some(0);
        assert_eq!(look(suspended, None), None, "no pods");
    }
}
