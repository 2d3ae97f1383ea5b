//! The NATS protocol over a blocking socket, no more of it than is needed.

use harness::{Result, spec::Spec};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::fd::AsRawFd,
};

/// One thing the server said.
pub enum Frame<'a> {
    /// A message: its line, and its headers and body.
    Msg {
        line: &'a [u8],
        body: &'a [u8],
    },
    Pong,
    Other,
}

/// Where to reply to a message: the last but one word of its line, the last but two with headers.
pub fn reply(line: &[u8]) -> Option<&[u8]> {
    let sizes = if line[0] == b'H' { 2 } else { 1 };
    let words: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    (words.len() == 4 + sizes).then(|| words[3])
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    /// Whether waiting is busy.
    spin: bool,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    pub fn connect(url: &str) -> Result<Self> {
        let stream = TcpStream::connect(url.trim_start_matches("nats://"))?;
        stream.set_nodelay(true)?;
        let mut wire = Self { stream, spin: false, buffer: vec![0; 1 << 18], start: 0, end: 0 };
        let options = r#"{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"raw","version":"0","protocol":1}"#;
        wire.send(format!("CONNECT {options}\r\n").as_bytes())?;
        wire.flush()?;
        Ok(wire)
    }

    /// From now on, waits busily where the spec wants it: then no wake-up has a part in the time.
    pub fn spin(&mut self, spec: &Spec) {
        self.spin = spec.mode == "spin";
    }

    /// A handle that writes, for another thread.
    pub fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Returns once the server has seen everything sent before.
    pub fn flush(&mut self) -> Result<()> {
        self.send(b"PING\r\n")?;
        while !matches!(self.next()?, Frame::Pong) {}
        Ok(())
    }

    /// Waits for more bytes.
    fn fill(&mut self) -> Result<()> {
        if self.start > 0 && (self.start == self.end || self.buffer.len() - self.end < 1 << 16) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let free = &mut self.buffer[self.end..];
        let read = if self.spin { spinning(&self.stream, free)? } else { self.stream.read(free)? };
        match read {
            0 => Err("the server hung up".into()),
            n => {
                self.end += n;
                Ok(())
            }
        }
    }

    /// Where the next frame's line ends, and the whole frame, when all of it is here.
    fn whole(&self) -> Option<(usize, usize)> {
        let here = &self.buffer[self.start..self.end];
        let line = memchr::memchr(b'\n', here)?;
        if here[0] != b'M' && here[0] != b'H' {
            return Some((line, line + 1));
        }
        let mut length = 0;
        let mut unit = 1;
        for byte in here[..line - 1].iter().rev().take_while(|b| **b != b' ') {
            length += usize::from(byte - b'0') * unit;
            unit *= 10;
        }
        let whole = line + 1 + length + 2;
        (here.len() >= whole).then_some((line, whole))
    }

    /// The next frame that is here already.
    pub fn poll(&mut self) -> Result<Option<Frame<'_>>> {
        let Some((line, whole)) = self.whole() else { return Ok(None) };
        let at = self.start;
        self.start += whole;
        let text = &self.buffer[at..at + line - 1];
        Ok(Some(match text[0] {
            b'M' | b'H' => Frame::Msg { line: text, body: &self.buffer[at + line + 1..at + whole - 2] },
            b'-' => return Err(String::from_utf8_lossy(text).into()),
            b'P' if text == b"PONG" => Frame::Pong,
            b'P' => {
                self.stream.write_all(b"PONG\r\n")?;
                Frame::Other
            }
            _ => Frame::Other,
        }))
    }

    /// The next frame; waits for it.
    pub fn next(&mut self) -> Result<Frame<'_>> {
        while self.whole().is_none() {
            self.fill()?;
        }
        self.poll()?.ok_or_else(|| "a frame was lost".into())
    }
}

fn spinning(stream: &TcpStream, free: &mut [u8]) -> Result<usize> {
    loop {
        match recv(stream.as_raw_fd(), free, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => std::hint::spin_loop(),
            read => return Ok(read?),
        }
    }
}
