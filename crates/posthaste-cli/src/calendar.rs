//! Points on the calendar as people read and write them (RFC 3339, UTC).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste_core::Timestamp;

use crate::settings::period::Period;

/// Now, by this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// As RFC 3339 in UTC, to the millisecond. What no calendar holds is shown as a number.
pub(crate) fn written(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(at.as_millis()) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{} ms after 1970", at.as_millis()),
    }
}

/// A due time: a length of time from now, or a point on the calendar.
pub(crate) fn due(text: &str) -> Result<Timestamp, String> {
    if let Ok(period) = text.parse::<Period>() {
        return Ok(now().plus(period.0));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(Timestamp::from_micros(time.as_microsecond())),
        Err(_) => {
            Err("write a duration like 30s or 2h, or a time like 2030-01-31T08:00:00Z".into())
        }
    }
}

/// A length of time in one unit that is easy to read.
pub(crate) fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0}ms", (s * 1000.0).max(0.0)),
        s if s < 120.0 => format!("{s:.1}s"),
        s if s < 7200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.1}h", s / 3600.0),
        s => format!("{:.1}d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_written_and_read_in_rfc_3339() {
        let at = due("2030-01-31T08:00:00+01:00").unwrap();
        assert_eq!(written(at), "2030-01-31T07:00:00.000Z");
        assert_eq!(written(Timestamp::from_micros(i64::MAX)), "9223372036854775 ms after 1970");
    }

    #[test]
    fn a_length_of_time_counts_from_now() {
        let wait = due("2h").unwrap().since(now());
        assert!(wait > Duration::from_secs(7190) && wait <= Duration::from_secs(7200), "{wait:?}");
        assert!(due("tomorrow").is_err());
    }

    #[test]
    fn ages_are_short() {
        let shown: Vec<String> = [0.25, 12.34, 600.0, 9000.0, 300_000.0].map(ago).into();
        assert_eq!(shown, ["250ms", "12.3s", "10m", "2.5h", "3.5d"]);
    }
}
