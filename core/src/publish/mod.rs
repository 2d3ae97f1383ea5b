//! Sending: the producer, and the pipeline behind all producers of a bus.

pub(crate) mod pipeline;
mod producer;
mod send_many;
mod target;

pub(crate) use pipeline::Pipeline;
pub use producer::Producer;
pub(crate) use target::Declares;
