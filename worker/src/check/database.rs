//! The database's part of the check: credentials, authorities, every server, durability, the table, and the statement itself.

use std::collections::BTreeMap;

use durable_write_crds::DurableWritePipelineSpec;
use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::TlsMode;
use futures::future::join_all;
use sqlx::{AssertSqlSafe, PgConnection};

use super::Finding;
use crate::database::access::{Access, CONNECT_DEADLINE, Connector, Login};
use crate::database::catalogue;
use crate::database::durability::{self, not_durable};
use crate::database::failure::failure;
use crate::database::plan::{Plan, plan, table_missing};
use crate::database::quote;
use crate::manifest::Server;
use crate::probe;
use crate::problem::Problem;

/// A server that answered.
struct Answer {
    server: durability::Server,
    connection: PgConnection,
}

/// Looks at everything of the database that the manifest names.
pub(super) async fn examine(access: &Access, spec: &DurableWritePipelineSpec, drills: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let login = keep(&mut findings, login(access, spec).await, |(_, how)| Finding::ok("database.credentials", how));
    let authorities = keep(&mut findings, access.authorities(), |_| match &spec.database.tls.ca {
        None if spec.database.tls.mode == TlsMode::VerifyCa => {
            Finding::warn("database.tls", "VerifyCa accepts any certificate of a public authority: name your own in database.tls.ca")
        }
        None => Finding::ok("database.tls", "the public authorities and those of RDS are trusted"),
        Some(_) => Finding::ok("database.tls.ca", "only these authorities are trusted (and the machine's own, where it has some)"),
    });
    let servers = keep(&mut findings, access.servers(), |servers| match servers.instances.len() {
        0 => Finding::warn(
            "database.postgres.instances",
            "none are listed: after a failover the writer is found only when its endpoint has followed; list every server",
        ),
        count => Finding::ok("database", format!("{count} instances and the writer's endpoint are known")),
    });
    let (Some((login, _)), Some(authorities), Some(servers)) = (login, authorities, servers) else { return findings };

    let connector = access.connector_as(login, authorities);
    let endpoint = Server { name: "the writer's endpoint".to_owned(), endpoint: servers.writer };
    let servers: Vec<Server> = servers.instances.into_iter().chain([endpoint]).collect();
    let asked = join_all(servers.iter().map(|server| ask(&connector, spec, server))).await;
    let answers = servers.into_iter().zip(asked).collect();
    if let Some(mut writer) = find_writer(answers, &mut findings) {
        examine_writer(&mut writer, spec, &mut findings).await;
        if drills {
            findings.push(match probe::check_tables(&mut writer.connection).await {
                Ok(()) => Finding::ok("drills", "the tables of drills are there, with the rights to them"),
                Err(problem) => Finding::fail("drills", problem.message),
            });
        }
    }
    findings
}

/// Notes how something is, and keeps what it is when it is well.
fn keep<T>(findings: &mut Vec<Finding>, result: Result<T, Problem>, well: impl Fn(&T) -> Finding) -> Option<T> {
    findings.push(result.as_ref().map_or_else(|problem| problem.clone().into(), well));
    result.ok()
}

/// Who logs in, and how. A login by IAM must have an AWS identity.
async fn login(access: &Access, spec: &DurableWritePipelineSpec) -> Result<(Login, String), Problem> {
    let login = access.login()?;
    let how = match &login {
        Login::Password(credentials) => {
            let secret = spec.database.credentials.secret_ref.as_ref().map_or("", |secret| &secret.name);
            format!("user {} of the Secret {secret}", credentials.username)
        }
        Login::Iam { username, identity } => {
            let (region, key) = (identity.region()?, identity.credentials().await?);
            format!("user {username} by IAM, with tokens for {region} that the AWS access key {} signs", key.access_key_id())
        }
    };
    Ok((login, how))
}

