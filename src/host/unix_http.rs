//! This file sends a `GET` request over a Unix socket, with a bound on time and on bytes.
//!
//! The HTTP clients that crates offer bring a runtime, TLS and connection pools along; one request
//! over HTTP/1.1 with `Connection: close` (<https://www.rfc-editor.org/rfc/rfc9112>) needs none of
//! them.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::clock;

/// The largest answer that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The reason why there is no answer.
#[derive(Debug)]
pub(super) enum GetError {
    /// There is no server: the socket does not exist, this user may not connect to it, or nobody listens on
    /// it.
    NoServer(io::Error),
    /// A server is there, but its answer did not come in time or is not usable.
    BadAnswer(io::Error),
}

/// Sends `GET path` to the HTTP server behind a Unix socket and returns the body of its answer.
///
/// # Errors
///
/// Fails when no server is there, or when it has not answered completely, with the status 200 and within 16
/// MiB, by the deadline. Ctrl-C ends the wait as well.
pub(super) fn get(socket: &Path, path: &str, deadline: Instant) -> Result<Vec<u8>, GetError> {
    let mut connection = connect(socket, deadline).map_err(|err| match err.kind() {
        ErrorKind::TimedOut => GetError::BadAnswer(err),
        _ => GetError::NoServer(err),
    })?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = connection.write_all(request.as_bytes()).and_then(|()| read_answer(&mut BufReader::new(connection)));
    answer.map_err(GetError::BadAnswer)
}

fn connect(path: &Path, deadline: Instant) -> io::Result<Connection> {
    let address = SockAddr::unix(path)?;
    let connection = Connection { socket: Socket::new(Domain::UNIX, Type::STREAM, None)?, deadline, bytes: 0 };
    // On a Unix socket this timeout bounds the wait for room in the server's backlog, too.
    connection.retry(|socket, left| {
        socket.set_write_timeout(Some(left))?;
        socket.connect(&address)
    })?;
    Ok(connection)
}

/// A connection with a deadline for reads and writes and a limit on the bytes that are read.
struct Connection {
    socket: Socket,
    deadline: Instant,
    /// The number of bytes read so far.
    bytes: u64,
}

impl Connection {
    /// Calls `step` with the time that is left, and again after each signal except Ctrl-C.
    fn retry<T>(&self, mut step: impl FnMut(&Socket, Duration) -> io::Result<T>) -> io::Result<T> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            match step(&self.socket, left) {
                // A timeout of a socket ends in WouldBlock on Linux.
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(late()),
                Err(err) if err.kind() == ErrorKind::Interrupted && !clock::is_interrupted() => {}
                // Readers try again after Interrupted.
                Err(err) if err.kind() == ErrorKind::Interrupted => return Err(io::Error::other("interrupted")),
                done => return done,
            }
        }
    }
}

fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "no answer in time")
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.retry(|mut socket, left| {
            socket.set_read_timeout(Some(left))?;
            socket.read(buffer)
        })?;
        self.bytes += read as u64;
        if self.bytes > MAX_BYTES {
            return Err(wrong("the answer is longer than 16 MiB"));
        }
        Ok(read)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(|mut socket, left| {
            socket.set_write_timeout(Some(left))?;
            socket.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The way in which the end of a body is marked.
enum Framing {
    Chunked,
    Length(u64),
    UntilClosed,
}

/// Reads an answer and returns its body.
fn read_answer(answer: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let status = line(answer)?;
    let mut words = status.split_ascii_whitespace();
    match (words.next().filter(|version| version.starts_with("HTTP/1.")), words.next()) {
        (Some(_), Some("200")) => {}
        (Some(_), Some(code)) => return Err(wrong(&format!("the answer has the status {code}"))),
        _ => return Err(wrong("the answer is not HTTP")),
    }
    let mut framing = Framing::UntilClosed;
    loop {
        let header = line(answer)?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { return Err(wrong("the answer is not HTTP")) };
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(framing, Framing::Chunked) {
            framing = Framing::Length(value.parse().map_err(|_| wrong("the answer's length is no number"))?);
        }
    }
    let mut body = Vec::new();
    match framing {
        Framing::UntilClosed => drop(answer.read_to_end(&mut body)?),
        Framing::Length(length) => read_exactly(answer, length, &mut body)?,
        Framing::Chunked => {
            loop {
                let size = line(answer)?;
                let size = size.split(';').next().unwrap_or_default().trim();
                let size = u64::from_str_radix(size, 16).map_err(|_| wrong("a chunk's length is no number"))?;
                if size == 0 {
                    break; // What follows are trailers.
                }
                read_exactly(answer, size, &mut body)?;
                if !line(answer)?.is_empty() {
                    return Err(wrong("a chunk is longer than it says"));
                }
            }
        }
    }
    Ok(body)
}

/// Returns a line without its end.
fn line(answer: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    answer.read_until(b'\n', &mut line)?;
    let Some(line) = line.strip_suffix(b"\n") else { return Err(wrong("the answer ends too soon")) };
    Ok(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
}

/// Appends `length` bytes. Memory is allocated for the bytes that come, not for the announced length.
fn read_exactly(answer: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length > MAX_BYTES {
        return Err(wrong("the answer is longer than 16 MiB"));
    }
    if answer.take(length).read_to_end(body)? as u64 != length {
        return Err(wrong("the answer ends too soon"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<String, String> {
        let body = read_answer(&mut answer.as_bytes()).map_err(|err| err.to_string())?;
        Ok(String::from_utf8(body).unwrap())
    }

    #[test]
    fn the_body_is_found_in_each_framing() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200\ncontent-length:5\n\nhello",
            "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 99\r\n\r\n05\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        ] {
            assert_eq!(read(answer).as_deref(), Ok("hello"), "{answer:?}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").as_deref(), Ok(""));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_an_error() {
        for (answer, expected) in [
            ("", "ends too soon"),
            ("hello\n\n", "not HTTP"),
            ("HTTP/2 200\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 500 Internal Server Error\r\n\r\n{}", "status 500"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "ends too soon"),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "not HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "ends too soon"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "length is no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "longer than 16 MiB"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", "longer than 16 MiB"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", "ends too soon"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n", "longer than it says"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "ends too soon"),
        ] {
            assert!(read(answer).is_err_and(|err| err.contains(expected)), "{answer:?}: {:?}", read(answer));
        }
    }
}
