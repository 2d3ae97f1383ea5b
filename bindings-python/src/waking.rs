//! How an event loop is woken to drain its mailbox: by an eventfd that it watches, which needs no interpreter's lock; a
//! loop without readers by `call_soon_threadsafe`.

use nats_eventbus::host::Mailbox;
#[cfg(target_os = "linux")]
use pyo3::exceptions::PyNotImplementedError;
use pyo3::{prelude::*, types::PyCFunction};
#[cfg(target_os = "linux")]
use rustix::event::{EventfdFlags, eventfd};
#[cfg(target_os = "linux")]
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

/// What a loop watches to be woken.
#[cfg(target_os = "linux")]
pub(crate) type Watched = Option<Arc<OwnedFd>>;
#[cfg(not(target_os = "linux"))]
pub(crate) type Watched = Option<()>;

/// What is woken.
pub(crate) trait Woken: Send + Sync {
    /// Whether this process made it.
    fn is_ours(&self) -> bool;
    /// The loop was woken.
    fn drain(&self, py: Python<'_>) -> PyResult<()>;
    /// The loop is closed.
    fn retire(&self);
}

/// Where what is woken is known before it is made.
pub(crate) type Slot<W> = Arc<OnceLock<Weak<W>>>;

/// It, if it is there and this process's.
pub(crate) fn woken<W: Woken>(slot: &Slot<W>) -> Option<Arc<W>> {
    slot.get().and_then(Weak::upgrade).filter(|b| b.is_ours())
}

/// Held by the callback of a reader, which a loop lets go of when it is closed.
#[cfg(target_os = "linux")]
struct Reader<W: Woken>(Slot<W>);

#[cfg(target_os = "linux")]
impl<W: Woken> Drop for Reader<W> {
    fn drop(&mut self) {
        if let Some(bridge) = woken(&self.0) {
            bridge.retire();
        }
    }
}

/// A mailbox that has the loop drain it.
pub(crate) fn mailbox<W: Woken + 'static>(
    event_loop: &Bound<'_, PyAny>,
    slot: Slot<W>,
) -> PyResult<(Arc<Mailbox>, Watched)> {
    let py = event_loop.py();
    #[cfg(target_os = "linux")]
    if event_loop.getattr_opt("add_reader")?.is_some()
        && let Ok(fd) = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
    {
        let (number, fd) = (fd.as_raw_fd(), Arc::new(fd));
        let wake = fd.clone();
        let mailbox = Mailbox::new(move || {
            // The only failure is a full counter, which means that the loop is woken already.
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        });
        // The callback holds the descriptor: it stays open for as long as the loop watches it.
        let (watched, reader) = (fd.clone(), Reader(slot.clone()));
        let drain = PyCFunction::new_closure(py, None, None, move |args, _| {
            let Some(bridge) = woken(&reader.0) else { return Ok(()) };
            let _ = rustix::io::read(&*watched, &mut [0u8; 8]);
            bridge.drain(args.py())
        })?;
        match event_loop.call_method1("add_reader", (number, drain)) {
            Ok(_) => return Ok((mailbox, Some(fd))),
            // asyncio's base class has the method, and loops that cannot watch leave it at that.
            Err(e) if e.is_instance_of::<PyNotImplementedError>(py) => {}
            Err(e) => return Err(e),
        }
    }
    let drain = PyCFunction::new_closure(py, None, None, move |args, _| {
        woken(&slot).map_or(Ok(()), |b| b.drain(args.py()))
    })?
    .unbind();
    let call = event_loop.getattr("call_soon_threadsafe")?.unbind();
    let mailbox = Mailbox::new(move || {
        // No interpreter, or a closed loop: there is nothing to wake.
        let _ = Python::try_attach(|py| call.call1(py, (&drain,)).map(drop));
    });
    Ok((mailbox, None))
}

/// The loop need not watch it any more.
#[cfg(target_os = "linux")]
pub(crate) fn unwatch(event_loop: &Py<PyAny>, fd: &OwnedFd) {
    let number = fd.as_raw_fd();
    // Removing a reader is the loop thread's business; a closed loop refuses, having dropped it already.
    let _ = Python::try_attach(|py| {
        let remove = event_loop.getattr(py, "remove_reader")?;
        event_loop.call_method1(py, "call_soon_threadsafe", (remove, number)).map(drop)
    });
}
