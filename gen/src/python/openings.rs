//! Functions whose keywords are settings.

use super::{HEAD, Way, lower, name_of, optional};
use crate::docs::{self, Doc, Language, docstring};
use nats_eventbus::host::{
    schema::{Field, Type},
    tables,
};
use std::fmt::Write;

/// A function whose keywords are settings.
struct Opening {
    table: &'static str,
    /// What comes before the settings, and after them, with its doc.
    before: &'static [(&'static str, &'static str)],
    after: &'static [(&'static str, &'static str)],
    /// Settings that are given otherwise, or must be given.
    instead: &'static [&'static str],
    head: &'static str,
    returns: &'static str,
    summary: &'static [&'static str],
    errors: &'static str,
    body: &'static str,
    indent: &'static str,
}

const PRODUCER: Opening = Opening {
    table: "ProducerConfig",
    before: &[("topic: str", "where to; no wildcards. Untrusted parts go through :func:`topic` first.")],
    after: &[
        (
            "on_error: Callable[[EventBusError], None] | None = None",
            "called on the running loop with each failure without a waiter (of ``send_nowait``, and of cancelled sends), which flush then does not raise; ``id`` names the message.",
        ),
        (
            "encoder: Encoder | None = None",
            "makes bytes or a string of each body that is neither bytes-like nor a string. Default: the connection's, or JSON.",
        ),
    ],
    instead: &[],
    head: "def producer(\n        self,",
    returns: "Producer",
    summary: &[
        "A producer for one topic.",
        "Its stream is looked up, or declared as the platform declares it, with the first message.",
    ],
    errors: "InvalidTopic, ConfigError, ClosedError.",
    body: "return self._open_producer(topic, settings, on_error, encoder)",
    indent: "    ",
};

const CONSUMER: Opening = Opening {
    table: "ConsumerConfig",
    before: &[("topic: str", "what to receive; may hold wildcards.")],
    after: &[],
    instead: &["group"],
    head: "def consumer(\n        self,",
    returns: "Opening[Consumer]",
    summary: &["A consumer of a topic for a group: ``await`` it, or ``async with``."],
    errors: "ConfigError, InvalidTopic, NotFoundError, ConflictError, ClosedError.",
    body: "return self._open_consumer(topic, settings)",
    indent: "    ",
};

const CONNECT: Opening = Opening {
    table: "Config",
    before: &[(
        "servers: str | Sequence[str] | None = None",
        "addresses, comma-separated or a sequence: ``nats://``, ``tls://``, ``ws://``, ``wss://``, or ``local://DIR`` for an embedded server kept in DIR. Environment: NATS_SERVER_URL, else MQ_NAME_SERVER. Default nats://127.0.0.1:4222.",
    )],
    after: &[
        (
            "credentials: str | os.PathLike[str] | Source | None = None",
            "path of a credentials file, read again on every reconnect; or a function, plain or async, called on this loop before every connection. It gives the text of a credentials file, or a mapping with ``user`` and ``password``, ``token``, ``nkey``, or ``jwt`` and ``nkey``, within ``api_timeout``.",
        ),
        (
            "encoder: Encoder | None = None",
            "makes bytes or a string of each body that is neither bytes-like nor a string, of messages, requests and replies; called where it is sent. Default: JSON.",
        ),
    ],
    instead: &["servers", "credentials"],
    head: "def connect(",
    returns: "Opening[Bus]",
    summary: &[
        "Connects: ``await`` it, or ``async with``. Explicit settings beat the environment, which beats the defaults.",
        "What an operator should read is logged on ``nats_eventbus`` until the bus is closed. Warnings and errors: a lost connection with its cause, a consumer that failed, a dead letter, failures of sends that were never asked for. Infos: reconnects, declared streams, retries, give-backs. Each record has the notice's fields in ``record.nats_eventbus``.",
        "Warns (EventBusWarning) when a file of secrets is open to others, or credentials may go unencrypted to another machine.",
    ],
    errors: "ConfigError, ConnectionError, PermissionError (the inbox may not be read), AuthError, TlsError; NotFoundError when JetStream is asked of a server without.",
    body: "return opening(servers, settings, credentials, encoder)",
    indent: "",
};

