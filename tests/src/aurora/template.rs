//! A data directory as `initdb` makes it, with Aurora's own functions in it. It is made once per machine and copied for each cluster.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};

use super::user::User;

/// What Aurora PostgreSQL adds to `pg_catalog`, of which a client asks who the writer is. Each instance knows by its own settings its name,
/// the names of all, and the writer: settings are not replicated, so that each one answers with its own knowledge, as in Aurora.
///
/// Left out: the columns about storage and input or output. `last_update_timestamp` of the asked instance is null, as since 13.9.
const FUNCTIONS: &str = r"
CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
  'SELECT current_setting(''durable_write.instance'')';

CREATE FUNCTION pg_catalog.aurora_version() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
  'SELECT current_setting(''server_version_num'')::int / 10000 || ''.'' || current_setting(''server_version_num'')::int % 10000';

CREATE FUNCTION pg_catalog.aurora_replica_status(
  OUT server_id text, OUT session_id text, OUT durable_lsn bigint, OUT highest_lsn_rcvd bigint, OUT current_read_lsn bigint,
  OUT last_update_timestamp timestamptz, OUT replica_lag_in_msec float8, OUT cpu float8)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER AS $$
WITH own AS (
  SELECT current_setting('durable_write.instance') AS name, current_setting('durable_write.writer') AS writer, pg_is_in_recovery() AS reads,
    (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0')::bigint AS lsn
), members AS (
  SELECT member, member = writer AND NOT (member = name AND reads) AS writes, own.*
  FROM own, string_to_table(current_setting('durable_write.members'), ',') AS member
)
SELECT member, CASE WHEN writes THEN 'MASTER_SESSION_ID' ELSE md5(member)::uuid::text END,
  CASE WHEN writes THEN lsn END, CASE WHEN NOT writes THEN lsn END, lsn,
  CASE WHEN member <> name THEN clock_timestamp() END,
  CASE WHEN NOT writes THEN
    coalesce((SELECT extract(epoch FROM replay_lag) * 1000 FROM pg_stat_replication WHERE application_name = member LIMIT 1), 0) END,
  0::float8
FROM members $$;

";

/// The version of the installed server, as `15.18`.
pub(super) async fn server_version() -> anyhow::Result<String> {
    let output = tokio::process::Command::new(User::program("postgres")).arg("--version").output().await.context("run postgres")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    text.split_whitespace().nth(2).map(str::to_owned).with_context(|| format!("the version of PostgreSQL in {text:?}"))
}

/// Makes the template unless `folder` has it, and tells where it is.
pub(super) async fn template(folder: &Path, version: &str, user: User) -> anyhow::Result<PathBuf> {
    let mut hash = DefaultHasher::new();
    FUNCTIONS.hash(&mut hash);
    let template = folder.join(format!("durable-write-aurora-template-{version}-{:016x}", hash.finish()));
    if template.exists() {
        return Ok(template);
    }
    tracing::info!("make a data directory once (usually 3 s)");
    // Made under another name: whoever is first to rename it wins, and nobody sees a half-made one.
    let workshop = tempfile::Builder::new().prefix("durable-write-aurora-template-").tempdir_in(folder)?;
    super::open_to_all(workshop.path())?;
    let own = workshop.path().join("postgres");
    user.create_folder(&own)?;
    let data = own.join("data");
    let arguments =
        ["--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "--no-sync", "--username=postgres", "--pgdata"];
    user.run("initdb", arguments.iter().map(AsRef::as_ref).chain([data.as_os_str()]), Stdio::null()).await?;
    let script = workshop.path().join("functions.sql");
    fs::write(&script, FUNCTIONS)?;
    for database in ["template1", "postgres"] {
        // -j: a statement ends at a semicolon and an empty line. -O: allows functions in pg_catalog.
        let arguments = [AsRef::<std::ffi::OsStr>::as_ref("--single"), "-jOF".as_ref(), "-c".as_ref(), "exit_on_error=on".as_ref()];
        let arguments = arguments.into_iter().chain(["-D".as_ref(), data.as_os_str(), database.as_ref()]);
        user.run("postgres", arguments, File::open(&script)?.into()).await?;
    }
    match fs::rename(&data, &template) {
        Err(_) if template.exists() => {}
        renamed => renamed.with_context(|| format!("keep {}", template.display()))?,
    }
    Ok(template)
}

/// Copies a data directory with owners and modes.
pub(super) async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copy = tokio::process::Command::new("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to).kill_on_drop(true).status();
    if !copy.await.context("start cp")?.success() {
        bail!("cannot copy {} to {}: is the disk full?", from.display(), to.display());
    }
    Ok(())
}
