//! How a status is read by others, and read by people.

use super::*;

#[test]
fn a_value_of_a_newer_version_is_read() {
    assert_eq!(serde_json::from_str::<Verdict>("\"Postponed\"").unwrap(), Verdict::Unknown);
    assert_eq!(serde_json::to_string(&Verdict::Inconclusive).unwrap(), "\"Inconclusive\"");
}

#[test]
fn the_recovery_time_for_people_contains_the_true_one() {
    for (lower, upper, text) in [
        (Some(7100), Some(7300), "7.1–7.3 s"),
        (Some(7199), Some(7201), "7.1–7.3 s"),
        (Some(0), Some(1), "0.0–0.1 s"),
        (Some(0), Some(0), "0.0–0.0 s"),
        (Some(0), Some(60_001), "0.0–60.1 s"),
        (Some(61_050), None, "at least 61.0 s"),
        (None, Some(7201), "at most 7.3 s"),
    ] {
        let recovery = Recovery { lower_bound_milliseconds: lower, upper_bound_milliseconds: upper, ..Recovery::default() };
        assert_eq!(recovery.interval().as_deref(), Some(text));
    }
    assert_eq!(Recovery::default().interval(), None);
}
