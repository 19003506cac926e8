//! What the encoders of `arrow-json` write as something else, or not at all.

use std::fmt::Debug;
use std::io::Write as _;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float32Type, Float64Type, TimestampMicrosecondType};
use arrow_array::{Array, FixedSizeBinaryArray, StringArray};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder};
use arrow_schema::{ArrowError, DataType, FieldRef, TimeUnit};
use uuid::Uuid;

const EXTENSION: &str = "ARROW:extension:name";
const DAY: i64 = 86_400_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Exact;

impl EncoderFactory for Exact {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let extension = field.metadata().get(EXTENSION).map(String::as_str);
        let encoder: Box<dyn Encoder + 'a> = match (array.data_type(), extension) {
            (DataType::Utf8, Some("arrow.json")) => Box::new(Embedded(array.as_string())),
            (DataType::FixedSizeBinary(16), Some("arrow.uuid")) => {
                Box::new(Hyphenated(array.as_fixed_size_binary()))
            }
            (DataType::Float64, _) => {
                let values = array.as_primitive::<Float64Type>();
                Box::new(Written(move |index, out: &mut Vec<u8>| {
                    float(values.value(index), out);
                }))
            }
            (DataType::Float32, _) => {
                let values = array.as_primitive::<Float32Type>();
                Box::new(Written(move |index, out: &mut Vec<u8>| {
                    let value = values.value(index);
                    // The shortest digits of a float32 are not those of the double.
                    if value.is_finite() {
                        put(out, format_args!("{value:?}"));
                    } else {
                        float(f64::from(value), out);
                    }
                }))
            }
            (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => {
                let zone = if zone.is_some() { "Z" } else { "" };
                let values = array.as_primitive::<TimestampMicrosecondType>();
                Box::new(Written(move |index, out: &mut Vec<u8>| {
                    timestamp(values.value(index), zone, out);
                }))
            }
            (DataType::Date32, _) => {
                let values = array.as_primitive::<Date32Type>();
                Box::new(Written(move |index, out: &mut Vec<u8>| {
                    match values.value(index) {
                        i32::MAX => put(out, format_args!("\"infinity\"")),
                        days if days == -i32::MAX => put(out, format_args!("\"-infinity\"")),
                        days => put(out, format_args!("\"{}\"", Date(i64::from(days)))),
                    }
                }))
            }
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Written<F>(F);

impl<F: FnMut(usize, &mut Vec<u8>)> Encoder for Written<F> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        (self.0)(index, out);
    }
}

/// JSON text, which is checked where it comes in.
struct Embedded<'a>(&'a StringArray);

impl Encoder for Embedded<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        // JSON may have line feeds between its tokens, never inside of them.
        let text = self.0.value(index).as_bytes();
        out.extend(text.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
    }
}

struct Hyphenated<'a>(&'a FixedSizeBinaryArray);

impl Encoder for Hyphenated<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let uuid = Uuid::from_slice(self.0.value(index)).unwrap_or_default();
        put(out, format_args!("\"{}\"", uuid.hyphenated()));
    }
}

fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        put(out, format_args!("{value:?}"));
    } else if value.is_nan() {
        put(out, format_args!("\"NaN\""));
    } else {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        put(out, format_args!("\"{sign}Infinity\""));
    }
}

pub(super) fn timestamp(micros: i64, zone: &str, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => return put(out, format_args!("\"infinity\"")),
        micros if micros == -i64::MAX => return put(out, format_args!("\"-infinity\"")),
        _ => {}
    }
    let (days, time) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (seconds, fraction) = (time / 1_000_000, time % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let date = Date(days);
    put(
        out,
        format_args!("\"{date}T{hour:02}:{minute:02}:{second:02}.{fraction:06}{zone}\""),
    );
}

/// Days since 1970-01-01, shown in the proleptic Gregorian calendar.
struct Date(i64);

impl std::fmt::Display for Date {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Eras of 400 years that begin in March.
        let days = self.0 + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Memory takes everything that is written to it.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _never_fails = out.write_fmt(text);
}
