//! How the table of rare calls becomes a constant, and a function that makes them.

macro_rules! begin {
    (Property, $unit:ident, $ret:ty, $body:block) => {
        begin!(Now, $unit, $ret, $body)
    };
    (Now, $unit:ident, $ret:ty, $body:block) => {{
        let made: Result<$ret> = $body;
        Ok(Started::Done(made?.reply($unit)?))
    }};
    (Later, $unit:ident, $ret:ty, $body:block) => {
        Ok(Started::Later(Box::pin(async move {
            let made: Result<$ret> = $body;
            made?.reply($unit)
        })))
    };
}

macro_rules! default_of {
    () => {
        None
    };
    ($default:expr) => {
        Some(|| $default)
    };
}

macro_rules! fields_of {
    () => {
        None
    };
    ($Fields:ty) => {
        Some(<$Fields as Described>::RECORD)
    };
}

macro_rules! json_of {
    ($ty:ty) => {
        None
    };
    ($ty:ty, $default:expr) => {
        Some(|| default_json::<$ty>(&$default))
    };
}

macro_rules! calls {
    ($($Noun:ident($it:ident: $Of:ty $(, $Fields:ty)?) { $(
        $(#[doc = $doc:literal])+
        $kind:ident $name:ident(
            $($(#[doc = $adoc:literal])+ $arg:ident: $ty:ty $(= $default:expr)?),*
            $(; $($(#[doc = $ndoc:literal])+ $narg:ident: $nty:ty $(= $ndefault:expr)?),+)?
        ) -> $ret:ty $body:block
    )* })*) => {
        /// All nouns and their calls.
        pub const NOUNS: &[Noun] = &[$(Noun {
            name: stringify!($Noun),
            fields: fields_of!($($Fields)?),
            calls: &[$(Call {
                name: stringify!($name),
                kind: Kind::$kind,
                doc: &[$($doc),+],
                arguments: &[
                    $(Argument {
                        name: stringify!($arg),
                        ty: <$ty as super::schema::Typed>::TYPE,
                        named: false,
                        default: json_of!($ty $(, $default)?),
                        doc: &[$($adoc),+],
                    },)*
                    $($(Argument {
                        name: stringify!($narg),
                        ty: <$nty as super::schema::Typed>::TYPE,
                        named: true,
                        default: json_of!($nty $(, $ndefault)?),
                        doc: &[$($ndoc),+],
                    },)+)?
                ],
                returns: <$ret as Answer>::RETURNS,
            }),*],
        }),*];

        impl Handle {
            /// The name of the noun.
            pub const fn noun(&self) -> &'static str {
                match self {
                    $(Self::$Noun(_) => stringify!($Noun),)*
                }
            }

            /// Begins a call. `body` is the argument that is bytes, for a call that has one.
            ///
            /// # Errors
            /// `Config` for arguments that are missing, unknown or malformed; what the call itself finds at once.
            #[allow(unused_variables)] // of nouns without calls
            pub fn call(
                &self,
                name: &str,
                given: Value,
                body: Option<Bytes>,
                unit: Unit,
            ) -> Result<Started> {
                match self {
                    $(Self::$Noun(it) => match name {
                        $(stringify!($name) => {
                            #[allow(unused_mut)] // of calls without arguments
                            let mut given = Arguments::new(stringify!($name), given, body, unit)?;
                            $(let $arg: $ty = given.take(stringify!($arg), default_of!($($default)?))?;)*
                            $($(let $narg: $nty = given.take(stringify!($narg), default_of!($($ndefault)?))?;)+)?
                            given.end()?;
                            #[allow(unused_variables)] // of calls that need it not
                            let $it: $Of = it.clone();
                            begin!($kind, unit, $ret, $body)
                        })*
                        _ => Err(Error::config(format!("a {} has no call {name:?}", stringify!($Noun)))),
                    },)*
                }
            }
        }
    };
}

pub(super) use {begin, calls, default_of, fields_of, json_of};
