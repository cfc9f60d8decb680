//! What a drill and its evidence look like, in every form; and what is said when the evidence is not what the operator has sealed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod fixture;

use std::time::Duration;

use durable_write_crds::conditions::types;
use durable_write_crds::drill::{Observation, ObservationSource, Phase, Verdict};
use durable_write_crds::evidence::{EVIDENCE_KEY, LABEL, SCHEMA, digest};
use durable_write_crds::pipeline::{DatabaseStatus, DurableWritePipelineStatus, InstanceStatus, QueueStatus, WorkersStatus};
use durable_write_crds::{DurableWritePipeline, FailoverDrillStatus};
use fixture::endings::{failed, inconclusive, long, undone};
use fixture::{account, at, config_map, drill, passed, refused};
use insta::assert_snapshot;
use kubectl_dw::account::{Account, Seal};
use kubectl_dw::compare::compare;
use kubectl_dw::drill::{exit_code, list};
use kubectl_dw::report::{Format, chart, render, show};
use kubectl_dw::{live, pipeline};

fn rendered(account: &Account, format: Format) -> String {
    render(account, format).unwrap()
}

#[test]
fn a_report_in_markdown() {
    assert_snapshot!("passed.md", rendered(&account(&passed()), Format::Md));
    assert_snapshot!("failed.md", rendered(&account(&failed()), Format::Md));
    assert_snapshot!("refused.md", rendered(&Account::new(Some(&refused()), None).unwrap(), Format::Md));
}

