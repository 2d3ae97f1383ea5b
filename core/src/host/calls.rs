//! The table of rare calls: each one line of a noun, with the doc comment that every language shows.
//!
//! To add a call, write it on the noun in core, then a row here, then `make gen`.

use super::{
    call::{Answer, Argument, Arguments, Call, Handle, Kind, Maybe, Noun, Started, Taken, default_json},
    calls_macro::{begin, calls, default_of, fields_of, json_of},
    schema::Described,
};
use crate::{
    Bus, ConsumerInfo, DeadLetter, DeadLetterCursor, DeadLetters, Health, Kv, KvConfig, KvEntry, KvStatus,
    KvWatch, MetricsSnapshot, ServerInfo, State, Stream, StreamInfo, WatchOptions,
    dead_letters::Letter,
    duration::Unit,
    error::{Error, Result},
};
use bytes::Bytes;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

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
        /// Opens a key-value bucket, or creates it when `create` says how. A bucket that exists stays as it is.
        ///
        /// # Errors
        /// `NotFound`: there is none, and `create` is not given. `Conflict`: it exists with other settings.
        /// `NotSupported`: the server does not have a setting.
        Later kv(
            /// Its name.
            bucket: String;
            /// Its settings, to create it where there is none.
            create: Option<KvConfig>
        ) -> Kv { bus.kv(&bucket, create).await }
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
    Kv(kv: Kv) {
        /// The bucket's name.
        Property bucket() -> String { Ok(kv.bucket().to_owned()) }
        /// Asks the server about the bucket.
        Later status() -> KvStatus { kv.status().await }
        /// The value of a key, or the one it had at a revision; none when it has none.
        ///
        /// # Errors
        /// `Config`: the key is none.
        Later get(
            /// The key.
            key: String;
            /// The revision. Default: the last.
            revision: Option<u64>
        ) -> Maybe<Arc<KvEntry>> { Ok(Maybe(kv.get(&key, revision).await?.map(Arc::new))) }
        /// Writes a value; returns its revision. A lost ack is asked for again: the value is written once.
        ///
        /// # Errors
        /// `Config`: the key is none. `NotSupported`: the bucket takes no `ttl`.
        Later put(
            /// The key.
            key: String,
            /// The value.
            value: Bytes;
            /// How long the key is kept; at least 1 s. Default: as the bucket has it.
            ttl: Option<Duration>
        ) -> u64 { kv.put(&key, &value, ttl).await }
        /// Writes a value where there is none: the key is new, deleted or expired. Returns its revision.
        ///
        /// # Errors
        /// `Conflict`: the key has a value. As for `put`.
        Later create(
            /// The key.
            key: String,
            /// The value.
            value: Bytes;
            /// How long the key is kept; at least 1 s. Default: as the bucket has it.
            ttl: Option<Duration>
        ) -> u64 { kv.create(&key, &value, ttl).await }
        /// Writes a value over the revision given, and over no other. Returns its revision.
        ///
        /// # Errors
        /// `Conflict`: the key has another revision. As for `put`.
        Later update(
            /// The key.
            key: String,
            /// The value.
            value: Bytes,
            /// The revision the key must have.
            revision: u64;
            /// How long the key is kept; at least 1 s. Default: as the bucket has it.
            ttl: Option<Duration>
        ) -> u64 { kv.update(&key, &value, revision, ttl).await }
        /// Deletes a key; its history stays. Returns the revision of the deletion.
        ///
        /// # Errors
        /// `Conflict`: the key has another revision than the one given.
        Later delete(
            /// The key.
            key: String;
            /// The revision the key must have. Default: any.
            revision: Option<u64>
        ) -> u64 { kv.delete(&key, revision).await }
        /// Deletes a key with its history. Returns the revision of the deletion.
        ///
        /// # Errors
        /// `Conflict`: the key has another revision than the one given. `NotSupported`: the bucket takes no `ttl`.
        Later purge(
            /// The key.
            key: String;
            /// The revision the key must have. Default: any.
            revision: Option<u64>,
            /// How long the sign of the deletion is kept; at least 1 s. Default: for ever.
            ttl: Option<Duration>
        ) -> u64 { kv.purge(&key, revision, ttl).await }
        /// The keys that have a value.
        ///
        /// # Errors
        /// `Config`: the pattern is none.
        Later keys(
            /// Only keys that match it; it may hold wildcards.
            pattern: Option<String>
        ) -> Vec<String> { kv.keys(pattern.as_deref()).await }
        /// All revisions of a key that the bucket keeps, oldest first.
        ///
        /// # Errors
        /// `Config`: the key is none.
        Now history(
            /// The key.
            key: String
        ) -> KvWatch { kv.history(&key) }
        /// Watches keys: their values now, then every change.
        ///
        /// # Errors
        /// `Config`: a pattern is none, or options exclude one another.
        Now watch(
            /// Keys, which may hold wildcards. Default: all.
            keys: Vec<String> = Vec::new();
            /// Whether all revisions come first, instead of the last one of each key.
            history: bool = false,
            /// Whether only what is written from now on comes.
            updates_only: bool = false,
            /// Whether entries come without their values.
            names_only: bool = false,
            /// The first revision to come.
            from_revision: Option<u64>
        ) -> KvWatch { kv.watch(&WatchOptions { keys, history, updates_only, names_only, from_revision }) }
    }
    KvWatch(watch: KvWatch) {
        /// Whether all entries that were there when the watch began have been handed out.
        Property caught_up() -> bool { Ok(watch.caught_up()) }
        /// The next entry; none at the end.
        ///
        /// # Errors
        /// `NotFound`: the bucket was deleted.
        Later next() -> Taken<Arc<KvEntry>> { Ok(Taken(watch.take().await?)) }
    }
    KvEntry(entry: Arc<KvEntry>, KvEntry) {}
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
        Later next() -> Taken<Letter> {
            let of = list.letters().clone();
            let taken = list.take().await?;
            Ok(Taken(taken.map(|(letter, put_back)| (Letter { of, letter: letter.into() }, put_back))))
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
