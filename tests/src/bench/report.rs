//! Figures, as people and programs read them.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// The middle one, or the mean of the two in the middle; not a number when there is none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(middle(values.len().saturating_sub(1) / 2), middle(values.len() / 2))
}

/// The largest; minus infinity when there is none.
pub(super) fn worst(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NEG_INFINITY, f64::max)
}

/// Prints a Markdown table to standard output.
pub(super) fn print_table<const WIDTH: usize>(heads: [&str; WIDTH], rows: &[[String; WIDTH]]) {
    println!("| {} |\n|{}", heads.join(" | "), "---|".repeat(WIDTH));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// Writes all figures as JSON.
pub(super) fn write_json(path: &Path, figures: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    eprintln!("all figures: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert!((median([4.0, 1.0, 2.0, 30.0]) - 3.0).abs() < 1e-9);
        assert!((median([5.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median([]).is_nan());
    }
}
