//! Sending many messages with one call.

use super::{
    pipeline::{Submission, Submitted},
    producer::Producer,
};
use crate::{
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Many, Post},
    message::{Headers, PubAck, SendOptions},
};
use std::sync::Arc;

/// Messages of a `send_many` submitted under one lock.
const MANY: usize = 256;

/// A `send_many` that is being submitted.
struct SendMany {
    many: Arc<Many>,
    post: Post,
    /// Whether the stream must be looked up.
    prepare: bool,
}

impl SendMany {
    /// Ends one message.
    fn end(&mut self, index: usize, result: Result<Option<PubAck>>) {
        self.post.add(Completion::Item { many: self.many.clone(), index }, Body::Sent(result));
    }
}

impl Producer {
    /// Hosts: starts a `send_many`. `done` receives the outcome of every message.
    pub fn start_send_many<'a>(
        &self,
        bodies: impl ExactSizeIterator<Item = &'a [u8]>,
        options: &SendOptions,
        done: Completion,
    ) -> Result<()> {
        if options.id.is_some() {
            let text = "one id cannot serve many messages: leave it out";
            return Err(Error::new(ErrorKind::InvalidHeader, text).topic(&*self.topic));
        }
        if options.expected_last_sequence.or(options.expected_last_subject_sequence).is_some() {
            let text = "one expected sequence cannot hold for many messages: send them one by one";
            return Err(Error::new(ErrorKind::InvalidHeader, text).topic(&*self.topic));
        }
        let (headers, bodies): (_, Vec<&[u8]>) = (self.headers(options)?, bodies.collect());
        let plain = !self.jetstream && headers.is_none();
        let sent =
            if plain { self.shared.pipeline.submit_core_bodies(self.id, &bodies, self.limit()) } else { 0 };
        if sent == bodies.len() {
            done.complete(Body::Many(vec![Ok(None); sent]));
            return Ok(());
        }
        let key: Option<Arc<str>> = options.key.as_deref().map(Into::into);
        let mut many =
            SendMany { many: Many::new(bodies.len(), done), post: Post::default(), prepare: false };
        (0..sent).for_each(|index| many.end(index, Ok(None)));
        for (n, part) in bodies[sent..].chunks(MANY).enumerate() {
            self.submit_part(part, sent + n * MANY, headers.as_ref(), key.as_ref(), &mut many);
        }
        if many.prepare {
            self.prepare();
        }
        Ok(())
    }

    /// Submits a part of a `send_many` under one lock. `first` is the index of its first message.
    fn submit_part(
        &self,
        part: &[&[u8]],
        first: usize,
        headers: Option<&Headers>,
        key: Option<&Arc<str>>,
        many: &mut SendMany,
    ) {
        let mut fitting = Vec::with_capacity(part.len());
        for (index, body) in (first..).zip(part) {
            match self.check_size(body.len(), headers, false) {
                Ok(()) => fitting.push((index, *body)),
                Err(e) => many.end(index, Err(e)),
            }
        }
        let all = many.many.clone();
        let submissions = fitting.iter().map(|(index, body)| Submission {
            topic: None,
            body,
            headers: headers.cloned(),
            key: key.cloned(),
            has_id: false,
            done: Completion::Item { many: all.clone(), index: *index },
        });
        let mut indices = fitting.iter().map(|(index, _)| *index);
        self.shared.pipeline.submit_many(self.id, submissions, |submitted| {
            let index = indices.next().unwrap_or_default();
            match submitted {
                Ok(Submitted::Pending { prepare }) => many.prepare |= prepare,
                Ok(Submitted::Done) => many.end(index, Ok(None)),
                Err(e) => many.end(index, Err(e)),
            }
        });
    }
}
