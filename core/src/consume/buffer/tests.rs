//! The buffer against a model: a server that delivers in order, redelivers what was given back, and workers that fail.

use super::*;
use crate::message::{KEY_HEADER, Meta};
use async_nats::HeaderMap;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMIT: usize = 8;
const CAP: Duration = Duration::from_secs(600);

fn delivery(sequence: u64, attempt: u64, key: u8) -> Delivery {
    let mut headers = HeaderMap::new();
    headers.insert(KEY_HEADER, format!("k{key}").as_str());
    Delivery {
        token: 0,
        topic: Subject::from_static("t"),
        body: Bytes::new(),
        headers: Some(headers),
        reply: Some(format!("$JS.ACK.S.g.{attempt}.{sequence}.1.1.1").into()),
        meta: Some(Meta { sequence, attempt, timestamp_ns: 0, pending: 0, replay: None }),
        failures: 0,
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// The server delivers what was asked for.
    Deliver(usize),
    /// Handlers take messages.
    Take(usize),
    /// The n-th running handler ends: well, or with a retry.
    Finish(usize, bool),
    /// The server delivers again what is still unsettled (its ack wait has run out).
    Again,
    /// Time passes.
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        (1usize..6).prop_map(Op::Deliver),
        (1usize..4).prop_map(Op::Take),
        (0usize..8, prop::bool::weighted(0.75)).prop_map(|(n, ok)| Op::Finish(n, ok)),
        Just(Op::Again),
        (1u64..400).prop_map(Op::Pass),
    ];
    proptest::collection::vec(op, 1..150)
}

/// A server with 60 messages of 4 keys, and the handlers of one worker.
struct World {
    buffer: Buffer,
    now: Instant,
    next: u64,
    /// Given back, and due again: sequence, attempt, when.
    returned: Vec<(u64, u64, Instant)>,
    running: Vec<Delivery>,
    /// Delivered and not settled, with the last attempt.
    out: Vec<(u64, u64)>,
    done: Vec<u64>,
}

impl World {
    fn new(by_key: bool) -> Self {
        let mut buffer = Buffer::new(Prefetch::new(Some(LIMIT), usize::MAX), usize::MAX, by_key);
        buffer.handle(4);
        let (returned, running, out, done) = (vec![], vec![], vec![], vec![]);
        Self { buffer, now: Instant::now(), next: 1, returned, running, out, done }
    }

    fn key(sequence: u64) -> u8 {
        u8::try_from(sequence * 7 % 4).unwrap_or_default()
    }

    fn push(&mut self, batch: &mut Vec<Delivery>) {
        self.buffer.push(batch, self.now, CAP, &mut Post::default());
    }

    /// Nothing is known against what comes again.
    fn examine(&mut self, post: &mut Post) {
        for (token, ..) in self.buffer.unexamined(100) {
            self.buffer.examined(token, Gate::Open, Record::default(), post);
        }
    }

    fn step(&mut self, op: &Op) {
        let mut post = Post::default();
        match op {
            Op::Deliver(most) => {
                self.buffer.expire(self.now, &mut post);
                self.buffer.ask(self.now);
                let mut batch = Vec::new();
                for _ in 0..(*most).min(self.buffer.requested()) {
                    // As the server does: first what was given back and is due, then what is new.
                    if let Some(i) = self.returned.iter().position(|(_, _, at)| *at <= self.now) {
                        let (sequence, attempt, _) = self.returned.remove(i);
                        self.out.push((sequence, attempt));
                        batch.push(delivery(sequence, attempt, Self::key(sequence)));
                    } else if self.next <= 60 {
                        self.out.push((self.next, 1));
                        batch.push(delivery(self.next, 1, Self::key(self.next)));
                        self.next += 1;
                    }
                }
                self.buffer.received(&batch);
                self.push(&mut batch);
            }
            Op::Take(n) => {
                self.examine(&mut post);
                self.buffer.take(*n, self.now, &mut self.running, &mut Vec::new());
            }
            Op::Finish(n, ok) => {
                if self.running.is_empty() {
                    return;
                }
                let d = self.running.remove(n % self.running.len());
                let sequence = d.meta.as_ref().unwrap().sequence;
                let delay = Duration::from_millis(50);
                let how = if *ok { Settle::Ack } else { Settle::Nak(Some(delay)) };
                assert!(self.buffer.settle(d.token, &how, || self.now, &mut post).is_some(), "settled once");
                let at = self.out.iter().position(|(s, _)| *s == sequence).unwrap();
                let (_, attempt) = self.out.remove(at);
                if *ok {
                    self.done.push(sequence);
                } else {
                    self.returned.push((sequence, attempt + 1, self.now + delay));
                }
            }
            Op::Again => {
                let mut batch: Vec<_> = self
                    .out
                    .iter_mut()
                    .map(|(s, attempt)| {
                        *attempt += 1;
                        delivery(*s, *attempt, Self::key(*s))
                    })
                    .collect();
                self.push(&mut batch);
            }
            Op::Pass(ms) => {
                // The pull loop looks while time passes, and the server serves what it was asked for.
                self.now += Duration::from_millis(*ms);
                self.step(&Op::Deliver(60));
            }
        }
    }
}

proptest! {
    #[test]
    fn each_once_in_order_within_the_limit(by_key: bool, ops in ops()) {
        let mut w = World::new(by_key);
        for op in &ops {
            w.step(op);
            prop_assert_eq!(w.buffer.unsettled.counted(), w.out.len(), "each unsettled message counts once");
            if !by_key {
                // By key retries are asked for beyond it.
                prop_assert!(w.buffer.unsettled.counted() + w.buffer.requested() <= LIMIT);
            }
            let running: BTreeSet<_> = w.running.iter().map(|d| d.meta.as_ref().unwrap().sequence).collect();
            prop_assert_eq!(running.len(), w.running.len(), "no message runs twice at once");
            if by_key {
                let keys: BTreeSet<_> = running.iter().map(|s| World::key(*s)).collect();
                prop_assert_eq!(keys.len(), running.len(), "of each key one at a time");
            }
        }
        // Left alone, everything ends.
        for _ in 0..2000 {
            for op in [Op::Deliver(4), Op::Take(4), Op::Finish(0, true), Op::Pass(40)] {
                w.step(&op);
            }
        }
        prop_assert_eq!(w.done.len(), 60, "nothing is stuck");
        prop_assert!(!w.buffer.has_unsettled() && w.buffer.unsettled.counted() == 0);
        if by_key {
            for key in 0..4 {
                let of_key: Vec<_> = w.done.iter().filter(|s| World::key(**s) == key).collect();
                prop_assert!(of_key.is_sorted(), "{:?}", of_key);
            }
        }
    }
}
