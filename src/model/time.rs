//! Times as users write them and as records carry them.
//!
//! One grammar for configuration files and for commands; the present is handed in, never asked for.

use std::time::Duration;

/// Why a text is no time or no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotATime(String);

/// Reads a moment: RFC 3339 (`2026-11-21T06:00:00Z`), milliseconds since the epoch, or a time before now (`-15m`).
/// Returns milliseconds since the epoch.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, NotATime> {
    let wrong = || {
        NotATime(format!(
            "`{text}` is no time: RFC 3339 (`2026-11-21T06:00:00Z`), milliseconds since the epoch, or `-15m`"
        ))
    };
    let text = text.trim();
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago).map_err(|_| wrong())?;
        return i64::try_from(ago.as_millis()).map(|ms| now_ms.saturating_sub(ms)).map_err(|_| wrong());
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_| wrong());
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| wrong())
}

/// Milliseconds since the epoch as RFC 3339 in UTC; the bare number when no calendar reaches that far.
pub fn format_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a duration: whole numbers with a unit each, largest first: `100ms`, `10s`, `5m`, `12h`, `7d`, `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, NotATime> {
    let wrong = || NotATime(format!("`{text}` is no duration: a number with a unit, as in `100ms`, `10s`, `5m`, `7d`"));
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    let mut last_unit_ms = u64::MAX;
    while !rest.is_empty() || last_unit_ms == u64::MAX {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let &(_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if unit_ms >= last_unit_ms {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_| wrong())?;
        total_ms = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(total_ms)).ok_or_else(wrong)?;
        last_unit_ms = unit_ms;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_three_ways() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z", 0), Ok(1_000));
        assert_eq!(parse_time("1970-01-01T01:00:01+01:00", 0), Ok(1_000));
        assert_eq!(parse_time("1763704800000", 0), Ok(1_763_704_800_000));
        assert_eq!(parse_time("-15m", 1_000_000), Ok(100_000));
        for wrong in ["", "-", "yesterday", "2026-11-21", "15m", "-15", "99999999999999999999"] {
            assert!(parse_time(wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "10", "s", "10 s", "1m1m", "1s1m", "1.5s", "-1s", "10sec", "99999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_formatted_time_reads_back() {
        assert_eq!(parse_time(&format_time(1_763_704_800_123), 0), Ok(1_763_704_800_123));
    }
}
