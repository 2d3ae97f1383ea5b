//! Results that are there already, handed to `await` without an exception.
//!
//! A coroutine's end is a `StopIteration`, and making one takes longer than all the rest of a send. `await` takes a value
//! without one from a type that has `am_send`, a slot that pyo3 does not know: hence a type made by hand, with the only
//! unsafe code of this package. Everything here runs with the interpreter's lock held.
#![allow(unsafe_code)]

use crate::errors::thrown;
use pyo3::{
    exceptions::{PyBaseException, PyStopIteration},
    ffi,
    prelude::*,
    sync::PyOnceLock,
    types::{PyTuple, PyType},
};
use std::{
    ffi::{CStr, c_int, c_uint, c_void},
    mem, ptr,
    sync::OnceLock,
};

/// An awaitable whose result is there: a message, once, and `None` from then on.
#[repr(C)]
struct Ready {
    head: ffi::PyObject,
    /// A message, owned; null for `None`.
    value: *mut ffi::PyObject,
    /// Whether the loop has a turn first.
    turn: bool,
}

/// What becomes of a value that was never looked at; set when the module is loaded.
pub(crate) static HAND_OUT_AGAIN: OnceLock<fn(&Bound<'_, PyAny>)> = OnceLock::new();

const DOC: &CStr = c"An awaitable whose result is there.";

static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The awaitable that gives `None`, shared by all who need it.
pub(crate) fn none(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let none = NONE.get_or_try_init(py, || make(py, ptr::null_mut(), false).map(Bound::unbind))?;
    Ok(none.bind(py).clone())
}

/// One that gives a message; with `turn` the loop's other work comes first, once.
pub(crate) fn message(py: Python<'_>, m: Py<PyAny>, turn: bool) -> PyResult<Bound<'_, PyAny>> {
    make(py, m.into_ptr(), turn)
}

/// Ends an iteration with a value: what a `__next__` returns.
pub(crate) fn end<T>(value: Bound<'_, PyAny>) -> PyResult<Option<T>> {
    // An iterator that ends without a word ends with `None`.
    if value.is_none() {
        return Ok(None);
    }
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        return Err(PyStopIteration::new_err((value.unbind(),)));
    }
    // SAFETY: both are alive. The exception that is set goes with the null pointer that pyo3 returns for `None`.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    Ok(None)
}

/// Takes over the reference to `value`.
fn make(py: Python<'_>, value: *mut ffi::PyObject, turn: bool) -> PyResult<Bound<'_, PyAny>> {
    let ready = TYPE.get_or_try_init(py, || new_type(py))?;
    // SAFETY: the type is ours, so what it allocates, zeroed, is a `Ready`.
    unsafe {
        let this = ffi::PyType_GenericAlloc(ready.as_ptr().cast(), 0);
        let this = Bound::from_owned_ptr_or_err(py, this)?;
        let fields = &mut *this.as_ptr().cast::<Ready>();
        (fields.value, fields.turn) = (value, turn);
        Ok(this)
    }
}

fn new_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    let method = |name: &'static CStr, f, flags| ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: f },
        ml_flags: flags,
        ml_doc: ptr::null(),
    };
    // The type points to them for as long as it lives.
    let methods = Box::leak(Box::new([
        method(c"send", send, ffi::METH_O),
        method(c"throw", throw, ffi::METH_VARARGS),
        method(c"close", close, ffi::METH_NOARGS),
        ffi::PyMethodDef::zeroed(),
    ]));
    let slot = |slot, f: *const c_void| ffi::PyType_Slot { slot, pfunc: f.cast_mut() };
    let mut slots = [
        slot(ffi::Py_am_await, itself as *const c_void),
        slot(ffi::Py_am_send, am_send as *const c_void),
        slot(ffi::Py_tp_iter, itself as *const c_void),
        slot(ffi::Py_tp_iternext, next as *const c_void),
        slot(ffi::Py_tp_repr, repr as *const c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *const c_void),
        slot(ffi::Py_tp_methods, methods.as_ptr().cast()),
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast()),
        ffi::PyType_Slot::default(),
    ];
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: c"nats_eventbus._native.Ready".as_ptr(),
        basicsize: c_int::try_from(size_of::<Ready>())?,
        itemsize: 0,
        flags: c_uint::try_from(flags)?,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: names, methods and functions live for ever, and each function has its slot's signature.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyType_FromSpec(&raw mut spec))? };
    Ok(made.cast_into::<PyType>()?.unbind())
}

/// What is left of the result, for good: a new reference, to `None` where there is nothing.
///
/// # Safety
/// `this` is a `Ready`.
unsafe fn take(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe {
        let value = mem::replace(&mut (*this.cast::<Ready>()).value, ptr::null_mut());
        if value.is_null() { new_ref(ffi::Py_None()) } else { value }
    }
}

unsafe fn new_ref(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn itself(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe { new_ref(this) }
}

unsafe extern "C" fn am_send(
    this: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    unsafe {
        if mem::take(&mut (*this.cast::<Ready>()).turn) {
            *result = new_ref(ffi::Py_None());
            return ffi::PySendResult::PYGEN_NEXT;
        }
        *result = take(this);
    }
    ffi::PySendResult::PYGEN_RETURN
}

/// For iteration by hand.
unsafe extern "C" fn next(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let mut result = ptr::null_mut();
    unsafe {
        if am_send(this, ptr::null_mut(), &raw mut result) == ffi::PySendResult::PYGEN_NEXT {
            return result;
        }
        // Never a tuple or an exception, which would be taken for arguments, or for itself.
        ffi::PyErr_SetObject(ffi::PyExc_StopIteration, result);
        ffi::Py_DECREF(result);
    }
    ptr::null_mut()
}

unsafe extern "C" fn send(this: *mut ffi::PyObject, _value: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe { next(this) }
}

unsafe extern "C" fn throw(this: *mut ffi::PyObject, args: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this, with a tuple.
    unsafe {
        let py = Python::assume_attached();
        untaken(py, this);
        thrown(Bound::from_borrowed_ptr(py, args).cast_unchecked::<PyTuple>()).restore(py);
    }
    ptr::null_mut()
}

unsafe extern "C" fn close(this: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe {
        untaken(Python::assume_attached(), this);
        new_ref(ffi::Py_None())
    }
}

unsafe extern "C" fn repr(_this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    unsafe { ffi::PyUnicode_FromString(c"<nats_eventbus awaitable, done>".as_ptr()) }
}

unsafe extern "C" fn dealloc(this: *mut ffi::PyObject) {
    unsafe {
        untaken(Python::assume_attached(), this);
        let of = ffi::Py_TYPE(this);
        ffi::PyObject_Free(this.cast());
        ffi::Py_DECREF(of.cast());
    }
}

/// Cancelled before it was awaited, or never awaited: its unseen message is handed out again.
///
/// # Safety
/// `this` is a `Ready`.
unsafe fn untaken(py: Python<'_>, this: *mut ffi::PyObject) {
    // SAFETY: what is taken is owned here.
    let value = unsafe { Bound::from_owned_ptr(py, take(this)) };
    if let Some(hand_out_again) = HAND_OUT_AGAIN.get() {
        hand_out_again(&value);
    }
}
