//! The tags of the cluster and of its instances, of which only the cluster has any.

use super::super::cluster::Cluster;
use super::Failure;
use super::describe::{cluster_arn, instance_arn, tag_list};
use super::request::Request;
use super::xml::Xml;

/// `ListTagsForResource`.
pub(super) fn list(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let tags = if is_cluster(cluster, request)? { cluster.state().tags.clone() } else { Default::default() };
    tag_list(&tags, xml);
    Ok(())
}

/// `AddTagsToResource`, of the cluster.
pub(super) fn add(cluster: &Cluster, request: &Request) -> Result<(), Failure> {
    only_cluster(cluster, request)?;
    for number in 1.. {
        let Some(key) = request.get(&format!("Tags.Tag.{number}.Key")) else { break };
        let value = request.get(&format!("Tags.Tag.{number}.Value")).unwrap_or_default();
        cluster.state().tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(())
}

/// `RemoveTagsFromResource`, of the cluster.
pub(super) fn remove(cluster: &Cluster, request: &Request) -> Result<(), Failure> {
    only_cluster(cluster, request)?;
    for key in request.list("TagKeys.member") {
        cluster.state().tags.remove(key);
    }
    Ok(())
}

/// Whether the resource is the cluster: otherwise it is an instance.
fn is_cluster(cluster: &Cluster, request: &Request) -> Result<bool, Failure> {
    let name = request.required("ResourceName")?;
    if name == cluster_arn(cluster) {
        return Ok(true);
    }
    if cluster.nodes.iter().any(|node| name == instance_arn(&node.name)) {
        return Ok(false);
    }
    match name.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", "aws", "rds", _, _, "cluster", other] => Err(Failure::no_cluster(other)),
        ["arn", "aws", "rds", _, _, "db", other] => Err(Failure::no_instance(other)),
        _ => Err(Failure::bad_request("InvalidParameterValue", format!("Invalid resource name: {name}"))),
    }
}

fn only_cluster(cluster: &Cluster, request: &Request) -> Result<(), Failure> {
    if is_cluster(cluster, request)? {
        return Ok(());
    }
    Err(Failure::bad_request("InvalidParameterValue", "the local Aurora keeps tags of the cluster only"))
}
