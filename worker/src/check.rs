//! `check`: everything that a manifest names is looked at, and what is wrong is said with what to do. Nothing is received, sent or written.

mod database;
mod policy;
mod queue;

use std::fmt;
use std::process::ExitCode;

use aws_config::SdkConfig;
use durable_write_crds::DurableWritePipeline;

use crate::database::access::Access;
use crate::manifest::{Files, ManifestError, Mounts};
use crate::problem::Problem;
use policy::DatabaseUser;

/// What is looked at.
#[derive(clap::Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Look also at what failover drills need: whether their tables are there, and the right to send among those that are printed
    #[arg(long)]
    drills: bool,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// The field of the manifest that it is about.
    pub field: String,
    /// What it is, and what to do if it is not well.
    pub message: String,
}

/// How something is that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It does not work.
    Fail,
}

impl Finding {
    fn ok(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, field: field.into(), message: message.into() }
    }

    fn fail(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, field: field.into(), message: message.into() }
    }

    fn warn(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, field: field.into(), message: message.into() }
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        Self::fail(problem.field, problem.message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        write!(f, "{verdict} {}: {}", self.field, self.message)
    }
}

/// Checks, prints a line for each thing looked at and the IAM policy that the workers need, and fails when something does not work.
///
/// # Errors
/// The AWS SDK cannot be set up.
pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { files, drills } = arguments;
    let pipeline = match files.load() {
        Ok(pipeline) => pipeline,
        Err(ManifestError::Invalid { problems, .. }) => return Ok(print(&problems.into_iter().map(Finding::from).collect::<Vec<_>>())),
        Err(error) => return Ok(print(&[Finding::fail("manifest", error.to_string())])),
    };
    let (findings, policy) = examine(&pipeline, &files.mounts(), &crate::aws::configuration().await?, *drills).await;
    let result = print(&findings);
    println!(
        "\nThe workers' AWS identity needs this policy. Its rights were not tried out, as that would take or send messages.\n\n{policy:#}"
    );
    Ok(result)
}

/// Looks at everything that a pipeline names, and at what `drills` need, and says which IAM policy its workers need.
pub async fn examine(pipeline: &DurableWritePipeline, mounts: &Mounts, aws: &SdkConfig, drills: bool) -> (Vec<Finding>, serde_json::Value) {
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let mut findings = vec![Finding::ok("manifest", format!("pipeline {name} obeys schema and rules"))];
    let access = Access::new(name, &pipeline.spec.database, mounts, aws);
    let (database, (queue, facts)) =
        tokio::join!(database::examine(&access, &pipeline.spec, drills), queue::examine(aws, &pipeline.spec.queue));
    findings.extend(database);
    findings.extend(queue);
    let user = DatabaseUser::of(&pipeline.spec, &access, aws);
    (findings, policy::policy(&facts, user.as_ref(), drills))
}

fn print(findings: &[Finding]) -> ExitCode {
    findings.iter().for_each(|finding| println!("{finding}"));
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    println!("\n{} ok, {} to know, {} wrong", count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
    if count(Verdict::Fail) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
