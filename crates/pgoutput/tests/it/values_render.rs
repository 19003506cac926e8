//! Output text made from the binary format, against what a real server printed.

use std::borrow::Cow;

use pgoutput::value::ValueErrorKind::{Malformed, OutOfRange, UnknownVersion};
use pgoutput::value::{ValueError, binary, render, text};
use proptest::prelude::*;

use crate::data;
use crate::values_awkward::kind;

type Render = fn(&[u8], &mut String) -> Result<(), ValueError>;

const RENDERERS: [(&str, Render); 29] = [
    ("bool", render::bool),
    ("int2", render::int2),
    ("int4", render::int4),
    ("int8", render::int8),
    ("oid", render::oid),
    ("uint8", render::uint8),
    ("float4", render::float4),
    ("float8", render::float8),
    ("numeric", render::numeric),
    ("money", render::money),
    ("bytea", render::bytea),
    ("date", render::date),
    ("time", render::time),
    ("timetz", render::timetz),
    ("timestamp", render::timestamp),
    ("timestamptz", render::timestamptz),
    ("interval", render::interval),
    ("uuid", render::uuid),
    ("inet", render::inet),
    ("cidr", render::cidr),
    ("macaddr", render::macaddr),
    ("macaddr8", render::macaddr8),
    ("bit", render::bit),
    ("varbit", render::varbit),
    ("pg_lsn", render::pg_lsn),
    ("text", render::text),
    ("jsonb", render::jsonb),
    ("array", array),
    ("record", record),
];

fn rendered(render: Render, sent: &[u8]) -> Result<String, ValueError> {
    let mut shown = "kept".to_owned();
    let outcome = render(sent, &mut shown);
    let shown = shown.strip_prefix("kept").unwrap().to_owned();
    if outcome.is_err() {
        assert_eq!(shown, "", "nothing is appended on an error");
    }
    outcome.map(|()| shown)
}

const TEXT: u32 = 25;
const INT4: u32 = 23;
const FLOAT8: u32 = 701;

fn element(type_oid: u32, sent: &[u8]) -> Result<String, ValueError> {
    match type_oid {
        TEXT => rendered(render::text, sent),
        INT4 => rendered(render::int4, sent),
        FLOAT8 => rendered(render::float8, sent),
        // The other types of the recorded values are rows.
        _ => rendered(record, sent),
    }
}

/// `array_out`, from the parts of the crate.
fn array(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let array = binary::array(raw)?;
    let shape = array.shape();
    let mut out = String::new();
    if shape.iter().any(|dimension| dimension.lower != 1) {
        for dimension in shape {
            let lower = i64::from(dimension.lower);
            let upper = lower + i64::from(dimension.length) - 1;
            out += &format!("[{lower}:{upper}]");
        }
        out.push('=');
    }
    // How many elements a part of each dimension has, innermost first.
    let parts: Vec<usize> = shape
        .iter()
        .rev()
        .scan(1, |size, dimension| {
            *size *= usize::try_from(dimension.length).unwrap();
            Some(*size)
        })
        .collect();
    for (position, element_sent) in array.elements().enumerate() {
        if position > 0 {
            out.push(',');
        }
        for _ in parts.iter().filter(|part| position % **part == 0) {
            out.push('{');
        }
        match element_sent? {
            None => out.push_str("NULL"),
            Some(sent) => {
                let shown = element(array.element_type(), sent)?;
                render::array_element(&shown, b',', &mut out);
            }
        }
        for _ in parts.iter().filter(|part| (position + 1) % **part == 0) {
            out.push('}');
        }
    }
    if parts.is_empty() {
        out.push_str("{}");
    }
    dst.push_str(&out);
    Ok(())
}

/// `record_out`, from the parts of the crate.
fn record(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let record = binary::record(raw)?;
    let mut out = "(".to_owned();
    for (position, field) in record.fields().enumerate() {
        if position > 0 {
            out.push(',');
        }
        let (type_oid, sent) = field?;
        if let Some(sent) = sent {
            render::record_field(&element(type_oid, sent)?, &mut out);
        }
    }
    assert_eq!(record.fields().count(), record.len());
    dst.push_str(&out);
    dst.push(')');
    Ok(())
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

/// Lines of `render.tsv`: type, output text, binary send format.
fn recorded() -> Vec<(String, String, Vec<u8>)> {
    let file = String::from_utf8(data::read("render.tsv")).unwrap();
    file.lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, shown, sent] = fields.as_slice() else {
                panic!("{line}")
            };
            let shown = if matches!(*name, "array" | "box" | "record") {
                String::from_utf8(from_hex(shown)).unwrap()
            } else {
                (*shown).to_owned()
            };
            ((*name).to_owned(), shown, from_hex(sent))
        })
        .collect()
}

