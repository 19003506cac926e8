//! Rows of `COPY ... TO STDOUT (FORMAT binary)` (Postgres documentation, `COPY`, "Binary Format").

use std::fmt;
use std::iter::FusedIterator;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Datum;
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::reader::Cursor;
use crate::writer::{all_or_nothing, put_bytes32, put_count16};

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags and length of the header extension.
const HEADER_LEN: usize = 19;
/// Flags of which a reader must know the meaning; none is defined any more.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;
/// The length of a null, and the column count of the trailer.
const NONE: i32 = -1;
const TRAILER: i16 = -1;
/// Bytes of the column count in front of a row.
const COUNT_LEN: usize = 2;

/// One row of a binary COPY. Shares the buffer of its message, as a [`Tuple`](crate::Tuple) does.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CopyRow {
    columns: u16,
    body: Bytes,
}

impl CopyRow {
    /// The number of columns.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether the row has no columns.
    pub const fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Bytes on the wire, including the column count.
    pub const fn wire_len(&self) -> usize {
        self.body.len() + COUNT_LEN
    }

    /// The values in column order: [`Datum::Null`] or [`Datum::Binary`].
    pub fn iter(&self) -> CopyRowIter<'_> {
        CopyRowIter {
            left: self.columns,
            cursor: Cursor::new(&self.body),
        }
    }
}

/// Shows the size, never the values.
impl fmt::Debug for CopyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CopyRow({} columns, {} bytes)",
            self.columns,
            self.wire_len()
        )
    }
}

impl<'a> IntoIterator for &'a CopyRow {
    type Item = Datum<'a>;
    type IntoIter = CopyRowIter<'a>;

    fn into_iter(self) -> CopyRowIter<'a> {
        self.iter()
    }
}

/// Iterates over the values of a [`CopyRow`].
#[derive(Clone)]
pub struct CopyRowIter<'a> {
    left: u16,
    cursor: Cursor<'a>,
}

impl<'a> CopyRowIter<'a> {
    /// `None` cannot happen: the bytes were checked when the row was made.
    fn read(&mut self) -> Option<Datum<'a>> {
        match usize::try_from(self.cursor.i32()?) {
            Ok(len) => self.cursor.take(len).map(Datum::Binary),
            Err(_) => Some(Datum::Null),
        }
    }
}

impl<'a> Iterator for CopyRowIter<'a> {
    type Item = Datum<'a>;

    fn next(&mut self) -> Option<Datum<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.read()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.left);
        (left, Some(left))
    }
}

impl ExactSizeIterator for CopyRowIter<'_> {}
impl FusedIterator for CopyRowIter<'_> {}

impl fmt::Debug for CopyRowIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyRowIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Where in the COPY stream the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// So many bytes of the header extension are still to be skipped.
    Extension(usize),
    Rows,
    Trailer,
    Failed(DecodeError),
}

/// Splits the CopyData messages of one binary COPY into rows.
///
/// The server sends one row per message, but nothing promises that: rows may be packed into one
/// message or split over several. A row that lies within one message shares its buffer; others are
/// put together in a buffer that grows with the bytes that arrive, not with the lengths they
/// announce.
///
/// ```
/// # fn run(messages: Vec<bytes::Bytes>) -> Result<(), pgoutput::DecodeError> {
/// let mut decoder = pgoutput::CopyBinaryDecoder::new(2);
/// for message in messages {
///     decoder.push(message);
///     while let Some(row) = decoder.next_row()? {
///         assert_eq!(row.len(), 2);
///     }
/// }
/// decoder.finish()
/// # }
/// ```
pub struct CopyBinaryDecoder {
    expected_columns: usize,
    state: State,
    /// Bytes of the COPY stream before what is pending.
    offset: usize,
    /// Pending bytes that lie within one message.
    message: Bytes,
    /// Pending bytes of several messages; then `message` is empty.
    joined: BytesMut,
    /// No row can be complete before so many bytes are pending.
    needed: usize,
}