async fn ask(connector: &Connector, spec: &DurableWritePipelineSpec, server: &Server) -> Result<Answer, Problem> {
    let mut connection = connector.open(&server.endpoint, CONNECT_DEADLINE).await.map_err(|error| error.problem)?;
    let server = durability::read(&mut connection, spec.database.aurora.is_some()).await.map_err(|error| failure(&error).problem)?;
    Ok(Answer { server, connection })
}

/// Says of each server what it is, and gives the one that is the writer.
fn find_writer(answers: Vec<(Server, Result<Answer, Problem>)>, findings: &mut Vec<Finding>) -> Option<Answer> {
    let mut writers = BTreeMap::new();
    let mut problems = Vec::new();
    for (Server { name, endpoint }, answer) in answers {
        match answer {
            Ok(answer) => {
                let role = if answer.server.in_recovery { "a reader" } else { "the writer" };
                findings.push(Finding::ok("database", format!("{name} ({endpoint}) leads to {}, which is {role}", answer.server.name)));
                if !answer.server.in_recovery {
                    writers.insert(answer.server.identity.clone(), answer);
                }
            }
            Err(problem) => problems.push(Problem { message: format!("{name} ({endpoint}): {}", problem.message), ..problem }),
        }
    }
    // With a writer at hand a silent server is no more than a sign; a server that refuses us is a fault at any time.
    for problem in problems {
        let silent = problem.reason == reasons::DATABASE_OUTAGE && !writers.is_empty();
        findings.push(if silent { Finding::warn(problem.field, problem.message) } else { problem.into() });
    }
    let names: Vec<String> = writers.values().map(|answer| answer.server.name.clone()).collect();
    let message = match names.len() {
        0 => "no writer was found: the worker looks for one until it is there".to_owned(),
        1 => return writers.into_values().next(),
        _ => format!("{} claim to be the writer at the same time: fence all but one", names.join(" and ")),
    };
    findings.push(Problem::new(reasons::DATABASE_OUTAGE, "database", message).into());
    None
}

async fn examine_writer(writer: &mut Answer, spec: &DurableWritePipelineSpec, findings: &mut Vec<Finding>) {
    findings.push(match not_durable(&writer.server) {
        Some(problem) => problem.into(),
        None => Finding::ok(
            "database",
            format!("a commit is safe before it is confirmed (synchronous_commit = {})", writer.server.synchronous_commit),
        ),
    });
    let table = &spec.target.table;
    let catalogue = match catalogue::read(&mut writer.connection, table).await {
        Ok(Some(catalogue)) => catalogue,
        Ok(None) => return findings.push(table_missing(table).into()),
        Err(error) => return findings.push(failure(&error).problem.into()),
    };
    if catalogue.row_security {
        let message = "row-level security holds for this user: a row that no policy allows goes to the dead-letter queue";
        findings.push(Finding::warn("target.table", message));
    }
    let plan = match plan(&spec.target, &spec.idempotency, &catalogue) {
        Ok(plan) => plan,
        Err(problems) => return findings.extend(problems.into_iter().map(Finding::from)),
    };
    findings.push(match explain(&mut writer.connection, &plan).await {
        Ok(()) => Finding::ok(
            "target",
            format!(
                "{} can be written: {} columns, a unique index on ({}), the rights of {}",
                quote::table(table),
                plan.columns.len(),
                spec.idempotency.target_key.columns.join(", "),
                catalogue.user
            ),
        ),
        Err(problem) => problem.into(),
    });
}

/// Has PostgreSQL check the statement, types and rights with it, without running it.
async fn explain(connection: &mut PgConnection, plan: &Plan) -> Result<(), Problem> {
    let mut query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {}", plan.statement))).persistent(false);
    for column in &plan.columns {
        query = query.bind(Vec::<String>::new());
        if column.missing_flags {
            query = query.bind(Vec::<bool>::new());
        }
    }
    query.execute(connection).await.map(|_| ()).map_err(|error| failure(&error).problem)
}
