//! What has happened, as RDS tells it.

use jiff::{SignedDuration, Timestamp};

use super::super::cluster::{Cluster, Event, Source};
use super::super::timestamp;
use super::Failure;
use super::describe::{cluster_arn, instance_arn, is_cluster};
use super::request::Request;
use super::xml::Xml;

/// What events can be about; here they are about the first two.
const SOURCE_TYPES: [&str; 11] = [
    "db-cluster",
    "db-instance",
    "db-parameter-group",
    "db-security-group",
    "db-snapshot",
    "db-cluster-snapshot",
    "custom-engine-version",
    "db-proxy",
    "blue-green-deployment",
    "db-shard-group",
    "zero-etl",
];

/// `DescribeEvents`.
pub(super) fn describe(cluster: &Cluster, request: &Request, xml: &mut Xml) -> Result<(), Failure> {
    let (source_type, source) = (request.get("SourceType"), request.get("SourceIdentifier"));
    if source.is_some() && source_type.is_none() {
        let message = "The parameter SourceType must be given with SourceIdentifier";
        return Err(Failure::bad_request("InvalidParameterCombination", message));
    }
    if let Some(unknown) = source_type.filter(|wanted| !SOURCE_TYPES.contains(wanted)) {
        return Err(Failure::bad_request("InvalidParameterValue", format!("Invalid value {unknown} for SourceType")));
    }
    let (begin, end) = interval(request)?;
    let categories = request.list("EventCategories.EventCategory");
    let mut events: Vec<Event> = cluster.state().events.clone();
    events.sort_by_key(|event| event.at);
    let now = Timestamp::now();
    let shown: Vec<&Event> = events
        .iter()
        .filter(|event| event.shown <= now)
        .filter(|event| (begin..=end).contains(&event.at))
        .filter(|event| source_type.is_none_or(|wanted| wanted == type_of(event)))
        .filter(|event| source.is_none_or(|wanted| is_source(cluster, event, wanted)))
        .filter(|event| categories.is_empty() || categories.contains(&event.category))
        .collect();
    request.page(&shown, xml, "Events", |event, xml| self::event(cluster, event, xml))
}

/// How long events are kept, in minutes.
const FORTNIGHT: u32 = 14 * 24 * 60;

/// From `StartTime` to `EndTime`; without a start `Duration` minutes, 60 by default.
fn interval(request: &Request) -> Result<(Timestamp, Timestamp), Failure> {
    let minutes: u32 = request.parsed("Duration")?.unwrap_or(60);
    if minutes > FORTNIGHT {
        return Err(Failure::bad_request(
            "InvalidParameterValue",
            format!("Invalid value {minutes} for Duration. Must be at most {FORTNIGHT}"),
        ));
    }
    let end: Timestamp = request.parsed("EndTime")?.unwrap_or_else(Timestamp::now);
    let begin = match request.parsed("StartTime")? {
        Some(begin) => begin,
        None => end.checked_sub(SignedDuration::from_mins(minutes.into())).unwrap_or(Timestamp::MIN),
    };
    if begin > end {
        return Err(Failure::bad_request("InvalidParameterValue", "StartTime must not be after EndTime"));
    }
    Ok((begin, end))
}

fn type_of(event: &Event) -> &'static str {
    match event.source {
        Source::Cluster => "db-cluster",
        Source::Instance(_) => "db-instance",
    }
}

fn is_source(cluster: &Cluster, event: &Event, wanted: &str) -> bool {
    match &event.source {
        Source::Cluster => is_cluster(cluster, wanted),
        Source::Instance(name) => name.eq_ignore_ascii_case(wanted),
    }
}

fn event(cluster: &Cluster, event: &Event, xml: &mut Xml) {
    let (identifier, arn) = match &event.source {
        Source::Cluster => (&cluster.identifier, cluster_arn(cluster)),
        Source::Instance(name) => (name, instance_arn(name)),
    };
    xml.children("Event", |xml| {
        xml.text("SourceIdentifier", identifier);
        xml.text("SourceType", type_of(event));
        xml.text("SourceArn", arn);
        xml.text("Message", &event.message);
        xml.text("Date", timestamp(event.at));
        xml.children("EventCategories", |xml| xml.text("EventCategory", event.category));
    });
}
