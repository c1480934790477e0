//! This file reads JSON as Python writes it, with `NaN`, `Infinity` and `-Infinity` where JSON has no number.

use std::io::{self, BufRead, BufReader, Read};

/// The words that Python writes and JSON does not have outside of strings, without their first letters.
const RESTS: [(u8, &[u8]); 2] = [(b'N', b"aN"), (b'I', b"nfinity")];

/// A reader that passes JSON through and replaces each of these words by `null`.
pub(super) struct WithoutWords<R> {
    inner: BufReader<R>,
    in_text: bool,
    is_escaped: bool,
    /// Tells whether a minus sign was read and not yet passed on.
    has_minus: bool,
    /// The rest of a word that is being skipped. At first it is the byte order mark with which Windows
    /// programs begin a text.
    rest: &'static [u8],
    /// The bytes that are passed on, from this index on, before more is read.
    pending: Vec<u8>,
    position: usize,
}

impl<R: Read> WithoutWords<R> {
    /// Makes a reader of `inner`.
    pub(super) fn of(inner: R) -> Self {
        let inner = BufReader::with_capacity(1 << 16, inner);
        Self {
            inner,
            in_text: false,
            is_escaped: false,
            has_minus: false,
            rest: b"\xef\xbb\xbf",
            pending: Vec::new(),
            position: 0,
        }
    }

    /// Takes in one byte, and adds the bytes that replace it to `pending`.
    fn take(&mut self, byte: u8) {
        if self.in_text {
            self.pending.push(byte);
            self.in_text = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            return;
        }
        if let Some((&expected, rest)) = self.rest.split_first() {
            if expected == byte {
                self.rest = rest;
                return;
            }
            // It was another word, which is not valid JSON either.
            self.rest = &[];
        }
        let word = RESTS.into_iter().find(|(first, _)| *first == byte);
        if let Some((_, rest)) = word {
            self.has_minus = false;
            self.rest = rest;
            self.pending.extend_from_slice(b"null");
            return;
        }
        if std::mem::take(&mut self.has_minus) {
            self.pending.push(b'-');
        }
        match byte {
            b'-' => self.has_minus = true,
            byte => {
                self.in_text = byte == b'"';
                self.pending.push(byte);
            }
        }
    }
}

impl<R: Read> Read for WithoutWords<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.pending.len() {
            self.pending.clear();
            self.position = 0;
            let chunk = self.inner.fill_buf()?.to_vec();
            if chunk.is_empty() {
                return Ok(0);
            }
            self.inner.consume(chunk.len());
            chunk.iter().for_each(|&byte| self.take(byte));
        }
        let rest = &self.pending[self.position..];
        let length = buffer.len().min(rest.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let mut read = String::new();
        // The reader gets one byte at a time, as from a pipe.
        let mut reader = WithoutWords::of(text.as_bytes());
        let mut byte = [0];
        while reader.read(&mut byte).unwrap() > 0 {
            read.push(byte[0].into());
        }
        read
    }

    #[test]
    fn pythons_words_are_null_outside_of_texts() {
        for (text, expected) in [
            ("[NaN, Infinity,-Infinity]", "[null, null,null]"),
            (r#"{"NaN": "-Infinity \" NaN \\", "a": NaN}"#, r#"{"NaN": "-Infinity \" NaN \\", "a": null}"#),
            ("[-1, 1e-5, - 1]", "[-1, 1e-5, - 1]"),
            ("[Nan]", "[nulln]"),
            ("\u{feff}[NaN]", "[null]"),
            ("", ""),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
