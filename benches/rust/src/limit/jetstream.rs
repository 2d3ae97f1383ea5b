//! `JetStream`: publishes with a reply inbox, acks counted; pull requests kept ahead, every message acked.

use crate::{
    core::frame,
    wire::{Frame, Wire, reply},
};
use harness::{
    Result,
    marks::{Marks, Outcome},
    spec::Spec,
};
use std::{io::Write, time::Instant};

const INBOX: &str = "_INBOX.limit.a";

/// Sends with a window, and counts the acks. Used for measuring and for loading.
pub struct Publisher {
    wire: Wire,
    frames: Vec<Vec<u8>>,
    /// The body, and after how many messages reply subjects come again, where each message has one of its own: clients
    /// need that to tell acks apart.
    own_reply: Option<(u64, Vec<u8>)>,
    ids: Option<(u32, Vec<u8>)>,
    window: u64,
    subject: String,
    sent: u64,
    acked: u64,
    /// No more than these in all.
    limit: u64,
    out: Vec<u8>,
}

impl Publisher {
    pub fn open(spec: &Spec, window: u64) -> Result<Self> {
        let mut wire = Wire::connect(&spec.url)?;
        wire.send(b"SUB _INBOX.limit.* 1\r\n")?;
        wire.flush()?;
        wire.spin(spec);
        let body = spec.payload();
        let own_reply = match spec.mode.as_str() {
            "own_reply" => Some((u64::MAX, body.clone())),
            "used_again" => Some((window.max(1), body.clone())),
            _ => None,
        };
        let subjects: Vec<String> = match spec.consumers {
            0 => vec![spec.subject.clone()],
            n => (0..n).map(|i| format!("{}.{i}", spec.subject)).collect(),
        };
        let frames = subjects.iter().map(|subject| frame(subject, INBOX, &body)).collect();
        let ids = spec.ids.then(|| (std::process::id(), body));
        let subject = spec.subject.clone();
        Ok(Self {
            wire,
            frames,
            own_reply,
            ids,
            window,
            subject,
            sent: 0,
            acked: 0,
            limit: u64::MAX,
            out: Vec::new(),
        })
    }

    /// Sends until there are `count` in all, with so many under way.
    pub fn up_to(&mut self, count: u64, window: u64) -> Result<()> {
        (self.limit, self.window) = (count, window);
        self.run(|sent| sent < count).map(drop)
    }

    fn append(&mut self) -> Result<()> {
        if let Some((process, body)) = &self.ids {
            let headers = format!("NATS/1.0\r\nNats-Msg-Id: {process:08x}.{:016x}\r\n\r\n", self.sent);
            let (head, all) = (headers.len(), headers.len() + body.len());
            let reply = match &self.own_reply {
                Some((cycle, _)) => format!("_INBOX.limit.{:x}", self.sent % cycle),
                None => INBOX.into(),
            };
            write!(self.out, "HPUB {} {reply} {head} {all}\r\n{headers}", self.subject)?;
            self.out.extend_from_slice(body);
            self.out.extend_from_slice(b"\r\n");
        } else if let Some((cycle, body)) = &self.own_reply {
            write!(self.out, "PUB {} _INBOX.limit.{:x} {}\r\n", self.subject, self.sent % cycle, body.len())?;
            self.out.extend_from_slice(body);
            self.out.extend_from_slice(b"\r\n");
        } else {
            self.out.extend_from_slice(&self.frames[self.sent as usize % self.frames.len()]);
        }
        self.sent += 1;
        Ok(())
    }

    /// Sends while `more` says so, which is asked before each write; returns when all is acked.
    pub fn run(&mut self, mut more: impl FnMut(u64) -> bool) -> Result<u64> {
        loop {
            self.out.clear();
            let going = more(self.sent);
            while going
                && self.sent < self.limit
                && self.sent - self.acked < self.window
                && self.out.len() < 1 << 15
            {
                self.append()?;
            }
            if !going && self.acked == self.sent {
                return Ok(self.acked);
            }
            if !self.out.is_empty() {
                self.wire.send(&self.out)?;
            }
            // Only a full window waits; else there is more to send.
            if !going || self.sent - self.acked == self.window {
                let mut frame = Some(self.wire.next()?);
                while let Some(f) = frame {
                    if let Frame::Msg { body, .. } = f {
                        if memchr::memmem::find(body, b"\"seq\"").is_none() {
                            return Err(format!("not stored: {}", String::from_utf8_lossy(body)).into());
                        }
                        self.acked += 1;
                    }
                    frame = self.wire.poll()?;
                }
            }
        }
    }
}

