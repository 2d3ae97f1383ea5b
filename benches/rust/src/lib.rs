//! What the limit program and the async-nats peer share: what to run, how it is measured, how it is told.

pub mod latency;
pub mod marks;
pub mod spec;

/// Any error ends the program with its text.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The result of anything here.
pub type Result<T> = std::result::Result<T, Failure>;

/// Tells the runner that the other side may start.
pub fn ready() {
    println!("{{\"ready\":true}}");
}

/// Runs the program named in the first argument's JSON and prints what it measured.
pub fn tell(outcome: &marks::Outcome) -> Result<()> {
    println!("{}", serde_json::to_string(outcome)?);
    Ok(())
}
