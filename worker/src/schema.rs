//! `schema`: the SQL that a pipeline's table and user need, printed or applied. The worker itself never changes a table.

use std::process::ExitCode;

use anyhow::Context;
use aws_config::SdkConfig;
use clap::Args;
use durable_write_crds::DurableWritePipelineSpec;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::database::access::{Access, CONNECT_DEADLINE, Login};
use crate::database::catalogue::{self, Catalogue};
use crate::database::plan::{create_unique_index, has_unique_index, table_missing};
use crate::database::quote;
use crate::database::tls::Credentials;
use crate::manifest::Files;
use crate::problem::Problem;

/// Stands for the user's name where the Secret is not at hand.
const SOME_USER: &str = "USER_OF_THE_WORKERS";
/// Aurora's role of those who log in by IAM.
const IAM_ROLE: &str = "rds_iam";

/// What is printed or applied.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Run the SQL too, in one transaction, as PGUSER with PGPASSWORD (the table's owner); without them as the manifest's user
    #[arg(long)]
    apply: bool,
    /// Add the tables of failover drills, which take the probe's rows
    #[arg(long)]
    drills: bool,
}

/// Prints, or applies, what is needed.
///
/// # Errors
/// The manifest is not valid; or with `--apply` the database cannot be reached, or refuses.
pub async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let pipeline = arguments.files.load()?;
    let name = pipeline.metadata.name.unwrap_or_default();
    let aws = match &pipeline.spec.database.credentials.iam {
        Some(_) if arguments.apply => crate::aws::configuration().await?,
        _ => SdkConfig::builder().build(),
    };
    let access = Access::new(&name, &pipeline.spec.database, &arguments.files.mounts(), &aws);
    let user = access.login();
    let user_name = user.as_ref().map_or(SOME_USER, Login::username);
    println!("-- Pipeline {name}: what its table and its user need, in the database {}.", quote::identifier(&pipeline.spec.database.name));
    if !arguments.apply {
        let drills = if arguments.drills { drill_statements(user_name) } else { Vec::new() };
        let login = login_statement(&pipeline.spec, user_name);
        for statement in login.into_iter().chain(statements(&pipeline.spec, user_name, None)).chain(drills) {
            println!("{statement}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let administrator = match (std::env::var("PGUSER"), std::env::var("PGPASSWORD")) {
        (Ok(username), Ok(password)) => Login::Password(Credentials { username, password }),
        _ => user.clone()?,
    };
    user.as_ref().map_err(Clone::clone)?;
    let mut connection = writer(&access, administrator).await?;
    apply(&mut connection, &pipeline.spec, user_name).await?;
    if arguments.drills {
        apply_drills(&mut connection, user_name).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn writer(access: &Access, login: Login) -> Result<PgConnection, Problem> {
    let connector = access.connector_as(login, access.authorities()?);
    connector.open(&access.servers()?.writer, CONNECT_DEADLINE).await.map_err(|error| error.problem)
}

/// Runs what is needed, all or nothing.
///
/// # Errors
/// The table is missing, or PostgreSQL refuses.
pub async fn apply(connection: &mut PgConnection, spec: &DurableWritePipelineSpec, user: &str) -> anyhow::Result<()> {
    let table = &spec.target.table;
    let catalogue = catalogue::read(connection, table).await?.ok_or_else(|| table_missing(table))?;
    let login = match login_statement(spec, user) {
        // The table's owner need not have the right to grant what is there.
        Some(_) if is_granted(connection, user).await? => None,
        login => login,
    };
    run_all(connection, login.into_iter().chain(statements(spec, user, Some(&catalogue))).collect()).await
}

/// What makes Aurora take logins of the user by IAM, and then no others.
fn login_statement(spec: &DurableWritePipelineSpec, user: &str) -> Option<String> {
    spec.database.credentials.iam.as_ref().map(|_| format!("GRANT {IAM_ROLE} TO {};", quote::identifier(user)))
}

/// True when the user is a member of [`IAM_ROLE`].
async fn is_granted(connection: &mut PgConnection, user: &str) -> sqlx::Result<bool> {
    let members = "SELECT EXISTS (SELECT FROM pg_auth_members AS members JOIN pg_roles AS role ON role.oid = members.roleid \
                   JOIN pg_roles AS member ON member.oid = members.member WHERE role.rolname = $1 AND member.rolname = $2)";
    sqlx::query_scalar(members).bind(IAM_ROLE).bind(user).persistent(false).fetch_one(connection).await
}

/// Makes the tables of drills, all or nothing.
///
/// # Errors
/// PostgreSQL refuses.
pub async fn apply_drills(connection: &mut PgConnection, user: &str) -> anyhow::Result<()> {
    run_all(connection, drill_statements(user)).await
}

async fn run_all(connection: &mut PgConnection, statements: Vec<String>) -> anyhow::Result<()> {
    let mut transaction = connection.begin().await?;
    for statement in statements {
        println!("{statement}");
        let run = sqlx::query(AssertSqlSafe(statement.clone())).persistent(false).execute(&mut *transaction).await;
        run.with_context(|| {
            format!("nothing was changed, as this failed: {statement} (run it as the table's owner, or as the master user for {IAM_ROLE}: set PGUSER and PGPASSWORD)")
        })?;
    }
    transaction.commit().await?;
    Ok(())
}

/// The statements. Without the catalogue, what may be there already is a comment.
fn statements(spec: &DurableWritePipelineSpec, user: &str, catalogue: Option<&Catalogue>) -> Vec<String> {
    let (table, keys) = (&spec.target.table, &spec.idempotency.target_key.columns);
    let user = quote::identifier(user);
    let columns = quote::list(spec.target.columns.iter().map(|column| column.name.as_str()));
    let key = quote::list(keys.iter().map(String::as_str));
    let mut statements = vec![
        format!("GRANT CONNECT ON DATABASE {} TO {user};", quote::identifier(&spec.database.name)),
        format!("GRANT USAGE ON SCHEMA {} TO {user};", quote::identifier(&table.schema)),
        format!("GRANT INSERT ({columns}), SELECT ({key}) ON {} TO {user};", quote::table(table)),
    ];
    match catalogue {
        None => {
            statements.push("-- Where columns take their default from a sequence: GRANT USAGE ON SEQUENCE … TO the same user.".to_owned());
            statements.push(
                "-- Unless a unique index covers exactly these columns (on a large table: CREATE UNIQUE INDEX CONCURRENTLY):".to_owned(),
            );
            statements.push(format!("-- {};", create_unique_index(table, keys)));
        }
        Some(catalogue) => {
            let sequences = catalogue.columns.iter().filter_map(|column| column.sequence.as_ref());
            statements.extend(sequences.map(|sequence| format!("GRANT USAGE ON SEQUENCE {} TO {user};", sequence.name)));
            if !has_unique_index(keys, catalogue) {
                statements.push(format!("{};", create_unique_index(table, keys)));
            }
        }
    }
    statements
}

/// The tables of drills. Those that take rows have no unique key on purpose: a row that was written twice must be there twice. The key that a
/// message of a probe passes once is a table of its own, as it is with the user's table.
#[must_use]
pub fn drill_statements(user: &str) -> Vec<String> {
    let user = quote::identifier(user);
    let rows = "drill uuid NOT NULL, seq bigint NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), instance text";
    let times = "opened timestamptz NOT NULL, expires timestamptz NOT NULL, closed timestamptz";
    vec![
        "CREATE SCHEMA IF NOT EXISTS durable_write;".to_owned(),
        format!("CREATE TABLE IF NOT EXISTS durable_write.probe ({rows});"),
        "CREATE INDEX IF NOT EXISTS probe_drill_seq ON durable_write.probe (drill, seq);".to_owned(),
        "CREATE TABLE IF NOT EXISTS durable_write.probe_key (drill uuid, seq bigint, PRIMARY KEY (drill, seq));".to_owned(),
        format!("CREATE TABLE IF NOT EXISTS durable_write.probe_direct ({rows});"),
        "CREATE INDEX IF NOT EXISTS probe_direct_drill_seq ON durable_write.probe_direct (drill, seq);".to_owned(),
        format!(
            "CREATE TABLE IF NOT EXISTS durable_write.drill (drill uuid PRIMARY KEY, resource_id text NOT NULL, name text NOT NULL, {times});"
        ),
        format!("GRANT USAGE ON SCHEMA durable_write TO {user};"),
        format!("GRANT SELECT, INSERT ON durable_write.probe, durable_write.probe_key, durable_write.probe_direct TO {user};"),
        format!("GRANT SELECT, INSERT, UPDATE ON durable_write.drill TO {user};"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_logs_in_by_iam_gets_the_role_for_it_and_others_do_not() {
        let spec = |example: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples").join(example);
            crate::manifest::load(&path).unwrap().spec
        };
        assert_eq!(login_statement(&spec("payments.yaml"), "work\"er").unwrap(), r#"GRANT rds_iam TO "work""er";"#);
        assert_eq!(login_statement(&spec("orders.yaml"), "worker"), None);
    }

    #[test]
    fn without_a_database_the_index_is_a_comment() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples/clicks.yaml");
        let spec = crate::manifest::load(&path).unwrap().spec;
        let statements = statements(&spec, "work\"er", None);
        assert_eq!(
            statements.iter().filter(|statement| !statement.starts_with("--")).collect::<Vec<_>>(),
            [
                r#"GRANT CONNECT ON DATABASE "clicks" TO "work""er";"#,
                r#"GRANT USAGE ON SCHEMA "public" TO "work""er";"#,
                r#"GRANT INSERT ("session", "number", "page", "agent"), SELECT ("session", "number") ON "public"."clicks" TO "work""er";"#,
            ]
        );
        assert_eq!(statements.last().unwrap(), r#"-- CREATE UNIQUE INDEX ON "public"."clicks" ("session", "number");"#);
    }
}
