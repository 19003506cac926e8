use proptest::prelude::*;

use super::*;

fn decimal(precision: u8, scale: u8) -> LakeType {
    LakeType::Decimal { precision, scale }
}

/// Section "min/max encodings": each line was read from a catalog that DuckDB 1.5.5 wrote, or from
/// its cast to VARCHAR.
#[test]
fn text_is_what_duckdb_writes() {
    let day = MICROS_PER_DAY;
    let ides = -735_160;
    let table: Vec<(LakeType, StatValue, &str)> = vec![
        (LakeType::Boolean, StatValue::Bool(false), "0"),
        (LakeType::Boolean, StatValue::Bool(true), "1"),
        (LakeType::Int8, StatValue::Int(-128), "-128"),
        (
            LakeType::UInt64,
            StatValue::Int(i64::MAX),
            "9223372036854775807",
        ),
        (LakeType::Float32, StatValue::Float32(0.1), "0.1"),
        (LakeType::Float32, StatValue::Float32(1e16), "1e+16"),
        (
            LakeType::Float32,
            StatValue::Float32(16_777_216.0),
            "16777216.0",
        ),
        (
            LakeType::Float32,
            StatValue::Float32(123_456_789.0),
            "123456790.0",
        ),
        (
            LakeType::Float32,
            StatValue::Float32(f32::MAX),
            "3.4028235e+38",
        ),
        (
            LakeType::Float32,
            StatValue::Float32(f32::from_bits(1)),
            "1e-45",
        ),
        (LakeType::Float64, StatValue::Float64(-1e300), "-1e+300"),
        (
            LakeType::Float64,
            StatValue::Float64(1e15),
            "1000000000000000.0",
        ),
        (LakeType::Float64, StatValue::Float64(1e16), "1e+16"),
        (
            LakeType::Float64,
            StatValue::Float64(123_456_789_012_345_680.0),
            "1.2345678901234568e+17",
        ),
        (LakeType::Float64, StatValue::Float64(1e-4), "0.0001"),
        (LakeType::Float64, StatValue::Float64(1e-5), "1e-05"),
        (
            LakeType::Float64,
            StatValue::Float64(0.000_123_45),
            "0.00012345",
        ),
        (LakeType::Float64, StatValue::Float64(0.5), "0.5"),
        (LakeType::Float64, StatValue::Float64(0.0), "0.0"),
        (LakeType::Float64, StatValue::Float64(-0.0), "-0.0"),
        (
            LakeType::Float64,
            StatValue::Float64(1_234_567_890_123_456.7),
            "1234567890123456.8",
        ),
        (LakeType::Float64, StatValue::Float64(5e-324), "5e-324"),
        (
            LakeType::Float64,
            StatValue::Float64(f64::MAX),
            "1.7976931348623157e+308",
        ),
        (
            LakeType::Float64,
            StatValue::Float64(f64::NEG_INFINITY),
            "-inf",
        ),
        (LakeType::Float64, StatValue::Float64(f64::INFINITY), "inf"),
        (
            decimal(20, 10),
            StatValue::Decimal {
                value: -123_400_000_000,
                scale: 10,
            },
            "-12.3400000000",
        ),
        (
            decimal(5, 2),
            StatValue::Decimal {
                value: -5,
                scale: 2,
            },
            "-0.05",
        ),
        (
            decimal(5, 2),
            StatValue::Decimal { value: 0, scale: 2 },
            "0.00",
        ),
        (
            decimal(38, 0),
            StatValue::Decimal {
                value: 12,
                scale: 0,
            },
            "12",
        ),
        (LakeType::Varchar, StatValue::Utf8(String::new()), ""),
        (
            LakeType::Varchar,
            StatValue::Utf8("a 'b' \"c\"".into()),
            "a 'b' \"c\"",
        ),
        (
            LakeType::Json,
            StatValue::Utf8("{\"a\": 1}".into()),
            "{\"a\": 1}",
        ),
        (LakeType::Date, StatValue::Date(19_782), "2024-02-29"),
        (LakeType::Date, StatValue::Date(ides), "0044-03-15 (BC)"),
        (LakeType::Date, StatValue::Date(i32::MAX), "infinity"),
        (LakeType::Date, StatValue::Date(-i32::MAX), "-infinity"),
        (LakeType::Time, StatValue::Time(0), "00:00:00"),
        (LakeType::Time, StatValue::Time(day - 1), "23:59:59.999999"),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(19_875 * day + 43_200_123_456),
            "2024-06-01 12:00:00.123456",
        ),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(i64::from(ides) * day + day / 2),
            "0044-03-15 (BC) 12:00:00",
        ),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(i64::MAX),
            "infinity",
        ),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(-i64::MAX),
            "-infinity",
        ),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(i64::MAX - 1),
            "294247-01-10 04:00:54.775806",
        ),
        (
            LakeType::Timestamp,
            StatValue::Timestamp(FIRST_TIMESTAMP),
            "290309-12-22 (BC) 00:00:00",
        ),
        (
            LakeType::TimestampTz,
            StatValue::TimestampTz(19_722 * day + 79_200_000_000),
            "2023-12-31 22:00:00+00",
        ),
        (
            LakeType::TimestampTz,
            StatValue::TimestampTz(i64::MAX),
            "infinity",
        ),
        (
            LakeType::Uuid,
            StatValue::Uuid(*b"\x01\xa2\x07\x32\xe7\x2c\x78\xad\xa1\x54\xd5\x8c\x00\x60\x9f\xa7"),
            "01a20732-e72c-78ad-a154-d58c00609fa7",
        ),
    ];
    for (ty, value, text) in table {
        assert!(fits(&value, &ty), "{text}");
        assert_eq!(render(&value).as_deref(), Some(text));
        assert!(
            parse(text, &ty).as_ref() == Some(&value),
            "{text} reads back"
        );
    }
}

