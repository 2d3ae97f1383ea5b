//! Many messages as one buffer and one table of numbers, read lazily by `ts/message.ts`.

use crate::convert;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use nats_eventbus::Delivery;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Numbers per message; `ts/message.ts` knows them by the same places.
const STRIDE: usize = 12;
/// A body above this gets a buffer of its own, so that keeping one message does not keep the whole pack.
const LARGE: usize = 16 * 1024;

/// Many messages.
#[napi(object)]
pub struct Pack {
    /// Topics, headers (as JSON) and bodies.
    pub data: Buffer,
    /// Per message: topic start and end, headers start, body start and end, place in `large` or -1, the token's
    /// halves, attempt, sequence, time in milliseconds (NaN where there is none), failures.
    pub meta: Float64Array,
    /// Bodies too large for `data`.
    pub large: Vec<Buffer>,
}

pub(crate) fn pack(deliveries: &[Delivery]) -> Pack {
    let size =
        deliveries.iter().map(|d| d.topic.len() + small(d) + 96 * usize::from(d.headers.is_some())).sum();
    let mut data: Vec<u8> = Vec::with_capacity(size);
    let mut meta = Vec::with_capacity(deliveries.len() * STRIDE);
    let mut large: Vec<Buffer> = Vec::new();
    let mut topic: Option<(&str, usize)> = None;
    for d in deliveries {
        // A run of one topic is stored once.
        let topic_start = match topic {
            Some((last, start)) if last == d.topic.as_str() => start,
            _ => {
                data.extend_from_slice(d.topic.as_bytes());
                data.len() - d.topic.len()
            }
        };
        topic = Some((d.topic.as_str(), topic_start));
        let headers_start = data.len();
        if d.headers.is_some() && serde_json::to_writer(&mut data, &Head(d)).is_err() {
            data.truncate(headers_start);
        }
        let body_start = data.len();
        let mut place = -1.0;
        if d.body.len() > LARGE {
            place = large.len() as f64;
            large.push(d.body.to_vec().into());
        } else {
            data.extend_from_slice(&d.body);
        }
        let (low, high) = convert::halves(d.token);
        let m = d.meta.as_ref();
        meta.extend([
            topic_start as f64,
            (topic_start + d.topic.len()) as f64,
            headers_start as f64,
            body_start as f64,
            data.len() as f64,
            place,
            f64::from(low),
            f64::from(high),
            d.attempt() as f64,
            m.map_or(f64::NAN, |m| m.sequence as f64),
            m.map_or(f64::NAN, |m| m.timestamp_ns as f64 / 1e6),
            d.failures as f64,
        ]);
    }
    Pack { data: data.into(), meta: meta.into(), large }
}

fn small(d: &Delivery) -> usize {
    if d.body.len() > LARGE { 0 } else { d.body.len() }
}

/// Key, id and headers of a message, as JSON.
struct Head<'a>(&'a Delivery);

impl Serialize for Head<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        if let Some(key) = self.0.key() {
            map.serialize_entry("key", key)?;
        }
        if let Some(id) = self.0.id() {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("headers", &Headers(self.0))?;
        if self.0.headers.iter().flat_map(|h| h.iter()).any(|(_, values)| values.len() > 1) {
            map.serialize_entry("repeated", &Repeated(self.0))?;
        }
        map.end()
    }
}

/// All values of those headers that have several.
struct Repeated<'a>(&'a Delivery);

impl Serialize for Repeated<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for (name, values) in self.0.headers.iter().flat_map(|h| h.iter()).filter(|(_, v)| v.len() > 1) {
            let all: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
            map.serialize_entry::<str, _>(name.as_ref(), &all)?;
        }
        map.end()
    }
}

/// Headers; of a repeated one the first value.
struct Headers<'a>(&'a Delivery);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for (name, values) in self.0.headers.iter().flat_map(|h| h.iter()) {
            if let Some(value) = values.first() {
                map.serialize_entry::<str, str>(name.as_ref(), value.as_str())?;
            }
        }
        map.end()
    }
}
