//! Pipelines that read the same queue: within a namespace the older one wins, across namespaces both run and both show it. Pure.

use durable_write_crds::DurableWritePipeline;
use durable_write_crds::pipeline::Queue;
use kube::ResourceExt;

/// Other pipelines on a pipeline's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rivals {
    /// The name of the oldest pipeline of the same namespace, when it is older.
    pub(super) older: Option<String>,
    /// How many pipelines elsewhere read the same queue, or one of the same name of which only the workers know whether it is the same.
    pub(super) sharing: usize,
}

/// Whether two references mean the same queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sameness {
    Same,
    /// A name and an ARN that ends in it: the account and region of the name are the workers'.
    Possible,
    Different,
}

/// Finds the rivals of `pipeline` among `all`.
pub(super) fn find<'a>(pipeline: &DurableWritePipeline, all: impl IntoIterator<Item = &'a DurableWritePipeline>) -> Rivals {
    let mut rivals = Rivals::default();
    let mut oldest = pipeline;
    for other in all {
        if other.uid() == pipeline.uid() || other.metadata.deletion_timestamp.is_some() {
            continue;
        }
        match (sameness(&pipeline.spec.queue, &other.spec.queue), other.namespace() == pipeline.namespace()) {
            (Sameness::Different, _) => {}
            (Sameness::Same, true) => {
                if age(other) < age(oldest) {
                    oldest = other;
                }
            }
            (Sameness::Same, false) | (Sameness::Possible, _) => rivals.sharing += 1,
        }
    }
    rivals.older = (oldest.uid() != pipeline.uid()).then(|| oldest.name_any());
    rivals
}

/// Older is less; of two made in the same second the one with the smaller uid counts as older.
fn age(pipeline: &DurableWritePipeline) -> (Option<jiff::Timestamp>, Option<String>) {
    (pipeline.creation_timestamp().map(|time| time.0), pipeline.uid())
}

fn sameness(a: &Queue, b: &Queue) -> Sameness {
    match (&a.arn, &b.arn) {
        _ if a.queue_name() != b.queue_name() => Sameness::Different,
        (Some(a), Some(b)) if a != b => Sameness::Different,
        (Some(_), Some(_)) | (None, None) => Sameness::Same,
        _ => Sameness::Possible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;

    fn pipeline(namespace: &str, name: &str, created: i64, queue: &str) -> DurableWritePipeline {
        let mut pipeline = fixtures::orders();
        pipeline.metadata.namespace = Some(namespace.to_owned());
        pipeline.metadata.name = Some(name.to_owned());
        pipeline.metadata.uid = Some(format!("{namespace}/{name}"));
        pipeline.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(fixtures::minute(created)));
        let arn = queue.starts_with("arn:");
        pipeline.spec.queue.name = (!arn).then(|| queue.to_owned());
        pipeline.spec.queue.arn = arn.then(|| queue.to_owned());
        pipeline
    }

    #[test]
    fn in_a_namespace_the_older_pipeline_has_the_queue() {
        let all = [pipeline("shop", "first", 1, "orders"), pipeline("shop", "second", 2, "orders"), pipeline("shop", "other", 0, "bills")];
        assert_eq!(find(&all[0], &all), Rivals::default());
        assert_eq!(find(&all[1], &all).older.as_deref(), Some("first"));
        assert_eq!(find(&all[2], &all), Rivals::default());
    }

    #[test]
    fn of_two_made_in_the_same_second_exactly_one_has_the_queue() {
        let all = [pipeline("shop", "b", 1, "orders"), pipeline("shop", "a", 1, "orders")];
        assert_eq!(find(&all[0], &all).older.as_deref(), Some("a"));
        assert_eq!(find(&all[1], &all).older, None);
    }

    #[test]
    fn a_pipeline_that_is_being_deleted_gives_the_queue_free() {
        let mut all = [pipeline("shop", "first", 1, "orders"), pipeline("shop", "second", 2, "orders")];
        all[0].metadata.deletion_timestamp = all[0].metadata.creation_timestamp.clone();
        assert_eq!(find(&all[1], &all), Rivals::default());
    }

    #[test]
    fn across_namespaces_both_run_and_both_show_it() {
        let all = [pipeline("shop", "first", 1, "orders"), pipeline("bar", "second", 2, "orders")];
        assert_eq!(find(&all[0], &all), Rivals { older: None, sharing: 1 });
        assert_eq!(find(&all[1], &all), Rivals { older: None, sharing: 1 });
    }

    #[test]
    fn a_name_and_an_arn_that_ends_in_it_may_be_the_same_queue() {
        let here = "arn:aws:sqs:eu-west-1:123456789012:orders";
        let there = "arn:aws:sqs:eu-west-1:999999999999:orders";
        let all = [pipeline("shop", "a", 1, "orders"), pipeline("shop", "b", 2, here), pipeline("shop", "c", 3, there)];
        assert_eq!(find(&all[1], &all), Rivals { older: None, sharing: 1 });
        assert_eq!(find(&all[2], &all), Rivals { older: None, sharing: 1 });
    }
}
