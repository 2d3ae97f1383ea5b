//! Request and reply: asking, answering, and how a responder's failure reaches the asker.
//!
//! A failure travels as the headers of the NATS service convention, so that other clients understand it.

use crate::{
    bus::shared::Shared,
    error::{Error, ErrorKind, Result},
    host::mailbox::Completion,
    message::{Delivery, SendOptions, checked_headers},
};
use async_nats::{HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Deserialize;
use std::{str::FromStr, sync::Arc, time::Duration};

const ERROR_TEXT: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// A failure's text longer than this is cut: it travels in a header.
const LONGEST_TEXT: usize = 2048;

impl Shared {
    pub(crate) fn start_request(
        &self,
        topic: &str,
        body: &[u8],
        options: &SendOptions,
        timeout: Duration,
        done: Completion,
    ) -> Result<()> {
        crate::topic::check_publish(topic)?;
        if timeout.is_zero() {
            return Err(Error::config("timeout is 0: give a time above 0").topic(topic));
        }
        let headers = checked_headers(options).map_err(|e| e.topic(topic))?;
        let (size, limit) =
            (body.len() + crate::message::headers_len(headers.as_ref(), None), self.client.max_payload());
        if size > limit && limit > 0 {
            let text = format!(
                "the request has {size} bytes with its headers; the server's limit (max_payload) is {limit}"
            );
            return Err(Error::new(ErrorKind::TooLarge, text).topic(topic));
        }
        self.pipeline.ask(topic.into(), headers, body, timeout, done)
    }
}

/// A stream's ack of a publish has these fields and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only their names are asked for
struct Ack {
    stream: String,
    seq: u64,
    domain: Option<String>,
    duplicate: Option<bool>,
    val: Option<String>,
    error: Option<serde_json::Value>,
}

/// The stream whose ack this is, if it is one. Servers write the stream, or an error, first.
fn acked_by(reply: &Delivery) -> Option<String> {
    let begins = |start: &[u8]| reply.body.starts_with(start);
    if reply.headers.is_some()
        || reply.body.len() > 1024
        || !(begins(b"{\"stream\":") || begins(b"{\"error\":"))
    {
        return None;
    }
    serde_json::from_slice::<Ack>(&reply.body).ok().map(|ack| ack.stream)
}

/// What a reply says: its body, or the responder's failure. Of our own calls a stream's ack is an answer.
pub(crate) fn read_reply(reply: Delivery, own: bool) -> Result<Delivery> {
    if let (false, Some(stream)) = (own, acked_by(&reply)) {
        let text = "a stream stores this topic, and its ack is the first answer: ask on a topic that no stream stores; the request is stored";
        return Err(Error::new(ErrorKind::Conflict, text).stream(stream));
    }
    match reply.header(ERROR_TEXT) {
        Some(text) => {
            let code = reply.header(ERROR_CODE).unwrap_or("500");
            Err(Error::new(ErrorKind::RequestFailed, format!("the responder failed ({code})")).server(text))
        }
        None => Ok(reply),
    }
}

pub(crate) fn reply(shared: &Arc<Shared>, to: &Delivery, answer: Result<&[u8], &str>) -> Result<()> {
    // A message nobody waits for an answer to is an event, not a mistake.
    let Some(inbox) = to.reply.clone() else { return Ok(()) };
    match answer {
        Ok(body) => {
            let limit = shared.client.max_payload();
            if body.len() > limit && limit > 0 {
                let text = format!(
                    "the reply has {} bytes; the server's limit (max_payload) is {limit}",
                    body.len()
                );
                let e = Error::new(ErrorKind::TooLarge, text).topic(to.topic.as_str());
                reply(shared, to, Err(e.message()))?;
                return Err(e);
            }
            let body = shared.pipeline.state().copy(body);
            shared.pipeline.plain(inbox, None, None, body);
        }
        Err(text) => {
            let clean: String =
                text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
            let pair = |name: &str, value: &str| {
                Some((HeaderName::from_str(name).ok()?, HeaderValue::from_str(value).ok()?))
            };
            let headers: Vec<_> =
                [pair(ERROR_TEXT, &clean), pair(ERROR_CODE, "500")].into_iter().flatten().collect();
            shared.pipeline.plain(inbox, None, Some(headers.into()), Bytes::new());
        }
    }
    Ok(())
}
