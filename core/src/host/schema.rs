//! What hosts see of the core's settings, results and choices: names, types and doc lines, as tables.
//!
//! The macros declare a struct or an enum and its table in one place. `gen` writes the Python and TypeScript forms from
//! the tables, and [`from_host`](super::from_host) and [`to_host`](super::to_host) convert by them: a unit follows the
//! type of a field, never its name.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The type of a field as hosts have it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Type {
    /// Nothing.
    Nothing,
    /// True or false.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    Text,
    /// A path of a file.
    Path,
    /// A length of time: seconds in Python, milliseconds in Node.
    Time,
    /// A point in time.
    Moment,
    /// Bytes: what a message may have as its body.
    Bytes,
    /// A name and a text.
    Pair,
    /// One of a few texts.
    Choice(&'static Choices),
    /// A struct.
    Record(&'static Record),
    /// A noun with calls of its own, by its name.
    Handle(&'static str),
    /// A value or nothing.
    Option(&'static Type),
    /// Several values.
    List(&'static Type),
    /// Values by name.
    Map(&'static Type),
}

/// A field of a struct.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    /// Its name, in `snake_case`.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Its doc comment, a line each.
    pub doc: &'static [&'static str],
}

/// A struct.
#[derive(Debug)]
pub struct Record {
    /// Its name.
    pub name: &'static str,
    /// Its doc comment, a line each.
    pub doc: &'static [&'static str],
    /// Its fields, in the order of declaration.
    pub fields: &'static [Field],
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// An enum whose values are texts.
#[derive(Debug)]
pub struct Choices {
    /// Its name.
    pub name: &'static str,
    /// Its doc comment, a line each.
    pub doc: &'static [&'static str],
    /// The texts, each with its doc comment.
    pub values: &'static [(&'static str, &'static [&'static str])],
}

impl PartialEq for Choices {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Something hosts know by a type of the tables.
pub trait Typed {
    /// That type.
    const TYPE: Type;
}

/// A struct with a table.
pub trait Described: Typed {
    /// Its table.
    const RECORD: &'static Record;
}

/// A value that crosses to hosts as JSON, in the form its type has there.
pub trait Crossing: Typed + Sized {
    /// Writes it.
    ///
    /// # Errors
    /// As the serializer.
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error>;
    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
}

/// Serde's `with` for every field of a table.
pub(crate) mod field {
    use super::{Crossing, Deserializer, Serializer};

    pub(crate) fn serialize<T: Crossing, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        value.write(s)
    }
    pub(crate) fn deserialize<'de, T: Crossing, D: Deserializer<'de>>(d: D) -> Result<T, D::Error> {
        T::read(d)
    }
}

/// A value within an option or a list.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Within<T: Crossing>(#[serde(with = "field")] pub(crate) T);

/// Values that cross in serde's own form.
macro_rules! plain {
    ($($ty:ty => $as:expr,)*) => { $(
        impl $crate::host::schema::Typed for $ty {
            const TYPE: $crate::host::schema::Type = $as;
        }
        impl $crate::host::schema::Crossing for $ty {
            fn write<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, s)
            }
            fn read<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                serde::Deserialize::deserialize(d)
            }
        }
    )* };
}
pub(crate) use plain;

plain! {
    () => Type::Nothing,
    bool => Type::Bool,
    u16 => Type::Integer,
    u32 => Type::Integer,
    u64 => Type::Integer,
    usize => Type::Integer,
    f64 => Type::Number,
    String => Type::Text,
    PathBuf => Type::Path,
    (String, String) => Type::Pair,
}

impl Typed for bytes::Bytes {
    const TYPE: Type = Type::Bytes;
}

impl Typed for Duration {
    const TYPE: Type = Type::Time;
}
impl Crossing for Duration {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        crate::duration::serde_seconds::serialize(self, s)
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::duration::serde_seconds::deserialize(d)
    }
}

impl Typed for SystemTime {
    const TYPE: Type = Type::Moment;
}
impl Crossing for SystemTime {
    /// Seconds since 1970.
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(self.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(d)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)?;
        UNIX_EPOCH.checked_add(since).ok_or_else(|| serde::de::Error::custom("it is too far away"))
    }
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = Type::Option(&T::TYPE);
}
impl<T: Crossing> Crossing for Option<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.write(s),
            None => s.serialize_none(),
        }
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Option::<Within<T>>::deserialize(d)?.map(|w| w.0))
    }
}

impl<T: Typed> Typed for Vec<T> {
    const TYPE: Type = Type::List(&T::TYPE);
}
impl<T: Crossing> Crossing for Vec<T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Item<'a, T>(&'a T);
        impl<T: Crossing> Serialize for Item<'_, T> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.0.write(s)
            }
        }
        s.collect_seq(self.iter().map(Item))
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Within<T>>::deserialize(d)?.into_iter().map(|w| w.0).collect())
    }
}

