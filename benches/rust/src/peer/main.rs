//! async-nats, as its documentation shows it: the best a Rust client does, and what this package is built on.

mod consume;
mod journey;
mod publish;

use async_nats::{Client, ConnectOptions};
use harness::{Result, marks::Outcome, spec::Spec};

async fn connect(spec: &Spec) -> Result<Client> {
    Ok(ConnectOptions::new().connect(&spec.url).await?)
}

async fn work(spec: &Spec) -> Result<Outcome> {
    match spec.workload.as_str() {
        "core_publish" => publish::core(spec).await,
        "js_publish" => publish::stored(spec).await,
        "request" => publish::request(spec).await,
        "core_receive" => consume::core(spec).await,
        "js_consume" => consume::stored(spec).await,
        "js_fetch1" => consume::fetch_one(spec).await,
        "fan_out" => consume::fan_out(spec).await,
        "idle" => consume::idle(spec).await,
        "journey" => journey::journey(spec).await,
        "agent" => journey::agent(spec).await,
        other => Err(format!("the async-nats peer has no workload {other:?}").into()),
    }
}

fn main() -> Result<()> {
    let spec = Spec::from_args()?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if spec.workers > 0 {
        runtime.worker_threads(spec.workers);
    }
    let runtime = runtime.enable_all().build()?;
    let outcome = runtime.block_on(async { tokio::spawn(async move { work(&spec).await }).await? })?;
    harness::tell(&outcome)?;
    // What still runs, runs for nobody.
    runtime.shutdown_background();
    Ok(())
}