pub fn publish(spec: &Spec) -> Result<Outcome> {
    let mut publisher = Publisher::open(spec, spec.window)?;
    let mut burst = |seconds: f64| {
        let began = Instant::now();
        publisher.run(|_| began.elapsed().as_secs_f64() < seconds)
    };
    harness::ready();
    let mut marks = Marks::new(spec);
    marks.open(burst(spec.warmup)?);
    marks.close(burst(spec.seconds)?);
    Ok(marks.outcome())
}

/// One durable, pulled from.
struct Puller {
    wire: Wire,
    next: Vec<u8>,
    out: Vec<u8>,
    last: Vec<u8>,
}

impl Puller {
    fn open(spec: &Spec, batch: usize) -> Result<Self> {
        let mut wire = Wire::connect(&spec.url)?;
        wire.send(format!("SUB {INBOX} 1\r\n").as_bytes())?;
        wire.flush()?;
        wire.spin(spec);
        let api = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", spec.stream, spec.durable);
        let body = format!("{{\"batch\":{batch},\"expires\":30000000000}}");
        let next = frame(&api, INBOX, body.as_bytes());
        Ok(Self { wire, next, out: Vec::new(), last: Vec::new() })
    }

    fn ask(&mut self) {
        self.out.extend_from_slice(&self.next);
    }

    fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.wire.send(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for a message, then acks it and all that came with it; at most `limit`.
    fn take(&mut self, limit: u64) -> Result<u64> {
        let mut n = 0;
        let mut frame = Some(self.wire.next()?);
        while let Some(f) = frame {
            if let Frame::Msg { line, body } = f {
                let to = reply(line).ok_or_else(|| String::from_utf8_lossy(body).into_owned())?;
                self.out.extend_from_slice(b"PUB ");
                self.out.extend_from_slice(to);
                self.out.extend_from_slice(b" 4\r\n+ACK\r\n");
                self.last.clear();
                self.last.extend_from_slice(to);
                n += 1;
                if n == limit {
                    break;
                }
            }
            frame = self.wire.poll()?;
        }
        Ok(n)
    }

    /// Acks the last message once more, and waits for the server's word; messages that come meanwhile are left.
    fn confirm(&mut self) -> Result<()> {
        self.flush()?;
        let subject = String::from_utf8_lossy(&self.last).into_owned();
        self.wire.send(b"SUB _INBOX.ack 2\r\n")?;
        self.wire.send(&frame(&subject, "_INBOX.ack", b"+ACK"))?;
        loop {
            if let Frame::Msg { line, .. } = self.wire.next()?
                && line.split(|b| *b == b' ').nth(1) == Some(b"_INBOX.ack")
            {
                return Ok(());
            }
        }
    }
}

pub fn consume(spec: &Spec) -> Result<Outcome> {
    let mut puller = Puller::open(spec, spec.batch)?;
    harness::ready();
    let (mut n, mut asked) = (0_u64, 0_u64);
    let batch = spec.batch as u64;
    let mut marks = Marks::new(spec);
    loop {
        while asked < n + 4 * batch {
            puller.ask();
            asked += batch;
        }
        puller.flush()?;
        n += puller.take(batch)?;
        if marks.due(n) {
            puller.confirm()?;
            marks.close(n);
            return Ok(marks.outcome());
        }
    }
}

pub fn fetch_one(spec: &Spec) -> Result<Outcome> {
    let mut puller = Puller::open(spec, 1)?;
    harness::ready();
    let mut n = 0;
    let mut marks = Marks::new(spec);
    loop {
        puller.ask();
        puller.flush()?;
        n += puller.take(1)?;
        puller.flush()?;
        if marks.due(n) {
            puller.confirm()?;
            marks.close(n);
            return Ok(marks.outcome());
        }
    }
}
