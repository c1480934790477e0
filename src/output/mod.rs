//! Values to bytes: one module a format, none of which decides anything.

pub(crate) mod csv;
pub(crate) mod github;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod table;

use std::io::{self, Write};

/// A pipe to a reader who may stop reading: what `head` leaves unread is written to nobody.
pub(crate) struct Pipe<W> {
    inner: W,
    is_closed: bool,
}

impl<W: Write> Pipe<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, is_closed: false }
    }

    fn pass<T>(&mut self, result: io::Result<T>, unread: T) -> io::Result<T> {
        match result {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(unread)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let result = self.inner.write(bytes);
        self.pass(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.pass(result, ())
    }
}
