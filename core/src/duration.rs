//! Durations in settings: numbers in the host's unit, or strings such as `"30s"`. Never negative, never infinite.

use std::time::Duration;

/// The unit of a bare number: seconds in Rust, Python and the environment, milliseconds in Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number is seconds.
    Seconds,
    /// A number is milliseconds.
    Milliseconds,
}

const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

fn of_seconds(s: f64) -> Result<Duration, String> {
    if !(0.0..=LONGEST).contains(&s) {
        return Err(format!("{s} is not a time: give a number of seconds that is not negative"));
    }
    Ok(Duration::from_secs_f64(s))
}

/// A number in the host's unit.
pub fn from_number(n: f64, unit: Unit) -> Result<Duration, String> {
    of_seconds(if unit == Unit::Seconds { n } else { n / 1e3 })
}

/// A string such as `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"2d"`, or a bare number of seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let cut = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(cut);
    let scale = match unit.trim() {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("{text:?} is not a time: write it like \"250ms\", \"30s\", \"5m\", \"1h\"")),
    };
    let n: f64 = number.parse().map_err(|_| format!("{text:?} is not a time: write it like \"30s\""))?;
    of_seconds(n * scale)
}

/// Serde: seconds as a number, or a string with its unit.
pub(crate) mod serde_seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Raw {
        Number(f64),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(d.as_secs_f64())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        match Raw::deserialize(d)? {
            Raw::Number(n) => super::of_seconds(n),
            Raw::Text(t) => super::parse(&t),
        }
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1.5", 1500)]
        {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for bad in ["", "s", "5 parsecs", "-1s", "1e3s", "nan"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(from_number(30.0, Unit::Milliseconds).unwrap(), Duration::from_millis(30));
        assert!(from_number(-1.0, Unit::Seconds).is_err());
        assert!(from_number(f64::NAN, Unit::Seconds).is_err());
        assert!(from_number(f64::INFINITY, Unit::Seconds).is_err());
    }
}