#[test]
fn a_report_for_ci_has_a_case_for_each_criterion_and_is_green_only_for_pass() {
    let passed = rendered(&account(&passed()), Format::Junit);
    assert_snapshot!("passed.junit", passed);
    assert!(passed.contains(r#"tests="11" skipped="0" failures="0" errors="0""#), "{passed}");
    let failed = rendered(&account(&failed()), Format::Junit);
    assert_snapshot!("failed.junit", failed);
    assert!(failed.contains(r#"tests="11" skipped="0" failures="2" errors="0""#) && !failed.contains('\u{1b}'), "{failed}");
    let inconclusive = rendered(&account(&inconclusive()), Format::Junit);
    assert!(inconclusive.contains(r#"tests="1" skipped="0" failures="0" errors="1""#), "{inconclusive}");
    let refused = rendered(&Account::new(Some(&refused()), None).unwrap(), Format::Junit);
    assert!(refused.contains(r#"tests="1" skipped="0" failures="0" errors="1""#) && refused.contains("ClusterNotOpened"), "{refused}");
}

#[test]
fn a_verdict_that_no_criterion_explains_is_a_case_of_its_own() {
    let mut evidence = passed();
    evidence.verdict = Verdict::Fail;
    evidence.reason = "PreviousWriterPromoted".to_owned();
    let text = rendered(&account(&evidence), Format::Junit);
    assert!(text.contains(r#"tests="12" skipped="0" failures="1" errors="0""#) && text.contains("PreviousWriterPromoted"), "{text}");
}

#[test]
fn json_is_the_evidence_as_it_is_stored() {
    let evidence = passed();
    let text = rendered(&account(&evidence), Format::Json);
    assert_eq!(text, config_map(&evidence).data.unwrap()[EVIDENCE_KEY]);
    assert_eq!(digest(&text), drill(&evidence).status.unwrap().evidence.unwrap().digest);
    let error = render(&Account::new(Some(&refused()), None).unwrap(), Format::Json).unwrap_err().to_string();
    assert!(error.contains("ended before a failover was called for"), "{error}");
}

#[test]
fn a_drill_for_the_terminal() {
    assert_snapshot!("passed.show", show(&account(&passed())));
    let text = show(&account(&failed()));
    assert!(text.contains("alert(1)") && !text.contains('\u{1b}'), "{text}");
    assert_snapshot!("refused.show", show(&Account::new(Some(&refused()), None).unwrap()));
}

#[test]
fn two_drills_side_by_side() {
    assert_snapshot!("compare", compare(&account(&passed()), &account(&failed())));
    let same = compare(&account(&passed()), &account(&passed()));
    assert!(same.contains("The same: ") && !same.contains("What differs") && !same.contains("Not known"), "{same}");
    let undrained = compare(&account(&passed()), &account(&long()));
    let line = undrained.lines().find(|line| line.starts_with("Undrained")).unwrap();
    assert!(line.ends_with("31") && line.contains(" 0 "), "{undrained}");
}

#[test]
fn what_is_not_compared_is_not_called_the_same() {
    let told = |change: fn(&mut durable_write_crds::evidence::Evidence)| {
        let mut other = passed();
        change(&mut other);
        compare(&account(&passed()), &account(&other))
    };
    for (change, label) in [
        (
            (|evidence| evidence.claim.spec.load.warm_up = "1m".parse().unwrap()) as fn(&mut durable_write_crds::evidence::Evidence),
            "Warm-up",
        ),
        (|evidence| evidence.claim.spec.load.cool_down = "1m".parse().unwrap(), "Cool-down"),
        (|evidence| evidence.claim.spec.deadline = "1h".parse().unwrap(), "Deadline"),
        (|evidence| evidence.probe.as_mut().unwrap().version = "0.2.0".to_owned(), "Probe"),
    ] {
        let text = told(change);
        let (_, differing) = text.split_once("What differs").unwrap_or_else(|| panic!("{label}: {text}"));
        assert!(differing.lines().any(|line| line.starts_with(label)), "{label}: {text}");
    }
    let refused = Account::new(Some(&refused()), None).unwrap();
    let text = compare(&refused, &refused);
    let (_, unknown) = text.split_once("Not known of either: ").unwrap();
    assert!(unknown.contains("Operator") && unknown.contains("Engine version"), "{text}");
}

#[test]
fn what_had_not_arrived_stands_beside_what_was_lost() {
    let text = rendered(&account(&long()), Format::Md);
    assert!(text.contains("| Data lost | 0 of "), "{text}");
    assert!(
        text.contains("; 31 more had not arrived when the time for the drain was over (undrained): they may be late or lost |"),
        "{text}"
    );
    assert!(text.contains("31 undrained"), "{text}");
}

#[test]
fn a_writer_that_was_promoted_again_is_no_new_writer_in_the_evidence_as_in_the_status() {
    let (with_evidence, from_status) = (account(&undone()), Account::new(Some(&drill(&undone())), None).unwrap());
    assert_eq!((with_evidence.writer_after, from_status.writer_after), (None, None));
}

#[test]
fn the_lag_before_is_the_one_that_the_probe_measured_before_the_failover() {
    for account in [account(&passed()), Account::new(Some(&drill(&passed())), None).unwrap()] {
        let text = rendered(&account, Format::Md);
        assert!(text.contains("| orders-2 | eu-west-1b | 1 | Reader | Writer | 18 ms |"), "{text}");
        assert!(text.contains("| orders-1 | eu-west-1a | 0 | Writer | Reader | - |"), "{text}");
    }
}

#[test]
fn drills_as_a_table() {
    let mut running = refused();
    running.metadata.name = Some("orders-now".to_owned());
    running.status = None;
    assert_snapshot!("list", list::table(&[drill(&passed()), drill(&failed()), refused(), running], true, at(3_600_000 * 5)));
}

#[test]
fn a_pipeline_for_the_terminal() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples/orders.yaml");
    let mut orders: DurableWritePipeline = durable_write_worker::manifest::load(&path).unwrap();
    orders.metadata.namespace = Some("shop".to_owned());
    let drills = [drill(&passed()), refused()];
    let unseen = pipeline::status(&orders, &[], at(0));
    assert!(unseen.contains("No operator has looked at it yet") && !unseen.contains("CONDITION") && !unseen.contains("ago"), "{unseen}");
    let instance =
        |name: &str, role: &str| InstanceStatus { name: name.to_owned(), role: role.to_owned(), zone: Some("eu-west-1a".to_owned()) };
    orders.status = Some(DurableWritePipelineStatus {
        conditions: vec![
            fixture::condition(types::READY, "True", "AsExpected", "2 of 2 workers are available"),
            fixture::condition(types::FLOWING, "False", "DatabaseOutage", "no writer \u{1b}[31mis reachable"),
        ],
        queue: Some(QueueStatus { name: "orders.fifo".to_owned(), visible: Some(361), in_flight: Some(40), ..QueueStatus::default() }),
        database: Some(DatabaseStatus {
            writer: Some("orders-1".to_owned()),
            instances: vec![instance("orders-1", "Writer"), instance("orders-2", "Reader")],
        }),
        workers: Some(WorkersStatus { ready: 2 }),
        ..DurableWritePipelineStatus::default()
    });
    assert_snapshot!("status", pipeline::status(&orders, &drills, at(120_000)));
}

#[test]
fn a_running_drill_tells_each_thing_once() {
    let end = drill(&passed()).status.unwrap();
    // As the operator tells it: what the probe saw itself is only known at the end.
    let seen = |until: i64| {
        let told = |step: &&Observation| step.observed_at.0 <= at(until) && step.source != ObservationSource::Probe;
        FailoverDrillStatus {
            timeline: end.timeline.iter().filter(told).cloned().collect(),
            phase: Some(if until < 8_000 { Phase::FailingOver } else { Phase::Recovering }),
            verdict: None,
            conditions: Vec::new(),
            roles_after: Vec::new(),
            writer_after: None,
            recovery: None,
            criteria: Vec::new(),
            ..end.clone()
        }
    };
    let statuses = [FailoverDrillStatus::default(), seen(1_000), seen(3_000), seen(3_000), seen(10_000), end.clone()];
    let told: Vec<_> = statuses.windows(2).map(|pair| live::lines(&pair[0], &pair[1]).join("\n")).collect();
    assert_snapshot!("live", told.join("\n-- the next status --\n"));
    assert_eq!(statuses.each_ref().map(live::writes_fail), [false, false, true, true, false, false]);
    let ticker = |status, failing| live::ticker(status, Duration::from_secs(61), failing);
    assert_eq!(ticker(&statuses[0], None), "01:01  ·  Waiting for the operator");
    assert!(ticker(&statuses[2], Some(Duration::from_secs(5))).contains("FailingOver  ·  write gap 5 s and growing  ·  queue peak 361"));
    assert!(ticker(&statuses[4], None).contains("Recovering  ·  write gap about 7 s  ·  queue"));
    assert!(ticker(&statuses[5], None).contains("Concluded  ·  write gap 6.9–7.2 s  ·  queue"));
    assert_eq!(
        [Some(Verdict::Pass), Some(Verdict::Fail), Some(Verdict::Inconclusive), Some(Verdict::Unknown), None].map(exit_code),
        [0, 1, 2, 2, 2]
    );
}

#[test]
fn evidence_that_was_changed_is_said_loudly_in_every_form() {
    let evidence = passed();
    let mut changed = evidence.clone();
    changed.probe.as_mut().unwrap().queue_channel.lost = 0;
    changed.message = "All is well.".to_owned();
    let account = Account::new(Some(&drill(&evidence)), Some(&config_map(&changed))).unwrap();
    assert!(matches!(account.seal, Seal::Mismatch { .. }) && !account.seal.is_sound());
    for format in [Format::Md, Format::Html] {
        assert!(rendered(&account, format).contains("NOT VERIFIED"), "{format:?}");
    }
    assert!(rendered(&account, Format::Junit).contains(r#"errors="1""#));
    assert!(show(&account).contains("NOT VERIFIED"));
}

#[test]
fn evidence_without_a_digest_or_a_drill_is_not_called_verified() {
    let evidence = passed();
    let mut restored = drill(&evidence);
    restored.status = None;
    let account = Account::new(Some(&restored), Some(&config_map(&evidence))).unwrap();
    assert!(matches!(account.seal, Seal::NoDigest { .. }) && !account.seal.is_sound());
    let account = Account::new(None, Some(&config_map(&evidence))).unwrap();
    assert!(matches!(account.seal, Seal::DrillGone { .. }) && !account.seal.is_sound());
    assert_eq!(account.verdict, Some(Verdict::Pass));
    assert!(Account::new(None, None).is_err());
}

#[test]
fn evidence_that_lacks_is_missed_when_there_must_be_some() {
    let evidence = passed();
    let account = Account::new(Some(&drill(&evidence)), None).unwrap();
    let expected = drill(&evidence).status.unwrap().evidence.map(|reference| reference.digest);
    assert!(account.seal == Seal::Missing { expected: expected.clone() } && account.verdict == Some(Verdict::Pass));
    assert!(account.seal.text().contains(&expected.clone().unwrap()));
    let page = rendered(&account, Format::Html);
    assert!(
        page.contains("NOT VERIFIED") && page.contains("yes, as the status says") && page.contains("drawn from the evidence"),
        "{page}"
    );
    let mut unlabelled = config_map(&evidence);
    unlabelled.metadata.labels = None;
    assert_eq!(Account::new(Some(&drill(&evidence)), Some(&unlabelled)).unwrap().seal, Seal::Missing { expected });
    let mut claim_only = config_map(&evidence);
    claim_only.data.as_mut().unwrap().remove(EVIDENCE_KEY);
    let mut unsealed = drill(&evidence);
    unsealed.status.as_mut().unwrap().evidence = None;
    assert_eq!(Account::new(Some(&unsealed), Some(&claim_only)).unwrap().seal, Seal::Missing { expected: None });
    assert_eq!(Account::new(Some(&refused()), None).unwrap().seal, Seal::NothingClaimed);
    unsealed.status = None;
    assert_eq!(Account::new(Some(&unsealed), Some(&claim_only)).unwrap().seal, Seal::NotConcluded);
}

#[test]
fn evidence_of_an_earlier_drill_of_the_name_is_not_this_ones() {
    let mut again = refused();
    again.metadata.name = Some(passed().claim.drill.name);
    let account = Account::new(Some(&again), Some(&config_map(&passed()))).unwrap();
    assert!(matches!(account.seal, Seal::OfAnotherDrill { .. }));
    assert_eq!(account.verdict, Some(Verdict::Error));
}

#[test]
fn evidence_of_a_newer_form_is_refused() {
    let evidence = passed();
    let mut map = config_map(&evidence);
    let newer = map.data.as_ref().unwrap()[EVIDENCE_KEY].replace(SCHEMA, "durablewrite.dev/drill-evidence/v9");
    map.data.as_mut().unwrap().insert(EVIDENCE_KEY.to_owned(), newer);
    assert_eq!(map.metadata.labels.as_ref().unwrap()[LABEL], "true");
    let error = format!("{:#}", Account::new(Some(&drill(&evidence)), Some(&map)).unwrap_err());
    assert!(error.contains("v9") && error.contains("newer kubectl dw"), "{error}");
}

#[test]
fn the_page_has_all_that_auditors_ask_for_and_loads_nothing() {
    let page = rendered(&account(&passed()), Format::Html);
    let asked = [
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "2026-11-24T06:00:00.000Z",
        "2026-11-24T06:00:30.262Z",
        "2026-11-24T06:01:22.250Z",
        "82.2 s",
        "Systems in scope",
        "cluster-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        "shop.orders",
        "orders.fifo",
        "prod-eu",
        "from orders-1 to orders-2",
        "Expected result",
        "Preconditions",
        "6.9–7.2 s",
        "0 of 4076 confirmed writes<",
        "alice@example.com (verified by the API server)",
        "Quarterly test of recovery",
        "CHG-4711",
        "kubectl-dw 0.1.0",
        "registry.example.com/durable-write@sha256:1234",
        &digest(&config_map(&passed()).data.unwrap()[EVIDENCE_KEY]),
        "Completed failover to DB instance: orders-2",
        "own unique index was not judged",
    ];
    for text in asked {
        assert!(page.contains(text), "{text} is not in the page");
    }
    for external in ["http:", "https:", "src=", "href=", "url(", "@import", "<link", "<script", "<iframe"] {
        assert!(!page.contains(external), "{external} is in the page");
    }
    for (open, close) in
        ["section", "table", "tbody", "svg", "g", "ol", "ul", "main", "figure", "title"].map(|tag| (format!("<{tag}"), format!("</{tag}>")))
    {
        let opened = page.matches(&open).filter(|_| true).count();
        assert!(opened >= page.matches(&close).count() && page.contains(&close), "{close}");
    }
    assert_snapshot!("passed.html", page);
}

#[test]
fn a_hostile_text_stays_text_wherever_it_stands() {
    let account = account(&failed());
    let page = rendered(&account, Format::Html);
    assert!(page.matches("&#60;script&#62;alert(1)").count() >= 4, "the text should be shown where it was given");
    assert!(!page.contains("<script") && !page.contains('\u{1b}'));
    let text = rendered(&account, Format::Md);
    assert!(!text.contains("<script") && !text.contains('\u{1b}'));
    assert!(page.contains("claimed; nobody has verified it"));
}

#[test]
fn a_chart_without_seconds_is_a_sentence() {
    let page = rendered(&account(&inconclusive()), Format::Html);
    assert!(page.contains("no-timeline") && page.contains("was never reached") && !page.contains("<svg"), "{page}");
    let page = rendered(&Account::new(Some(&refused()), None).unwrap(), Format::Html);
    assert!(page.contains("no-timeline") && page.contains("ClusterNotOpened") && page.contains("not called for"));
}

#[test]
fn a_chart_shows_who_took_the_writes_and_breaks_where_seconds_are_missing() {
    let whole = chart::chart(&account(&passed())).unwrap();
    assert_eq!(whole.writers.iter().map(|band| band.writer.as_deref()).collect::<Vec<_>>(), [Some("orders-1"), None, Some("orders-2")]);
    assert_eq!(whole.lanes.iter().map(|lane| lane.lines.len()).collect::<Vec<_>>(), [1, 2, 1]);
    assert!(whole.gap.is_some());
    let markers: Vec<&str> = whole.markers.iter().map(|marker| marker.text.as_str()).collect();
    assert_eq!(markers.len(), 6);
    assert!(markers[0] == "Claimed" && markers[1] == "Failover called for", "{markers:?}");
    let broken = chart::chart(&account(&failed())).unwrap();
    assert_eq!(broken.lanes[0].lines.len(), 2);
    assert_eq!(
        broken.writers.iter().map(|band| band.writer.as_deref()).collect::<Vec<_>>(),
        [Some("orders-1"), None, None, Some("orders-2")]
    );
    let narrow = chart::chart(&account(&long())).unwrap();
    assert!(whole.writers[0].has_room() && !narrow.writers[0].has_room(), "a name that does not fit stands in the title alone");
    assert!(rendered(&account(&failed()), Format::Html).contains("6 seconds could not be read from the probe"));
}

#[test]
fn absurd_numbers_do_not_break_a_report() {
    /// Canonical JSON holds no larger whole number.
    const MOST: i64 = (1 << 53) - 1;
    let mut evidence = passed();
    for (second, at) in evidence.series.seconds.iter_mut().zip([-MOST, MOST, 0]) {
        second.at = at;
        second.depth = Some(MOST);
        second.accepted = u32::MAX;
    }
    let probe = evidence.probe.as_mut().unwrap();
    probe.queue_channel.lost = MOST;
    probe.gap.as_mut().unwrap().upper_milliseconds = Some(MOST);
    let account = account(&evidence);
    for format in [Format::Md, Format::Html, Format::Junit] {
        assert!(!rendered(&account, format).is_empty());
    }
}
