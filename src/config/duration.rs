//! Parses durations such as `2h 30m`.

use std::fmt;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserializer, de};

use crate::core::text::Shown;

/// Parses a duration such as `500ms`, `30s`, `2h 30m` or `7d`; a day has 24 hours.
///
/// # Errors
///
/// Returns a message that names the expected form.
pub(crate) fn parse_duration(text: &str) -> std::result::Result<SignedDuration, String> {
    let wrong = || format!("'{}' is not a duration: expected one such as 500ms, 30s, 2h or 7d", Shown(text));
    // Zero is the only duration that needs no unit.
    if text == "0" {
        return Ok(SignedDuration::ZERO);
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    if duration.is_negative() { Err(wrong()) } else { Ok(duration) }
}

/// Deserializes a duration from a string; for any other type, the error names the expected form.
pub(super) fn duration_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<String>, D::Error> {
    struct Text;
    impl de::Visitor<'_> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration in quotes, such as \"30s\" or \"10m\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }
    }
    deserializer.deserialize_str(Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_no_sign() {
        assert_eq!(parse_duration("30s"), Ok(SignedDuration::from_secs(30)));
        assert_eq!(parse_duration("500ms"), Ok(SignedDuration::from_millis(500)));
        assert_eq!(parse_duration("2h 30m"), Ok(SignedDuration::from_mins(150)));
        assert_eq!(parse_duration("7d"), Ok(SignedDuration::from_hours(168)));
        assert_eq!(parse_duration("0s"), Ok(SignedDuration::ZERO));
        for bad in ["", "30", "s", "-1s", "1s ago", "1 fortnight", "1mo", "1y"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