/// What is opened with settings, but for the bus.
pub(super) fn openings() -> String {
    let mut out = format!(
        "\"\"\"What a bus opens, with the settings of each. {HEAD}\"\"\"\n\nfrom __future__ import annotations\n\nfrom collections.abc import Callable\nfrom typing import TYPE_CHECKING, Any\n\nfrom .records import Deliver, Order\nfrom .settings import Backoff, Seconds\n\nif TYPE_CHECKING:\n    from .._consumer import Consumer\n    from .._json import Encoder\n    from .._native import Producer\n    from .._opening import Opening\n    from ..errors import EventBusError\n\n__all__ = [\"Openings\"]\n\n\nclass Openings:\n    \"\"\"What a bus opens, with the settings of each.\"\"\"\n"
    );
    out.push_str(&opening(&PRODUCER));
    out.push_str(&opening(&CONSUMER));
    out
}

pub(super) fn connect() -> String {
    let head = format!(
        "\"\"\"Connecting, with the settings of a connection. {HEAD}\"\"\"\n\nfrom __future__ import annotations\n\nimport os\nfrom collections.abc import Sequence\nfrom typing import Any\n\nfrom .._bus import Bus\nfrom .._connect import Source, opening\nfrom .._json import Encoder\nfrom .._opening import Opening\nfrom .records import StreamLayout\nfrom .settings import Backoff, Seconds, Tls\n\n__all__ = [\"connect\"]\n\n"
    );
    head + &opening(&CONNECT)
}

fn opening(o: &Opening) -> String {
    let tables = tables::settings();
    let Some((record, _)) = tables.iter().find(|(r, _)| r.name == o.table) else { return String::new() };
    let shown: Vec<_> = record.fields.iter().filter(|f| !o.instead.contains(&f.name)).collect();
    let deep = format!("{}    ", o.indent);
    let mut out = format!("\n{}{}\n", o.indent, o.head);
    for (argument, _) in o.before {
        let _ = writeln!(out, "{deep}{argument},");
    }
    let _ = writeln!(out, "{deep}*,");
    let must = o.table == "ConsumerConfig";
    if must {
        let _ = writeln!(out, "{deep}group: str,");
    }
    for f in &shown {
        let _ = writeln!(out, "{deep}{}: {} = None,", f.name, optional(name_of(f.ty, Way::In), Way::In));
    }
    for (argument, _) in o.after {
        let _ = writeln!(out, "{deep}{argument},");
    }
    let _ = writeln!(out, "{}) -> {}:", o.indent, o.returns);
    let mut args: Vec<String> = Vec::new();
    let named = |argument: &str| argument.split(':').next().unwrap_or_default().to_owned();
    args.extend(o.before.iter().map(|(a, d)| format!("{}: {d}", named(a))));
    let fields = record.fields.iter().filter(|f| must && f.name == "group").chain(shown.iter().copied());
    let said = |f: &Field| lower(&docs::line(f.doc, Language::Python, &[])) + &of_choice(f.ty);
    args.extend(fields.clone().map(|f| format!("{}: {}", f.name, said(f))));
    args.extend(o.after.iter().map(|(a, d)| format!("{}: {d}", named(a))));
    let doc = Doc {
        paragraphs: o.summary.iter().map(ToString::to_string).collect(),
        errors: Some(o.errors.to_owned()),
    };
    out.push_str(&docstring(&doc, &[("Args", args)], &deep));
    let _ = writeln!(out, "{deep}settings: dict[str, Any] = {{");
    for f in fields {
        let _ = writeln!(out, "{deep}    \"{0}\": {0},", f.name);
    }
    let _ = writeln!(out, "{deep}}}");
    let _ = writeln!(out, "{deep}{}", o.body);
    if o.indent == "    " {
        let (name, params) = match o.table {
            "ProducerConfig" => (
                "_open_producer",
                "on_error: Callable[[EventBusError], None] | None, encoder: Encoder | None",
            ),
            _ => ("_open_consumer", ""),
        };
        let params = if params.is_empty() { String::new() } else { format!(", {params}") };
        let _ = write!(
            out,
            "\n    def {name}(\n        self, topic: str, settings: dict[str, Any]{params}\n    ) -> {}:\n        raise NotImplementedError\n",
            o.returns
        );
    }
    out
}

/// What each value of a choice means.
fn of_choice(ty: Type) -> String {
    match ty {
        Type::Option(inner) => of_choice(*inner),
        Type::Choice(c) => c.values.iter().fold(String::new(), |out, (text, doc)| {
            out + &format!(" ``\"{text}\"``: {}", docs::line(doc, Language::Python, &[]))
        }),
        _ => String::new(),
    }
}
