//! The reference of `docs`: settings, errors, events, notices, metrics and calls.

use crate::{
    File,
    docs::{self, Language},
};
use nats_eventbus::{
    ErrorKind,
    host::{
        NOUNS, camel_case,
        schema::{Record, Type},
        tables,
    },
};
use serde_json::Value;
use std::fmt::Write;

pub(crate) fn files() -> Vec<File> {
    let mut out = String::from(
        "# Reference\n\nWritten by `make gen` from the core's tables. Names are those of Python; in Node they are in camelCase. Times are seconds in Python and\nmilliseconds in Node, or a text such as `\"30s\"` in both.\n",
    );
    settings(&mut out);
    errors(&mut out);
    choices(&mut out);
    calls(&mut out);
    vec![("docs/reference.md".into(), out)]
}

fn said(lines: &[&str]) -> String {
    docs::line(lines, Language::Markdown, &[]).replace('|', "\\|")
}

fn type_of(ty: Type) -> String {
    match ty {
        Type::Nothing => "nothing".into(),
        Type::Bool => "bool".into(),
        Type::Integer => "integer".into(),
        Type::Number => "number".into(),
        Type::Path => "path".into(),
        Type::Time => "time".into(),
        Type::Moment => "date and time".into(),
        Type::Choice(c) => c.name.into(),
        Type::Record(r) => r.name.into(),
        Type::Handle(name) => name.into(),
        Type::Option(inner) => format!("{}, optional", type_of(*inner)),
        Type::List(inner) => format!("list of {}", type_of(*inner)),
        Type::Map(inner) => format!("{} by name", type_of(*inner)),
        _ => "text".into(),
    }
}

fn default_of(defaults: &Value, record: &Record, name: &str) -> String {
    let ty = record.fields.iter().find(|f| f.name == name).map(|f| f.ty);
    match (&defaults[name], ty) {
        (Value::Null | Value::Object(_), _) => String::new(),
        (Value::String(text), _) if text.is_empty() => "must be given".into(),
        (Value::String(text), Some(Type::Text)) if name == "servers" => {
            format!("`{}`", text.replace("***", ""))
        }
        (value, Some(Type::Time)) => format!("{value} s"),
        (value, _) => format!("`{}`", value.to_string().trim_matches('"')),
    }
}

fn settings(out: &mut String) {
    for (record, defaults) in tables::settings() {
        let _ = write!(
            out,
            "\n## {}\n\n{}\n\n| setting | type | default | meaning |\n|---|---|---|---|\n",
            record.name,
            said(record.doc)
        );
        for f in record.fields {
            let default = default_of(&defaults, record, f.name);
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", f.name, type_of(f.ty), said(f.doc));
        }
    }
}

fn errors(out: &mut String) {
    out.push_str("\n## Errors\n\nThe classes and codes are the same in every language. *Retryable*: the same call may succeed later unchanged.\n\n| class | code | is a | retryable | meaning |\n|---|---|---|---|---|\n");
    for kind in ErrorKind::ALL {
        let yes = if kind.retryable() { "yes" } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | `{}` | `{}` | {yes} | {} |",
            kind.class(),
            kind.code(),
            kind.parent(),
            said(kind.doc())
        );
    }
}

fn choices(out: &mut String) {
    for choice in tables::choices() {
        let _ =
            write!(out, "\n## {}\n\n{}\n\n| value | meaning |\n|---|---|\n", choice.name, said(choice.doc));
        for (text, doc) in choice.values {
            let _ = writeln!(out, "| `{text}` | {} |", said(doc));
        }
    }
    for record in tables::RECORDS {
        let _ = write!(
            out,
            "\n## {}\n\n{}\n\n| field | type | meaning |\n|---|---|---|\n",
            record.name,
            said(record.doc)
        );
        for f in record.fields {
            let _ = writeln!(out, "| `{}` | {} | {} |", f.name, type_of(f.ty), said(f.doc));
        }
    }
}

fn calls(out: &mut String) {
    for noun in NOUNS {
        let _ = write!(
            out,
            "\n## Calls of {}\n\n| Python | Node | gives | meaning |\n|---|---|---|---|\n",
            noun.name
        );
        for c in noun.calls {
            let names: Vec<_> = c.arguments.iter().map(|a| a.name).collect();
            let arguments = if names.is_empty() && c.kind == nats_eventbus::host::call::Kind::Property {
                String::new()
            } else {
                format!("({})", names.join(", "))
            };
            let _ = writeln!(
                out,
                "| `{}{arguments}` | `{}` | {} | {} |",
                c.name,
                camel_case(c.name),
                type_of(c.returns),
                said(c.doc)
            );
        }
    }
}
