use durable_write_crds::pipeline::{ColumnSource, OnConflict, SystemAttribute, TargetKey};

use super::*;
use crate::database::catalogue::Sequence;

fn table() -> Table {
    Table { schema: "shop".into(), name: "orders".into() }
}

fn found(name: &str, base: &str, category: char) -> CatalogueColumn {
    CatalogueColumn {
        name: name.into(),
        declared: base.into(),
        base: base.into(),
        category,
        element: None,
        not_null: false,
        default: None,
        sequence: None,
        generated: false,
        identity_always: false,
        may_insert: true,
        may_select: true,
    }
}

fn catalogue(columns: Vec<CatalogueColumn>) -> Catalogue {
    Catalogue {
        kind: 'r',
        persistence: 'p',
        user: "worker".into(),
        schema_usage: true,
        row_security: false,
        before_insert_trigger: false,
        columns,
        unique_indexes: vec![vec!["id".into()]],
    }
}

fn body(name: &str) -> Column {
    let from = ColumnSource { body: Some(format!("/{name}")), attribute: None, system: None };
    Column { name: name.into(), from, when_missing: WhenMissing::Default }
}

fn system(name: &str, system: SystemAttribute) -> Column {
    let from = ColumnSource { body: None, attribute: None, system: Some(system) };
    Column { name: name.into(), from, when_missing: WhenMissing::Default }
}

fn made(columns: Vec<Column>, catalogue: &Catalogue) -> Result<Plan, Vec<Problem>> {
    let key = Idempotency { target_key: TargetKey { columns: vec!["id".into()], on_conflict: OnConflict::Ignore } };
    plan(&Target { table: table(), columns }, &key, catalogue)
}