fn renderer(name: &str) -> Option<Render> {
    RENDERERS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, render)| *render)
}

#[test]
fn as_the_server_prints_it() {
    let mut seen = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, shown, sent) in recorded() {
        if let Some(render) = renderer(&name) {
            let made = rendered(render, &sent);
            if made.as_ref() != Ok(&shown) {
                wrong.push(format!("{name} {shown} became {made:?}"));
            }
        }
        seen.insert(name);
    }
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (name, _) in RENDERERS {
        assert!(seen.contains(name), "no recorded {name}");
    }
}

/// The values recorded for the parsers, where they were printed in the same settings.
#[test]
fn as_the_server_printed_it_before() {
    let file = String::from_utf8(data::read("values.tsv")).unwrap();
    for line in file.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [name, shown, sent] = fields.as_slice() else {
            panic!("{line}")
        };
        let other_zone = *name == "timestamptz"
            && !(shown.ends_with("+00")
                || shown.ends_with("+00 BC")
                || shown.ends_with("infinity"));
        let escaped = *name == "bytea" && !shown.starts_with("\\x");
        if !other_zone && !escaped && *name != "json" {
            let made = rendered(renderer(name).unwrap(), &from_hex(sent));
            assert_eq!(made.as_deref(), Ok(*shown), "{name}");
        }
    }
}

#[test]
fn both_formats_of_arrays_and_rows_agree() {
    let owned = |value: Option<Cow<'_, [u8]>>| value.map(Cow::into_owned);
    for (name, shown, sent) in recorded() {
        match name.as_str() {
            "array" | "box" => {
                let delimiter = if name == "box" { b';' } else { b',' };
                let from_text = text::array(shown.as_bytes(), delimiter).unwrap();
                let from_binary = binary::array(&sent).unwrap();
                assert_eq!(from_text.shape(), from_binary.shape(), "{shown}");
                assert_eq!(
                    from_text.elements().count(),
                    from_binary.elements().count(),
                    "{shown}"
                );
                for (a, b) in from_text.elements().zip(from_binary.elements()) {
                    let (a, b) = (owned(a.unwrap()), b.unwrap());
                    assert_eq!(a.is_some(), b.is_some(), "{shown}");
                    if from_binary.element_type() == TEXT {
                        assert_eq!(a.as_deref(), b, "{shown}");
                    }
                }
            }
            "record" => {
                let from_text = text::record(shown.as_bytes()).unwrap();
                let from_binary = binary::record(&sent).unwrap();
                assert_eq!(from_text.fields().count(), from_binary.len().max(1));
                for (a, b) in from_text.fields().zip(from_binary.fields()) {
                    let (a, (type_oid, b)) = (owned(a.unwrap()), b.unwrap());
                    let b = b.map(|sent| element(type_oid, sent).unwrap().into_bytes());
                    assert_eq!(a, b, "{shown}");
                }
            }
            "money" => assert_eq!(text::money(shown.as_bytes()), binary::money(&sent)),
            "uint8" => assert_eq!(text::uint8(shown.as_bytes()), binary::uint8(&sent)),
            _ => {}
        }
    }
}

/// The limits of what is recorded, from both sides.
#[test]
fn values_at_the_edge() {
    let interval = |micros: i64, days: i32, months: i32| {
        let sent = [
            &micros.to_be_bytes()[..],
            &days.to_be_bytes(),
            &months.to_be_bytes(),
        ]
        .concat();
        rendered(render::interval, &sent).unwrap()
    };
    assert_eq!(interval(i64::MAX, i32::MAX, i32::MAX), "infinity");
    assert_eq!(interval(i64::MIN, i32::MIN, i32::MIN), "-infinity");
    assert_eq!(
        interval(i64::MIN, i32::MIN, i32::MAX),
        "178956970 years 7 mons -2147483648 days -2562047788:00:54.775808"
    );
    assert_eq!(
        interval(i64::MAX, i32::MAX, i32::MIN),
        "-178956970 years -8 mons +2147483647 days 2562047788:00:54.775807"
    );
    let at = |pg_micros: i64| rendered(render::timestamp, &pg_micros.to_be_bytes());
    assert_eq!(kind(at(9_223_371_331_200_000_000)), Some(OutOfRange));
    assert_eq!(kind(at(-211_813_488_000_000_001)), Some(OutOfRange));
    assert_eq!(
        at(-211_813_488_000_000_000).unwrap(),
        "4714-11-24 00:00:00 BC"
    );
    assert_eq!(kind(at(i64::MAX - 1)), Some(OutOfRange));
    assert_eq!(kind(at(i64::MIN + 1)), Some(OutOfRange));
}

