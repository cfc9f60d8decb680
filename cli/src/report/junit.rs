//! The report as JUnit XML: one test case for each criterion. What is inconclusive is an error, never skipped: CI shows skipped as green.

use std::time::Duration;

use durable_write_crds::drill::{Criterion, CriterionResult, Verdict};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::account::Account;

use super::headline;

/// The report.
pub(super) fn render(account: &Account) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new(format!("{}/{}", account.namespace, account.name));
    suite.add_property(("uid", account.uid.as_str()));
    suite.add_property(("pipeline", account.spec.pipeline_ref.name.as_str()));
    suite.add_property(("evidence", account.seal.digest().unwrap_or("none")));
    if let Some((from, to)) = account.created.zip(account.concluded) {
        suite.set_time(Duration::try_from(to.duration_since(from)).unwrap_or_default());
    }
    suite.add_test_cases(account.criteria.iter().map(|criterion| case(account, &criterion.name, of(criterion))));
    // The verdict counts even where no criterion gives its reason.
    let told = account.criteria.iter().any(|criterion| criterion.result != CriterionResult::Pass);
    if account.verdict != Some(Verdict::Pass) && !told || account.criteria.is_empty() {
        let kind = if account.verdict == Some(Verdict::Fail) { NonSuccessKind::Failure } else { NonSuccessKind::Error };
        suite.add_test_case(case(account, "verdict", status(kind, &verdict(account))));
    }
    if !account.seal.is_sound() {
        suite.add_test_case(case(account, "evidence", status(NonSuccessKind::Error, &account.seal.text())));
    }
    let mut report = Report::new("failover drill");
    report.add_test_suite(suite);
    report.to_string()
}

/// The verdict and why.
fn verdict(account: &Account) -> String {
    match account.message.as_str() {
        "" => headline(account),
        message => format!("{}: {message}", headline(account)),
    }
}

fn case(account: &Account, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("drill.{}", account.spec.pipeline_ref.name));
    case
}

fn of(criterion: &Criterion) -> TestCaseStatus {
    let Criterion { target, measured, message, .. } = criterion;
    let message = message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    let text = format!("measured {measured}, asked for {target}{message}");
    match criterion.result {
        CriterionResult::Pass => TestCaseStatus::success(),
        CriterionResult::Fail => status(NonSuccessKind::Failure, &text),
        CriterionResult::Inconclusive | CriterionResult::Unknown => status(NonSuccessKind::Error, &format!("inconclusive: {text}")),
    }
}

fn status(kind: NonSuccessKind, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    status
}
