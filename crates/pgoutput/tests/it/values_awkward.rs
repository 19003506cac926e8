//! Tables of values at the edge, and of what is none.

use std::fmt::Debug;

use pgoutput::value::ValueErrorKind::{
    Inexact, Infinity, InvalidUtf8, Malformed, NegativeInfinity, NotANumber, OutOfRange,
    UnknownVersion,
};
use pgoutput::value::{ValueError, ValueErrorKind, binary, text};

/// What a parser refused its input for.
pub(crate) fn kind<T>(outcome: Result<T, ValueError>) -> Option<ValueErrorKind> {
    outcome.err().map(|error| error.kind())
}

fn refuse<T: Debug>(
    parse: impl Fn(&[u8]) -> Result<T, ValueError>,
    expected: ValueErrorKind,
    inputs: &[&str],
) {
    for input in inputs {
        let outcome = parse(input.as_bytes());
        match outcome {
            Ok(value) => panic!("{input:?} became {value:?}"),
            Err(error) => assert_eq!(error.kind(), expected, "{input:?}"),
        }
    }
}

#[test]
fn texts_that_are_no_values() {
    refuse(text::bool, Malformed, &["", "true", "T", "0", "1", "t "]);
    refuse(
        text::int2,
        OutOfRange,
        &["32768", "-32769", "99999999999999999999"],
    );
    refuse(
        text::int4,
        Malformed,
        &["", "-", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "--1", "é"],
    );
    refuse(
        text::int8,
        OutOfRange,
        &["9223372036854775808", "-9223372036854775809"],
    );
    refuse(text::oid, Malformed, &["-1", ""]);
    refuse(text::oid, OutOfRange, &["4294967296"]);
    refuse(
        text::float8,
        Malformed,
        &["", "nan", "inf", "infinity", "+1", "1e", "e1", "1,5", "0x1"],
    );
    refuse(text::float8, OutOfRange, &["1e309", "-1e309"]);
    refuse(text::float4, OutOfRange, &["3.5e38", "-1e39"]);
    refuse(
        text::date,
        Malformed,
        &[
            "",
            "2024-02-30",
            "2023-02-29",
            "0000-01-01",
            "1-01-01",
            "2024-1-1",
            "2024-01-01 AD",
            "2024-01-01BC",
            "01/02/2024",
            "2024-13-01",
            "-2024-01-01",
            "2024-01-01 BC ",
            "Infinity",
            "12345678-01-01",
        ],
    );
    refuse(text::date, OutOfRange, &["4714-11-23 BC", "5874898-01-01"]);
    refuse(
        text::time,
        Malformed,
        &[
            "",
            "24:00:00.000001",
            "24:00:01",
            "25:00:00",
            "12:60:00",
            "12:00:60",
            "12:00",
            "12:00:00.",
            "12:00:00.1234567",
            "12:00:00+00",
            "1:00:00",
        ],
    );
    refuse(
        text::timestamp,
        Malformed,
        &[
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 24:00:00",
            "2024-01-01 00:00:00+00",
            "2024-02-30 00:00:00",
            "2024-01-01 00:00:00 BC BC",
        ],
    );
    refuse(
        text::timestamptz,
        Malformed,
        &[
            "2024-01-01 00:00:00",
            "2024-01-01 00:00:00+",
            "2024-01-01 00:00:00+1",
            "2024-01-01 00:00:00+16",
            "2024-01-01 00:00:00+00:60",
            "2024-01-01 00:00:00+00:00:00:00",
            "2024-01-01 00:00:00 UTC",
            "2024-01-01 00:00:00 BC+00",
        ],
    );
    refuse(
        text::timestamp,
        OutOfRange,
        &[
            "294247-01-10 04:00:54.775807",
            "294276-12-31 23:59:59.999999",
            "294277-01-01 00:00:00",
            "4714-11-23 23:59:59.999999 BC",
            "5874897-12-31 00:00:00",
        ],
    );
    refuse(
        text::timestamptz,
        OutOfRange,
        &[
            "4714-11-24 00:00:00+01 BC",
            "294247-01-10 04:00:54.775807+00",
        ],
    );
    refuse(
        text::uuid,
        Malformed,
        &[
            "",
            "6f1c6a0e3a514b7e9a550d2a1d3c9b10",
            "{6f1c6a0e-3a51-4b7e-9a55-0d2a1d3c9b10}",
            "6f1c6a0e-3a51-4b7e-9a55-0d2a1d3c9b1",
            "6f1c6a0e-3a51-4b7e-9a55-0d2a1d3c9b100",
            "6f1c6a0g-3a51-4b7e-9a55-0d2a1d3c9b10",
        ],
    );
    let bytea = |raw: &[u8]| text::bytea(raw, &mut Vec::new());
    refuse(
        bytea,
        Malformed,
        &[
            "\\x0", "\\x0g", "\\", "\\4", "\\400", "\\08a", "a\\", "\\X00",
        ],
    );
    assert_eq!(kind(text::text(b"\xff")), Some(InvalidUtf8));
    assert_eq!(
        text::int4(b"secret").unwrap_err().to_string(),
        "int4 value is malformed",
        "the value stays out of the message"
    );
}

