//! Settings as hosts hand them over: JSON by name, in the host's spelling and units.
//!
//! Owns the translation and the errors that name the setting. What settings there are is `config`'s.

use crate::{
    duration::{self, Unit},
    error::{Error, Result},
};
use serde::de::DeserializeOwned;

pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

pub(crate) fn object(value: serde_json::Value) -> Result<Object> {
    match value {
        // null is what hosts send for "not given".
        serde_json::Value::Object(map) => Ok(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
        serde_json::Value::Null => Ok(Object::new()),
        _ => Err(Error::config("settings are given by name")),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(map: Object) -> Result<T> {
    // Field by field first, so that the message names the setting; serde alone names only unknown ones.
    for (name, value) in &map {
        let one = Object::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<T>(one.into()).map_err(|e| Error::config(format!("setting {name}: {e}")))?;
    }
    serde_json::from_value(map.into()).map_err(|e| Error::config(e.to_string()))
}

/// Reads settings given by a host language under their names, absent or null meaning the default.
pub fn settings<T: DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    decode(object(value)?)
}

/// The settings that are times, wherever they appear: numbers of theirs are in the host's unit.
const TIMES: [&str; 12] = [
    "initial",
    "max",
    "connect_timeout",
    "ping_interval",
    "api_timeout",
    "drain_timeout",
    "delivery_timeout",
    "ack_timeout",
    "ack_wait",
    "max_processing",
    "timeout",
    "delay",
];

/// Translates a host's settings to ours: camelCase to `snake_case`, numbers of times to seconds.
pub fn from_host(value: serde_json::Value, unit: Unit) -> Result<serde_json::Value> {
    use serde_json::Value;
    let Value::Object(map) = value else { return Ok(value) };
    let mut out = Object::new();
    for (name, value) in map {
        let name = if unit == Unit::Milliseconds { snake_case(&name) } else { name };
        let value = match value {
            Value::Number(n) if TIMES.contains(&name.as_str()) => {
                let d = duration::from_number(n.as_f64().unwrap_or(f64::NAN), unit)
                    .map_err(|e| Error::config(format!("setting {name}: {e}")))?;
                d.as_secs_f64().into()
            }
            Value::Object(_) => from_host(value, unit)?,
            other => other,
        };
        out.insert(name, value);
    }
    Ok(out.into())
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
