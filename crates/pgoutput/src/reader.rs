//! Cursors that cannot panic. The only module that cuts slices.

use bytes::{Buf, Bytes};

use crate::error::{DecodeError, DecodeErrorKind};
use crate::{Lsn, Oid, PgTimestamp, RelationId, Xid};

/// A borrowed cursor: every read either succeeds or leaves the cursor where it was.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    /// Consumes `byte` if it comes next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Consumes `literal` if it comes next.
    pub(crate) fn eat_all(&mut self, literal: &[u8]) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One or more decimal digits, as many as there are.
    pub(crate) fn digit_run(&mut self) -> Option<&'a [u8]> {
        let len = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if len == 0 { None } else { self.take(len) }
    }

    /// The bytes that come next and belong, possibly none.
    pub(crate) fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().take_while(|byte| belongs(**byte)).count();
        self.take(len).unwrap_or_default()
    }

    /// Bytes behind their length, a signed 32-bit number of which -1 means NULL.
    #[expect(clippy::option_option, reason = "cut off and NULL are two things")]
    pub(crate) fn sized(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            len => self.take(usize::try_from(len).ok()?).map(Some),
        }
    }

    /// A decimal number of at least `min` and at most `max` digits, `max` being nine or less.
    pub(crate) fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let len = self
            .rest
            .iter()
            .take(max)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if len < min {
            return None;
        }
        let digits = self.take(len)?;
        Some(
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + u32::from(digit - b'0')),
        )
    }

    /// Two hexadecimal digits.
    pub(crate) fn hex_byte(&mut self) -> Option<u8> {
        let [high, low] = self.fixed()?;
        Some(hex_digit(high)? << 4 | hex_digit(low)?)
    }

    /// Three octal digits, up to 377.
    pub(crate) fn octal_byte(&mut self) -> Option<u8> {
        let [high, middle, low] = self.fixed()?;
        match (high, middle, low) {
            (b'0'..=b'3', b'0'..=b'7', b'0'..=b'7') => {
                Some((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'))
            }
            _ => None,
        }
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.fixed().map(u8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_be_bytes)
    }
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// An owning cursor over one message. Parts are handed out as slices of the same buffer.
pub(crate) struct Reader {
    rest: Bytes,
    offset: usize,
    tag: Option<u8>,
}

impl Reader {
    pub(crate) const fn new(message: Bytes) -> Self {
        Self {
            rest: message,
            offset: 0,
            tag: None,
        }
    }

    /// Reads the first byte; later errors carry it.
    pub(crate) fn tag(&mut self) -> Result<u8, DecodeError> {
        let tag = self.u8("message type")?;
        self.tag = Some(tag);
        Ok(tag)
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    pub(crate) const fn error(&self, kind: DecodeErrorKind, field: &'static str) -> DecodeError {
        DecodeError::new(kind, field, self.tag, self.offset)
    }

    /// An error `ahead` bytes further on.
    pub(crate) const fn error_ahead(
        &self,
        kind: DecodeErrorKind,
        field: &'static str,
        ahead: usize,
    ) -> DecodeError {
        DecodeError::new(kind, field, self.tag, self.offset.saturating_add(ahead))
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, _)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(DecodeErrorKind::Truncated, field));
        };
        let head = *head;
        self.rest.advance(N);
        self.offset += N;
        Ok(head)
    }

    /// The next `len` bytes, sharing the buffer.
    pub(crate) fn take(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(self.error(DecodeErrorKind::Truncated, field));
        }
        self.offset += len;
        Ok(self.rest.split_to(len))
    }

    /// Everything that is left.
    pub(crate) fn take_rest(&mut self) -> Bytes {
        self.offset += self.rest.len();
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.fixed(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.fixed(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    /// A 16-bit count.
    pub(crate) fn count16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        let negative = self.error(DecodeErrorKind::Negative, field);
        let count = self.fixed(field).map(i16::from_be_bytes)?;
        u16::try_from(count).map_err(|_| negative)
    }

    /// A 32-bit length or count.
    pub(crate) fn count32(&mut self, field: &'static str) -> Result<usize, DecodeError> {
        let negative = self.error(DecodeErrorKind::Negative, field);
        usize::try_from(self.i32(field)?).map_err(|_| negative)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let unknown = self.error(DecodeErrorKind::UnknownValue, field);
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(unknown),
        }
    }

    pub(crate) fn lsn(&mut self, field: &'static str) -> Result<Lsn, DecodeError> {
        self.fixed(field).map(u64::from_be_bytes).map(Lsn::new)
    }

    pub(crate) fn timestamp(&mut self, field: &'static str) -> Result<PgTimestamp, DecodeError> {
        self.fixed(field)
            .map(i64::from_be_bytes)
            .map(PgTimestamp::from_pg_micros)
    }

    pub(crate) fn xid(&mut self, field: &'static str) -> Result<Xid, DecodeError> {
        self.u32(field).map(Xid::new)
    }

    pub(crate) fn oid(&mut self, field: &'static str) -> Result<Oid, DecodeError> {
        self.u32(field).map(Oid::new)
    }

    pub(crate) fn relation_id(&mut self) -> Result<RelationId, DecodeError> {
        self.u32("relation id").map(RelationId::new)
    }

    /// A zero-terminated string.
    pub(crate) fn string(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let Some(len) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.error(DecodeErrorKind::Unterminated, field));
        };
        let invalid = self.error(DecodeErrorKind::InvalidUtf8, field);
        let bytes = self.take(len, field)?;
        self.u8(field)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| invalid)?;
        Ok(text.to_owned())
    }

    /// Insists that nothing is left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(DecodeErrorKind::TrailingBytes, "message"))
        }
    }
}
