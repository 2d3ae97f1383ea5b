//! Python values to the core's: bodies, send options, settings, times.

use crate::errors::raise;
use nats_eventbus::{
    Error, ErrorKind, SendOptions,
    duration::Unit,
    host::{schema::Typed, settings},
};
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

/// bytes-like as it is, str as UTF-8, anything else as JSON, or as the encoder given has it.
pub(crate) fn body<'a>(value: &'a Bound<'_, PyAny>, encoder: Option<&Py<PyAny>>) -> PyResult<Body<'a>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Body::Borrowed(bytes.as_bytes()));
    }
    let py = value.py();
    let mut encoder = encoder;
    if let Ok(text) = value.cast::<PyString>() {
        if let Ok(text) = text.to_cow() {
            return Ok(Body::Owned(text.into_owned().into_bytes()));
        }
        // Half of a surrogate pair has no UTF-8: our own encoder says where.
        encoder = None;
    } else if let Ok(buffer) = PyBuffer::<u8>::get(value)
        && buffer.dimensions() == 1
    {
        // Not a number of numpy's, nor an array with a shape.
        return Ok(Body::Owned(buffer.to_vec(py)?));
    }
    let encode = match encoder {
        Some(encode) => encode,
        None => ENCODE.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("nats_eventbus._json")?.getattr("encode")?.unbind())
        })?,
    };
    Ok(Body::Owned(encode.bind(py).call1((value,))?.cast::<PyBytes>()?.as_bytes().to_vec()))
}

static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A body decoded as JSON; integers are exact.
pub(crate) fn loads<'py>(body: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
    loader(body.py())?.call1((body,))
}

fn loader(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    let loads = LOADS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("json")?.getattr("loads")?.unbind()));
    Ok(loads?.bind(py))
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
#[derive(Clone, Copy, Default)]
pub(crate) struct Extras<'a, 'py> {
    pub(crate) key: Option<&'a Bound<'py, PyAny>>,
    pub(crate) id: Option<&'a Bound<'py, PyAny>>,
    pub(crate) headers: Option<&'a Bound<'py, PyAny>>,
    pub(crate) ttl: Option<&'a Bound<'py, PyAny>>,
    pub(crate) last: Option<&'a Bound<'py, PyAny>>,
    pub(crate) of_topic: Option<&'a Bound<'py, PyAny>>,
}

const LAST: &str = "expected_last_sequence";
const OF_TOPIC: &str = "expected_last_subject_sequence";

impl<'py> Extras<'_, 'py> {
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
        Ok(SendOptions {
            key: self.key.map(|v| text(v, "key")).transpose()?,
            id: self.id.map(|v| text(v, "id")).transpose()?,
            headers: self.headers.map(headers).transpose()?.unwrap_or_default(),
            ttl: self.ttl.map(|t| time(t, "ttl")).transpose()?,
            expected_last_sequence: self.last.map(|v| sequence(v, LAST)).transpose()?,
            expected_last_subject_sequence: self.of_topic.map(|v| sequence(v, OF_TOPIC)).transpose()?,
        })
    }

    /// The arguments by name, for the same call made later.
    pub(crate) fn named(self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let named = PyDict::new(py);
        let all = [
            ("key", self.key),
            ("id", self.id),
            ("headers", self.headers),
            ("ttl", self.ttl),
            (LAST, self.last),
            (OF_TOPIC, self.of_topic),
        ];
        for (name, given) in all {
            if let Some(value) = given {
                named.set_item(name, value)?;
            }
        }
        Ok(named)
    }
}

fn text(given: &Bound<'_, PyAny>, name: &str) -> PyResult<String> {
    given.extract().map_err(|_| wrong(given, name, "a string that UTF-8 can hold"))
}

fn sequence(given: &Bound<'_, PyAny>, name: &str) -> PyResult<u64> {
    given.extract().map_err(|_| wrong(given, name, "an integer from 0 on"))
}

fn wrong(given: &Bound<'_, PyAny>, name: &str, want: &str) -> PyErr {
    let class = given.get_type().name().map_or_else(|_| "object".to_owned(), |n| n.to_string());
    let text = format!("{name}: give {want}; this {class} is not one");
    raise(given.py(), &Error::new(ErrorKind::InvalidHeader, text))
}

static PAIRS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A dict of strings as it is; anything else is taken, or refused, by `_headers.py`.
fn headers(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    if let Ok(dict) = given.cast::<PyDict>() {
        let strings = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Some((name.extract::<String>().ok()?, value.extract::<String>().ok()?))
        };
        if let Some(all) = dict.iter().map(strings).collect() {
            return Ok(all);
        }
    }
    let py = given.py();
    let pairs = PAIRS.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("nats_eventbus._headers")?.getattr("pairs")?.unbind())
    })?;
    pairs.bind(py).call1((given,))?.extract()
}

/// Keyword arguments as the core's settings, unknown names refused there.
pub(crate) fn config<T: Typed + serde::de::DeserializeOwned>(
    kwargs: Option<&Bound<'_, PyDict>>,
    py: Python<'_>,
) -> PyResult<T> {
    settings(json_object(kwargs)?, Unit::Seconds).map_err(|e| raise(py, &e))
}

/// Keyword arguments as JSON.
pub(crate) fn json_object(kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Value> {
    let Some(kwargs) = kwargs else { return Ok(Value::Null) };
    let py = kwargs.py();
    let mut all = serde_json::Map::new();
    for (name, value) in kwargs.iter() {
        let name: String = name.extract()?;
        let wrong = |e: PyErr| raise(py, &Error::new(ErrorKind::Config, format!("{name}: {}", e.value(py))));
        let value = json(&value).map_err(wrong)?;
        all.insert(name, value);
    }
    Ok(Value::Object(all))
}

/// JSON text as Python has it.
pub(crate) fn from_json<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    loader(py)?.call1((text,))
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

/// Headers received, as Python has them.
pub(crate) fn received_headers<'py>(py: Python<'py>, all: Vec<(&str, &str)>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("nats_eventbus._headers")?.getattr("MessageHeaders")?.unbind())
    })?;
    class.bind(py).call1((all,))
}
