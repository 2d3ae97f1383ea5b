//! The Python binding: converts, wakes, and hands over. All behaviour is in the core.
//!
//! `bridge`: one mailbox per event loop, `waking`: how it wakes the loop; `bridges`: those of a bus; `ready`, `future`,
//! `awaitable`: what calls return; `letter`: what a result becomes; `handle`: the rare call; one file per noun besides.

// pyo3's signatures need values by reference or owned where clippy would have it otherwise.
#![allow(missing_docs, clippy::needless_pass_by_value, clippy::unnecessary_wraps, clippy::missing_panics_doc)]

mod ack;
mod awaitable;
mod bridge;
mod bridges;
mod bus;
mod consumer;
mod convert;
mod errors;
mod events;
mod future;
mod handle;
mod later;
mod letter;
mod message;
mod producer;
mod question;
mod ready;
mod settled;
mod waking;

// Loops share their bridges, and a forked child finds those unlocked, because every thread that uses them has the interpreter's
// lock: free-threaded builds are to turn it on.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    use super::{convert, errors, message, ready};
    use pyo3::{prelude::*, types::PyDict};

    #[pymodule_export]
    use super::{
        ack::PubAck,
        bus::{Bus, connect},
        consumer::Consumer,
        events::Events,
        handle::Handle,
        message::Message,
        producer::Producer,
        question::Question,
        settled::Settled,
    };

    /// Builds a topic from tokens.
    #[pyfunction]
    #[pyo3(signature = (*tokens))]
    fn topic(py: Python<'_>, tokens: Vec<String>) -> PyResult<String> {
        nats_eventbus::topic(&tokens).map_err(|e| errors::raise(py, &e))
    }

    /// A time as settings have it, in seconds.
    #[pyfunction]
    fn seconds(value: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
        convert::time(value, name).map(|t| t.as_secs_f64())
    }

    /// Called by the interpreter in every forked child.
    #[pyfunction]
    fn forked() {
        nats_eventbus::runtime::forked();
    }

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        let _ = ready::HAND_OUT_AGAIN.set(message::hand_out_again);
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        // Not where there is no fork.
        if let Some(register) = m.py().import("os")?.getattr_opt("register_at_fork")? {
            let told = PyDict::new(m.py());
            told.set_item("after_in_child", m.getattr("forked")?)?;
            register.call((), Some(&told))?;
        }
        Ok(())
    }
}
