//! The classes of nouns with rare calls.

use super::{HEAD, comes, field_doc, field_names, given, own_name};
use crate::{
    docs::{self, Language, tsdoc},
    item_of,
};
use nats_eventbus::{
    ErrorKind,
    host::{
        NOUNS,
        call::{Argument, Call, Kind, Noun},
        camel_case,
        schema::{Record, Type},
        tables,
    },
};
use std::fmt::Write;

/// A noun with bytes: what those are called, and what an error names it by.
struct Bytes {
    noun: &'static str,
    name: &'static str,
    by: &'static str,
}

const BYTES: [Bytes; 2] = [
    Bytes { noun: "DeadLetter", name: "body", by: "topic" },
    Bytes { noun: "KvEntry", name: "value", by: "key" },
];

fn bytes_of(noun: &Noun) -> Option<&'static Bytes> {
    BYTES.iter().find(|b| b.noun == noun.name)
}

pub(super) fn nouns() -> String {
    let mut classes = String::new();
    NOUNS.iter().for_each(|n| noun(&mut classes, n));
    let choices = tables::choices().into_iter().map(|c| c.name);
    let names = tables::RECORDS.iter().map(|r| r.name).chain(choices).map(own_name);
    let mut used: Vec<_> =
        names.filter(|n| classes.contains(&format!(": {n}")) || classes.contains(&format!("<{n}"))).collect();
    used.sort_unstable();
    format!(
        "/** The nouns of rare calls. {HEAD} */\nimport {{ inspect }} from \"node:util\";\nimport {{ type Body, bytes }} from \"../bodies\";\nimport {{ later, now, result }} from \"../call\";\nimport {{ Cursor, Decoded, headers }} from \"../cursor\";\nimport type {{ Addon }} from \"../native\";\nimport type {{ {} }} from \"./records\";\nimport type {{ KvConfig, Time }} from \"./settings\";\n{classes}",
        used.join(", ")
    )
}

fn noun(out: &mut String, noun: &Noun) {
    let class = if noun.name == "Bus" { "BusCalls" } else { noun.name };
    out.push('\n');
    out.push_str(&tsdoc(&[crate::noun_doc(noun.name).into()], ""));
    let base = match (item_of(noun), bytes_of(noun)) {
        (Some(item), _) => format!(" extends Cursor<{item}>"),
        (_, Some(_)) => " extends Decoded".to_owned(),
        _ => String::new(),
    };
    let _ = writeln!(out, "export class {class}{base} {{");
    if let Some(record) = noun.fields {
        let names = field_names(record);
        for f in record.fields {
            out.push_str(&tsdoc(&field_doc(f, &names), "  "));
            let may = if matches!(f.ty, Type::Option(_)) { " | undefined" } else { "" };
            let _ = writeln!(out, "  readonly {}: {}{may};", camel_case(f.name), comes(f.ty));
        }
    }
    constructor(out, noun, !base.is_empty());
    noun.calls.iter().for_each(|c| call(out, c));
    if let Some(Type::Handle(cursor)) = noun.calls.iter().find(|c| c.name == "list").map(|c| c.returns) {
        let item = NOUNS.iter().find(|n| n.name == cursor).and_then(item_of).unwrap_or("unknown");
        let _ = write!(
            out,
            "\n  [Symbol.asyncIterator](): AsyncGenerator<{item}, undefined> {{\n    return this.list()[Symbol.asyncIterator]();\n  }}\n"
        );
    }
    if noun.name != "Bus" {
        let (name, shown) = (noun.name, shown(noun));
        let _ = write!(out, "\n  [inspect.custom](): string {{\n    return `<{name}{shown}>`;\n  }}\n");
    }
    out.push_str("}\n");
}

fn constructor(out: &mut String, noun: &Noun, is_derived: bool) {
    let call_super = if is_derived { "    super();\n" } else { "" };
    let fields = noun.fields.map_or_else(String::new, assigned);
    let (argument, handle) = match noun.fields {
        Some(_) => ("found: Addon.Answer", "found.handle as Addon.Handle"),
        None => ("handle: Addon.Handle", "handle"),
    };
    let (declared, set, methods) = bytes_of(noun).map_or_else(Default::default, |Bytes { name, by, .. }| {
        (
            format!("  /** Its {name}; empty where there is none. */\n  readonly {name}: Buffer;\n"),
            format!("    this.{name} = found.body as Buffer;\n"),
            format!(
                "\n  /** @internal */\n  protected bytes(): Buffer {{\n    return this.{name};\n  }}\n\n  /** @internal */\n  protected named(): string {{\n    return this.{by};\n  }}\n"
            ),
        )
    });
    let _ = write!(
        out,
        "{declared}  /** @internal */\n  protected readonly handle: Addon.Handle;\n\n  /** @internal */\n  constructor({argument}) {{\n{call_super}    this.handle = {handle};\n{set}{fields}  }}\n{methods}"
    );
}

