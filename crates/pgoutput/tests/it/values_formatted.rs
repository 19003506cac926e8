//! Values against formatters written for the tests alone.

use pgoutput::value::ValueErrorKind::{Inexact, OutOfRange};
use pgoutput::value::{binary, text};
use proptest::prelude::*;

use crate::values_awkward::kind;

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