#[test]
fn bytes_that_are_no_values() {
    let refused = |render: Render, sent: &[u8]| kind(rendered(render, sent));
    for (name, render) in RENDERERS {
        if !matches!(name, "text" | "bytea") {
            assert_eq!(refused(render, &[]), Some(Malformed), "{name}");
        }
        if !matches!(name, "text" | "bytea" | "jsonb") {
            assert_eq!(refused(render, &[0; 41]), Some(Malformed), "{name}");
        }
    }
    assert_eq!(refused(render::jsonb, b"\x02{}"), Some(UnknownVersion));
    for sent in [
        [2, 33, 0, 4, 1, 2, 3, 4],
        [4, 32, 0, 4, 1, 2, 3, 4],
        [2, 32, 2, 4, 1, 2, 3, 4],
        [2, 32, 0, 5, 1, 2, 3, 4],
        [3, 32, 0, 4, 1, 2, 3, 4],
    ] {
        assert_eq!(refused(render::inet, &sent), Some(Malformed), "{sent:?}");
    }
    for sent in [
        &[0, 0, 0, 9, 0xFF][..],
        &[0, 0, 0, 8, 0xFF, 0],
        &[0xFF; 5],
        &[0x7F, 0xFF, 0xFF, 0xFF],
    ] {
        assert_eq!(refused(render::bit, sent), Some(Malformed), "{sent:?}");
        assert_eq!(refused(render::varbit, sent), Some(Malformed), "{sent:?}");
    }
    let timetz = |micros: i64, zone: i32| {
        refused(
            render::timetz,
            &[&micros.to_be_bytes()[..], &zone.to_be_bytes()].concat(),
        )
    };
    assert_eq!(timetz(0, 57_599), None);
    assert_eq!(timetz(0, 57_600), Some(OutOfRange));
    assert_eq!(timetz(0, i32::MIN), Some(OutOfRange));
    assert_eq!(timetz(-1, 0), Some(OutOfRange));
    assert_eq!(timetz(86_400_000_001, 0), Some(OutOfRange));
}

#[test]
fn recorded_values_cut_short_or_changed_do_not_panic() {
    for (name, _, sent) in recorded() {
        let Some(render) = renderer(&name) else {
            continue;
        };
        for end in 0..sent.len() {
            let _ = rendered(render, &sent[..end]);
            let mut changed = sent.clone();
            for mask in [0x01, 0x80, 0xFF] {
                changed[end] = sent[end] ^ mask;
                let _ = rendered(render, &changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_do_not_panic(
        sent in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::collection::vec(prop_oneof![Just(0), Just(1), Just(255)], 0..40),
        ],
    ) {
        for (_, render) in RENDERERS {
            // Also checks that nothing is appended on an error.
            let _ = rendered(render, &sent);
        }
    }

    #[test]
    fn floats_come_back(a: u32, b: u64) {
        for (render, parsed, bits) in [
            (render::float4 as Render, u64::from(a), a.to_be_bytes().to_vec()),
            (render::float8, b, b.to_be_bytes().to_vec()),
        ] {
            let shown = rendered(render, &bits).unwrap();
            let back = if bits.len() == 4 {
                let value = text::float4(shown.as_bytes()).unwrap();
                prop_assume!(!value.is_nan());
                u64::from(value.to_bits())
            } else {
                let value = text::float8(shown.as_bytes()).unwrap();
                prop_assume!(!value.is_nan());
                value.to_bits()
            };
            prop_assert_eq!(back, parsed, "{}", shown);
        }
    }

    #[test]
    fn times_come_back(day in -2_440_588_i64..=106_000_000, micros in 0..86_400_000_000_i64, cents: i64) {
        let pg_days = i32::try_from(day - 10_957).unwrap();
        let shown = rendered(render::date, &pg_days.to_be_bytes()).unwrap();
        prop_assert_eq!(text::date(shown.as_bytes()).map(i64::from), Ok(day));
        let sent = (i64::from(pg_days) * 86_400_000_000 + micros).to_be_bytes();
        let shown = rendered(render::timestamp, &sent).unwrap();
        prop_assert_eq!(text::timestamp(shown.as_bytes()), binary::timestamp(&sent));
        let shown = rendered(render::timestamptz, &sent).unwrap();
        prop_assert_eq!(text::timestamptz(shown.as_bytes()), binary::timestamptz(&sent));
        let shown = rendered(render::time, &micros.to_be_bytes()).unwrap();
        prop_assert_eq!(text::time(shown.as_bytes()), Ok(micros));
        let shown = rendered(render::money, &cents.to_be_bytes()).unwrap();
        prop_assert_eq!(text::money(shown.as_bytes()), Ok(cents));
    }
}
