//! What PostgreSQL's catalogue says of the target table, read in one query under the worker's own user.

use durable_write_crds::pipeline::Table;
use serde::Deserialize;
use sqlx::{Connection, PgConnection};

/// What the catalogue says of a table, and what the connected user may do with it.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Catalogue {
    /// `pg_class.relkind`: `r` is a table, `p` a partitioned one.
    pub kind: char,
    /// `pg_class.relpersistence`: `u` is not written to the log and empty after a crash.
    pub persistence: char,
    /// The user of this connection.
    pub user: String,
    /// Whether the user may look into the schema.
    pub schema_usage: bool,
    /// Whether row-level security holds for the user.
    pub row_security: bool,
    /// Whether a trigger may change a row before its constraints are checked.
    pub before_insert_trigger: bool,
    /// The columns, in their order.
    pub columns: Vec<CatalogueColumn>,
    /// The columns of each unique index that `ON CONFLICT` can use: whole, valid, at once, and of plain columns.
    pub unique_indexes: Vec<Vec<String>>,
}

/// A column of the table.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueColumn {
    /// Its name.
    pub name: String,
    /// The type as it was declared, for people: `character varying(5)`.
    pub declared: String,
    /// The type to cast to: without length or precision, and below all domains, so that it is the INSERT that checks those.
    pub base: String,
    /// `pg_type.typcategory` of the base type: `A` is an array, `C` a row.
    pub category: char,
    /// The base type of an array's elements.
    pub element: Option<String>,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// What PostgreSQL writes when nothing is given, as SQL.
    pub default: Option<String>,
    /// The sequence that the default takes its number from.
    pub sequence: Option<Sequence>,
    /// Whether PostgreSQL computes the column itself.
    pub generated: bool,
    /// Whether the column is an identity that takes no other value.
    pub identity_always: bool,
    /// Whether the user may write the column.
    pub may_insert: bool,
    /// Whether the user may read the column, as `ON CONFLICT` does with the key.
    pub may_select: bool,
}

/// A sequence that a default uses.
#[derive(Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Sequence {
    /// Its name in quotes, with its schema.
    pub name: String,
    /// Whether the user may take numbers from it.
    pub may_use: bool,
}

impl Catalogue {
    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&CatalogueColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Reads what the catalogue says of `table`; `None` when there is no such table.
///
/// # Errors
/// The connection failed.
pub async fn read(connection: &mut PgConnection, table: &Table) -> Result<Option<Catalogue>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // With this search path every name outside pg_catalog is written with its schema, so that it means the same on every connection.
    sqlx::query("SELECT pg_catalog.set_config('search_path', 'pg_catalog', true)").persistent(false).execute(&mut *transaction).await?;
    let document: Option<String> =
        sqlx::query_scalar(QUERY).persistent(false).bind(&table.schema).bind(&table.name).fetch_optional(&mut *transaction).await?;
    transaction.rollback().await?;
    document.map(|document| serde_json::from_str(&document).map_err(|error| sqlx::Error::Decode(error.into()))).transpose()
}

const QUERY: &str = r#"
SELECT json_build_object(
  'kind', c.relkind,
  'persistence', c.relpersistence,
  'user', current_user,
  'schemaUsage', has_schema_privilege(n.oid, 'USAGE'),
  'rowSecurity', row_security_active(c.oid),
  'beforeInsertTrigger', EXISTS (
    -- tgtype: 1 for each row, 2 before, 4 insert
    SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgtype & 7 = 7 AND t.tgenabled <> 'D'),
  'columns', (
    SELECT coalesce(json_agg(json_build_object(
      'name', a.attname,
      'declared', format_type(a.atttypid, a.atttypmod),
      'base', format_type(base.oid, -1),
      'category', type.typcategory,
      'element', CASE WHEN type.typcategory = 'A' THEN (
        WITH RECURSIVE below AS (
          SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = type.typelem
          UNION ALL
          SELECT t.oid, t.typtype, t.typbasetype FROM below JOIN pg_type t ON t.oid = below.typbasetype WHERE below.typtype = 'd')
        SELECT format_type(below.oid, -1) FROM below WHERE below.typtype <> 'd') END,
      'notNull', a.attnotnull OR base.not_null,
      'default', CASE
        WHEN a.attgenerated <> '' THEN NULL
        WHEN a.attidentity = 'd' THEN format('nextval(%L::regclass)', pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname))
        ELSE coalesce(pg_get_expr(d.adbin, d.adrelid), (SELECT pg_get_expr(t.typdefaultbin, 0) FROM pg_type t WHERE t.oid = a.atttypid AND t.typtype = 'd'))
      END,
      'sequence', (
        SELECT json_build_object('name', format('%I.%I', sn.nspname, s.relname), 'mayUse', has_sequence_privilege(s.oid, 'USAGE, UPDATE'))
        FROM pg_depend p JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
        WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
        LIMIT 1),
      'generated', a.attgenerated <> '',
      'identityAlways', a.attidentity = 'a',
      'mayInsert', has_column_privilege(c.oid, a.attnum, 'INSERT'),
      'maySelect', has_column_privilege(c.oid, a.attnum, 'SELECT')
    ) ORDER BY a.attnum), '[]')
    FROM pg_attribute a
    CROSS JOIN LATERAL (
      WITH RECURSIVE below AS (
        SELECT t.oid, t.typtype, t.typbasetype, t.typnotnull FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.oid, t.typtype, t.typbasetype, t.typnotnull FROM below JOIN pg_type t ON t.oid = below.typbasetype WHERE below.typtype = 'd')
      SELECT max(below.oid) FILTER (WHERE below.typtype <> 'd') AS oid, bool_or(below.typnotnull) AS not_null FROM below) AS base
    JOIN pg_type type ON type.oid = base.oid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'uniqueIndexes', (
    SELECT coalesce(json_agg((
      SELECT json_agg(a.attname ORDER BY key.place)
      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS key (number, place)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.number
      WHERE key.place <= i.indnkeyatts)), '[]')
    FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready AND i.indislive
      AND i.indpred IS NULL AND i.indexprs IS NULL)
)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"#;