fn assigned(record: &Record) -> String {
    let name = record.name;
    let mut out = format!("    const of = JSON.parse(found.json as string) as {name};\n");
    for f in record.fields {
        let n = camel_case(f.name);
        let _ = match f.ty {
            Type::Moment => writeln!(out, "    this.{n} = new Date(of.{n});"),
            Type::List(Type::Pair) => writeln!(out, "    this.{n} = headers(of.{n} as never);"),
            _ => writeln!(out, "    this.{n} = of.{n};"),
        };
    }
    out
}

/// What inspecting shows: the fields that name it, or the properties.
fn shown(noun: &Noun) -> String {
    let fields = crate::naming(noun.name).iter().copied();
    let properties = noun.calls.iter().filter(|c| c.kind == Kind::Property).map(|c| c.name);
    let all = fields.chain(properties).map(camel_case);
    let named = all.fold(String::new(), |out, n| out + &format!(" {n}=${{JSON.stringify(this.{n})}}"));
    named + &bytes_of(noun).map_or_else(String::new, |b| format!(" {}=${{this.size()}}", b.name))
}

fn call(out: &mut String, c: &Call) {
    let names: Vec<_> = c.arguments.iter().map(|a| a.name).chain(["api_timeout"]).collect();
    let d = docs::doc(c.doc, Language::TypeScript, &names);
    let mut parts = d.paragraphs;
    for a in c.arguments {
        let name = if a.named { format!("options.{}", camel_case(a.name)) } else { camel_case(a.name) };
        parts.push(format!("@param {name} {}", docs::line(a.doc, Language::TypeScript, &names)));
    }
    if let Some(errors) = d.errors {
        parts.push(format!("@throws {}", linked(&errors)));
    }
    if let (Type::Time, Some(first)) = (c.returns, parts.first_mut()) {
        first.push_str(" In milliseconds.");
    }
    out.push('\n');
    out.push_str(&tsdoc(&parts, "  "));
    let returns = match c.returns {
        Type::Option(inner) => format!("{} | undefined", comes(*inner)),
        other => comes(other),
    };
    let name = camel_case(c.name);
    if c.kind == Kind::Property {
        let _ = write!(
            out,
            "  get {name}(): {returns} {{\n    return result(now(this.handle, \"{}\"));\n  }}\n",
            c.name
        );
        return;
    }
    let positional: Vec<&Argument> = c.arguments.iter().filter(|a| !a.named).collect();
    let named: Vec<&Argument> = c.arguments.iter().filter(|a| a.named).collect();
    let mut parameters: Vec<String> = positional.iter().map(|a| argument(a)).collect();
    if !named.is_empty() {
        let fields: Vec<_> = named.iter().map(|a| argument(a)).collect();
        let must = named.iter().any(|a| !may_be_left_out(a));
        parameters.push(format!("options{}: {{ {} }}", if must { "" } else { "?" }, fields.join("; ")));
    }
    let mut sent: Vec<String> = Vec::new();
    if !named.is_empty() {
        sent.push("...options".into());
    }
    sent.extend(positional.iter().filter(|a| a.ty != Type::Bytes).map(|a| camel_case(a.name)));
    let body = positional.iter().find(|a| a.ty == Type::Bytes).map(|a| format!(", bytes({})", a.name));
    let sent = if sent.is_empty() { String::new() } else { format!(", {{ {} }}", sent.join(", ")) };
    let sent = sent + &body.unwrap_or_default();
    let (word, wait, how, returns) = match c.kind {
        Kind::Later => ("async ", "await ", "later", format!("Promise<{returns}>")),
        _ => ("", "", "now", returns),
    };
    let made = format!("{wait}{how}(this.handle, \"{}\"{sent})", c.name);
    let line = match c.returns {
        Type::Nothing => made,
        Type::Handle(name) => format!("return new {name}(({made}).handle as Addon.Handle)"),
        Type::Option(Type::Handle(name)) => {
            format!("const found = {made};\n    return found.handle ? new {name}(found) : undefined")
        }
        _ => format!("return result({made})"),
    };
    let _ = write!(out, "  {word}{name}({}): {returns} {{\n    {line};\n  }}\n", parameters.join(", "));
}

fn may_be_left_out(a: &Argument) -> bool {
    a.default.is_some() || matches!(a.ty, Type::Option(_))
}

fn argument(a: &Argument) -> String {
    let may = if may_be_left_out(a) { "?" } else { "" };
    format!("{}{may}: {}", camel_case(a.name), given(a.ty))
}

/// Classes of errors as links.
fn linked(text: &str) -> String {
    let mut out = text.to_owned();
    for kind in ErrorKind::ALL {
        out = out.replace(&format!("`{}`", kind.class()), &format!("{{@link {}}}", kind.class()));
    }
    out
}
