//! Writes the table of ways to sign in, with all it needs, into a folder: `cargo run -p test-credentials -- FOLDER`.
#![allow(clippy::expect_used)] // its output is a test's input: it fails loudly

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder to write to");
    test_credentials::write_table(folder.as_ref());
}
