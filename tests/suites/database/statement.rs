//! What the statement does to rows: order, duplicates, defaults, faults.

use durable_write_crds::conditions::reasons;
use durable_write_worker::database::failure::failure;
use durable_write_worker::database::plan::Encoding;
use durable_write_worker::sink::Class;
use sqlx::AssertSqlSafe;

use super::support::{planned, rows, run, some, sqlstate, start, write};

#[tokio::test]
async fn rows_keep_their_order_and_duplicates_are_left_out() {
    let (_aurora, mut connection) = start().await;
    run(&mut connection, "CREATE TABLE t (id text PRIMARY KEY, place bigserial)").await;
    let plan = planned(&mut connection, "t", &["id"]).await.unwrap();
    let ids: Vec<String> = (0..500).map(|number| format!("{}", (number * 7919) % 500)).collect();
    let batch: Vec<[_; 1]> = ids.iter().map(|id| [some(id)]).collect();
    let batch: Vec<&[_]> = batch.iter().map(|row| row.as_slice()).collect();
    assert_eq!(write(&mut connection, &plan, &batch).await.unwrap(), 500);
    assert_eq!(rows(&mut connection, "SELECT id FROM t ORDER BY place").await, ids.iter().cloned().map(Some).collect::<Vec<_>>());

    assert_eq!(write(&mut connection, &plan, &batch).await.unwrap(), 0, "all are there already");
    assert_eq!(write(&mut connection, &plan, &[&[some("a")], &[some("a")], &[some("b")]]).await.unwrap(), 2, "twice in one batch");
}

#[tokio::test]
async fn ids_beyond_two_to_the_53_stay_apart() {
    let (_aurora, mut connection) = start().await;
    run(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY); CREATE TABLE n (id numeric PRIMARY KEY)").await;
    let plan = planned(&mut connection, "t", &["id"]).await.unwrap();
    assert_eq!(write(&mut connection, &plan, &[&[some("9007199254740992")], &[some("9007199254740993")]]).await.unwrap(), 2);
    let plan = planned(&mut connection, "n", &["id"]).await.unwrap();
    let (one, other) = ("18849496460467696128", "18849496460467696129");
    assert_eq!(write(&mut connection, &plan, &[&[some(one)], &[some(other)]]).await.unwrap(), 2);
    assert_eq!(rows(&mut connection, "SELECT id::text FROM n ORDER BY 1").await, [Some(one.to_owned()), Some(other.to_owned())]);
}

#[tokio::test]
async fn a_missing_value_gets_the_default_and_null_stays_null() {
    let (_aurora, mut connection) = start().await;
    run(
        &mut connection,
        "CREATE DOMAIN state AS text DEFAULT 'of the domain';
         CREATE TABLE t (id bigint PRIMARY KEY, number bigserial, at timestamp DEFAULT now(), state state, note text)",
    )
    .await;
    run(&mut connection, "ALTER TABLE t ALTER number DROP NOT NULL").await;
    let columns = ["id", "number", "at", "state", "note"];
    let plan = planned(&mut connection, "t", &columns).await.unwrap();
    assert_eq!(plan.columns.iter().map(|column| column.missing_flags).collect::<Vec<_>>(), [false, true, true, true, false]);
    let missing: &[_] = &[None, None, None, None];
    let row = |id| [&[some(id)], missing].concat();
    write(&mut connection, &plan, &[&row("1"), &[some("2"), Some(None), Some(None), Some(None), Some(None)], &row("3")]).await.unwrap();
    let found =
        rows(&mut connection, "SELECT concat_ws('/', number, (at = now()::timestamp) IS NOT NULL, state, note) FROM t ORDER BY id").await;
    let texts: Vec<_> = found.iter().map(|text| text.as_deref().unwrap()).collect();
    assert_eq!(
        texts,
        ["1/t/of the domain", "f", "2/t/of the domain"],
        "a number of the sequence for each row that needs one, and only then"
    );
}