#[test]
fn numerics() {
    let parse = |raw: &[u8]| text::numeric(raw, 38, 2);
    refuse(
        parse,
        Malformed,
        &[
            "", "-", ".", "1.", ".5", "+1", "1e2", "1,5", "1.2.3", "--1", " 1", "nan", "1 ",
        ],
    );
    refuse(parse, NotANumber, &["NaN"]);
    refuse(parse, Infinity, &["Infinity"]);
    refuse(parse, NegativeInfinity, &["-Infinity"]);
    refuse(parse, Inexact, &["0.001", "-1.009", "1.2300001"]);
    refuse(
        parse,
        OutOfRange,
        &[
            "1000000000000000000000000000000000000",
            &"9".repeat(60),
            &format!("1{}", "0".repeat(200)),
        ],
    );
    for (shown, expected) in [
        ("0", 0),
        ("-0.00", 0),
        ("1", 100),
        ("-1.5", -150),
        ("0.01", 1),
        ("1.2300000000000000000000000000000000000000000000", 123),
        ("0000000000000000000000000000000000000000000000001", 100),
        (
            "999999999999999999999999999999999999.99",
            99_999_999_999_999_999_999_999_999_999_999_999_999,
        ),
    ] {
        assert_eq!(parse(shown.as_bytes()), Ok(expected), "{shown}");
    }
    // A scale beyond the precision, as numeric(2, 5) has it.
    assert_eq!(text::numeric(b"0.00012", 2, 5), Ok(12));
    assert_eq!(kind(text::numeric(b"0.00123", 2, 5)), Some(OutOfRange));
}

#[test]
fn bytes_that_are_no_values() {
    assert_eq!(kind(binary::bool(&[2])), Some(Malformed));
    assert_eq!(kind(binary::bool(&[])), Some(Malformed));
    for len in [0, 1, 3, 5, 7, 9, 15, 17] {
        let raw = vec![0; len];
        assert_eq!(kind(binary::int2(&raw)), Some(Malformed));
        assert_eq!(kind(binary::int4(&raw)), Some(Malformed));
        assert_eq!(kind(binary::int8(&raw)), Some(Malformed));
        assert_eq!(kind(binary::oid(&raw)), Some(Malformed));
        assert_eq!(kind(binary::float4(&raw)), Some(Malformed));
        assert_eq!(kind(binary::float8(&raw)), Some(Malformed));
        assert_eq!(kind(binary::date(&raw)), Some(Malformed));
        assert_eq!(kind(binary::time(&raw)), Some(Malformed));
        assert_eq!(kind(binary::timestamp(&raw)), Some(Malformed));
        assert_eq!(kind(binary::timestamptz(&raw)), Some(Malformed));
        assert_eq!(kind(binary::uuid(&raw)), Some(Malformed));
    }
    assert_eq!(kind(binary::jsonb(b"")), Some(Malformed));
    assert_eq!(kind(binary::jsonb(b"\x02{}")), Some(UnknownVersion));
    assert_eq!(kind(binary::jsonb(b"\x01\xff")), Some(InvalidUtf8));
    assert_eq!(
        kind(binary::time(&(-1_i64).to_be_bytes())),
        Some(OutOfRange)
    );
    assert_eq!(
        kind(binary::time(&86_400_000_001_i64.to_be_bytes())),
        Some(OutOfRange)
    );
    for days in [-2_451_546_i32, 2_145_031_949, i32::MAX - 1, i32::MIN + 1] {
        assert_eq!(
            kind(binary::date(&days.to_be_bytes())),
            Some(OutOfRange),
            "{days}"
        );
    }
    assert_eq!(
        binary::date(&(-2_451_545_i32).to_be_bytes()),
        Ok(-2_440_588)
    );
    assert_eq!(
        binary::date(&2_145_031_948_i32.to_be_bytes()),
        Ok(2_145_042_905)
    );
    for micros in [
        -211_813_488_000_000_001_i64,
        // Would be the sign of infinity.
        i64::MAX - 946_684_800_000_000,
        9_223_371_331_199_999_999,
        9_223_371_331_200_000_000,
        i64::MAX - 1,
        i64::MIN + 1,
    ] {
        assert_eq!(
            kind(binary::timestamp(&micros.to_be_bytes())),
            Some(OutOfRange),
            "{micros}"
        );
    }
    assert_eq!(
        binary::timestamp(&(-211_813_488_000_000_000_i64).to_be_bytes()),
        Ok(-210_866_803_200_000_000)
    );
    assert_eq!(
        binary::timestamp(&(i64::MAX - 946_684_800_000_001).to_be_bytes()),
        Ok(i64::MAX - 1)
    );
}

