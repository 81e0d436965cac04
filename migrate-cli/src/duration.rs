//! Durations as people write them.

use std::time::Duration;

/// Parses `50ms`, `1.5s`, `200us` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let shape = || format!("`{text}` is no duration; write for example 50ms, 1.5s or 200us");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| shape())?;
    let seconds = match unit {
        "s" => number,
        "ms" => number / 1e3,
        "us" | "µs" => number / 1e6,
        "" if number == 0.0 => 0.0,
        "" => return Err(format!("`{text}` has no unit; write {text}ms or {text}s")),
        _ => return Err(shape()),
    };
    // Nobody means more than a day, and what follows counts microseconds.
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_secs(86_400) => Ok(duration),
        _ => Err(format!("`{text}` is more than a day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_so() {
        let good = [
            ("50ms", Duration::from_millis(50)),
            ("1.5s", Duration::from_millis(1500)),
            ("200us", Duration::from_micros(200)),
            ("200µs", Duration::from_micros(200)),
            ("2s", Duration::from_secs(2)),
            ("0", Duration::ZERO),
        ];
        for (text, duration) in good {
            assert_eq!(parse_duration(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn and_not_so() {
        for text in ["", "ms", "5 ms", "-5ms", "5m", "1..5s", "1e9s", "inf", "NaNs", "99999999s", "µ"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration("50").expect_err("no unit").contains("50ms"));
    }
}
