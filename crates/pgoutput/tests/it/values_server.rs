//! Both representations of each value as a real server printed them mean the same.

use pgoutput::value::{ValueErrorKind, binary, text};

use crate::data;

/// Lines of `values.tsv`: type, output text, binary send format.
fn recorded() -> Vec<(String, String, Vec<u8>)> {
    let file = String::from_utf8(data::read("values.tsv")).unwrap();
    file.lines()
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, text, hex] = fields.as_slice() else {
                panic!("{line}")
            };
            let bytes = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            ((*name).to_owned(), (*text).to_owned(), bytes)
        })
        .collect()
}

#[test]
fn text_and_binary_agree() {
    let mut checked = 0;
    for (name, shown, sent) in recorded() {
        let raw = shown.as_bytes();
        macro_rules! agree {
            ($parse:ident) => {
                assert_eq!(text::$parse(raw), binary::$parse(&sent), "{name} {shown}")
            };
        }
        match name.as_str() {
            "bool" => agree!(bool),
            "int2" => agree!(int2),
            "int4" => agree!(int4),
            "int8" => agree!(int8),
            "oid" => agree!(oid),
            "float4" => {
                let (a, b) = (text::float4(raw).unwrap(), binary::float4(&sent).unwrap());
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{shown}"
                );
            }
            "float8" => {
                let (a, b) = (text::float8(raw).unwrap(), binary::float8(&sent).unwrap());
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{shown}"
                );
            }
            "numeric" => {
                for precision in [0, 1, 5, 18, 37, 38, 39, 255] {
                    for scale in [0, 1, 2, 9, 37, 38, 60, 255] {
                        let (a, b) = (
                            text::numeric(raw, precision, scale),
                            binary::numeric(&sent, precision, scale),
                        );
                        // A value can be too long at both ends.
                        assert!(a == b || a.is_err() && b.is_err(), "{shown} {a:?} {b:?}");
                    }
                }
                let (mut from_text, mut from_binary) = (String::new(), String::new());
                text::numeric_text(raw, &mut from_text).unwrap();
                binary::numeric_text(&sent, &mut from_binary).unwrap();
                assert_eq!(from_text, shown);
                assert_eq!(from_binary, shown);
            }
            "date" => agree!(date),
            "time" => agree!(time),
            "timestamp" => agree!(timestamp),
            "timestamptz" => agree!(timestamptz),
            "uuid" => agree!(uuid),
            "bytea" => {
                let mut bytes = b"kept".to_vec();
                text::bytea(raw, &mut bytes).unwrap();
                assert_eq!(&bytes[4..], binary::bytea(&sent), "{shown}");
                assert!(bytes.starts_with(b"kept"));
            }
            "text" => agree!(text),
            "json" => agree!(json),
            "jsonb" => agree!(jsonb),
            other => panic!("no parser for {other}"),
        }
        checked += 1;
    }
    assert!(checked > 200, "{checked}");
}

/// Every recorded value is understood, but for those that a microsecond count since 1970 in 64
/// bits cannot hold.
#[test]
fn only_the_last_thirty_years_are_out_of_range() {
    let mut out_of_range = 0;
    for (name, shown, sent) in recorded() {
        let outcome = match name.as_str() {
            "timestamp" => binary::timestamp(&sent),
            "timestamptz" => binary::timestamptz(&sent),
            "date" => binary::date(&sent).map(i64::from),
            "time" => binary::time(&sent),
            _ => continue,
        };
        match outcome {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ValueErrorKind::OutOfRange, "{name} {shown}");
                assert!(shown.starts_with("2942"), "{name} {shown}");
                out_of_range += 1;
            }
        }
    }
    assert!(out_of_range >= 6, "{out_of_range}");
}
