//! What the server itself can do: a blocking socket, ready-made frames, the least parsing there can be.
//!
//! The same program is the neutral other side of every run: flood, loader, responder, pacer.

mod core;
mod jetstream;
mod neutral;
mod wire;

use harness::{Result, spec::Spec};

fn main() -> Result<()> {
    let spec = Spec::from_args()?;
    match spec.workload.as_str() {
        "core_publish" => harness::tell(&core::publish(&spec)?),
        "core_receive" => harness::tell(&core::receive(&spec)?),
        "request" => harness::tell(&core::request(&spec)?),
        "js_publish" => harness::tell(&jetstream::publish(&spec)?),
        "js_consume" => harness::tell(&jetstream::consume(&spec)?),
        "js_fetch1" => harness::tell(&jetstream::fetch_one(&spec)?),
        "flood" => neutral::flood(&spec),
        "load" => neutral::load(&spec),
        "respond" => neutral::respond(&spec),
        "pace" => neutral::pace(&spec),
        other => Err(format!("the limit program has no workload {other:?}").into()),
    }
}
