//! Python values to the core's: bodies, send options, settings, times.

use crate::errors::raise;
use nats_eventbus::{Error, ErrorKind, SendOptions, duration::Unit, from_host, settings};
use pyo3::{
    buffer::PyBuffer,
    exceptions::PyTypeError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple},
};
use serde_json::Value;
use std::time::Duration;

/// A body on its way out: borrowed where Python's own bytes can be read, owned otherwise.
pub(crate) enum Body<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl AsRef<[u8]> for Body<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Borrowed(b) => b,
            Self::Owned(v) => v,
        }
    }
}

static ENCODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// bytes-like as it is, str as UTF-8, anything else as JSON.
pub(crate) fn body<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Body<'a>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Body::Borrowed(bytes.as_bytes()));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Body::Owned(text.to_cow()?.into_owned().into_bytes()));
    }
    let py = value.py();
    if let Ok(buffer) = PyBuffer::<u8>::get(value) {
        return Ok(Body::Owned(buffer.to_vec(py)?));
    }
    let encode = ENCODE.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("nats_eventbus._json")?.getattr("encode")?.unbind())
    })?;
    Ok(Body::Owned(encode.bind(py).call1((value,))?.cast::<PyBytes>()?.as_bytes().to_vec()))
}

static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A body decoded as JSON; integers are exact.
pub(crate) fn loads<'py>(body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    let py = body.py();
    let loads =
        LOADS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("json")?.getattr("loads")?.unbind()))?;
    loads.bind(py).call1((body,))
}

/// A UTC datetime of Unix nanoseconds.
pub(crate) fn datetime(py: Python<'_>, ns: i64) -> PyResult<Bound<'_, PyAny>> {
    let datetime = py.import("datetime")?;
    let utc = datetime.getattr("timezone")?.getattr("utc")?;
    let (seconds, micros) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) / 1000);
    let at = datetime.getattr("datetime")?.call_method1("fromtimestamp", (seconds, utc))?;
    let micro = PyDict::new(py);
    micro.set_item("microsecond", micros)?;
    at.call_method("replace", (), Some(&micro))
}

/// Seconds as a number, or a `timedelta`, or a string such as "30s".
pub(crate) fn time(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Duration> {
    let wrong = |e: String| raise(value.py(), &Error::new(ErrorKind::Config, format!("{name}: {e}")));
    if let Ok(text) = value.cast::<PyString>() {
        return nats_eventbus::duration::parse(&text.to_cow()?).map_err(wrong);
    }
    let seconds: f64 = match value.getattr_opt("total_seconds")? {
        Some(method) => method.call0()?.extract()?,
        None => value.extract().map_err(|_| wrong("give seconds, or a timedelta".into()))?,
    };
    nats_eventbus::duration::from_number(seconds, Unit::Seconds).map_err(wrong)
}

/// What may go with a body, as it was given.
#[derive(Default)]
pub(crate) struct Extras<'a, 'py> {
    pub(crate) key: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) headers: Option<&'a Bound<'py, PyDict>>,
    pub(crate) ttl: Option<&'a Bound<'py, PyAny>>,
    pub(crate) last: Option<u64>,
    pub(crate) of_topic: Option<u64>,
}

impl Extras<'_, '_> {
    /// Whether nothing goes with the body.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_none()
            && self.id.is_none()
            && self.headers.is_none()
            && self.ttl.is_none()
            && self.last.is_none()
            && self.of_topic.is_none()
    }

    pub(crate) fn options(self) -> PyResult<SendOptions> {
        let mut headers = Vec::new();
        for (name, value) in self.headers.into_iter().flat_map(pyo3::types::PyDictMethods::iter) {
            let text = |v: &Bound<'_, PyAny>| {
                v.extract::<String>().map_err(|_| PyTypeError::new_err("headers are a dict of str to str"))
            };
            headers.push((text(&name)?, text(&value)?));
        }
        Ok(SendOptions {
            key: self.key,
            id: self.id,
            headers,
            ttl: self.ttl.map(|t| time(t, "ttl")).transpose()?,
            expected_last_sequence: self.last,
            expected_last_subject_sequence: self.of_topic,
        })
    }
}

/// Keyword arguments as the core's settings, unknown names refused there.
pub(crate) fn config<T: serde::de::DeserializeOwned>(
    kwargs: Option<&Bound<'_, PyDict>>,
    py: Python<'_>,
) -> PyResult<T> {
    settings(json_settings(kwargs)?).map_err(|e| raise(py, &e))
}

/// Keyword arguments as JSON, times in seconds.
pub(crate) fn json_settings(kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Value> {
    let Some(kwargs) = kwargs else { return Ok(Value::Null) };
    let value = json(kwargs.as_any())?;
    from_host(value, Unit::Seconds).map_err(|e| raise(kwargs.py(), &e))
}

pub(crate) fn json(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(b.is_true().into());
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(value.extract::<i64>()?.into());
    }
    if value.is_instance_of::<PyFloat>() {
        // NaN and infinity have no JSON; as text they are refused with the setting's name.
        let f: f64 = value.extract()?;
        return Ok(serde_json::Number::from_f64(f).map_or_else(|| f.to_string().into(), Value::Number));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_cow()?.into_owned().into());
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let pairs = dict.iter().map(|(k, v)| Ok((k.extract::<String>()?, json(&v)?)));
        return Ok(Value::Object(pairs.collect::<PyResult<_>>()?));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        return Ok(Value::Array(value.try_iter()?.map(|v| json(&v?)).collect::<PyResult<_>>()?));
    }
    if let Some(method) = value.getattr_opt("total_seconds")? {
        return json(&method.call0()?);
    }
    // Backoff, Tls: dataclasses that know their settings; os.PathLike: its path.
    for name in ["_settings", "__fspath__"] {
        if let Some(method) = value.getattr_opt(name)? {
            return json(&method.call0()?);
        }
    }
    Err(PyTypeError::new_err(format!("a setting cannot be a {}", value.get_type().name()?)))
}
