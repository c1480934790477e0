//! Formats times for people.

use jiff::Timestamp;

/// Formats a time in UTC to the second.
pub(super) fn second(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Formats the distance between a time and now in one unit: `3 d ago`, `in 2 h`.
pub(super) fn from_now(moment: Timestamp, now: Timestamp) -> String {
    let seconds = moment.duration_since(now).as_secs_f64();
    let distance = seconds.abs();
    // Each unit ends where rounding would give one of the next unit; years begin at two years.
    let (size, unit) = match distance {
        ..59.5 => (1.0, "s"),
        ..3570.0 => (60.0, "min"),
        ..84_600.0 => (3600.0, "h"),
        ..63_072_000.0 => (86_400.0, "d"),
        _ => (31_536_000.0, "y"),
    };
    let count = distance / size;
    if seconds > 0.0 { format!("in {count:.0} {unit}") } else { format!("{count:.0} {unit} ago") }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_distance_is_told_in_one_unit() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (seconds, expected) in [
            (0, "0 s ago"),
            (-59, "59 s ago"),
            (-60, "1 min ago"),
            (-3569, "59 min ago"),
            (-3570, "1 h ago"),
            (7199, "in 2 h"),
            (86_400, "in 1 d"),
            (-3 * 86_400, "3 d ago"),
            (-729 * 86_400, "729 d ago"),
            (-730 * 86_400, "2 y ago"),
            (973 * 31_536_000, "in 973 y"),
        ] {
            assert_eq!(from_now(now + SignedDuration::from_secs(seconds), now), expected);
        }
    }
}
