//! Values in are values out, or the row is refused: nothing is changed silently but where SQL says so.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sqlx::PgConnection;

use super::support::{planned, rows, run, some, start, write};

/// How often each type is tried.
const TRIES: u32 = 60;

/// What becomes of a value: the text that comes out, or the codes one of which it is refused with.
type Expected = Result<String, &'static [&'static str]>;

/// A type, texts for it, and what must become of each.
struct Case {
    declared: &'static str,
    texts: BoxedStrategy<String>,
    /// The column as text.
    out: &'static str,
    expected: fn(&str) -> Expected,
}

fn case<S: Strategy<Value = String> + 'static>(declared: &'static str, texts: S, expected: fn(&str) -> Expected) -> Case {
    Case { declared, texts: texts.boxed(), out: "v::text", expected }
}

/// Any text, with what PostgreSQL cannot store among it.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => any::<String>(), 1 => "[a-z ]{0,12}", 1 => Just("nul\0".to_owned()), 1 => "[\u{1F600}-\u{1F64F}]{0,4}"]
}

fn integers() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<i32>().prop_map(|number| number.to_string()),
        any::<i16>().prop_map(|number| number.to_string()),
        (9_007_199_254_740_991..9_007_199_254_740_999_i64).prop_map(|number| number.to_string()),
        "-?[1-9][0-9]{0,30}",
        "-?[0-9]{1,3}\\.[0-9]{1,3}",
        "[a-z]{1,5}",
    ]
}

fn without_nul(text: &str) -> Expected {
    if text.contains('\0') { Err(&["22021"]) } else { Ok(text.to_owned()) }
}

/// At most `length` characters; SQL allows more blanks at the end and drops them.
fn at_most(length: usize, text: &str) -> Expected {
    let fitting: String = text.chars().take(length).collect();
    without_nul(text)?;
    if text.chars().skip(length).all(|character| character == ' ') { Ok(fitting) } else { Err(&["22001"]) }
}

fn integer<T: std::str::FromStr + ToString>(text: &str) -> Expected {
    text.parse::<T>().map(|number| number.to_string()).map_err(|_| &["22P02", "22003"][..])
}

fn cases() -> Vec<Case> {
    let decimal = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,20})?";
    vec![
        case("text", text(), without_nul),
        case("varchar", text(), without_nul),
        case("varchar(5)", text(), |text| at_most(5, text)),
        case("short", text(), |text| at_most(5, text)),
        case("shorter", text(), |text| at_most(5, text)),
        // Compared as text, char(n) comes without the blanks that fill it.
        case("char(4)", text(), |text| at_most(4, text).map(|text| text.trim_end_matches(' ').to_owned())),
        case("smallint", integers(), integer::<i16>),
        case("integer", integers(), integer::<i32>),
        case("bigint", integers(), integer::<i64>),
        case("numeric", decimal, |text| {
            // PostgreSQL has no negative zero.
            let zero = !text.contains(|digit| matches!(digit, '1'..='9'));
            Ok(if zero { text.trim_start_matches('-').to_owned() } else { text.to_owned() })
        }),
        case("numeric(6,2)", "(0|[1-9][0-9]{0,5})(\\.[0-9]{1,2})?", |text| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            if whole.len() > 4 { Err(&["22003"]) } else { Ok(format!("{whole}.{fraction:0<2}")) }
        }),
        case("boolean", prop_oneof!["true|false", "[g-m]{3,6}"], |text| match text {
            "true" | "false" => Ok(text.to_owned()),
            _ => Err(&["22P02"]),
        }),
        case("uuid", prop_oneof!["[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "[0-9a-f]{1,40}"], |text| {
            let hexadecimal: String = text.chars().filter(|character| *character != '-').collect();
            if hexadecimal.len() == 32 {
                let mut text = hexadecimal.to_lowercase();
                [8, 13, 18, 23].into_iter().for_each(|place| text.insert(place, '-'));
                Ok(text)
            } else {
                Err(&["22P02"])
            }
        }),
        case("color", prop_oneof!["red|green", "[a-z]{1,5}"], |text| {
            if matches!(text, "red" | "green") { Ok(text.to_owned()) } else { Err(&["22P02"]) }
        }),
        Case {
            out: "to_char(v AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            ..case("timestamptz", "20[0-9]{2}-(0[1-9]|1[0-2])-[0-2][1-8]T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\\.[0-9]{6}Z", |text| {
                Ok(text.to_owned())
            })
        },
        case("date", "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[0-9])", |text| {
            text.parse::<jiff::civil::Date>().map(|date| date.to_string()).map_err(|_| &["22008"][..])
        }),
        case("json", "\\{\"a\": ?-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,9})?, *\"b\":\"[a-z\\u{e4}]{0,9}\"\\}", |text| Ok(text.to_owned())),
        case("jsonb", "\\{\"a\": -?[1-9][0-9]{0,25}(\\.[0-9]{1,9})?, \"b\": \"[a-z\\u{e4}]{0,9}\"\\}", |text| Ok(text.to_owned())),
        case("jsonb", "\"a\\\\u0000\"", |_| Err(&["22P05"])),
        case("int[]", "\\{[1-9][0-9]{0,11}(,[1-9][0-9]{0,11}){0,4}\\}", |text| {
            let fits = text.trim_matches(['{', '}']).split(',').all(|element| element.parse::<i32>().is_ok());
            if fits { Ok(text.to_owned()) } else { Err(&["22003"]) }
        }),
        case("short[]", "\\{[a-m]{1,8}(,[a-m]{1,8}){0,2}\\}", |text| {
            let fits = text.trim_matches(['{', '}']).split(',').all(|element| element.len() <= 5);
            if fits { Ok(text.to_owned()) } else { Err(&["22001"]) }
        }),
        case("varchar(5)[]", "\\{[a-m]{1,8}(,[a-m]{1,8}){0,2}\\}", |text| {
            if text.trim_matches(['{', '}']).split(',').all(|element| element.len() <= 5) { Ok(text.to_owned()) } else { Err(&["22001"]) }
        }),
        case("bit(3)", "[01]{1,5}", |text| if text.len() == 3 { Ok(text.to_owned()) } else { Err(&["22026"]) }),
        case("inet", prop_oneof!["(1[0-9]{2}\\.){3}[1-9][0-9]?", "[3-9][0-9]{2}(\\.[0-9]){3}"], |text| {
            if text.starts_with('1') { Ok(format!("{text}/32")) } else { Err(&["22P02"]) }
        }),
    ]
}

