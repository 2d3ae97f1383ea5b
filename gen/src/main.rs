//! Writes the generated files of both bindings, and the reference of `docs`, from the tables of the core.
//!
//! `make gen` formats them afterwards; `make gen-check` fails when one of them is not current.

mod docs;
mod python;
mod reference;
mod typescript;

use nats_eventbus::host::{call::Noun, schema::Type};
use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = python::files().into_iter().chain(typescript::files()).chain(reference::files());
    for (path, text) in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

/// Fields that distinguish a noun from others of its kind.
fn naming(noun: &str) -> &'static [&'static str] {
    match noun {
        "DeadLetter" => &["topic", "group", "sequence", "attempts", "reason"],
        "KvEntry" => &["key", "revision", "operation"],
        _ => &[],
    }
}

/// What a noun is, for its class.
fn noun_doc(name: &str) -> &'static str {
    match name {
        "Bus" => "The rare calls of a bus.",
        "Stream" => "A stream by name. A bus makes it.",
        "Kv" => "A key-value bucket. A bus opens it.",
        "KvWatch" => "Entries of a bucket, one after another. It ends with its bus.",
        "KvEntry" => "One value of a key, or the sign that there is none any more.",
        "DeadLetters" => "The dead letters of a topic and a group; iterate them, oldest first.",
        "DeadLetterCursor" => "The dead letters there were when the listing began, oldest first.",
        _ => "A message that could not be handled, and why.",
    }
}

/// What a noun gives one after another, if it does.
fn item_of(noun: &Noun) -> Option<&'static str> {
    match noun.calls.iter().find(|c| c.name == "next")?.returns {
        Type::Option(Type::Handle(item)) => Some(item),
        _ => None,
    }
}

/// A file's path in the repository, and its text.
type File = (String, String);
