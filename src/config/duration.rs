//! Durations as operators write them.

use std::time::Duration;

use toml::Value;

/// What [`parse`] takes, for messages.
pub(super) const ALLOWED: &str =
    r#"a duration: seconds as a number, or text such as "500ms", "30s", "5m" or "2h""#;

/// What [`parse_whole`] takes.
pub(super) const ALLOWED_WHOLE: &str =
    r#"a duration of whole seconds, as a number or as text such as "30s" or "5m""#;

/// Longest duration: beyond it an operator meant 0, "no limit", and clocks begin to overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Plain numbers are seconds, as in pgbouncer.
pub(super) fn parse(value: &Value) -> Option<Duration> {
    let duration = if let Some(seconds) = value.as_integer() {
        Duration::from_secs(u64::try_from(seconds).ok()?)
    } else if let Some(seconds) = value.as_float() {
        Duration::try_from_secs_f64(seconds).ok()?
    } else {
        parse_text(value.as_str()?)?
    };
    (duration <= LONGEST).then_some(duration)
}

/// The same, without parts of a second.
pub(super) fn parse_whole(value: &Value) -> Option<Duration> {
    parse(value).filter(|duration| duration.subsec_nanos() == 0)
}

/// The shortest spelling that [`parse`] reads back as the same duration.
pub(super) fn to_value(duration: Duration) -> Value {
    match (duration.subsec_nanos(), i64::try_from(duration.as_secs())) {
        (0, Ok(seconds)) => Value::Integer(seconds),
        _ => Value::Float(duration.as_secs_f64()),
    }
}

fn parse_text(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    let number = number.trim();
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    // Milliseconds are divided, not multiplied: 0.001 has no exact binary form.
    let seconds = if unit == "ms" { number / 1000.0 } else { number * seconds };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: impl Into<Value>, expected: Option<u64>) {
        let parsed = parse(&value.into());
        assert_eq!(parsed, expected.map(Duration::from_millis));
        if let Some(duration) = parsed {
            assert_eq!(parse(&to_value(duration)), Some(duration), "reads back");
        }
    }

    #[test]
    fn numbers_are_seconds_and_text_has_units() {
        check(30, Some(30_000));
        check(0, Some(0));
        check(0.5, Some(500));
        check("30", Some(30_000));
        check("1.5", Some(1_500));
        check("30s", Some(30_000));
        check("500ms", Some(500));
        check("1ms", Some(1));
        check("5m", Some(300_000));
        check("2h", Some(7_200_000));
        check("1d", Some(86_400_000));
        check(" 2 h ", Some(7_200_000));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "s", "-1s", "30 parsecs", "1h30m", "inf", "nan", "1e300", "400d"] {
            check(text, None);
        }
        check(-1, None);
        check(-0.5, None);
        check(f64::NAN, None);
        check(f64::INFINITY, None);
        check(true, None);
    }
}
