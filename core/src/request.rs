//! Request and reply: how a request starts, and how a responder answers. The pipeline reads the replies.

use crate::{
    bus::shared::Shared,
    error::{Error, ErrorKind, Result},
    host::mailbox::Completion,
    message::{Delivery, SendOptions, checked_headers},
    publish::pipeline::{ERROR_CODE, ERROR_TEXT},
};
use async_nats::{HeaderName, HeaderValue};
use bytes::Bytes;
use std::{str::FromStr, sync::Arc, time::Duration};

/// A longer text of a failure is cut, because it travels in a header.
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

pub(crate) fn reply(shared: &Arc<Shared>, to: &Delivery, answer: Result<&[u8], &str>) -> Result<()> {
    // A message without a reply subject is an event, so there is no asker to answer.
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
