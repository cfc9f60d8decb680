//! The Lease of an Aurora cluster: one drill at a time. It is taken by a create, or by a replace of what was read, so that of two only one
//! can win; and it outlives its holder until its time is past.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::pipeline::names::MANAGER;

/// How long a Lease holds after it was renewed.
const HOLDS: SignedDuration = SignedDuration::from_secs(90);
/// A running drill renews its Lease this often.
const RENEW: SignedDuration = SignedDuration::from_secs(20);
/// The drill that holds a Lease, for people and for whoever asks whether it is still there.
const NAMESPACE_ANNOTATION: &str = "durablewrite.dev/drill-namespace";
const NAME_ANNOTATION: &str = "durablewrite.dev/drill-name";

/// What a drill does about the Lease of its cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// It holds it.
    Held,
    /// It takes or renews it: this is to be written, by a create or by a replace.
    Write(Box<Lease>),
    /// Another drill has it, for people.
    Taken(String),
}

/// A drill, as a Lease names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder<'a> {
    pub(super) uid: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// The name of the Lease of a cluster.
pub(super) fn name(resource_id: &str) -> String {
    format!("drill-{}", resource_id.to_lowercase())
}

/// The drill that holds the Lease.
pub(super) fn holder(lease: &Lease) -> Option<Holder<'_>> {
    let annotations = lease.metadata.annotations.as_ref()?;
    Some(Holder {
        uid: lease.spec.as_ref()?.holder_identity.as_deref()?,
        namespace: annotations.get(NAMESPACE_ANNOTATION)?,
        name: annotations.get(NAME_ANNOTATION)?,
    })
}

/// How `drill` stands to the Lease of the cluster as it was read; `gone` says that its holder has ended or is deleted.
pub(super) fn standing(read: Option<&Lease>, gone: bool, drill: Holder<'_>, named: (&str, &str), now: Timestamp) -> Standing {
    let (namespace, name) = named;
    let Some(lease) = read else {
        let metadata = ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
        return Standing::Write(Box::new(taken(Lease { metadata, ..Lease::default() }, drill, now)));
    };
    let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map_or(Timestamp::MIN, |time| time.0);
    match holder(lease) {
        // A time that lies ahead was written by another clock.
        Some(holder) if holder.uid == drill.uid && now.duration_since(renewed).abs() < RENEW => Standing::Held,
        Some(holder) if holder.uid == drill.uid => Standing::Write(Box::new(taken(lease.clone(), drill, now))),
        Some(holder) if !gone || now.duration_since(renewed).abs() < HOLDS => {
            Standing::Taken(format!("the drill {} of the namespace {}", holder.name, holder.namespace))
        }
        _ => Standing::Write(Box::new(taken(lease.clone(), drill, now))),
    }
}

fn taken(mut lease: Lease, drill: Holder<'_>, now: Timestamp) -> Lease {
    let annotations = [(NAMESPACE_ANNOTATION, drill.namespace), (NAME_ANNOTATION, drill.name)];
    lease.metadata.managed_fields = None;
    lease.metadata.annotations = Some(annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    lease.metadata.labels = Some(BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned())]));
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(drill.uid.to_owned()),
        lease_duration_seconds: i32::try_from(HOLDS.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Holder<'_> = Holder { uid: "a", namespace: "shop", name: "drill-a" };
    const B: Holder<'_> = Holder { uid: "b", namespace: "bar", name: "drill-b" };
    const NAME: (&str, &str) = ("operator", "drill-cluster-x");

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn taken_by(drill: Holder<'_>, at: i64) -> Lease {
        match standing(None, false, drill, NAME, second(at)) {
            Standing::Write(lease) => *lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_is_kept_by_its_drill_and_renewed() {
        let lease = taken_by(A, 0);
        assert_eq!(standing(Some(&lease), false, A, NAME, second(10)), Standing::Held);
        assert!(matches!(standing(Some(&lease), false, A, NAME, second(25)), Standing::Write(_)));
        assert!(matches!(standing(Some(&lease), false, A, NAME, second(-3600)), Standing::Write(_)), "the clock was set back");
    }

    #[test]
    fn another_drill_gets_it_only_when_its_holder_is_gone_and_its_time_is_past() {
        let lease = taken_by(A, 0);
        for (gone, after, free) in [(false, 10, false), (true, 10, false), (false, 1000, false), (true, 1000, true)] {
            let standing = standing(Some(&lease), gone, B, NAME, second(after));
            assert_eq!(matches!(standing, Standing::Write(_)), free, "gone: {gone}, after {after} s: {standing:?}");
        }
    }

    #[test]
    fn a_lease_that_a_clock_ahead_has_renewed_is_not_waited_for() {
        let lease = taken_by(A, 3600);
        assert!(matches!(standing(Some(&lease), true, B, NAME, second(0)), Standing::Write(_)));
        assert!(matches!(standing(Some(&lease), true, B, NAME, second(3590)), Standing::Taken(_)), "a little ahead is no fault");
    }
}