/// The only problem.
fn problem(columns: Vec<Column>, catalogue: &Catalogue) -> Problem {
    let mut problems = made(columns, catalogue).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn the_statement_casts_to_base_types_and_keeps_the_order() {
    let mut columns = vec![found("id", "bigint", 'N'), found("state", "character varying", 'S'), found("payload", "jsonb", 'U')];
    columns[1].default = Some("'new'::character varying".into());
    let mut payload = body("payload");
    payload.when_missing = WhenMissing::Null;
    let plan = made(vec![body("id"), body("state"), payload], &catalogue(columns)).unwrap();
    assert_eq!(
        plan.statement,
        "INSERT INTO \"shop\".\"orders\" (\"id\", \"state\", \"payload\") \
         SELECT v1::bigint, CASE WHEN m2 THEN ('new'::character varying)::character varying ELSE v2::character varying END, v3::jsonb \
         FROM unnest($1::text[], $2::text[], $3::bool[], $4::text[]) WITH ORDINALITY AS message (v1, v2, m2, v3, place) \
         ORDER BY place ON CONFLICT (\"id\") DO NOTHING"
    );
    let column = |encoding, base: &str, missing_flags| PlanColumn { encoding, base: base.into(), missing_flags };
    assert_eq!(
        plan.columns,
        [
            column(Encoding::Text, "bigint", false),
            column(Encoding::Text, "character varying", true),
            column(Encoding::Json, "jsonb", false)
        ]
    );
}

#[test]
fn an_array_is_encoded_as_one() {
    let mut tags = found("tags", "text[]", 'A');
    tags.element = Some("text".into());
    let plan = made(vec![body("id"), body("tags")], &catalogue(vec![found("id", "uuid", 'U'), tags])).unwrap();
    assert_eq!(plan.columns[1].encoding, Encoding::Array);
}

#[test]
fn types_that_would_change_a_value_are_refused() {
    for (base, category, word) in
        [("bytea", 'U', "bytea"), ("\"char\"", 'S', "cuts"), ("name", 'S', "cuts"), ("shop.pair", 'C', "composite")]
    {
        let problem = problem(vec![body("id"), body("x")], &catalogue(vec![found("id", "bigint", 'N'), found("x", base, category)]));
        assert_eq!((problem.reason, problem.field.as_str()), (reasons::COLUMN_UNSUITABLE, "target.columns[x]"));
        assert!(problem.message.contains(word), "{}", problem.message);
    }
    let mut blobs = found("x", "bytea[]", 'A');
    blobs.element = Some("bytea".into());
    problem(vec![body("id"), body("x")], &catalogue(vec![found("id", "bigint", 'N'), blobs]));
}

#[test]
fn a_key_that_rounds_is_refused() {
    let problem = problem(vec![body("id")], &catalogue(vec![found("id", "double precision", 'N')]));
    assert!(problem.message.contains("two messages could become one row"), "{}", problem.message);
}

#[test]
fn what_postgresql_computes_is_not_written() {
    let mut generated = found("x", "bigint", 'N');
    generated.generated = true;
    assert!(
        problem(vec![body("id"), body("x")], &catalogue(vec![found("id", "bigint", 'N'), generated.clone()])).message.contains("itself")
    );
    generated.generated = false;
    generated.identity_always = true;
    assert!(problem(vec![body("id"), body("x")], &catalogue(vec![found("id", "bigint", 'N'), generated])).message.contains("BY DEFAULT"));
}

#[test]
fn system_attributes_need_columns_that_hold_them() {
    let id = || found("id", "bigint", 'N');
    for (source, base, category, suits) in [
        (SystemAttribute::SentTimestamp, "timestamp with time zone", 'D', true),
        (SystemAttribute::SentTimestamp, "date", 'D', true),
        (SystemAttribute::SentTimestamp, "text", 'S', true),
        (SystemAttribute::SentTimestamp, "bigint", 'N', false),
        (SystemAttribute::SentTimestamp, "time without time zone", 'D', false),
        (SystemAttribute::SequenceNumber, "numeric", 'N', true),
        (SystemAttribute::SequenceNumber, "bigint", 'N', false),
        (SystemAttribute::MessageId, "uuid", 'U', true),
        (SystemAttribute::MessageId, "jsonb", 'U', false),
        (SystemAttribute::MessageGroupId, "bigint", 'N', true),
        (SystemAttribute::MessageGroupId, "jsonb", 'U', false),
    ] {
        let result = made(vec![body("id"), system("x", source)], &catalogue(vec![id(), found("x", base, category)]));
        assert_eq!(result.is_ok(), suits, "{source:?} into {base}: {result:?}");
    }
}

#[test]
fn a_missing_column_names_what_there_is() {
    let there = catalogue(vec![found("id", "bigint", 'N'), found("Amount", "numeric", 'N')]);
    let spelt = problem(vec![body("id"), body("amount")], &there);
    assert_eq!((spelt.reason, spelt.field.as_str()), (reasons::COLUMN_MISSING, "target.columns[amount]"));
    assert!(spelt.message.contains("write Amount"), "{}", spelt.message);
    assert!(problem(vec![body("id"), body("colour")], &there).message.contains("the table has id, Amount"));
}

#[test]
fn a_column_that_nobody_fills_is_named_unless_a_trigger_may_fill_it() {
    let mut owner = found("owner", "text", 'S');
    owner.not_null = true;
    let mut there = catalogue(vec![found("id", "bigint", 'N'), owner]);
    assert!(problem(vec![body("id")], &there).message.contains("the column owner is NOT NULL"));
    there.before_insert_trigger = true;
    assert!(made(vec![body("id")], &there).is_ok());
}

#[test]
fn the_unique_index_must_cover_exactly_the_key_in_any_order() {
    let mut there = catalogue(vec![found("id", "bigint", 'N'), found("line", "bigint", 'N')]);
    there.unique_indexes = vec![vec!["line".into(), "id".into()]];
    let problem = problem(vec![body("id")], &there);
    assert_eq!(problem.reason, reasons::UNIQUE_INDEX_MISSING);
    assert!(problem.message.contains(r#"CREATE UNIQUE INDEX ON "shop"."orders" ("id")"#), "{}", problem.message);

    let both = Idempotency { target_key: TargetKey { columns: vec!["id".into(), "line".into()], on_conflict: OnConflict::Ignore } };
    assert!(plan(&Target { table: table(), columns: vec![body("id"), body("line")] }, &both, &there).is_ok());
}

#[test]
fn each_missing_right_comes_with_its_grant() {
    let mut there = catalogue(vec![found("id", "bigint", 'N'), found("amount", "numeric", 'N'), found("row", "bigint", 'N')]);
    there.schema_usage = false;
    there.columns[0].may_select = false;
    there.columns[1].may_insert = false;
    there.columns[2].default = Some("nextval('shop.row'::regclass)".into());
    there.columns[2].sequence = Some(Sequence { name: "shop.\"row\"".into(), may_use: false });
    let problems = made(vec![body("id"), body("amount")], &there).unwrap_err();
    let expected = [
        r#"GRANT USAGE ON SCHEMA "shop" TO "worker""#,
        r#"GRANT INSERT ("amount") ON "shop"."orders" TO "worker""#,
        r#"GRANT SELECT ("id") ON "shop"."orders" TO "worker""#,
        r#"GRANT USAGE ON SEQUENCE shop."row" TO "worker""#,
    ];
    assert_eq!(problems.len(), expected.len());
    for (problem, grant) in problems.iter().zip(expected) {
        assert_eq!(problem.reason, reasons::PERMISSION_DENIED);
        assert!(problem.message.ends_with(grant), "{}", problem.message);
    }
}

#[test]
fn only_a_logged_table_is_written() {
    let mut there = catalogue(vec![found("id", "bigint", 'N')]);
    there.kind = 'v';
    assert!(problem(vec![body("id")], &there).message.contains("is a view"));
    there.kind = 'r';
    there.persistence = 'u';
    assert_eq!(problem(vec![body("id")], &there).reason, reasons::DURABILITY_NOT_GUARANTEED);
}
