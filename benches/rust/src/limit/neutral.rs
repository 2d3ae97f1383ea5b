//! The other side of a run, the same for every peer.

use crate::{
    core::{chunk, frame},
    jetstream::Publisher,
    wire::{Frame, Wire, reply},
};
use harness::{
    Result,
    latency::now,
    spec::{CREDIT, Spec},
};
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Sends as fast as the receiver reads: at most `window` messages ahead of what it has told. Runs until it is ended.
pub fn flood(spec: &Spec) -> Result<()> {
    let mut wire = Wire::connect(&spec.url)?;
    wire.send(format!("SUB {} 1\r\n", spec.credit_subject()).as_bytes())?;
    wire.flush()?;
    let mut writer = wire.writer()?;
    let told = Arc::new(AtomicU64::new(0));
    let heard = told.clone();
    std::thread::spawn(move || {
        while let Ok(frame) = wire.next() {
            if let Frame::Msg { .. } = frame {
                heard.fetch_add(CREDIT, Ordering::Relaxed);
            }
        }
    });
    let (chunk, frames) = chunk(&frame(&spec.subject, "", &spec.payload()));
    let mut sent = 0;
    loop {
        if sent + frames > told.load(Ordering::Relaxed) + spec.window {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        writer.write_all(&chunk)?;
        sent += frames;
    }
}

/// How often a loader with a rate sends.
const LOAD_TICK: Duration = Duration::from_millis(2);

/// Stores `count` messages, in turn over the subjects; as fast as it goes, or at a rate.
pub fn load(spec: &Spec) -> Result<()> {
    let mut publisher = Publisher::open(spec, 1)?;
    // The first alone, so that one may be stored only where all may.
    publisher.up_to(1, 1)?;
    if spec.rate > 0.0 {
        let each = (spec.rate * LOAD_TICK.as_secs_f64()).ceil() as u64;
        for stored in (1..spec.count).step_by(each as usize) {
            std::thread::sleep(LOAD_TICK);
            publisher.up_to(stored + each, spec.window)?;
        }
    }
    publisher.up_to(spec.count, spec.window)?;
    println!("{{\"loaded\":{}}}", spec.count);
    Ok(())
}

/// Answers requests with the body asked for. Runs until it is ended.
pub fn respond(spec: &Spec) -> Result<()> {
    let mut wire = Wire::connect(&spec.url)?;
    wire.send(format!("SUB {} 1\r\n", spec.subject).as_bytes())?;
    wire.flush()?;
    harness::ready();
    let body = spec.payload();
    loop {
        let Frame::Msg { line, .. } = wire.next()? else { continue };
        let Some(to) = reply(line).map(|r| String::from_utf8_lossy(r).into_owned()) else { continue };
        wire.send(&frame(&to, "", &body))?;
    }
}

/// The longest time between two ticks where messages are that frequent.
const TICK: f64 = 500e-6;

/// Writes, at the time a message is meant to be sent, that time: 8 bytes, nanoseconds of the monotonic clock. Messages
/// nearer to each other than a tick share the tick and its time. So all clients are paced alike, none by its own timers.
pub fn pace(spec: &Spec) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let each = (spec.rate * TICK).max(1.0);
    let tick = (each / spec.rate * 1e9) as u64;
    let began = now() + 20_000_000;
    let ends = began + ((spec.warmup + spec.seconds) * 1e9) as u64;
    let (mut at, mut owed) = (began, 0.0);
    let mut bytes = Vec::new();
    while at < ends {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC;
        let when = Duration::from_nanos(at).into();
        nix::time::clock_nanosleep(clock, nix::time::ClockNanosleepFlags::TIMER_ABSTIME, &when)?;
        owed += each;
        bytes.clear();
        while owed >= 1.0 {
            bytes.extend_from_slice(&at.to_le_bytes());
            owed -= 1.0;
        }
        out.write_all(&bytes)?;
        out.flush()?;
        at += tick;
    }
    Ok(())
}
