//! A text that is never printed.

use crate::host::schema::{Type, plain};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // The usual error would repeat the value.
        match serde_json::Value::deserialize(d) {
            Ok(serde_json::Value::String(text)) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("give it as a text")),
        }
    }
}

impl Secret {
    /// The text itself; the caller keeps it out of messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
impl From<&str> for Secret {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str("***")
    }
}

plain! { Secret => Type::Text, }