impl CopyBinaryDecoder {
    /// A decoder for a COPY of `expected_columns` columns.
    pub fn new(expected_columns: usize) -> Self {
        Self {
            expected_columns,
            state: State::Header,
            offset: 0,
            message: Bytes::new(),
            joined: BytesMut::new(),
            needed: 0,
        }
    }

    /// Appends the content of one CopyData message. Take all complete rows with
    /// [`next_row`](Self::next_row) before the next push: what is still pending then is copied.
    pub fn push(&mut self, copy_data: Bytes) {
        if self.joined.is_empty() && self.message.is_empty() {
            self.message = copy_data;
            return;
        }
        if self.joined.is_empty() {
            self.joined = BytesMut::with_capacity(self.message.len() + copy_data.len());
            self.joined.extend_from_slice(&self.message);
            self.message = Bytes::new();
        }
        self.joined.extend_from_slice(&copy_data);
    }

    /// The next complete row; `None` when more messages are needed or the trailer has been read.
    ///
    /// An error is final: every later call returns it again.
    pub fn next_row(&mut self) -> Result<Option<CopyRow>, DecodeError> {
        let outcome = self.advance();
        if let Err(error) = outcome {
            self.state = State::Failed(error);
        }
        outcome
    }

    /// Declares the end of the COPY. Fails when the trailer or a part of a row is missing, that is,
    /// when the server gave up or a message was lost; and when rows were not taken.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.state {
            State::Failed(error) => Err(error),
            State::Trailer if self.pending().is_empty() => Ok(()),
            State::Trailer => Err(self.error(DecodeErrorKind::TrailingBytes, "COPY trailer", 0)),
            State::Header => Err(self.cut_off("COPY header")),
            State::Extension(_) => Err(self.cut_off("COPY header extension")),
            State::Rows => Err(self.cut_off("COPY trailer")),
        }
    }

    fn advance(&mut self) -> Result<Option<CopyRow>, DecodeError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Header => {
                    let Some(extension) = self.header()? else {
                        return Ok(None);
                    };
                    self.discard(HEADER_LEN);
                    self.state = State::Extension(extension);
                }
                State::Extension(0) => self.state = State::Rows,
                State::Extension(left) => {
                    let skipped = left.min(self.pending().len());
                    if skipped == 0 {
                        return Ok(None);
                    }
                    self.discard(skipped);
                    self.state = State::Extension(left - skipped);
                }
                State::Rows => match self.scan()? {
                    Scan::Row { columns, body_len } => {
                        return Ok(Some(self.row(columns, body_len)));
                    }
                    Scan::Trailer => {
                        self.discard(COUNT_LEN);
                        self.state = State::Trailer;
                    }
                    Scan::Needs(total) => {
                        self.needed = total;
                        return Ok(None);
                    }
                },
                State::Trailer if self.pending().is_empty() => return Ok(None),
                State::Trailer => {
                    return Err(self.error(DecodeErrorKind::TrailingBytes, "COPY trailer", 0));
                }
            }
        }
    }

    fn pending(&self) -> &[u8] {
        if self.joined.is_empty() {
            &self.message
        } else {
            &self.joined
        }
    }

    /// Checks the fixed part of the header and returns the length of its extension.
    fn header(&self) -> Result<Option<usize>, DecodeError> {
        let mut cursor = Cursor::new(self.pending());
        if cursor.len() < HEADER_LEN {
            return Ok(None);
        }
        if !cursor.eat_all(SIGNATURE) {
            return Err(self.error(DecodeErrorKind::UnknownValue, "COPY signature", 0));
        }
        let (Some(flags), Some(extension)) = (cursor.u32(), cursor.i32()) else {
            return Ok(None);
        };
        if flags & CRITICAL_FLAGS != 0 {
            return Err(self.error(DecodeErrorKind::UnknownValue, "COPY flags", 11));
        }
        usize::try_from(extension).map(Some).map_err(|_| {
            self.error(
                DecodeErrorKind::Negative,
                "COPY header extension length",
                15,
            )
        })
    }

    /// Looks at the next row without consuming it.
    fn scan(&self) -> Result<Scan, DecodeError> {
        let pending = self.pending();
        if pending.len() < self.needed {
            return Ok(Scan::Needs(self.needed));
        }
        let mut cursor = Cursor::new(pending);
        let Some(columns) = cursor.i16() else {
            return Ok(Scan::Needs(COUNT_LEN));
        };
        if columns == TRAILER {
            return Ok(Scan::Trailer);
        }
        let columns = u16::try_from(columns)
            .map_err(|_| self.error(DecodeErrorKind::Negative, "column count", 0))?;
        if usize::from(columns) != self.expected_columns {
            return Err(self.error(DecodeErrorKind::WrongCount, "column count", 0));
        }
        for _ in 0..columns {
            let at = pending.len() - cursor.len();
            let value_at = at.saturating_add(size_of::<i32>());
            let Some(len) = cursor.i32() else {
                return Ok(Scan::Needs(value_at));
            };
            if len == NONE {
                continue;
            }
            let len = usize::try_from(len)
                .map_err(|_| self.error(DecodeErrorKind::Negative, "column length", at))?;
            if cursor.take(len).is_none() {
                return Ok(Scan::Needs(value_at.saturating_add(len)));
            }
        }
        Ok(Scan::Row {
            columns,
            body_len: pending.len() - cursor.len() - COUNT_LEN,
        })
    }

    /// Consumes the row that `scan` found.
    fn row(&mut self, columns: u16, body_len: usize) -> CopyRow {
        self.discard(COUNT_LEN);
        self.offset += body_len;
        self.needed = 0;
        let body = if self.joined.is_empty() {
            self.message.split_to(body_len.min(self.message.len()))
        } else {
            let body = self
                .joined
                .split_to(body_len.min(self.joined.len()))
                .freeze();
            self.release();
            body
        };
        CopyRow { columns, body }
    }

    /// Drops `len` pending bytes.
    fn discard(&mut self, len: usize) {
        self.offset += len;
        self.needed = 0;
        if self.joined.is_empty() {
            self.message.advance(len.min(self.message.len()));
        } else {
            self.joined.advance(len.min(self.joined.len()));
            self.release();
        }
    }

    /// Lets go of the joined buffer once it is used up.
    fn release(&mut self) {
        if self.joined.is_empty() {
            self.joined = BytesMut::new();
        }
    }

    fn error(&self, kind: DecodeErrorKind, field: &'static str, ahead: usize) -> DecodeError {
        DecodeError::new(kind, field, None, self.offset.saturating_add(ahead))
    }

    fn cut_off(&self, field: &'static str) -> DecodeError {
        self.error(DecodeErrorKind::Truncated, field, self.pending().len())
    }
}

