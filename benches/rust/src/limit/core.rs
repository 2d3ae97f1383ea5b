//! Core NATS: frames out, counted by PING and PONG; messages in, counted; requests one by one.

use crate::wire::{Frame, Wire};
use harness::{
    Result,
    latency::Latency,
    marks::{Marks, Outcome},
    spec::{CREDIT, Spec},
};
use std::time::Instant;

/// One frame of a PUB.
pub fn frame(subject: &str, reply: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = format!("PUB {subject} {reply} {}\r\n", body.len()).replace("  ", " ").into_bytes();
    frame.extend_from_slice(body);
    frame.extend_from_slice(b"\r\n");
    frame
}

/// As many frames as make one good write.
pub fn chunk(frame: &[u8]) -> (Vec<u8>, u64) {
    let n = ((1 << 16) / frame.len()).max(1);
    (frame.repeat(n), n as u64)
}

pub fn publish(spec: &Spec) -> Result<Outcome> {
    let mut wire = Wire::connect(&spec.url)?;
    let (chunk, frames) = chunk(&frame(&spec.subject, "", &spec.payload()));
    let mut n = 0;
    let mut burst = |seconds: f64| -> Result<u64> {
        let began = Instant::now();
        while began.elapsed().as_secs_f64() < seconds {
            wire.send(&chunk)?;
            n += frames;
        }
        wire.flush()?;
        Ok(n)
    };
    harness::ready();
    let mut marks = Marks::new(spec);
    marks.open(burst(spec.warmup)?);
    marks.close(burst(spec.seconds)?);
    Ok(marks.outcome())
}

pub fn receive(spec: &Spec) -> Result<Outcome> {
    let mut wire = Wire::connect(&spec.url)?;
    let credit = format!("PUB {} 0\r\n\r\n", spec.credit_subject()).into_bytes();
    wire.send(format!("SUB {} 1\r\n", spec.subject).as_bytes())?;
    wire.flush()?;
    harness::ready();
    let mut n = 0;
    let mut marks = None;
    loop {
        if !matches!(wire.next()?, Frame::Msg { .. }) {
            continue;
        }
        n += 1;
        if n % CREDIT == 0 {
            wire.send(&credit)?;
        }
        if n % 256 == 0 && marks.get_or_insert_with(|| Marks::new(spec)).due(n) {
            return Ok(marks.map_or_else(Outcome::default, |m| m.outcome()));
        }
    }
}

pub fn request(spec: &Spec) -> Result<Outcome> {
    let mut wire = Wire::connect(&spec.url)?;
    wire.send(b"SUB _INBOX.limit 1\r\n")?;
    wire.flush()?;
    wire.spin(spec);
    let frame = frame(&spec.subject, "_INBOX.limit", &spec.payload());
    harness::ready();
    let mut times = Vec::new();
    let mut marks = Marks::new(spec);
    let mut n = 0;
    loop {
        let asked = Instant::now();
        wire.send(&frame)?;
        while !matches!(wire.next()?, Frame::Msg { .. }) {}
        n += 1;
        if marks.measuring() {
            times.push(asked.elapsed().as_nanos() as u64);
        }
        if marks.due(n) {
            let mut outcome = marks.outcome();
            outcome.latency = Latency::of(times);
            return Ok(outcome);
        }
    }
}
