//! What was read becomes a pipeline that can be built, or the reason why not. Pure.

use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::{Database, ServiceAccount};
use durable_write_crds::wire::{Topology, TopologyInstance};
use durable_write_crds::{DurableWritePipeline, DurableWritePipelineSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use super::names;
use super::rivals::Rivals;
use crate::aurora::Lookup;

/// A pipeline whose children can be built: later phases trust it.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) owner: OwnerReference,
    /// Counts the changes of the spec.
    pub(super) generation: i64,
    /// How many workers shall run: 0 when suspended.
    pub(super) replicas: i32,
    pub(super) topology: Topology,
    pub(super) service_account: Identity,
    pub(super) spec: DurableWritePipelineSpec,
}

/// The ServiceAccount of the workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// One that exists, by name.
    Named(String),
    /// One that the operator makes, of the pipeline's name, with these annotations.
    Made(std::collections::BTreeMap<String, String>),
}

/// Why a pipeline is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// One of [`reasons`].
    pub(super) reason: &'static str,
    /// What it is and what to do.
    pub(super) message: String,
    /// What happens to children that are there.
    pub(super) children: Children,
}

/// What happens to the children of a pipeline that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Children {
    /// They stay as they are.
    Keep,
    /// They are deleted: the pipeline must not run.
    Remove,
}

/// Decides whether `pipeline` can be built.
///
/// `cluster` is what RDS says of its Aurora cluster, `known` the topology that its workers were given before.
pub(super) fn validate(
    pipeline: &DurableWritePipeline,
    rivals: &Rivals,
    cluster: Option<&Lookup>,
    known: Option<&Topology>,
) -> Result<Accepted, Refusal> {
    if let Some(older) = &rivals.older {
        return Err(Refusal {
            reason: reasons::QUEUE_IN_USE,
            message: format!("the older pipeline {older} of this namespace reads the same queue: delete one of the two"),
            children: Children::Remove,
        });
    }
    let (Some(owner), Some(namespace)) = (names::owner(pipeline), pipeline.namespace()) else {
        return Err(invalid("the object has no uid or namespace".to_owned()));
    };
    let spec = pipeline.spec.clone();
    Ok(Accepted {
        name: pipeline.name_any(),
        namespace,
        owner,
        generation: pipeline.metadata.generation.unwrap_or_default(),
        replicas: if spec.suspend { 0 } else { spec.workers.replicas },
        topology: topology(&spec.database, cluster, known)?,
        service_account: identity(spec.workers.service_account.as_ref()),
        spec,
    })
}

/// A refusal of a spec that cannot be carried out; what runs stays.
pub(super) fn invalid(message: String) -> Refusal {
    Refusal { reason: reasons::INVALID_SPEC, message, children: Children::Keep }
}

fn identity(account: Option<&ServiceAccount>) -> Identity {
    match account {
        Some(ServiceAccount { name: Some(name), .. }) => Identity::Named(name.clone()),
        Some(ServiceAccount { annotations, .. }) => Identity::Made(annotations.clone().unwrap_or_default()),
        None => Identity::Made(std::collections::BTreeMap::new()),
    }
}

fn topology(database: &Database, cluster: Option<&Lookup>, known: Option<&Topology>) -> Result<Topology, Refusal> {
    match (&database.postgres, &database.aurora) {
        (Some(postgres), None) => {
            let instance = |endpoint: &String| TopologyInstance { name: endpoint.clone(), endpoint: endpoint.clone() };
            let instances = postgres.instances.iter().map(instance).collect();
            Ok(Topology { writer: postgres.writer.clone(), instances, resource_id: None })
        }
        (None, Some(aurora)) => match (cluster, known) {
            (Some(Lookup::Found(cluster)), _) => {
                let topology = cluster.topology();
                // Workers of an older version take no field that they do not know; they cannot have logins by IAM.
                Ok(if database.credentials.iam.is_some() { topology } else { Topology { resource_id: None, ..topology } })
            }
            // The endpoints that were known stay in use: RDS may be wrong or away, and the workers find out by themselves.
            (_, Some(known)) => Ok(known.clone()),
            (Some(lookup), None) => Err(cluster_trouble(&aurora.cluster_identifier, lookup)),
            (None, None) => Err(cluster_trouble(&aurora.cluster_identifier, &Lookup::Unknown("the RDS API was not asked".to_owned()))),
        },
        _ => Err(invalid("database: exactly one of aurora and postgres must be set".to_owned())),
    }
}

/// What is wrong with the Aurora cluster `identifier`, for a lookup that did not find it.
pub(super) fn cluster_trouble(identifier: &str, lookup: &Lookup) -> Refusal {
    let (reason, message) = match lookup {
        Lookup::OtherEngine(engine) => {
            (reasons::NOT_AURORA, format!("database.aurora: the cluster {identifier} is of the engine {engine}, not aurora-postgresql"))
        }
        Lookup::Unknown(trouble) => (reasons::CLUSTER_UNKNOWN, format!("database.aurora: {trouble}")),
        Lookup::Missing | Lookup::Found(_) => (
            reasons::CLUSTER_NOT_FOUND,
            format!(
                "database.aurora: no cluster {identifier} is in the operator's account and region: check clusterIdentifier and aws.region"
            ),
        ),
    };
    Refusal { reason, message, children: Children::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fixtures;

    fn refused(cluster: Option<&Lookup>, known: Option<&Topology>) -> Option<&'static str> {
        validate(&fixtures::everything(), &Rivals::default(), cluster, known).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn an_aurora_cluster_that_nobody_knows_is_refused_with_the_reason() {
        assert_eq!(refused(Some(&Lookup::Missing), None), Some(reasons::CLUSTER_NOT_FOUND));
        assert_eq!(refused(Some(&Lookup::OtherEngine("neptune".to_owned())), None), Some(reasons::NOT_AURORA));
        assert_eq!(refused(Some(&Lookup::Unknown("denied".to_owned())), None), Some(reasons::CLUSTER_UNKNOWN));
    }

    #[test]
    fn endpoints_that_were_known_stay_in_use_when_rds_no_longer_tells_them() {
        let known = Topology { writer: "known:5432".to_owned(), instances: Vec::new(), resource_id: None };
        for lookup in [Lookup::Missing, Lookup::Unknown("denied".to_owned())] {
            let accepted = validate(&fixtures::everything(), &Rivals::default(), Some(&lookup), Some(&known)).unwrap();
            assert_eq!(accepted.topology, known);
        }
    }

    #[test]
    fn an_older_pipeline_on_the_queue_takes_the_children_away() {
        let rivals = Rivals { older: Some("first".to_owned()), sharing: 0 };
        let refusal = validate(&fixtures::orders(), &rivals, None, None).unwrap_err();
        assert_eq!((refusal.reason, refusal.children), (reasons::QUEUE_IN_USE, Children::Remove));
    }
}
