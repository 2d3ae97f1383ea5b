//! Doc comments of the core as other languages say the same.

use nats_eventbus::{ErrorKind, host::camel_case};
use std::fmt::Write;

/// A language that docs are written for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    TypeScript,
    Markdown,
}

/// A doc comment in its parts.
pub(crate) struct Doc {
    /// Its paragraphs.
    pub(crate) paragraphs: Vec<String>,
    /// What it may fail with.
    pub(crate) errors: Option<String>,
}

/// The lines of a doc comment in a language. `names` are names of the core with another spelling there.
pub(crate) fn doc(lines: &[&str], language: Language, names: &[&str]) -> Doc {
    let mut paragraphs: Vec<String> = vec![String::new()];
    let mut errors = None;
    for line in lines.iter().map(|l| l.trim()) {
        match (line, &mut errors) {
            ("# Errors", _) => errors = Some(String::new()),
            (line, Some(text)) => join(text, line),
            ("", None) => paragraphs.push(String::new()),
            (line, None) => {
                if let Some(last) = paragraphs.last_mut() {
                    join(last, line);
                }
            }
        }
    }
    paragraphs.retain(|p| !p.is_empty());
    Doc {
        paragraphs: paragraphs.iter().map(|p| said(p, language, names)).collect(),
        errors: errors.map(|e| said(&classes(&e, language), language, names)),
    }
}

/// The text in one paragraph.
pub(crate) fn line(lines: &[&str], language: Language, names: &[&str]) -> String {
    doc(lines, language, names).paragraphs.join(" ")
}

fn join(text: &mut String, line: &str) {
    if !text.is_empty() && !line.is_empty() {
        text.push(' ');
    }
    text.push_str(line);
}

/// Kinds of errors by their classes.
fn classes(text: &str, language: Language) -> String {
    let mut out = text.to_owned();
    for kind in ErrorKind::ALL {
        let class =
            if language == Language::Python { kind.class().into() } else { format!("`{}`", kind.class()) };
        out = out.replace(&format!("`{kind:?}`"), &class);
    }
    out
}

fn said(text: &str, language: Language, names: &[&str]) -> String {
    let mut out = unlinked(text).replace("`JetStream`", "JetStream").replace("`NKey`", "NKey");
    match language {
        Language::Python => {
            out = out.replace("`true`", "`True`").replace("`false`", "`False`");
            out = out.replace("Default true", "Default True").replace("Default false", "Default False");
            out = out.replace("; true for", "; True for");
            // Single backticks mean something else in Python's docs.
            out.replace('`', "``")
        }
        Language::TypeScript => {
            for name in names.iter().filter(|n| n.contains('_')) {
                out = out.replace(&format!("`{name}`"), &format!("`{}`", camel_case(name)));
            }
            out
        }
        Language::Markdown => out,
    }
}

/// Rust's links as plain code: ``[`a`](b)`` and ``[`a`]`` as `` `a` ``.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[`") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let Some(end) = inner.find("`]") else { break };
        let code = &inner[..=end];
        let code = code
            .rsplit("::")
            .next()
            .map_or_else(String::new, |last| format!("`{}", last.trim_start_matches('`')));
        out.push_str(&code);
        rest = &inner[end + 2..];
        if rest.starts_with('(')
            && let Some(close) = rest.find(')')
        {
            rest = &rest[close + 1..];
        }
    }
    out.push_str(rest);
    out
}

/// Text in lines of at most `width`, each after `indent`, the first after `first`.
pub(crate) fn wrapped(text: &str, first: &str, indent: &str, width: usize) -> String {
    let mut out = String::from(first);
    let mut column = first.chars().count();
    let mut begun = false;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if begun && column + 1 + len > width {
            out.push('\n');
            out.push_str(indent);
            column = indent.chars().count();
        } else if begun {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
        begun = true;
    }
    out
}

/// A doc comment of TypeScript.
pub(crate) fn tsdoc(parts: &[String], indent: &str) -> String {
    let one = parts.len() == 1 && parts[0].chars().count() + indent.len() + 7 <= 120;
    if one {
        return format!("{indent}/** {} */\n", parts[0]);
    }
    let star = format!("{indent} * ");
    let body: Vec<_> = parts.iter().map(|p| wrapped(p, &star, &star, 120)).collect();
    // Tags follow one another; paragraphs have a line between them.
    let mut out = format!("{indent}/**\n");
    for (i, part) in body.iter().enumerate() {
        if i > 0 && !parts[i].starts_with('@') {
            out.push_str(indent);
            out.push_str(" *\n");
        }
        out.push_str(part);
        out.push('\n');
    }
    out + indent + " */\n"
}

/// A docstring of Python, with what must follow its paragraphs.
pub(crate) fn docstring(doc: &Doc, sections: &[(&str, Vec<String>)], indent: &str) -> String {
    let mut out = String::new();
    for (i, paragraph) in doc.paragraphs.iter().enumerate() {
        if i > 0 {
            out.push_str("\n\n");
        }
        let (first, width) = if i == 0 { (format!("{indent}\"\"\""), 117) } else { (indent.to_owned(), 120) };
        // A docstring begins with one line.
        let (summary, rest) =
            if i == 0 { split_summary(paragraph, 117 - indent.len() - 3) } else { (paragraph.as_str(), "") };
        out.push_str(&wrapped(summary, &first, indent, width));
        if !rest.is_empty() {
            out.push_str("\n\n");
            out.push_str(&wrapped(rest, indent, indent, 120));
        }
    }
    let mut sections: Vec<(&str, Vec<String>)> = sections.to_vec();
    if let Some(errors) = &doc.errors {
        sections.push(("Raises", vec![errors.clone()]));
    }
    let plain = sections.is_empty() && !out.trim_start().contains('\n');
    for (title, lines) in sections {
        let _ = write!(out, "\n\n{indent}{title}:");
        let deep = format!("{indent}    ");
        let deeper = format!("{deep}    ");
        for text in lines {
            out.push('\n');
            out.push_str(&wrapped(&text, &deep, &deeper, 120));
        }
    }
    if plain { out + "\"\"\"\n" } else { format!("{out}\n{indent}\"\"\"\n") }
}

/// The sentences of a paragraph that fit one line, and the rest.
fn split_summary(text: &str, room: usize) -> (&str, &str) {
    if text.chars().count() <= room {
        return (text, "");
    }
    let mut at = 0;
    for (i, _) in text.match_indices(". ") {
        if text[..=i].chars().count() <= room {
            at = i + 1;
        }
    }
    if at == 0 { (text, "") } else { (&text[..at], text[at..].trim_start()) }
}
