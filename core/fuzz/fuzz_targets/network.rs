#![no_main]
//! Nothing a server, a peer or a host sends may panic: the first byte chooses the parser, the rest is its input.

use libfuzzer_sys::fuzz_target;
use nats_eventbus::fuzzing;

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match which % 6 {
        0 => fuzzing::answer(None, rest),
        1 => fuzzing::status(u16::from(*which) * 7, &text),
        2 => fuzzing::ack_subject(&format!("$JS.ACK.{text}")),
        3 => fuzzing::headers(rest),
        4 => {
            let half = text.char_indices().nth(text.chars().count() / 2).map_or(0, |(i, _)| i);
            fuzzing::topics(&text[..half], &text[half..]);
        }
        _ => fuzzing::settings(&text),
    }
});
