//! The classes of nouns with rare calls.

use super::{HEAD, Way, literal, lower, name_of, read, said, said_with_unit};
use crate::{
    docs::{self, Language, docstring},
    item_of,
};
use nats_eventbus::host::{
    NOUNS,
    call::{Argument, Call, Kind, Noun},
    schema::Type,
    tables,
};
use serde_json::Value;
use std::fmt::Write;

/// Nouns with bytes, and what those are called.
const BYTES: [(&str, &str); 2] = [("DeadLetter", "body"), ("KvEntry", "value")];
/// A property that Python leaves out: users of nats-py call `jetstream()`, and get an error that names ours.
const LEFT_OUT: [&str; 1] = ["jetstream"];

pub(super) fn nouns() -> String {
    let records: Vec<_> = tables::RECORDS.iter().map(|r| r.name).collect();
    let mut out = format!(
        "\"\"\"The nouns of rare calls. {HEAD}\"\"\"\n\nfrom __future__ import annotations\n\nfrom collections.abc import Sequence\nfrom datetime import UTC, datetime\nfrom typing import Any\n\nfrom .. import _native\nfrom .._cursor import Cursor, Decoded\nfrom .._headers import MessageHeaders\nfrom .records import KvOperation, State, {}\nfrom .settings import KvConfig, Seconds\n\n",
        records.join(", ")
    );
    let names: Vec<_> = NOUNS.iter().map(|n| format!("    \"{}\",\n", class_of(n))).collect();
    let _ = writeln!(out, "__all__ = [\n{}]", names.concat());
    NOUNS.iter().for_each(|n| noun(&mut out, n));
    out
}

/// A bus has hot calls besides, by hand.
fn class_of(noun: &Noun) -> String {
    if noun.name == "Bus" { "BusCalls".into() } else { noun.name.into() }
}

fn bytes_of(noun: &Noun) -> Option<&'static str> {
    BYTES.iter().find(|(n, _)| *n == noun.name).map(|(_, name)| *name)
}

fn noun(out: &mut String, noun: &Noun) {
    let base = match (item_of(noun), bytes_of(noun)) {
        (Some(item), _) => format!("(Cursor[\"{item}\"])"),
        (_, Some(_)) => "(Decoded)".to_owned(),
        _ => String::new(),
    };
    let doc = crate::noun_doc(noun.name);
    let _ = write!(
        out,
        "\n\nclass {}{base}:\n    \"\"\"{doc}\"\"\"\n\n    def __init__(self, handle: _native.Handle) -> None:\n        self._handle = handle\n",
        class_of(noun)
    );
    if let Some(record) = noun.fields {
        out.push_str("        found = handle.fields\n");
        for f in record.fields {
            let value = format!("found[\"{}\"]", f.name);
            let made = read(&value, f.ty).unwrap_or(value);
            let _ = writeln!(out, "        self.{}: {} = {made}", f.name, name_of(f.ty, Way::Out));
            out.push_str(&docstring(&said_with_unit(f, Way::Out), &[], "        "));
        }
    }
    if let Some(name) = bytes_of(noun) {
        let _ = write!(
            out,
            "\n    @property\n    def {name}(self) -> bytes:\n        \"\"\"Its {name}; empty where there is none.\"\"\"\n        return self._bytes()\n"
        );
    }
    noun.calls.iter().filter(|c| !LEFT_OUT.contains(&c.name)).for_each(|c| call(out, c));
    if let Some(Type::Handle(cursor)) = noun.calls.iter().find(|c| c.name == "list").map(|c| c.returns) {
        let _ = write!(out, "\n    def __aiter__(self) -> {cursor}:\n        return self.list()\n");
    }
    if noun.name != "Bus" {
        let (name, shown) = (noun.name, shown(noun));
        let _ = write!(out, "\n    def __repr__(self) -> str:\n        return f\"<{name}{shown}>\"\n");
    }
}

/// What a repr shows: the fields that name it, or the properties.
fn shown(noun: &Noun) -> String {
    let fields = crate::naming(noun.name).iter().copied();
    let properties = noun.calls.iter().filter(|c| c.kind == Kind::Property).map(|c| c.name);
    let all = fields.chain(properties);
    let named = all.fold(String::new(), |out, name| out + &format!(" {name}={{self.{name}!r}}"));
    named + &bytes_of(noun).map_or_else(String::new, |name| format!(" {name}={{self._size()}}"))
}

fn call(out: &mut String, c: &Call) {
    let (decorator, keyword, wait) = match c.kind {
        Kind::Property => ("    @property\n", "def", ""),
        Kind::Now => ("", "def", ""),
        Kind::Later => ("", "async def", "await "),
    };
    let mut parameters = vec!["self".to_owned()];
    let mut star = false;
    for a in c.arguments {
        if a.named && !star {
            star = true;
            parameters.push("*".into());
        }
        parameters.push(parameter(a));
    }
    let returns = name_of(c.returns, Way::Out);
    let _ = write!(out, "\n{decorator}    {keyword} {}({}) -> {returns}:\n", c.name, parameters.join(", "));
    let mut doc = said(c.doc);
    if let (Type::Time, Some(last)) = (c.returns, doc.paragraphs.last_mut()) {
        last.push_str(" In seconds.");
    }
    let args: Vec<_> = c
        .arguments
        .iter()
        .map(|a| format!("{}: {}", a.name, lower(&docs::line(a.doc, Language::Python, &[]))))
        .collect();
    let sections = if args.is_empty() { vec![] } else { vec![("Args", args)] };
    out.push_str(&docstring(&doc, &sections, "        "));
    let body = c.arguments.iter().find(|a| a.ty == Type::Bytes);
    let body = body.map_or_else(String::new, |a| format!(", {}", a.name));
    let given = c.arguments.iter().fold(String::new(), |given, a| match a.ty {
        Type::Bytes => given,
        Type::List(_) => given + &format!(", {0}=list({0})", a.name),
        _ => given + &format!(", {0}={0}", a.name),
    });
    let made = format!("{wait}self._handle.call(\"{}\"{body}{given})", c.name);
    let line = match c.returns {
        Type::Nothing => made,
        Type::Handle(name) => format!("return {name}({made})"),
        Type::Option(Type::Handle(name)) => {
            let _ = writeln!(out, "        found = {made}");
            format!("return None if found is None else {name}(found)")
        }
        ty => match read("found", ty) {
            None => format!("return {made}"),
            Some(value) => {
                let _ = writeln!(out, "        found: Any = {made}");
                format!("return {value}")
            }
        },
    };
    let _ = writeln!(out, "        {line}");
}

fn parameter(a: &Argument) -> String {
    let name = name_of(a.ty, Way::In);
    match (a.default.map(|f| f()), a.ty) {
        (Some(Value::Array(_)), _) => format!("{}: {name} = ()", a.name),
        (Some(value), _) => format!("{}: {name} = {}", a.name, literal(&value)),
        (None, Type::Option(_)) => format!("{}: {name} = None", a.name),
        (None, _) => format!("{}: {name}", a.name),
    }
}
