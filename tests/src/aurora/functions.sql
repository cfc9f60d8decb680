-- What Aurora PostgreSQL adds to pg_catalog, of which a client asks who the writer is. Each instance knows by its own settings its name, the
-- names of all, and the writer: settings are not replicated, so each one answers with its own knowledge, as in Aurora.
-- A reader's lag is what the writer measures (nothing while nothing is written, nor on a reader), at least what durable_write.lags says.
-- Left out: the columns about storage, input and output. last_update_timestamp of the asked instance is null, as since 13.9.
SET synchronous_commit = local;
SET allow_system_table_mods = on;

CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT current_setting('durable_write.instance') $$;

CREATE FUNCTION pg_catalog.aurora_version() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT current_setting('server_version_num')::int / 10000 || '.' || current_setting('server_version_num')::int % 10000 $$;

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
    greatest(0, (SELECT extract(epoch FROM replay_lag) * 1000 FROM pg_stat_replication WHERE application_name = member LIMIT 1),
      (SELECT split_part(entry, '=', 2)::float8 FROM string_to_table(current_setting('durable_write.lags', true), ',') AS entry
       WHERE split_part(entry, '=', 1) = member)) END,
  0::float8
FROM members $$;
