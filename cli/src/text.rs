//! Text for terminals and tables. What comes from a resource may hold anything: control characters never reach a terminal.

use jiff::Timestamp;

/// The text in one line, without characters that steer a terminal or turn the direction of writing.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' | '\r' | '\t' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            character if character.is_control() => '\u{fffd}',
            character => character,
        })
        .collect()
}

/// What stands where nothing is known.
pub const UNKNOWN: &str = "-";

/// A value, or what stands for none.
#[must_use]
pub fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
}

/// A table as kubectl prints it: columns by their width, three spaces between them.
#[must_use]
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    let head = line(&mut header.iter().copied());
    rows.iter().fold(head, |text, row| text + &line(&mut row.iter().map(String::as_str)))
}

/// Milliseconds for people: `820 ms`, `7.1 s`.
#[must_use]
pub fn length(milliseconds: i64) -> String {
    if milliseconds.abs() < 1000 { format!("{milliseconds} ms") } else { format!("{} s", tenths(milliseconds / 100)) }
}

fn tenths(tenths: i64) -> String {
    format!("{}{}.{}", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10)
}

/// A time in UTC, to the millisecond.
#[must_use]
pub fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The length from `from` until `to` as kubectl shows ages: `45s`, `12m`, `3h`, `9d`.
#[must_use]
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.duration_since(from).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_resource_steers_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\nd"), "a\u{fffd}[2Jb\u{fffd}c d");
        assert!(!table(&["NAME"], &[vec!["\u{1b}]0;title\u{7}".to_owned()]]).contains('\u{1b}'));
    }

    #[test]
    fn short_lengths_are_in_milliseconds() {
        assert_eq!((length(820), length(7_120)), ("820 ms".to_owned(), "7.1 s".to_owned()));
    }
}
