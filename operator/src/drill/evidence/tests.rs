//! The form of the evidence: canonical, of one digest, and never too large for a ConfigMap.

use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::{ObservationSource, Verdict};
use durable_write_crds::evidence::{CallOutcome, MOST_SECONDS, digest};
use durable_write_crds::probe::{ProbeSecond, ProbeState};
use kube::Resource;

use super::*;
use crate::drill::fixtures::{self, second};
use crate::drill::observed::EvidenceSeen;
use crate::drill::step::ending;

fn call() -> Call {
    Call { outcome: CallOutcome::Accepted, began: Some(second(30)), ended: Some(second(31)), message: None }
}

fn passed() -> Ending {
    ending(Verdict::Pass, reasons::OBJECTIVES_MET, "every objective was met, and measured soundly")
}

fn evidence() -> (ConfigMap, Evidence, String) {
    let document = document(&fixtures::claim(), call(), &passed(), &Seen::default(), Some(&fixtures::result()), second(91));
    let (config_map, text) = completed(&claim_object(&fixtures::claim()).unwrap(), &document).unwrap();
    (config_map, document, text)
}

#[test]
fn a_claim_belongs_to_nobody_and_can_still_be_completed() {
    let claim = claim_object(&fixtures::claim()).unwrap();
    assert_eq!((claim.metadata.name.as_deref(), claim.metadata.namespace.as_deref()), (Some("first-evidence"), Some("shop")));
    assert_eq!((claim.owner_references().len(), claim.immutable), (0, None));
    assert_eq!(claim.labels()[LABEL], "true");
    match EvidenceSeen::read(Some(claim), fixtures::UID) {
        EvidenceSeen::Claimed(claim, _) => assert_eq!(*claim, fixtures::claim()),
        _ => panic!("not this drill's claim"),
    }
}

#[test]
fn complete_evidence_is_immutable_and_keeps_the_claim_as_it_was() {
    let (config_map, document, text) = evidence();
    let before = claim_object(&fixtures::claim()).unwrap();
    assert_eq!(config_map.immutable, Some(true));
    assert_eq!(config_map.data.as_ref().unwrap()[CLAIM_KEY], before.data.unwrap()[CLAIM_KEY]);
    assert_eq!(config_map.meta().name, before.metadata.name);
    match EvidenceSeen::read(Some(config_map), fixtures::UID) {
        EvidenceSeen::Concluded(read, told) => assert_eq!((*read, told), (document, digest(&text))),
        _ => panic!("not this drill's evidence"),
    }
}

#[test]
fn a_document_has_one_text_and_one_digest_whoever_writes_it() {
    let (_, document, text) = evidence();
    let read: Evidence = serde_json::from_str(&text).unwrap();
    assert_eq!(read, document);
    assert_eq!(canonical(&read).unwrap(), text, "read and written again");
    // RFC 8785: names in order, no white space.
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(canonical(&value).unwrap(), text, "written by somebody who does not know the types");
    assert!(text.starts_with(r#"{"call":{"began":"#), "{}", &text[..40]);
    let mut other = document;
    other.criteria.clear();
    other.message.push('.');
    assert_ne!(digest(&canonical(&other).unwrap()), digest(&text));
    // A change of the text is a change of the form: raise SCHEMA.
    insta::assert_snapshot!(text.replace(VERSION, "VERSION"));
}

#[test]
fn the_largest_document_is_well_below_what_a_config_map_holds() {
    // Control characters are the longest in JSON: six bytes each.
    let long = |length: usize| "\u{1}".repeat(length);
    let mut claim = fixtures::claim();
    (claim.spec.reason, claim.spec.change_reference, claim.spec.requested_by) = (Some(long(1024)), Some(long(253)), Some(long(253)));
    let mut seen = Seen::default();
    for at in 0..1000 {
        seen.note(second(at), second(at), ObservationSource::RDSEvent, "FailoverStarted", &long(100_000));
    }
    let cluster = AuroraCluster {
        instances: (0..40).map(|at| super::super::rds::Instance { name: format!("{at:063}"), ..Default::default() }).collect(),
        ..fixtures::cluster()
    };
    (seen.roles_after, claim.roles) = (roles(&cluster, second(1)), roles(&cluster, second(1)));
    for minute in 0..400 {
        let second = |at| ProbeSecond {
            at,
            accepted: u32::MAX,
            committed: u32::MAX,
            failed: u32::MAX,
            depth: Some(i64::MAX),
            writer: Some("w".repeat(63)),
        };
        let seconds = (minute * 60..(minute + 1) * 60).map(second).collect();
        let (made, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(400 * 60).unwrap());
        seen.series.take(&ProbeState { seconds, stage: long(9000), message: long(9000) }, made, now);
    }
    let mut result = fixtures::result();
    // A termination message holds no more.
    result.message = Some("x".repeat(4096));
    let call = Call { message: Some(long(512)), ..call() };
    let ending = Ending { message: long(4096), ..passed() };
    let document = document(&claim, call, &ending, &seen, Some(&result), second(91));
    assert_eq!((document.timeline.len(), document.claim.roles.len(), document.roles_after.len()), (64, 16, 16));
    assert!(document.series.seconds.len() <= MOST_SECONDS && document.series.missing.is_some());
    let (config_map, _) = completed(&claim_object(&claim).unwrap(), &document).unwrap();
    let bytes: usize = config_map.data.unwrap().values().map(String::len).sum();
    println!("{bytes} bytes at the most");
    assert!(bytes < 512 * 1024, "{bytes} bytes");
}