impl<T: Typed> Typed for BTreeMap<String, T> {
    const TYPE: Type = Type::Map(&T::TYPE);
}
impl<T: Crossing> Crossing for BTreeMap<String, T> {
    fn write<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        struct Item<'a, T>(&'a T);
        impl<T: Crossing> Serialize for Item<'_, T> {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.0.write(s)
            }
        }
        s.collect_map(self.iter().map(|(k, v)| (k, Item(v))))
    }
    fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let all = BTreeMap::<String, Within<T>>::deserialize(d)?;
        Ok(all.into_iter().map(|(k, w)| (k, w.0)).collect())
    }
}

/// The table of a struct, and how it crosses.
macro_rules! described {
    ($Name:ident, [$($doc:literal)+], $({[$($fdoc:literal)+] $field:ident: $ty:ty})*) => {
        impl $crate::host::schema::Described for $Name {
            const RECORD: &'static $crate::host::schema::Record = &$crate::host::schema::Record {
                name: stringify!($Name),
                doc: &[$($doc),+],
                fields: &[$($crate::host::schema::Field {
                    name: stringify!($field),
                    ty: <$ty as $crate::host::schema::Typed>::TYPE,
                    doc: &[$($fdoc),+],
                }),*],
            };
        }
        impl $crate::host::schema::Typed for $Name {
            const TYPE: $crate::host::schema::Type =
                $crate::host::schema::Type::Record(<Self as $crate::host::schema::Described>::RECORD);
        }
    };
}
pub(crate) use described;

/// Declares a struct of settings: each field with its doc lines, its type and its default.
macro_rules! settings {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident {
            $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty = $default:expr,)*
        }
        $(hidden { $($(#[doc = $hdoc:literal])+ $hidden:ident: $hty:ty,)* })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[allow(clippy::struct_excessive_bools)] // each is a setting of its own
        pub struct $Name {
            $($(#[doc = $fdoc])+ #[serde(with = "crate::host::schema::field")] pub $field: $ty,)*
            $($($(#[doc = $hdoc])+ #[serde(skip)] pub $hidden: $hty,)*)?
        }
        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)* $($($hidden: <$hty>::default(),)*)? }
            }
        }
        $crate::host::schema::described!($Name, [$($doc)+], $({[$($fdoc)+] $field: $ty})*);
        impl $crate::host::schema::Crossing for $Name {
            fn write<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, s)
            }
            fn read<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                serde::Deserialize::deserialize(d)
            }
        }
    };
}
pub(crate) use settings;

/// Declares a struct that hosts are given: each field with its doc lines and its type.
macro_rules! record {
    (
        $(#[doc = $doc:literal])+
        pub struct $Name:ident {
            $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty,)*
        }
        $(hidden { $($(#[doc = $hdoc:literal])+ $hvis:vis $hidden:ident: $hty:ty,)* })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $Name {
            $($(#[doc = $fdoc])+ #[serde(with = "crate::host::schema::field")] pub $field: $ty,)*
            $($($(#[doc = $hdoc])+ #[serde(skip)] $hvis $hidden: $hty,)*)?
        }
        $crate::host::schema::described!($Name, [$($doc)+], $({[$($fdoc)+] $field: $ty})*);
        impl $crate::host::schema::Crossing for $Name {
            fn write<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, s)
            }
            fn read<'de, D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
                Err(serde::de::Error::custom(concat!("hosts give no ", stringify!($Name))))
            }
        }
    };
}
pub(crate) use record;

/// Declares an enum whose values are texts for hosts.
macro_rules! choices {
    (
        $(#[doc = $doc:literal])+
        $(#![$extra:meta])*
        pub enum $Name:ident { $($(#[doc = $vdoc:literal])+ $value:ident = $text:literal,)+ }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        $(#[$extra])*
        pub enum $Name { $($(#[doc = $vdoc])+ #[serde(rename = $text)] $value,)+ }

        impl $Name {
            /// The text of the value, the same in every language.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)+ }
            }
        }
        impl $crate::host::schema::Typed for $Name {
            const TYPE: $crate::host::schema::Type =
                $crate::host::schema::Type::Choice(&$crate::host::schema::Choices {
                    name: stringify!($Name),
                    doc: &[$($doc),+],
                    values: &[$(($text, &[$($vdoc),+])),+],
                });
        }
        impl $crate::host::schema::Crossing for $Name {
            fn write<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, s)
            }
            fn read<'de, D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                serde::Deserialize::deserialize(d)
            }
        }
    };
}
pub(crate) use choices;
