//! A value as the text that the server prints for it.

use pgoutput::value::render as server;
use pgoutput::{Datum, value};

use super::append::ValueProblem;
use super::{Reader, Rendered, array, composite};

/// The text of a value; `None` for NULL and for what was not sent.
pub(crate) fn output_text(
    reader: &Reader,
    datum: Datum<'_>,
) -> Result<Option<String>, ValueProblem> {
    let mut text = String::new();
    match datum {
        Datum::Null | Datum::UnchangedToast => return Ok(None),
        Datum::Text(raw) => text.push_str(value::text::text(raw)?),
        Datum::Binary(raw) => render(reader, raw, &mut text)?,
    }
    Ok(Some(text))
}

/// Appends the text of a value in its binary form.
pub(super) fn render(reader: &Reader, raw: &[u8], dst: &mut String) -> Result<(), ValueProblem> {
    match reader {
        Reader::Bool => server::bool(raw, dst)?,
        Reader::Int2 => server::int2(raw, dst)?,
        Reader::Int4 => server::int4(raw, dst)?,
        Reader::Int8 => server::int8(raw, dst)?,
        Reader::Oid => server::oid(raw, dst)?,
        Reader::Uint8 => server::uint8(raw, dst)?,
        Reader::Float4 => server::float4(raw, dst)?,
        Reader::Float8 => server::float8(raw, dst)?,
        Reader::Decimal { .. } | Reader::NumericText | Reader::NumericFloat => {
            value::binary::numeric_text(raw, dst)?;
        }
        Reader::Money => server::money(raw, dst)?,
        Reader::Text | Reader::Json | Reader::OutputText | Reader::CopiedText(_) => {
            dst.push_str(value::text::text(raw)?);
        }
        Reader::Jsonb => server::jsonb(raw, dst)?,
        Reader::Bytea => server::bytea(raw, dst)?,
        Reader::Date => server::date(raw, dst)?,
        Reader::Time => server::time(raw, dst)?,
        Reader::Timestamp => server::timestamp(raw, dst)?,
        Reader::TimestampTz => server::timestamptz(raw, dst)?,
        Reader::Uuid => server::uuid(raw, dst)?,
        Reader::Rendered(kind) => rendered(*kind, raw, dst)?,
        Reader::List(list) | Reader::JsonArray(list) => array::render(list, raw, dst)?,
        Reader::Struct(composite) => composite::render(composite, raw, dst)?,
    }
    Ok(())
}

pub(super) fn rendered(
    kind: Rendered,
    raw: &[u8],
    dst: &mut String,
) -> Result<(), value::ValueError> {
    match kind {
        Rendered::TimeTz => server::timetz(raw, dst),
        Rendered::Interval => server::interval(raw, dst),
        Rendered::Inet => server::inet(raw, dst),
        Rendered::Cidr => server::cidr(raw, dst),
        Rendered::MacAddr => server::macaddr(raw, dst),
        Rendered::MacAddr8 => server::macaddr8(raw, dst),
        Rendered::Bit => server::bit(raw, dst),
        Rendered::PgLsn => server::pg_lsn(raw, dst),
    }
}
