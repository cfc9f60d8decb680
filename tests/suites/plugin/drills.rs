//! `drill run`, `list`, `show`, `abort`, `report` and `compare`.

use durable_write_crds::FailoverDrill;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{EVIDENCE_KEY, config_map_name};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use kubectl_dw::drill::{abort, compare, list, report, show};
use kubectl_dw::report::Format;
use serde_json::json;

use crate::ground::{conclude, evidence, first_drill, namespace, only_drill_runner, patch, run, seal, store};

#[tokio::test]
async fn a_drill_is_watched_to_its_verdict_and_leaves_a_report() {
    let cluster = namespace("passes").await;
    let file = tempfile::TempDir::new().unwrap();
    let page = file.path().join("drill.html");
    let arguments = ["orders", "--reason", "a test", "--recovery-time", "30s", "-o", "html", "--file", page.to_str().unwrap()];
    let operator = async {
        let drill = first_drill(&cluster).await;
        patch(&cluster, &drill.name_any(), json!({"status": {"phase": "Baseline", "writerBefore": "orders-1"}})).await;
        conclude(&cluster, &drill, Verdict::Pass).await;
        drill
    };
    let ((code, said), drill) = tokio::join!(run(&cluster, &arguments), operator);
    assert_eq!(code.unwrap(), 0, "{said}");
    let spec = &drill.spec;
    assert!(spec.requested_by.is_some() && spec.not_after.is_some() && spec.reason.as_deref() == Some("a test"), "{spec:?}");
    assert!(drill.name_any().starts_with("orders-20"), "{}", drill.name_any());
    assert!(said.contains("== Concluded") && said.contains("Pass (ObjectivesMet)") && !said.contains('\u{1b}'), "{said}");
    assert!(std::fs::read_to_string(page).unwrap().contains("timeline-title"));
}