#[tokio::test]
async fn faults_have_the_class_that_the_loop_needs() {
    let (_aurora, mut connection) = start().await;
    run(
        &mut connection,
        "CREATE TABLE parent (id bigint PRIMARY KEY);
         CREATE TABLE t (id bigint PRIMARY KEY, amount int CONSTRAINT positive CHECK (amount > 0), owner text NOT NULL DEFAULT '',
           parent bigint REFERENCES parent, other text UNIQUE, short varchar(5));
         CREATE TABLE p (id bigint, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF NEW.owner = 'bad' THEN RAISE EXCEPTION 'bad'; END IF; RETURN NEW; END$$;
         CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let columns = ["id", "amount", "owner", "parent", "other", "short"];
    let plan = planned(&mut connection, "t", &columns).await.unwrap();
    let fine = [some("1"), some("1"), some("me"), Some(None), some("x"), some("short")];
    write(&mut connection, &plan, &[&fine]).await.unwrap();
    let mut next = 1;
    for (column, value, class, state, named) in [
        (1, some("x"), Class::RowFault, "22P02", None),
        (1, some("99999999999"), Class::RowFault, "22003", None),
        (1, some("-1"), Class::RowFault, "23514", Some("positive")),
        (2, Some(None), Class::RowFault, "23502", Some("owner")),
        (2, some("bad"), Class::Ambiguous, "P0001", None),
        (3, some("7"), Class::HoldThenRowFault, "23503", Some("t_parent_fkey")),
        (4, some("x"), Class::RowFault, "23505", Some("t_other_key")),
        (5, some("toolong"), Class::RowFault, "22001", None),
        (2, some("nul\0"), Class::RowFault, "22021", None),
    ] {
        next += 1;
        let id = next.to_string();
        let mut row = [some(&id), some("1"), some("me"), Some(None), Some(None), Some(None)];
        row[column] = value;
        let error = write(&mut connection, &plan, &[&row]).await.unwrap_err();
        let failure = failure(&error);
        assert_eq!((failure.class, failure.sqlstate.as_deref(), failure.column.as_deref()), (class, Some(state), named), "{error}");
        assert!(!failure.problem.message.contains("toolong"), "{}", failure.problem);
    }
    let plan = planned(&mut connection, "p", &["id", "day"]).await;
    assert_eq!(plan.unwrap_err()[0].reason, reasons::UNIQUE_INDEX_MISSING);
}

#[tokio::test]
async fn faults_of_the_pipeline_are_told_from_faults_of_a_row() {
    let (aurora, mut connection) = start().await;
    run(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY, note text)").await;
    let plan = planned(&mut connection, "t", &["id", "note"]).await.unwrap();
    let mut broken = async |change: &str| {
        run(&mut connection, change).await;
        let mut other = super::support::connect(&aurora).await;
        let failure = failure(&write(&mut other, &plan, &[&[some("1"), some("x")]]).await.unwrap_err());
        (failure.class, failure.problem.reason)
    };
    assert_eq!(broken("ALTER TABLE t DROP COLUMN note").await, (Class::Catalogue, reasons::COLUMN_MISSING));
    assert_eq!(broken("ALTER TABLE t ADD note int").await, (Class::Catalogue, reasons::COLUMN_UNSUITABLE));
    assert_eq!(
        broken("ALTER TABLE t DROP COLUMN note; ALTER TABLE t ADD note text; ALTER TABLE t DROP CONSTRAINT t_pkey").await,
        (Class::Catalogue, reasons::UNIQUE_INDEX_MISSING)
    );
    assert_eq!(
        broken("DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id)").await,
        (Class::HoldThenRowFault, reasons::PARTITION_MISSING)
    );
    assert_eq!(broken("DROP TABLE t").await, (Class::Catalogue, reasons::TABLE_MISSING));
}

#[tokio::test]
async fn arrays_and_json_are_sent_in_their_own_form() {
    let (_aurora, mut connection) = start().await;
    run(&mut connection, "CREATE TABLE t (id bigint PRIMARY KEY, tags text[], payload json, sizes int[])").await;
    let plan = planned(&mut connection, "t", &["id", "tags", "payload", "sizes"]).await.unwrap();
    let encodings: Vec<_> = plan.columns.iter().map(|column| column.encoding).collect();
    assert_eq!(encodings, [Encoding::Text, Encoding::Array, Encoding::Json, Encoding::Array]);
    let payload = r#"{"n": 1.50,  "n": 2}"#;
    write(&mut connection, &plan, &[&[some("1"), some(r#"{"a,b",NULL,"NULL"}"#), some(payload), some("{{1,2},{3,4}}")]]).await.unwrap();
    assert_eq!(rows(&mut connection, "SELECT tags::text FROM t").await, [Some(r#"{"a,b",NULL,"NULL"}"#.to_owned())]);
    assert_eq!(rows(&mut connection, "SELECT payload::text FROM t").await, [Some(payload.to_owned())]);
    assert_eq!(sqlstate(write(&mut connection, &plan, &[&[some("2"), some("[1]"), Some(None), Some(None)]]).await), "22P02");
    let query = AssertSqlSafe(format!("EXPLAIN {}", plan.statement));
    let empty = Vec::<String>::new;
    sqlx::query(query).bind(empty()).bind(empty()).bind(empty()).bind(empty()).execute(&mut connection).await.unwrap();
}
