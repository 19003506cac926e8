//! Values against formatters written for the tests alone, and tables of awkward ones.

use std::fmt::Debug;

use pgoutput::value::ValueErrorKind::{
    self, Inexact, Infinity, InvalidUtf8, Malformed, NegativeInfinity, NotANumber, OutOfRange,
    UnknownVersion,
};
use pgoutput::value::{ValueError, binary, text};
use proptest::prelude::*;

const DAY: i64 = 86_400_000_000;

/// `YYYY-MM-DD` and whether it is before Christ, by walking from the epoch: whole cycles of 400
/// years, then years, then months.
fn show_date(days: i64) -> (String, bool) {
    let cycles = days.div_euclid(146_097);
    let mut left = days.rem_euclid(146_097);
    let mut year = 1970 + 400 * cycles;
    let leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    while left >= 365 + i64::from(leap(year)) {
        left -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [
        31,
        28 + i64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let shown = if year > 0 { year } else { 1 - year };
    (format!("{shown:04}-{month:02}-{:02}", left + 1), year <= 0)
}

fn show_time(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    let mut shown = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if micros % 1_000_000 != 0 {
        shown += format!(".{:06}", micros % 1_000_000).trim_end_matches('0');
    }
    shown
}

fn show_timestamp(micros: i64, offset: &str) -> String {
    let (date, bc) = show_date(micros.div_euclid(DAY));
    let time = show_time(micros.rem_euclid(DAY));
    format!("{date} {time}{offset}{}", if bc { " BC" } else { "" })
}

fn show_offset(seconds: i64) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let size = seconds.abs();
    let mut shown = format!("{sign}{:02}", size / 3600);
    if size % 3600 != 0 {
        shown += &format!(":{:02}", size / 60 % 60);
    }
    if size % 60 != 0 {
        shown += &format!(":{:02}", size % 60);
    }
    shown
}

/// The decimal text of `units * 10^-scale`.
fn show_decimal(units: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if units < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// The send format of a decimal text, by aligning the text to groups of four digits.
fn send_numeric(shown: &str) -> Vec<u8> {
    let (sign, digits) = shown
        .strip_prefix('-')
        .map_or((0_u16, shown), |rest| (0x4000, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let scale = fraction.len();
    let whole = format!("{}{whole}", "0".repeat((4 - whole.len() % 4) % 4));
    let fraction = format!("{fraction}{}", "0".repeat((4 - scale % 4) % 4));
    let all = format!("{whole}{fraction}");
    let mut groups: Vec<u16> = (0..all.len() / 4)
        .map(|i| all[4 * i..4 * i + 4].parse().unwrap())
        .collect();
    let mut weight = i16::try_from(whole.len() / 4).unwrap() - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    let mut sent = u16::try_from(groups.len()).unwrap().to_be_bytes().to_vec();
    sent.extend(weight.to_be_bytes());
    sent.extend(sign.to_be_bytes());
    sent.extend(u16::try_from(scale).unwrap().to_be_bytes());
    sent.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
    sent
}

proptest! {
    #[test]
    fn integers(a: i16, b: i32, c: i64, d: u32) {
        prop_assert_eq!(text::int2(a.to_string().as_bytes()), Ok(a));
        prop_assert_eq!(text::int4(b.to_string().as_bytes()), Ok(b));
        prop_assert_eq!(text::int8(c.to_string().as_bytes()), Ok(c));
        prop_assert_eq!(text::oid(d.to_string().as_bytes()), Ok(d));
        prop_assert_eq!(binary::int2(&a.to_be_bytes()), Ok(a));
        prop_assert_eq!(binary::int4(&b.to_be_bytes()), Ok(b));
        prop_assert_eq!(binary::int8(&c.to_be_bytes()), Ok(c));
        prop_assert_eq!(binary::oid(&d.to_be_bytes()), Ok(d));
    }

    #[test]
    fn floats(a in any::<u32>().prop_map(f32::from_bits), b in any::<u64>().prop_map(f64::from_bits)) {
        prop_assert_eq!(binary::float4(&a.to_be_bytes()).unwrap().to_bits(), a.to_bits());
        prop_assert_eq!(binary::float8(&b.to_be_bytes()).unwrap().to_bits(), b.to_bits());
        if a.is_finite() {
            for shown in [format!("{a:e}"), format!("{a}")] {
                prop_assert_eq!(text::float4(shown.as_bytes()).unwrap().to_bits(), a.to_bits());
            }
        }
        if b.is_finite() {
            for shown in [format!("{b:e}"), format!("{b}")] {
                prop_assert_eq!(text::float8(shown.as_bytes()).unwrap().to_bits(), b.to_bits());
            }
        }
    }

    #[test]
    fn decimals(
        units in prop_oneof![
            -99_999_999_999_999_999_999_999_999_999_999_999_999_i128
                ..=99_999_999_999_999_999_999_999_999_999_999_999_999,
            -1_000_000_i128..1_000_000,
        ],
        scale in 0_u8..=38,
    ) {
        let shown = show_decimal(units, usize::from(scale));
        let sent = send_numeric(&shown);
        prop_assert_eq!(text::numeric(shown.as_bytes(), 38, scale), Ok(units));
        prop_assert_eq!(binary::numeric(&sent, 38, scale), Ok(units));
        let mut printed = String::new();
        binary::numeric_text(&sent, &mut printed).unwrap();
        prop_assert_eq!(&printed, &shown);

        // The least precision is that of its digits; one less is too little.
        let digits = u8::try_from(units.unsigned_abs().to_string().len()).unwrap();
        let digits = if units == 0 { 0 } else { digits };
        prop_assert_eq!(text::numeric(shown.as_bytes(), digits, scale), Ok(units));
        prop_assert_eq!(binary::numeric(&sent, digits, scale), Ok(units));
        if let Some(less) = digits.checked_sub(1) {
            prop_assert_eq!(kind(text::numeric(shown.as_bytes(), less, scale)), Some(OutOfRange));
            prop_assert_eq!(kind(binary::numeric(&sent, less, scale)), Some(OutOfRange));
        }
        // One decimal place less is exact only if the last digit is zero.
        if let Some(less) = scale.checked_sub(1) {
            let expected = if units % 10 == 0 { Ok(units / 10) } else { Err(Inexact) };
            prop_assert_eq!(text::numeric(shown.as_bytes(), 38, less).map_err(|e| e.kind()), expected);
            prop_assert_eq!(binary::numeric(&sent, 38, less).map_err(|e| e.kind()), expected);
        }
    }

    #[test]
    fn long_decimals_keep_their_text(
        sign in "-?", whole in "0|[1-9][0-9]{0,60}", fraction in "(\\.[0-9]{1,60})?",
    ) {
        let shown = format!("{sign}{whole}{fraction}");
        // The server has no negative zero.
        let zero = shown.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
        let expected = if zero { shown.trim_start_matches('-') } else { &shown };
        let mut printed = "kept".to_owned();
        binary::numeric_text(&send_numeric(&shown), &mut printed).unwrap();
        prop_assert_eq!(&printed["kept".len()..], expected);
    }

    #[test]
    fn dates(days in prop_oneof![-2_440_588_i32..=2_145_042_905, -1_000_000..1_000_000]) {
        let (date, bc) = show_date(i64::from(days));
        let shown = format!("{date}{}", if bc { " BC" } else { "" });
        prop_assert_eq!(text::date(shown.as_bytes()), Ok(days));
        prop_assert_eq!(binary::date(&(days - 10_957).to_be_bytes()), Ok(days));
    }

    #[test]
    fn times(micros in 0..=DAY) {
        prop_assert_eq!(text::time(show_time(micros).as_bytes()), Ok(micros));
        prop_assert_eq!(binary::time(&micros.to_be_bytes()), Ok(micros));
    }

    #[test]
    fn timestamps(
        micros in prop_oneof![
            -210_866_803_200_000_000..9_223_371_331_200_000_000_i64,
            -100 * DAY..100 * DAY,
            (-10_000_i64..10_000).prop_map(|second| second * 1_000_000),
        ],
        offset in -57_599_i64..=57_599,
    ) {
        let sent = (micros - 946_684_800_000_000).to_be_bytes();
        prop_assert_eq!(text::timestamp(show_timestamp(micros, "").as_bytes()), Ok(micros));
        prop_assert_eq!(binary::timestamp(&sent), Ok(micros));
        let local = show_timestamp(micros + offset * 1_000_000, &show_offset(offset));
        prop_assert_eq!(text::timestamptz(local.as_bytes()), Ok(micros));
        prop_assert_eq!(binary::timestamptz(&sent), Ok(micros));
    }

    #[test]
    fn uuids(uuid: [u8; 16]) {
        let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        prop_assert_eq!(text::uuid(shown.as_bytes()), Ok(uuid));
        prop_assert_eq!(text::uuid(shown.to_uppercase().as_bytes()), Ok(uuid));
        prop_assert_eq!(binary::uuid(&uuid), Ok(uuid));
    }

    #[test]
    fn byte_strings(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let escaped: Vec<u8> = bytes
            .iter()
            .flat_map(|byte| match byte {
                b'\\' => b"\\\\".to_vec(),
                0x20..=0x7E => vec![*byte],
                _ => format!("\\{byte:03o}").into_bytes(),
            })
            .collect();
        for shown in [format!("\\x{hex}").into_bytes(), escaped] {
            let mut parsed = Vec::new();
            text::bytea(&shown, &mut parsed).unwrap();
            prop_assert_eq!(&parsed, &bytes);
        }
    }

    #[test]
    fn strings(shown: String) {
        prop_assert_eq!(text::text(shown.as_bytes()), Ok(shown.as_str()));
        prop_assert_eq!(text::json(shown.as_bytes()), Ok(shown.as_str()));
        let sent = [b"\x01", shown.as_bytes()].concat();
        prop_assert_eq!(binary::jsonb(&sent), Ok(shown.as_str()));
    }
}

fn kind<T>(outcome: Result<T, ValueError>) -> Option<ValueErrorKind> {
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
        kind(binary::time(&(DAY + 1).to_be_bytes())),
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