#[tokio::test]
async fn the_exit_code_is_that_of_the_verdict() {
    for (name, verdict, expected) in [("fails", Verdict::Fail, 1), ("errs", Verdict::Error, 2)] {
        let cluster = namespace(name).await;
        let operator = async {
            let drill = first_drill(&cluster).await;
            let condition =
                json!({"type": "Complete", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": Timestamp::now()});
            patch(&cluster, &drill.name_any(), json!({"status": {"verdict": verdict, "conditions": [condition]}})).await;
        };
        let ((code, said), ()) = tokio::join!(run(&cluster, &["orders", "--name", "x"]), operator);
        assert_eq!(code.unwrap(), expected, "{said}");
    }
}

#[tokio::test]
async fn a_report_that_cannot_be_written_does_not_hide_the_verdict() {
    for (name, verdict, expected) in [("passes-unread", Verdict::Pass, 2), ("fails-unread", Verdict::Fail, 1)] {
        let cluster = namespace(name).await;
        let operator = async { conclude(&cluster, &first_drill(&cluster).await, verdict).await };
        let arguments = ["orders", "-o", "html", "--file", "/no/such/folder/drill.html"];
        let ((code, said), ()) = tokio::join!(run(&cluster, &arguments), operator);
        assert_eq!(code.unwrap(), expected, "{said}");
        assert!(said.contains(&verdict.to_string()) && said.contains("no report: "), "{said}");
    }
}

#[tokio::test]
async fn a_pass_whose_evidence_cannot_be_verified_is_no_success_for_who_asked_for_the_report() {
    for (name, verdict, expected) in [("passes-unsealed", Verdict::Pass, 2), ("fails-unsealed", Verdict::Fail, 1)] {
        let cluster = namespace(name).await;
        let page = tempfile::NamedTempFile::new().unwrap();
        let operator = async {
            let drill = first_drill(&cluster).await;
            let mut changed = evidence(&drill, verdict);
            changed.message = "not what the operator has sealed".to_owned();
            store(&cluster, &changed).await;
            seal(&cluster, &evidence(&drill, verdict)).await;
        };
        let arguments = ["orders", "-o", "md", "--file", page.path().to_str().unwrap()];
        let ((code, said), ()) = tokio::join!(run(&cluster, &arguments), operator);
        assert_eq!(code.unwrap(), expected, "{said}");
        assert!(said.contains("NOT VERIFIED") && said.contains("report: "), "{said}");
        assert!(std::fs::read_to_string(page.path()).unwrap().contains("NOT VERIFIED"));
    }
}

#[tokio::test]
async fn who_may_only_run_drills_can_try_one_and_see_what_became_of_it() {
    let all = namespace("runner").await;
    let cluster = only_drill_runner(&all).await;
    let (code, said) = run(&cluster, &["orders", "--dry-run"]).await;
    assert_eq!(code.unwrap(), 0, "{said}");
    assert!(said.contains("likely target: unknown, as you may not read pipelines here"), "{said}");
    run(&cluster, &["orders", "--name", "one", "--no-wait"]).await.0.unwrap();
    let mut out = Vec::new();
    assert!(report(&cluster, "one", Format::Md, None, &mut out).await.unwrap().is_sound(), "it has not ended");
    conclude(&all, &first_drill(&all).await, Verdict::Pass).await;
    show(&cluster, "one", &mut out).await.unwrap();
    assert!(!report(&cluster, "one", Format::Md, None, &mut out).await.unwrap().is_sound());
    let said = String::from_utf8(out).unwrap();
    assert!(said.contains("Pass (ObjectivesMet)") && said.contains("you may not read ConfigMaps here"), "{said}");
    let denied = list::list(&cluster, true, Timestamp::now(), &mut Vec::new()).await.unwrap_err();
    assert!(format!("{denied:#}").contains("ask whoever runs the cluster for the roles"), "{denied:#}");
}

#[tokio::test]
async fn a_dry_run_creates_nothing_and_what_is_refused_is_said() {
    let cluster = namespace("dry").await;
    let (code, said) = run(&cluster, &["orders", "--dry-run"]).await;
    assert_eq!(code.unwrap(), 0);
    assert!(said.contains("nothing is created") && said.contains("no pipeline orders") && said.contains("runs in the operator"), "{said}");
    assert!(cluster.api::<FailoverDrill>().list(&ListParams::default()).await.unwrap().items.is_empty());
    let (refused, _) = run(&cluster, &["orders", "--deadline", "3h", "--dry-run"]).await;
    assert!(format!("{:#}", refused.unwrap_err()).contains("deadline: at most 2h"));
    assert_eq!(run(&cluster, &["orders", "--name", "twice", "--no-wait"]).await.0.unwrap(), 0);
    let (again, _) = run(&cluster, &["orders", "--name", "twice", "--no-wait"]).await;
    assert!(format!("{:#}", again.unwrap_err()).contains("already exists"));
}

#[tokio::test]
async fn a_drill_that_is_deleted_ends_the_watch() {
    let cluster = namespace("deleted").await;
    let operator = async {
        let drill = first_drill(&cluster).await;
        // Seen once, so that it is not merely late.
        patch(&cluster, &drill.name_any(), json!({"status": {"phase": "Preflight"}})).await;
        cluster.api::<FailoverDrill>().delete(&drill.name_any(), &DeleteParams::default()).await.unwrap();
    };
    let ((code, said), ()) = tokio::join!(run(&cluster, &["orders"]), operator);
    assert!(format!("{:#}", code.unwrap_err()).contains("was deleted while it ran"), "{said}");
}

#[tokio::test]
async fn drills_are_listed_shown_aborted_compared_and_reported() {
    let cluster = namespace("many").await;
    for name in ["one", "two"] {
        run(&cluster, &["orders", "--name", name, "--no-wait"]).await.0.unwrap();
    }
    let drills = cluster.api::<FailoverDrill>();
    let drill = |name: &'static str| drills.get(name);
    let mut out = Vec::new();
    abort(&cluster, "two", &mut out).await.unwrap();
    assert!(drill("two").await.unwrap().spec.abort);
    conclude(&cluster, &drill("one").await.unwrap(), Verdict::Pass).await;
    conclude(&cluster, &drill("two").await.unwrap(), Verdict::Fail).await;
    abort(&cluster, "two", &mut out).await.unwrap();
    list::list(&cluster, false, Timestamp::now(), &mut out).await.unwrap();
    show(&cluster, "one", &mut out).await.unwrap();
    compare(&cluster, ["one", "two"], &mut out).await.unwrap();
    let said = String::from_utf8(std::mem::take(&mut out)).unwrap();
    for wanted in ["two is asked to end", "two has ended already: Fail", "PIPELINE", "VERDICT", "Engine version", "verified: the evidence"]
    {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    let stored = cluster.api::<ConfigMap>().get(&config_map_name("one")).await.unwrap().data.unwrap()[EVIDENCE_KEY].clone();
    assert!(report(&cluster, "one", Format::Json, None, &mut out).await.unwrap().is_sound());
    assert_eq!(String::from_utf8(std::mem::take(&mut out)).unwrap(), stored);
    // The drill is deleted; its evidence stays, and nobody vouches for it.
    let deleted = drill("one").await.unwrap();
    assert_eq!(evidence(&deleted, Verdict::Pass).verdict, Verdict::Pass);
    cluster.api::<FailoverDrill>().delete("one", &DeleteParams::default()).await.unwrap();
    assert!(!report(&cluster, "one", Format::Md, None, &mut out).await.unwrap().is_sound());
    assert!(String::from_utf8(out).unwrap().contains("NOT VERIFIED"));
    let missing = show(&cluster, "three", &mut Vec::new()).await.unwrap_err();
    assert!(format!("{missing:#}").contains("many/three"), "{missing:#}");
}
