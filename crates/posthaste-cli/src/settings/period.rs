//! A length of time as people write it: `500ms`, `30s`, `5m`, `1h30m`, `7d`. Never a bare number.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Period(pub(crate) Duration);

/// Units with their length in milliseconds. `ms` stands before `m`, because the first that fits is
/// taken.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// The text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a duration; write a number with a unit, like 500ms, 30s, 5m, 1h30m or 7d")]
pub(crate) struct NotAPeriod(String);

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let wrong = || NotAPeriod(text.to_owned());
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, after) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let unit = UNITS.into_iter().find(|(name, _)| after.starts_with(name));
            let (name, millis) = unit.ok_or_else(wrong)?;
            let part = number.checked_mul(millis).ok_or_else(wrong)?;
            total = total.checked_add(part).ok_or_else(wrong)?;
            rest = after.strip_prefix(name).unwrap_or_default();
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

/// In the largest unit that gives a whole number.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let fits = |unit: &&(&str, u64)| millis.is_multiple_of(u128::from(unit.1));
        match UNITS.iter().rev().find(fits) {
            Some((name, length)) if millis > 0 => {
                write!(f, "{}{name}", millis / u128::from(*length))
            }
            _ => write!(f, "{millis}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration with a unit in quotes, like \"30s\", \"5m\" or \"7d\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let read = |text: &str| text.parse::<Period>().map(|period| period.0);
        assert_eq!(read("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(read("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "30", "s", "-5s", "5 s", "1.5h", "5y", "99999999999999999d", "5s3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["500ms", "30s", "5m", "36h", "7d", "0ms"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
    }
}
