//! What the reply to a request says. Pure: a message in, a result out.
//!
//! A responder's failure travels as the headers of the NATS service convention, so that other clients understand it.

use super::slot::Asker;
use crate::{
    error::{Error, ErrorKind, Result},
    message::Delivery,
};
use serde::Deserialize;

pub(crate) const ERROR_TEXT: &str = "Nats-Service-Error";
pub(crate) const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// A stream's ack of a publish. It has these fields and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // only the names of the fields matter
struct Ack {
    stream: String,
    seq: u64,
    domain: Option<String>,
    duplicate: Option<bool>,
    val: Option<String>,
    error: Option<serde_json::Value>,
}

/// The stream that this reply is an ack of, if it is one. Servers write the stream, or an error, first.
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

/// The reply, or the responder's failure.
pub(super) fn read_reply(reply: Delivery, asker: Asker) -> Result<Delivery> {
    if let (Asker::User, Some(stream)) = (asker, acked_by(&reply)) {
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
