//! The core against real servers, through its Rust API. One binary, so that it is linked once.
//!
//! What reads the log of the whole process has a binary of its own: `errors`, `secrets`, `sign_in`.

mod support;

mod answers;
mod attempts;
mod auth;
mod bad_input;
mod bus;
mod connection;
mod consuming;
mod credentials;
mod dead_letters;
mod durables;
mod handlers;
mod health;
mod kv;
mod leaving;
mod limits;
mod local;
mod lost_streams;
mod operators;
mod order;
mod outcomes;
mod permissions;
mod publishing;
mod reconnecting;
mod running;
mod sending;
mod servers;
mod servers_own;
mod sharing;
mod streams;
mod tls;
mod websockets;