impl fmt::Debug for CopyBinaryDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyBinaryDecoder")
            .field("state", &self.state)
            .field("offset", &self.offset)
            .field("pending", &self.pending().len())
            .finish_non_exhaustive()
    }
}

/// What comes next in the stream.
enum Scan {
    Row {
        columns: u16,
        body_len: usize,
    },
    Trailer,
    /// Cannot be told before so many bytes are pending.
    Needs(usize),
}

/// Appends the header that opens a binary COPY.
pub fn encode_copy_header(dst: &mut BytesMut) {
    dst.put_slice(SIGNATURE);
    dst.put_u32(0);
    dst.put_u32(0);
}

/// Appends one row. Fails, and appends nothing, when a value is neither null nor binary, is 2 GiB or
/// longer, or when there are more than 32,767 values.
pub fn encode_copy_row(dst: &mut BytesMut, datums: &[Datum<'_>]) -> Result<(), EncodeError> {
    all_or_nothing(dst, |dst| {
        put_count16(dst, datums.len(), "row")?;
        for datum in datums {
            match datum {
                Datum::Null => dst.put_i32(NONE),
                Datum::Binary(bytes) => put_bytes32(dst, bytes, "column value")?,
                Datum::Text(_) | Datum::UnchangedToast => return Err(EncodeError::NotInCopy),
            }
        }
        Ok(())
    })
}

/// Appends the trailer that closes a binary COPY.
pub fn encode_copy_trailer(dst: &mut BytesMut) {
    dst.put_i16(TRAILER);
}
