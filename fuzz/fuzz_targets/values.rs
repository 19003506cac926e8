//! Every parser of a value, in text and in binary. A buffer that is handed in keeps what it held when a value is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgoutput::value::{binary as b, render as r, text as t};

fuzz_target!(|data: &[u8]| {
    let Some((&[precision, scale], raw)) = data.split_first_chunk::<2>() else {
        return;
    };
    let _ = (t::bool(raw), t::int2(raw), t::int4(raw), t::int8(raw), t::oid(raw), t::uint8(raw));
    let _ = (t::float4(raw), t::float8(raw), t::numeric(raw, precision, scale), t::money(raw));
    let _ = (t::date(raw), t::time(raw), t::timestamp(raw), t::timestamptz(raw));
    let _ = (t::uuid(raw), t::text(raw), t::json(raw), t::jsonb(raw));
    if let Ok(array) = t::array(raw, b',') {
        array.elements().for_each(drop);
    }
    if let Ok(record) = t::record(raw) {
        record.fields().for_each(drop);
    }
    let _ = (b::bool(raw), b::int2(raw), b::int4(raw), b::int8(raw), b::oid(raw), b::uint8(raw));
    let _ = (b::float4(raw), b::float8(raw), b::numeric(raw, precision, scale), b::money(raw));
    let _ = (b::date(raw), b::time(raw), b::timestamp(raw), b::timestamptz(raw));
    let _ = (b::uuid(raw), b::text(raw), b::json(raw), b::jsonb(raw));
    if let Ok(array) = b::array(raw) {
        array.elements().for_each(drop);
    }
    if let Ok(record) = b::record(raw) {
        record.fields().for_each(drop);
    }
    for parse in [t::numeric_text, b::numeric_text] {
        let mut text = "kept".to_owned();
        if parse(raw, &mut text).is_err() {
            assert_eq!(text, "kept");
        }
    }
    let mut bytes = b"kept".to_vec();
    if t::bytea(raw, &mut bytes).is_err() {
        assert_eq!(bytes, b"kept");
    }
    let renderers = [
        r::bool, r::int2, r::int4, r::int8, r::oid, r::uint8, r::numeric, r::money, r::bytea, r::uuid, r::bit,
        r::varbit, r::pg_lsn, r::text, r::jsonb, r::date, r::time, r::timetz, r::timestamp, r::timestamptz,
        r::interval, r::float4, r::float8, r::inet, r::cidr, r::macaddr, r::macaddr8,
    ];
    for render in renderers {
        let _ = render(raw, &mut String::new());
    }
});
