//! As much of HTTP/1.1 as a proxy has to understand: where a message begins and ends.

use std::io::{self, BufRead, ErrorKind, Read};

/// More than any server takes.
const LONGEST_HEAD: usize = 1 << 20;

/// Start line and headers of a message, as they came.
pub(super) struct Head {
    pub(super) raw: Vec<u8>,
    /// Parts of the start line, separated by blanks.
    pub(super) start: Vec<String>,
    headers: Vec<(String, String)>,
}

/// Where the body of a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A piece of a message.
pub(super) enum Piece<'a> {
    /// Contents of the body.
    Body(&'a mut [u8]),
    /// What frames the chunks of a body, and trailers.
    Frame(&'a [u8]),
}

impl Head {
    /// Reads a head; `None` at the end of the connection.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let line = line(from)?;
            if line.is_empty() && lines.is_empty() {
                return Ok(None);
            }
            raw.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if text.is_empty() {
                break;
            }
            if raw.len() > LONGEST_HEAD {
                return Err(io::Error::new(ErrorKind::InvalidData, "head too long"));
            }
            lines.push(text);
        }
        let mut lines = lines.into_iter();
        let start = lines.next().unwrap_or_default();
        Ok(Some(Self {
            raw,
            start: start.split(' ').map(str::to_owned).collect(),
            headers: lines
                .filter_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
                })
                .collect(),
        }))
    }

    /// The value of a header, whose name is given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn framing(&self) -> Option<Framing> {
        let chunked = |value: &str| value.to_ascii_lowercase().contains("chunked");
        if self.header("transfer-encoding").is_some_and(chunked) {
            return Some(Framing::Chunked);
        }
        let length = self.header("content-length")?.parse().ok()?;
        Some(Framing::Length(length))
    }

    /// Framing of a request.
    pub(super) fn of_request(&self) -> Framing {
        self.framing().unwrap_or(Framing::Length(0))
    }

    /// Status code of an answer.
    pub(super) fn status(&self) -> u16 {
        let code = self.start.get(1).map_or("", String::as_str);
        code.parse().unwrap_or_default()
    }

    /// Framing of an answer to a request with this method.
    pub(super) fn of_answer(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status(), 100..200 | 204 | 304) {
            return Framing::Length(0);
        }
        self.framing().unwrap_or(Framing::UntilClose)
    }

    /// Whether the connection can carry another message after this one.
    pub(super) fn keeps_alive(&self) -> bool {
        let close = |value: &str| value.eq_ignore_ascii_case("close");
        !self.header("connection").is_some_and(close)
            && !self.start.iter().any(|part| part == "HTTP/1.0")
    }
}

/// Hands the pieces of a body to `sink`, as they arrive.
pub(super) fn body(
    from: &mut impl BufRead,
    framing: Framing,
    sink: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => exactly(from, length, sink),
        Framing::UntilClose => {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let count = from.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                sink(Piece::Body(buffer.get_mut(..count).unwrap_or_default()))?;
            }
        }
        Framing::Chunked => loop {
            let size_line = line(from)?;
            let text = String::from_utf8_lossy(&size_line);
            let digits = text.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            sink(Piece::Frame(&size_line))?;
            exactly(from, size, sink)?;
            // Behind the last chunk come trailers, up to an empty line; behind the others just that line.
            loop {
                let after = line(from)?;
                sink(Piece::Frame(&after))?;
                if after.iter().all(u8::is_ascii_whitespace) {
                    break;
                }
            }
            if size == 0 {
                return Ok(());
            }
        },
    }
}

fn exactly(
    from: &mut impl BufRead,
    length: u64,
    sink: &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut from = from.take(length);
    while from.limit() > 0 {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        sink(Piece::Body(buffer.get_mut(..count).unwrap_or_default()))?;
    }
    Ok(())
}

/// A line with its end; empty at the end of the connection.
fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(LONGEST_HEAD).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    from.take(limit).read_until(b'\n', &mut line)?;
    Ok(line)
}
