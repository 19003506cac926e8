//! The output text of rows (Postgres documentation, "Composite Type Input and Output Syntax";
//! `record_out`).

use std::borrow::Cow;
use std::fmt;

use crate::reader::Cursor;
use crate::value::{ValueError, ValueErrorKind};

const MALFORMED: ValueError = ValueError::new("record", ValueErrorKind::Malformed);

/// A value of a composite type in its output text.
#[derive(Clone, Copy)]
pub struct TextRecord<'a> {
    /// Behind the opening parenthesis.
    body: Cursor<'a>,
}

/// A value of any composite type. Parentheses and quotes are checked; the fields are not.
pub fn record(raw: &[u8]) -> Result<TextRecord<'_>, ValueError> {
    parse(raw).ok_or(MALFORMED)
}

/// Without the values.
impl fmt::Debug for TextRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextRecord").finish_non_exhaustive()
    }
}

impl<'a> TextRecord<'a> {
    /// The output texts of the columns, in their order. `None` is NULL.
    ///
    /// `()` is what Postgres prints both for no column and for one that is NULL. One NULL is given
    /// then; a caller that knows that the type has no columns ignores it.
    ///
    /// A field without quotes and backslashes in its value is borrowed.
    pub fn fields(
        &self,
    ) -> impl Iterator<Item = Result<Option<Cow<'a, [u8]>>, ValueError>> + use<'a> {
        Fields {
            rest: Some(self.body),
        }
    }
}

fn parse(raw: &[u8]) -> Option<TextRecord<'_>> {
    let mut cursor = Cursor::new(raw);
    if !cursor.eat(b'(') {
        return None;
    }
    let body = cursor;
    loop {
        Field::read(&mut cursor)?;
        if cursor.eat(b')') {
            return cursor.is_empty().then_some(TextRecord { body });
        }
        if !cursor.eat(b',') {
            return None;
        }
    }
}

/// One field as it is written.
enum Field<'a> {
    Null,
    Plain(&'a [u8]),
    /// Between its quotes, with doubled bytes in it.
    Escaped(&'a [u8]),
}

impl<'a> Field<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        if cursor.eat(b'"') {
            return Self::read_quoted(cursor);
        }
        Some(match cursor.run(may_stand_alone) {
            b"" => Self::Null,
            plain => Self::Plain(plain),
        })
    }

    fn read_quoted(cursor: &mut Cursor<'a>) -> Option<Self> {
        let mut start = *cursor;
        let mut escaped = false;
        let mut len = 0;
        loop {
            match cursor.u8()? {
                b'"' if !cursor.eat(b'"') => break,
                b'"' => {}
                b'\\' => {
                    cursor.u8()?;
                }
                _ => {
                    len += 1;
                    continue;
                }
            }
            escaped = true;
            len += 2;
        }
        let written = start.take(len)?;
        Some(if escaped {
            Self::Escaped(written)
        } else {
            Self::Plain(written)
        })
    }

    fn value(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Null => None,
            Self::Plain(plain) => Some(Cow::Borrowed(plain)),
            Self::Escaped(written) => {
                let mut value = Vec::with_capacity(written.len());
                let mut cursor = Cursor::new(written);
                while let Some(byte) = cursor.u8() {
                    value.push(match byte {
                        b'"' | b'\\' => cursor.u8().unwrap_or(byte),
                        other => other,
                    });
                }
                Some(Cow::Owned(value))
            }
        }
    }
}

/// Whether a byte needs no quotes around its field.
const fn may_stand_alone(byte: u8) -> bool {
    !matches!(
        byte,
        b'(' | b')' | b',' | b'"' | b'\\' | b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C
    )
}

struct Fields<'a> {
    /// `None` behind the last.
    rest: Option<Cursor<'a>>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Option<Cow<'a, [u8]>>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let field = Field::read(&mut rest);
        if field.is_some() && rest.eat(b',') {
            self.rest = Some(rest);
        }
        Some(field.map(Field::value).ok_or(MALFORMED))
    }
}
