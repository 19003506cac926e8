//! The two output formats of `bytea` (Postgres documentation, "Binary Data Types").

use crate::reader::Cursor;
use crate::value::{ValueError, ValueErrorKind};

/// Appends a `bytea`, in hex or escape format. Appends nothing on an error.
pub fn bytea(raw: &[u8], dst: &mut Vec<u8>) -> Result<(), ValueError> {
    let start = dst.len();
    let mut cursor = Cursor::new(raw);
    let done = if cursor.eat_all(b"\\x") {
        hex(cursor, dst)
    } else {
        escape(cursor, dst)
    };
    if done.is_none() {
        dst.truncate(start);
        return Err(ValueError::new("bytea", ValueErrorKind::Malformed));
    }
    Ok(())
}

fn hex(mut cursor: Cursor<'_>, dst: &mut Vec<u8>) -> Option<()> {
    dst.reserve(cursor.len() / 2);
    while !cursor.is_empty() {
        dst.push(cursor.hex_byte()?);
    }
    Some(())
}

fn escape(mut cursor: Cursor<'_>, dst: &mut Vec<u8>) -> Option<()> {
    dst.reserve(cursor.len());
    while let Some(byte) = cursor.u8() {
        dst.push(match byte {
            b'\\' if cursor.eat(b'\\') => b'\\',
            b'\\' => cursor.octal_byte()?,
            printable => printable,
        });
    }
    Some(())
}
