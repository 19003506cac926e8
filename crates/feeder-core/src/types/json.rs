//! JSON values, and the values of other types as JSON.

use pgoutput::value;

use super::Reader;
use super::append::ValueProblem;

/// Postgres accepts an unpaired surrogate in a `json` (not in a `jsonb`), and readers fail on the whole file for it.
pub(super) fn check(text: &str) -> Result<&str, ValueProblem> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = rest.get(at..).unwrap_or_default();
        let Some(unit) = code_unit(escape) else {
            rest = escape.get(2..).unwrap_or_default();
            continue;
        };
        rest = escape.get(6..).unwrap_or_default();
        match unit {
            0xd800..=0xdbff if matches!(code_unit(rest), Some(0xdc00..=0xdfff)) => {
                rest = rest.get(6..).unwrap_or_default();
            }
            0xd800..=0xdfff => {
                return Err(ValueProblem::unrepresentable(
                    "json value has an unpaired surrogate",
                ));
            }
            _ => {}
        }
    }
    Ok(text)
}

/// The number of a `\uXXXX` at the head.
fn code_unit(escape: &[u8]) -> Option<u16> {
    let digits = escape.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// An array's element, given as its text.
pub(super) fn append_element(
    element: &Reader,
    text: &str,
    dst: &mut String,
) -> Result<(), ValueProblem> {
    match element {
        Reader::Bool => dst.push_str(if value::text::bool(text.as_bytes())? {
            "true"
        } else {
            "false"
        }),
        Reader::Int2 | Reader::Int4 | Reader::Int8 | Reader::Oid | Reader::Uint8 => {
            dst.push_str(text);
        }
        // NaN and the infinities are no JSON numbers.
        Reader::Float4
        | Reader::Float8
        | Reader::Decimal { .. }
        | Reader::NumericText
        | Reader::NumericFloat
            if text.ends_with(|last: char| last.is_ascii_digit()) =>
        {
            dst.push_str(text);
        }
        Reader::Json | Reader::Jsonb => dst.push_str(check(text)?),
        _ => append_string(text, dst),
    }
    Ok(())
}

/// A JSON string (RFC 8259, section 7).
pub(crate) fn append_string(text: &str, dst: &mut String) {
    use std::fmt::Write as _;
    dst.push('"');
    for character in text.chars() {
        match character {
            '"' => dst.push_str("\\\""),
            '\\' => dst.push_str("\\\\"),
            '\n' => dst.push_str("\\n"),
            '\r' => dst.push_str("\\r"),
            '\t' => dst.push_str("\\t"),
            control if control < ' ' => {
                // Writing into a string cannot fail.
                let _written = write!(dst, "\\u{:04x}", u32::from(control));
            }
            other => dst.push(other),
        }
    }
    dst.push('"');
}
