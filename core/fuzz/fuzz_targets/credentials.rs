#![no_main]
//! No credentials file may panic, or be told in an error.

use libfuzzer_sys::fuzz_target;
use nats_eventbus::fuzzing;

fuzz_target!(|text: &str| fuzzing::credentials(text));
