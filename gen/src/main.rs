//! Writes the generated files of both bindings, and the reference of `docs`, from the tables of the core.
//!
//! `make gen` formats them afterwards; `make gen-check` fails when one of them is not current.

mod docs;
mod python;
mod reference;
mod typescript;

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

/// Fields by which a noun is told from others of its kind.
const NAMING: [&str; 5] = ["topic", "group", "sequence", "attempts", "reason"];

/// A file's path in the repository, and its text.
type File = (String, String);
