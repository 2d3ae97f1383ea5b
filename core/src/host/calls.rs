//! The table of rare calls: each one line of a noun, with the doc comment that every language shows.
//!
//! To add a call, write it on the noun in core, then a row here, then `make gen`.

use super::{
    call::{Answer, Argument, Arguments, Call, Handle, Kind, Maybe, Noun, Started, default_json},
    schema::Described,
};
use crate::{
    Bus, ConsumerInfo, DeadLetter, DeadLetterCursor, DeadLetters, Health, MetricsSnapshot, ServerInfo, State,
    Stream, StreamInfo,
    dead_letters::Letter,
    duration::Unit,
    error::{Error, Result},
};
use serde_json::Value;
use std::time::Duration;

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

            /// Begins a call.
            ///
            /// # Errors
            /// `Config` for arguments that are missing, unknown or malformed; what the call itself finds at once.
            pub fn call(&self, name: &str, given: Value, unit: Unit) -> Result<Started> {
                match self {
                    $(Self::$Noun(it) => match name {
                        $(stringify!($name) => {
                            #[allow(unused_mut)] // of calls without arguments
                            let mut given = Arguments::new(stringify!($name), given, unit)?;
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

calls! {
    Bus(bus: Bus) {
        /// `connecting`, `connected`, `disconnected` (reconnecting) or `closed`.
        Property state() -> State { Ok(bus.state()) }
        /// The connection's name.
        Property name() -> String { Ok(bus.config().name.clone()) }
        /// Whether messages are stored and acked.
        Property jetstream() -> bool { Ok(bus.config().jetstream) }
        /// How long closing may wait for unsettled sends and running handlers.
        Property drain_timeout() -> Duration { Ok(bus.config().drain_timeout) }
        /// The server connected to, or last connected to.
        Property server() -> ServerInfo { Ok(bus.server()) }
        /// What is allowed and still unwise, each once; it grows while the bus is open.
        ///
        /// A file of secrets that others can read, a stream with fewer replicas than asked for, a stream declared beside
        /// one that already gets the topic.
        Property warnings() -> Vec<String> { Ok(bus.warnings()) }
        /// What was counted since the bus was opened.
        Now metrics() -> MetricsSnapshot { Ok(bus.metrics()) }
        /// Takes failed consumers out of the problems of `health`, all or those of a topic and a group. Returns their
        /// number.
        Now dismiss(
            /// Only those of this topic.
            topic: Option<String>;
            /// Only those of this group.
            group: Option<String>
        ) -> usize { Ok(bus.dismiss(topic.as_deref(), group.as_deref())) }
        /// How the bus is, found out within `timeout`, for readiness and liveness endpoints.
        ///
        /// Asks the server for a sign of life, and JetStream whether it is there. It never fails for a bus in trouble,
        /// nor for a closed one: what is wrong is in `problems`, each with what to do.
        ///
        /// # Errors
        /// `Config`: `timeout` is not a time.
        Later health(;
            /// How long finding out may take. Default 1 s.
            timeout: Duration = Duration::from_secs(1)
        ) -> Health { Ok(bus.health(timeout).await) }
        /// Drops the connection and makes a new one, with another server of the pool if there is one.
        ///
        /// While reconnecting, it tries at once.
        ///
        /// # Errors
        /// `Timeout`: there is none within `api_timeout`; reconnecting continues. `Connection`: it was given up.
        Later force_reconnect() -> () { bus.force_reconnect().await }
        /// All streams.
        Later streams() -> Vec<StreamInfo> { bus.streams().await }
        /// A stream by name. Asks the server nothing yet.
        Now stream(
            /// Its name.
            name: String
        ) -> Stream { Ok(bus.stream(&name)) }
        /// Declares a stream over these subjects with the platform's settings. A stream that exists stays as it is.
        ///
        /// # Errors
        /// `Conflict`: a stream of that name stores other subjects, or another one stores some of these.
        Later declare_stream(
            /// Its name.
            name: String,
            /// The subjects it stores; they may hold wildcards.
            subjects: Vec<String>
        ) -> StreamInfo { bus.declare_stream(&name, &subjects).await }
        /// The dead letters of a topic and a group. Asks the server nothing yet.
        ///
        /// # Errors
        /// `Config`: the bus is in core mode. `InvalidTopic`.
        Now dead_letters(
            /// The topic, which may hold wildcards.
            topic: String;
            /// The group that could not handle them.
            group: String,
            /// The stream, for a consumer that reads one by name.
            stream: Option<String>
        ) -> DeadLetters { bus.dead_letters(&topic, &group, stream.as_deref()) }
    }
    Stream(stream: Stream) {
        /// The stream's name.
        Property name() -> String { Ok(stream.name().to_owned()) }
        /// Asks the server about the stream.
        ///
        /// # Errors
        /// `NotFound`: there is no stream of that name.
        Later info() -> StreamInfo { stream.info().await }
        /// Removes messages, for all consumers. Returns their number.
        ///
        /// # Errors
        /// `Config`: both `keep` and `before` are given. `NotFound`: there is no stream of that name.
        Later purge(;
            /// Only messages of this topic, which may hold wildcards. Default: all.
            topic: Option<String>,
            /// Leaves this many of the newest messages.
            keep: Option<u64>,
            /// Leaves messages from this sequence on.
            before: Option<u64>
        ) -> u64 { stream.purge(topic.as_deref(), keep, before).await }
        /// The stream's consumers: the durables of groups, and those without a name of their own.
        ///
        /// # Errors
        /// `NotFound`: there is no stream of that name.
        Later consumers() -> Vec<ConsumerInfo> { stream.consumers().await }
    }
    DeadLetters(letters: DeadLetters) {
        /// The topic, with its wildcards.
        Property topic() -> String { Ok(letters.topic().to_owned()) }
        /// The group that could not handle them.
        Property group() -> String { Ok(letters.group().to_owned()) }
        /// Lists the letters there are when it begins, oldest first.
        Now list() -> DeadLetterCursor { Ok(letters.list()) }
        /// Sends all letters there are now to their group again; returns their number. The first that fails ends it.
        ///
        /// No other group sees them. A consumer of the group receives each as the message it was, with a new count of
        /// attempts. Workers on other clients do not see replays.
        Later replay() -> u64 { letters.replay_all().await }
        /// Removes all letters there are now; returns their number. The first that fails ends it.
        Later discard() -> u64 { letters.discard_all().await }
    }
    DeadLetterCursor(list: DeadLetterCursor) {
        /// The next letter; none at the end.
        Later next() -> Maybe<Letter> {
            let of = list.letters().clone();
            Ok(Maybe(list.next().await?.map(|letter| Letter { of, letter: letter.into() })))
        }
    }
    DeadLetter(letter: Letter, DeadLetter) {
        /// Sends it to its group again, and to no other, with a new count of attempts; then removes the letter.
        ///
        /// # Errors
        /// `NotFound`: its body was not kept and the stream no longer has the message.
        Later replay() -> () { letter.of.replay(&letter.letter).await }
        /// Removes it. False when it was removed already.
        Later discard() -> bool { letter.of.discard(&letter.letter).await }
    }
}
