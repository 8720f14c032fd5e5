//! A number of bytes as people write it: `512KiB`, `1MiB`, `10MB`. Never a bare number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) usize);

/// The longest names first, because the first that fits is taken.
const UNITS: [(&str, usize); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// The text is not a number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size; write a number with a unit, like 512KiB, 1MiB or 10MB")]
pub(crate) struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let wrong = || NotASize(text.to_owned());
        let trimmed = text.trim();
        let unit = UNITS.into_iter().find(|(name, _)| trimmed.ends_with(name)).ok_or_else(wrong)?;
        let number = trimmed.strip_suffix(unit.0).unwrap_or_default().trim_end();
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: usize = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit.1).map(Self).ok_or_else(wrong)
    }
}

/// In the largest binary unit that gives a whole number.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [UNITS[2], UNITS[1], UNITS[0]];
        let fits = |unit: &(&str, usize)| self.0 > 0 && self.0.is_multiple_of(unit.1);
        match binary.into_iter().find(fits) {
            Some((name, length)) => write!(f, "{}{name}", self.0 / length),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with a unit in quotes, like \"512KiB\" or \"1MiB\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
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
        let read = |text: &str| text.parse::<Size>().map(|size| size.0);
        assert_eq!(read("1MiB"), Ok(1_048_576));
        assert_eq!(read("512 KiB"), Ok(524_288));
        assert_eq!(read("10MB"), Ok(10_000_000));
        assert_eq!(read("7B"), Ok(7));
        for wrong in ["", "1024", "MiB", "-1MiB", "1.5MiB", "+1B", "1mib", "99999999999GiB"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["1MiB", "3GiB", "5KiB", "1000B", "0B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }
}