#[tokio::test]
async fn every_value_comes_out_as_it_went_in_or_is_refused() {
    let (_aurora, mut connection) = start().await;
    run(
        &mut connection,
        "CREATE DOMAIN short AS varchar(5); CREATE DOMAIN shorter AS short CHECK (value <> 'never'); CREATE TYPE color AS ENUM ('red', 'green')",
    )
    .await;
    let mut runner = TestRunner::default();
    let (mut written, mut refused) = (0, 0);
    for (number, case) in cases().into_iter().enumerate() {
        let name = format!("t{number}");
        run(&mut connection, &format!("CREATE TABLE {name} (id bigint PRIMARY KEY, v {})", case.declared)).await;
        let plan = planned(&mut connection, &name, &["id", "v"]).await.unwrap();
        for id in 0..TRIES {
            let text = case.texts.new_tree(&mut runner).unwrap().current();
            match outcome(&mut connection, &plan, &name, &case, id, &text).await {
                Ok(_) => written += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(written > 500 && refused > 200, "{written} written, {refused} refused: the texts do not try both");
}

async fn outcome(
    connection: &mut PgConnection,
    plan: &durable_write_worker::database::plan::Plan,
    table: &str,
    case: &Case,
    id: u32,
    text: &str,
) -> Expected {
    let expected = (case.expected)(text);
    let key = id.to_string();
    match (write(connection, plan, &[&[some(&key), some(text)]]).await, &expected) {
        (Ok(_), Ok(value)) => {
            let found = rows(connection, &format!("SELECT {} FROM {table} WHERE id = {id}", case.out)).await;
            assert_eq!(found, [Some(value.clone())], "{text:?} as {}", case.declared);
        }
        (Err(error), Err(codes)) => {
            let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
            assert!(codes.contains(&code.as_str()), "{text:?} as {}: {error} ({code})", case.declared);
        }
        (result, expected) => panic!("{text:?} as {}: {result:?} instead of {expected:?}", case.declared),
    }
    expected
}

#[tokio::test]
async fn where_sql_itself_rounds_it_is_known() {
    let (_aurora, mut connection) = start().await;
    run(
        &mut connection,
        "CREATE TABLE t (id bigint PRIMARY KEY, price numeric(10,2), wall timestamp, day date, whole timestamptz(0), inexact float8)",
    )
    .await;
    let plan = planned(&mut connection, "t", &["id", "price", "wall", "day", "whole", "inexact"]).await.unwrap();
    let at = "2026-11-23T13:00:00.6+02:00";
    write(&mut connection, &plan, &[&[some("1"), some("1.005"), some(at), some(at), some(at), some("9007199254740993")]]).await.unwrap();
    let found = rows(&mut connection, "SELECT concat_ws(' | ', price, wall, day, whole AT TIME ZONE 'UTC', inexact::numeric) FROM t").await;
    assert_eq!(found[0].as_deref(), Some("1.01 | 2026-11-23 13:00:00.6 | 2026-11-23 | 2026-11-23 11:00:01 | 9007199254740990"));
}
