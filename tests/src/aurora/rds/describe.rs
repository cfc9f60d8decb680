//! The cluster and its instances as RDS describes them.

use std::collections::BTreeMap;

use super::super::cluster::{Cluster, REGION};
use super::super::{Instance, timestamp};
use super::request::Request;
use super::xml::Xml;
use super::{ACCOUNT, Failure};

const ENGINE: &str = "aurora-postgresql";
const HOSTED_ZONE: &str = "Z29XKXDKYMONMX";

/// Whether a request means this cluster, by its identifier or its ARN.
pub(super) fn is_cluster(cluster: &Cluster, identifier: &str) -> bool {
    identifier.eq_ignore_ascii_case(&cluster.identifier) || identifier.eq_ignore_ascii_case(&cluster_arn(cluster))
}

/// The cluster's ARN.
pub(super) fn cluster_arn(cluster: &Cluster) -> String {
    format!("arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{}", cluster.identifier)
}

/// An instance's ARN.
pub(super) fn instance_arn(name: &str) -> String {
    format!("arn:aws:rds:{REGION}:{ACCOUNT}:db:{name}")
}

/// `DescribeDBClusters`.
pub(super) fn clusters(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let wanted = request.get("DBClusterIdentifier");
    if let Some(other) = wanted.filter(|wanted| !is_cluster(cluster, wanted)) {
        return Err(Failure::no_cluster(other));
    }
    let passes = request.passes(|filter| match filter {
        "db-cluster-id" => Some(vec![cluster.identifier.clone(), cluster_arn(cluster)]),
        "db-cluster-resource-id" => Some(vec![cluster.resource_id.clone()]),
        "engine" => Some(vec![ENGINE.to_owned()]),
        _ => None,
    })?;
    let all: &[&Cluster] = if passes { &[cluster] } else { &[] };
    request.page(all, xml, "DBClusters", |item, xml| self::cluster(item, xml))
}

/// One `DBCluster` element.
pub(super) fn cluster(cluster: &Cluster, xml: &mut Xml) {
    let (instances, status, tags) = {
        let state = cluster.state();
        (cluster.instances(&state), state.cluster_status().to_owned(), state.tags.clone())
    };
    xml.children("DBCluster", |xml| {
        xml.text("DBClusterIdentifier", &cluster.identifier);
        xml.text("DBClusterArn", cluster_arn(cluster));
        xml.text("DbClusterResourceId", &cluster.resource_id);
        xml.text("Status", status);
        xml.text("Engine", ENGINE);
        xml.text("EngineVersion", &cluster.version);
        xml.text("EngineMode", "provisioned");
        xml.text("Endpoint", &cluster.advertise);
        xml.text("ReaderEndpoint", cluster.reader_address);
        xml.text("Port", cluster.cluster_proxy.address().port());
        xml.text("HostedZoneId", HOSTED_ZONE);
        xml.text("MasterUsername", super::super::USERNAME);
        xml.text("DBClusterParameterGroup", "default.aurora-postgresql15");
        xml.text("DBSubnetGroup", "default");
        xml.text("MultiAZ", instances.len() > 1);
        xml.text("AllocatedStorage", 1);
        xml.text("StorageEncrypted", false);
        xml.text("BackupRetentionPeriod", 1);
        xml.text("ClusterCreateTime", timestamp(cluster.created));
        xml.text("IAMDatabaseAuthenticationEnabled", false);
        xml.text("DeletionProtection", false);
        xml.children("AvailabilityZones", |xml| {
            for zone in ["a", "b", "c"] {
                xml.text("AvailabilityZone", format!("{REGION}{zone}"));
            }
        });
        xml.children("DBClusterMembers", |xml| instances.iter().for_each(|instance| member(instance, xml)));
        tag_list(&tags, xml);
    });
}

fn member(instance: &Instance, xml: &mut Xml) {
    xml.children("DBClusterMember", |xml| {
        xml.text("DBInstanceIdentifier", &instance.name);
        xml.text("IsClusterWriter", instance.writer);
        xml.text("DBClusterParameterGroupStatus", "in-sync");
        xml.text("PromotionTier", instance.promotion_tier);
    });
}

/// A `TagList` element.
pub(super) fn tag_list(tags: &BTreeMap<String, String>, xml: &mut Xml) {
    xml.children("TagList", |xml| {
        for (key, value) in tags {
            xml.children("Tag", |xml| {
                xml.text("Key", key);
                xml.text("Value", value);
            });
        }
    });
}

/// `DescribeDBInstances`.
pub(super) fn instances(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let instances = cluster.instances(&cluster.state());
    let is = |instance: &Instance, wanted: &str| {
        wanted.eq_ignore_ascii_case(&instance.name) || wanted.eq_ignore_ascii_case(&instance_arn(&instance.name))
    };
    let wanted = request.get("DBInstanceIdentifier");
    if let Some(other) = wanted.filter(|wanted| !instances.iter().any(|instance| is(instance, wanted))) {
        return Err(Failure::no_instance(other));
    }
    let mut shown = Vec::new();
    for instance in instances.iter().filter(|instance| wanted.is_none_or(|wanted| is(instance, wanted))) {
        let passes = request.passes(|filter| match filter {
            "db-cluster-id" => Some(vec![cluster.identifier.clone(), cluster_arn(cluster)]),
            "db-instance-id" => Some(vec![instance.name.clone(), instance_arn(&instance.name)]),
            "dbi-resource-id" => Some(vec![instance.resource_id.clone()]),
            "engine" => Some(vec![ENGINE.to_owned()]),
            _ => None,
        })?;
        if passes {
            shown.push(instance);
        }
    }
    request.page(&shown, xml, "DBInstances", |item, xml| instance(cluster, item, xml))
}

fn instance(cluster: &Cluster, instance: &Instance, xml: &mut Xml) {
    xml.children("DBInstance", |xml| {
        xml.text("DBInstanceIdentifier", &instance.name);
        xml.text("DBInstanceArn", instance_arn(&instance.name));
        xml.text("DbiResourceId", &instance.resource_id);
        xml.text("DBClusterIdentifier", &cluster.identifier);
        xml.text("DBInstanceStatus", &instance.status);
        xml.text("DBInstanceClass", "db.r6g.large");
        xml.text("Engine", ENGINE);
        xml.text("EngineVersion", &cluster.version);
        xml.text("AvailabilityZone", &instance.zone);
        xml.text("MultiAZ", false);
        xml.text("PromotionTier", instance.promotion_tier);
        xml.children("Endpoint", |xml| {
            xml.text("Address", &cluster.advertise);
            xml.text("Port", instance.port);
            xml.text("HostedZoneId", HOSTED_ZONE);
        });
        xml.text("MasterUsername", super::super::USERNAME);
        xml.text("AllocatedStorage", 1);
        xml.text("StorageType", "aurora");
        xml.text("StorageEncrypted", false);
        xml.text("PubliclyAccessible", false);
        xml.text("InstanceCreateTime", timestamp(cluster.created));
        xml.text("IAMDatabaseAuthenticationEnabled", false);
        xml.text("DeletionProtection", false);
        xml.children("TagList", |_| {});
    });
}