#[test]
fn what_the_catalog_cannot_hold_has_no_text() {
    for value in [
        StatValue::Utf8("a\0b".into()),
        StatValue::Utf8("x".repeat(MAX_STRING_BYTES + 1)),
        StatValue::Float32(f32::NAN),
        StatValue::Float64(f64::NAN),
        StatValue::Date(i32::MIN),
        StatValue::Time(-1),
        StatValue::Time(MICROS_PER_DAY + 1),
        StatValue::Timestamp(i64::MIN),
        StatValue::TimestampTz(FIRST_TIMESTAMP - 1),
    ] {
        assert_eq!(render(&value), None, "{value:?}");
    }
    assert!(render(&StatValue::Utf8("x".repeat(MAX_STRING_BYTES))).is_some());
}

#[test]
fn foreign_text_that_is_not_understood_is_refused() {
    for (ty, text) in [
        (LakeType::Boolean, "yes"),
        (LakeType::Int8, "128"),
        (LakeType::Int32, "abc"),
        (LakeType::Int32, ""),
        (LakeType::UInt32, "-1"),
        (LakeType::UInt64, "18446744073709551615"),
        (LakeType::Float64, "nan"),
        (decimal(5, 2), "1.234"),
        (decimal(5, 2), "--1"),
        (decimal(5, 2), "."),
        (
            decimal(38, 38),
            "123456789012345678901234567890123456789012",
        ),
        (LakeType::Date, "2024-02-30"),
        (LakeType::Date, "0044-03-15 BC"),
        (LakeType::Timestamp, "2024-01-01"),
        (LakeType::Timestamp, "2024-01-01 00:00:00+00"),
        (LakeType::TimestampTz, "2024-01-01 00:00:00"),
        (LakeType::TimestampTz, "2024-01-01 00:00:00+02"),
        (LakeType::Uuid, "01a20732"),
        (LakeType::Blob, "00FF"),
        (LakeType::Interval, "1 day"),
        (LakeType::TimestampNs, "2024-01-01 00:00:00"),
    ] {
        assert!(parse(text, &ty).is_none(), "{ty} {text}");
    }
    assert!(parse("true", &LakeType::Boolean) == Some(StatValue::Bool(true)));
}

#[test]
fn values_of_another_type_do_not_fit() {
    for (value, ty) in [
        (StatValue::Int(128), LakeType::Int8),
        (StatValue::Int(-1), LakeType::UInt64),
        (StatValue::Int(1 << 32), LakeType::UInt32),
        (StatValue::Int(1), LakeType::Varchar),
        (StatValue::Float32(1.0), LakeType::Float64),
        (StatValue::Decimal { value: 1, scale: 1 }, decimal(10, 2)),
        (StatValue::Timestamp(0), LakeType::TimestampTz),
        (StatValue::Utf8(String::new()), LakeType::Blob),
    ] {
        assert!(!fits(&value, &ty), "{value:?} {ty}");
    }
}

proptest! {
    #[test]
    fn floats_read_back_as_the_same_bits(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        let text = render(&StatValue::Float64(value)).unwrap();
        prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits);
    }

    #[test]
    fn single_floats_read_back_as_the_same_bits(bits in any::<u32>()) {
        let value = f32::from_bits(bits);
        prop_assume!(!value.is_nan());
        let text = render(&StatValue::Float32(value)).unwrap();
        prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), bits);
    }

    #[test]
    fn decimals_read_back(value in any::<i64>(), scale in 0_u8..=38) {
        let text = render_decimal(i128::from(value), scale);
        prop_assert_eq!(parse_decimal(&text, scale), Some(i128::from(value)));
    }

    #[test]
    fn timestamps_read_back(micros in FIRST_TIMESTAMP..i64::MAX) {
        for value in [StatValue::Timestamp(micros), StatValue::TimestampTz(micros)] {
            let ty = if matches!(value, StatValue::Timestamp(_)) {
                LakeType::Timestamp
            } else {
                LakeType::TimestampTz
            };
            let text = render(&value).unwrap();
            prop_assert!(parse(&text, &ty) == Some(value), "{}", text);
        }
    }

    #[test]
    fn no_text_can_make_a_parser_panic(text in "[-+0-9.: ()BCe]{0,30}|infinity|\\PC*") {
        for ty in [
            LakeType::Boolean, LakeType::Int64, LakeType::Float64, decimal(38, 10),
            LakeType::Date, LakeType::Time, LakeType::Timestamp, LakeType::TimestampTz,
            LakeType::Uuid, LakeType::Varchar,
        ] {
            let _ = parse(&text, &ty);
        }
    }
}
