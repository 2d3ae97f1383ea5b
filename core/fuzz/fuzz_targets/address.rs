#![no_main]
//! No address may panic, or tell the secret that stands in it: three parts, between them the user and the secret.

use libfuzzer_sys::fuzz_target;
use nats_eventbus::fuzzing;

fuzz_target!(|parts: (&str, &str, &str)| fuzzing::address(parts.0, parts.1, parts.2));
