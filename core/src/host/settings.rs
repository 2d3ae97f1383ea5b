//! Values between hosts and the core: JSON under the host's names and in its units, converted by type.
//!
//! Owns the translation and the errors that name the setting. Which settings exist is `config`'s.

use super::schema::{Crossing, Type, Typed, Within};
use crate::{
    duration::{self, Unit},
    error::{Error, ErrorKind, Result},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) type Object = Map<String, Value>;

pub(crate) fn object(value: Value) -> Result<Object> {
    match value {
        // null is what hosts send for "not given".
        Value::Object(map) => Ok(map.into_iter().filter(|(_, v)| !v.is_null()).collect()),
        Value::Null => Ok(Object::new()),
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

/// Reads settings that a host gives under its names and in its unit. Absent or null means the default.
///
/// # Errors
/// `Config`, naming the setting that is unknown or malformed.
pub fn settings<T: Typed + DeserializeOwned>(value: Value, unit: Unit) -> Result<T> {
    decode(object(from_host::<T>(value, unit)?)?)
}

/// Reads one argument of a call.
pub(crate) fn argument<T: Crossing>(name: &str, value: Value, unit: Unit) -> Result<T> {
    let value = one_from_host(name, value, T::TYPE, unit)?;
    let read = serde_json::from_value::<Within<T>>(value);
    read.map(|w| w.0).map_err(|e| Error::config(format!("{name}: {e}")))
}

/// A host's value as the core has it: names in `snake_case`, numbers of times in seconds.
///
/// # Errors
/// `Config` for a number that is no time.
pub fn from_host<T: Typed>(value: Value, unit: Unit) -> Result<Value> {
    one_from_host("", value, T::TYPE, unit)
}

fn one_from_host(name: &str, value: Value, ty: Type, unit: Unit) -> Result<Value> {
    Ok(match (value, ty) {
        (Value::Number(n), Type::Time) => {
            let time = duration::from_number(n.as_f64().unwrap_or(f64::NAN), unit)
                .map_err(|e| Error::config(format!("setting {name}: {e}")))?;
            time.as_secs_f64().into()
        }
        (value, Type::Option(inner)) => one_from_host(name, value, *inner, unit)?,
        (Value::Array(all), Type::List(inner)) => {
            let each = all.into_iter().map(|v| one_from_host(name, v, *inner, unit));
            Value::Array(each.collect::<Result<_>>()?)
        }
        (Value::Object(map), Type::Record(record)) => {
            let mut out = Object::new();
            for (name, value) in map {
                let name = if unit == Unit::Milliseconds { snake_case(&name) } else { name };
                let field = record.fields.iter().find(|f| f.name == name);
                let value = match field {
                    Some(field) => one_from_host(&name, value, field.ty, unit)?,
                    None => value,
                };
                out.insert(name, value);
            }
            Value::Object(out)
        }
        (value, _) => value,
    })
}

/// A result of the core as JSON in a host's form: for Node names in camelCase, times in milliseconds, and no field that
/// holds nothing.
///
/// # Errors
/// `Internal` where it has no JSON form.
pub fn to_host<T: Crossing>(value: &T, unit: Unit) -> Result<String> {
    struct Out<'a, T>(&'a T);
    impl<T: Crossing> serde::Serialize for Out<'_, T> {
        fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
            self.0.write(s)
        }
    }
    let written = serde_json::to_value(Out(value));
    let value = written.map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))?;
    Ok(match unit {
        Unit::Seconds => value,
        Unit::Milliseconds => for_node(value, T::TYPE),
    }
    .to_string())
}

fn for_node(value: Value, ty: Type) -> Value {
    match (value, ty) {
        (Value::Number(n), Type::Time | Type::Moment) => (n.as_f64().unwrap_or_default() * 1e3).into(),
        (value, Type::Option(inner)) => for_node(value, *inner),
        (Value::Array(all), Type::List(inner)) => {
            Value::Array(all.into_iter().map(|v| for_node(v, *inner)).collect())
        }
        (Value::Object(map), Type::Map(inner)) => {
            Value::Object(map.into_iter().map(|(k, v)| (k, for_node(v, *inner))).collect())
        }
        (Value::Object(map), Type::Record(record)) => {
            let field = |name: &str| record.fields.iter().find(|f| f.name == name);
            let given = map.into_iter().filter(|(_, v)| !v.is_null());
            let each = given.map(|(name, v)| match field(&name) {
                Some(f) => (camel_case(&name), for_node(v, f.ty)),
                None => (name, v),
            });
            Value::Object(each.collect())
        }
        (value, _) => value,
    }
}

pub(crate) fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// A name of the core as Node has it.
pub fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        if c == '_' {
            up = true;
        } else {
            out.push(if up { c.to_ascii_uppercase() } else { c });
            up = false;
        }
    }
    out
}
