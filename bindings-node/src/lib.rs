//! The Node.js binding: conversions and waking. All behaviour is the core's; the public classes are in `ts/`.
//!
//! - `bridge`: how results reach the event loop; `pack`: how messages do
//! - `bus`, `producer`, `consumer`, `dead_letters`, `responder`, `stream`: one file per noun
//! - `convert`, `errors`: values and failures across the border
#![allow(clippy::needless_pass_by_value)] // napi hands over owned values

mod bridge;
mod bus;
mod consumer;
mod convert;
mod errors;
mod events;
mod handle;
mod pack;
mod producer;
mod responder;
mod results;