#[test]
fn infinities() {
    assert_eq!(text::date(b"infinity"), Ok(2_147_483_647));
    assert_eq!(text::date(b"-infinity"), Ok(-2_147_483_647));
    assert_eq!(binary::date(&i32::MAX.to_be_bytes()), Ok(2_147_483_647));
    assert_eq!(binary::date(&i32::MIN.to_be_bytes()), Ok(-2_147_483_647));
    for parse in [text::timestamp, text::timestamptz] {
        assert_eq!(parse(b"infinity"), Ok(9_223_372_036_854_775_807));
        assert_eq!(parse(b"-infinity"), Ok(-9_223_372_036_854_775_807));
    }
    for parse in [binary::timestamp, binary::timestamptz] {
        assert_eq!(
            parse(&i64::MAX.to_be_bytes()),
            Ok(9_223_372_036_854_775_807)
        );
        assert_eq!(
            parse(&i64::MIN.to_be_bytes()),
            Ok(-9_223_372_036_854_775_807)
        );
    }
    assert!(text::float4(b"NaN").unwrap().is_nan());
    assert_eq!(text::float4(b"-Infinity"), Ok(f32::NEG_INFINITY));
    assert_eq!(text::float8(b"Infinity"), Ok(f64::INFINITY));
}

#[test]
fn binary_numerics_that_no_server_sends() {
    let numeric = |count: i16, weight: i16, sign: u16, scale: u16, groups: &[u16]| {
        let mut raw = count.to_be_bytes().to_vec();
        raw.extend(weight.to_be_bytes());
        raw.extend(sign.to_be_bytes());
        raw.extend(scale.to_be_bytes());
        raw.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        raw
    };
    for raw in [
        vec![],
        numeric(-1, 0, 0, 0, &[]),
        numeric(2, 0, 0, 0, &[1]),
        numeric(1, 0, 0, 0, &[1, 2]),
        numeric(1, 0, 0, 0, &[10_000]),
        numeric(1, 0, 0x8000, 0, &[1]),
        numeric(1, 0, 0, 0x4000, &[1]),
        numeric(1, 0, 0xC000, 0, &[]),
        numeric(0, 0, 0, 0, &[])[..7].to_vec(),
    ] {
        let mut printed = "kept".to_owned();
        assert_eq!(
            kind(binary::numeric(&raw, 38, 0)),
            Some(Malformed),
            "{raw:?}"
        );
        assert_eq!(
            kind(binary::numeric_text(&raw, &mut printed)),
            Some(Malformed),
            "{raw:?}"
        );
        assert_eq!(printed, "kept");
    }
    let print = |raw: &[u8]| {
        let mut printed = String::new();
        binary::numeric_text(raw, &mut printed).unwrap();
        printed
    };
    // Groups of zeros in front and behind, and zeros with a sign or a weight.
    assert_eq!(print(&numeric(4, 2, 0, 1, &[0, 0, 12, 5000])), "12.5");
    assert_eq!(print(&numeric(2, 0, 0x4000, 2, &[0, 0])), "0.00");
    assert_eq!(print(&numeric(0, 9, 0, 0, &[])), "0");
    assert_eq!(
        binary::numeric(&numeric(4, 2, 0, 1, &[0, 0, 12, 5000]), 38, 1),
        Ok(125)
    );
    assert_eq!(binary::numeric(&numeric(0, 0x7FFF, 0, 0, &[]), 1, 0), Ok(0));
    // Extremes of weight and scale.
    assert_eq!(
        kind(binary::numeric(&numeric(1, i16::MAX, 0, 0, &[1]), 38, 0)),
        Some(OutOfRange)
    );
    assert_eq!(
        kind(binary::numeric(&numeric(1, i16::MIN, 0, 0, &[1]), 38, 255)),
        Some(Inexact)
    );
    assert_eq!(print(&numeric(1, i16::MAX, 0, 0, &[1])).len(), 131_069);
    assert_eq!(
        print(&numeric(1, i16::MIN, 0, 0x3FFF, &[1])),
        format!("0.{}", "0".repeat(16_383))
    );
}

#[test]
fn a_numeric_has_more_groups_than_a_signed_number_counts() {
    let groups = 0x8000_u16;
    let mut raw = Vec::new();
    for number in [groups, groups - 1, 0, 0] {
        raw.extend(number.to_be_bytes());
    }
    for _ in 0..groups {
        raw.extend(9_999_u16.to_be_bytes());
    }
    let mut printed = String::new();
    binary::numeric_text(&raw, &mut printed).unwrap();
    assert_eq!(printed, "9".repeat(131_072));
}
