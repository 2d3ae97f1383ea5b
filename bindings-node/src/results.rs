//! How the results of one bus reach JavaScript: by its mailbox, under the tokens that JavaScript gave.

use crate::convert;
use napi::bindgen_prelude::Either;
use nats_eventbus::{
    Credentials, CredentialsSource, Producer, Question,
    host::{Completion, Listener, Mailbox, mailbox::Body},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What the handles of one bus share.
pub(crate) struct Results {
    mailbox: Arc<Mailbox>,
    /// Sends whose wait was given up: a failure of theirs belongs to the next flush.
    abandoned: Mutex<HashMap<u64, Producer>>,
    /// Questions for credentials that JavaScript has not answered yet.
    questions: Mutex<Questions>,
}

#[derive(Default)]
struct Questions {
    open: HashMap<u32, Question>,
    last: u32,
}

impl Results {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox, abandoned: Mutex::default(), questions: Mutex::default() }
    }

    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// The producer of a send whose wait was given up.
    pub(crate) fn abandoner(&self, token: u64) -> Option<Producer> {
        let mut abandoned = self.abandoned.lock();
        if abandoned.is_empty() { None } else { abandoned.remove(&token) }
    }

    /// How the call known by this token ends.
    pub(crate) fn completion(&self, token: f64) -> Completion {
        Completion::Host { mailbox: self.mailbox.clone(), token: convert::whole_number(token) }
    }

    /// Posts each failure under this token, and a letter without one once the core has let go of the listener.
    pub(crate) fn listener(&self, token: f64) -> Listener {
        let listener = HostListener { mailbox: self.mailbox.clone(), token: convert::whole_number(token) };
        Listener::new(move |e| listener.post(Body::Done(Err(e))))
    }

    /// Posts each question for credentials under this token.
    pub(crate) fn source(&self, token: f64) -> CredentialsSource {
        let listener = HostListener { mailbox: self.mailbox.clone(), token: convert::whole_number(token) };
        CredentialsSource::asking(move |question| listener.post(Body::Host(Box::new(question))))
    }

    /// A question's number, if that is what it is.
    pub(crate) fn ask(&self, body: Body) -> Either<u32, Body> {
        let Body::Host(value) = body else { return Either::B(body) };
        match value.downcast::<Question>() {
            Ok(question) => {
                let mut all = self.questions.lock();
                all.last = all.last.wrapping_add(1);
                let number = all.last;
                all.open.insert(number, *question);
                Either::A(number)
            }
            Err(value) => Either::B(Body::Host(value)),
        }
    }

    pub(crate) fn answer(&self, number: u32, answer: nats_eventbus::Result<Credentials>) {
        if let Some(question) = self.questions.lock().open.remove(&number) {
            question.answer(answer);
        }
    }

    pub(crate) fn abandon(&self, token: f64, producer: &Producer) -> bool {
        let token = convert::whole_number(token);
        let caught = !producer.abandon(&self.mailbox, &HashSet::from([token])).is_empty();
        if !caught {
            self.abandoned.lock().insert(token, producer.clone());
        }
        caught
    }
}

/// What a core listener holds: with its end JavaScript's ends.
struct HostListener {
    mailbox: Arc<Mailbox>,
    token: u64,
}

impl HostListener {
    fn post(&self, body: Body) {
        Completion::Host { mailbox: self.mailbox.clone(), token: self.token }.complete(body);
    }
}

impl Drop for HostListener {
    fn drop(&mut self) {
        // Not a plain end, which would come before the failures that came with it.
        self.post(Body::Host(Box::new(())));
    }
}
