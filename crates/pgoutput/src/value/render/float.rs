//! Floating-point numbers with the fewest digits that give them back (Postgres documentation,
//! "Floating-Point Types"; `double_to_shortest_decimal_bufn` and `float_to_shortest_decimal_bufn`).
//!
//! The standard library finds the fewest digits, but Postgres wants them strictly closer to the
//! number than to its neighbours (`STRICTLY_SHORTEST` is off), and rounds ties to even digits.

use std::fmt::{self, Arguments, LowerExp, Write};
use std::str::FromStr;

use super::put;
use crate::value::{ValueError, binary};

/// How many digits a float8 can need.
const MAX_DIGITS: usize = 17;

/// A `float4`.
pub fn float4(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let number = binary::float4(raw)?;
    let bits = number.to_bits();
    let fields = Fields {
        fraction: u64::from(bits & 0x007F_FFFF),
        biased: bits >> 23 & 0xFF,
        width: 23,
        bias: 127,
    };
    match special(f64::from(number)) {
        Some(text) => dst.push_str(text),
        None => write(
            number.is_sign_negative(),
            shortest(&number.abs(), &fields),
            6,
            dst,
        ),
    }
    Ok(())
}

/// A `float8`.
pub fn float8(raw: &[u8], dst: &mut String) -> Result<(), ValueError> {
    let number = binary::float8(raw)?;
    let bits = number.to_bits();
    let fields = Fields {
        fraction: bits & 0x000F_FFFF_FFFF_FFFF,
        biased: u32::try_from(bits >> 52 & 0x7FF).unwrap_or_default(),
        width: 52,
        bias: 1023,
    };
    match special(number) {
        Some(text) => dst.push_str(text),
        None => write(
            number.is_sign_negative(),
            shortest(&number.abs(), &fields),
            15,
            dst,
        ),
    }
    Ok(())
}

fn special(number: f64) -> Option<&'static str> {
    if number.is_nan() {
        Some("NaN")
    } else if number == f64::INFINITY {
        Some("Infinity")
    } else if number == f64::NEG_INFINITY {
        Some("-Infinity")
    } else if number == 0.0 {
        Some(if number.is_sign_negative() { "-0" } else { "0" })
    } else {
        None
    }
}

/// Writes a number other than zero; with an exponent from `limit` on.
fn write(negative: bool, mut decimal: Decimal, limit: i32, dst: &mut String) {
    while decimal.digits != 0 && decimal.digits.is_multiple_of(10) {
        decimal.digits /= 10;
        decimal.exponent += 1;
    }
    if negative {
        dst.push('-');
    }
    let digits = Scratch::of(format_args!("{}", decimal.digits));
    let digits = digits.as_str();
    let count = i32::try_from(digits.len()).unwrap_or_default();
    // Of the first digit.
    let exponent = decimal.exponent + count - 1;
    if !(-4..limit).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        let exponent = exponent.unsigned_abs();
        put(
            dst,
            format_args!("{first}{point}{rest}e{sign}{exponent:02}"),
        );
    } else if exponent < 0 {
        dst.push_str("0.");
        dst.extend((1..exponent.unsigned_abs()).map(|_| '0'));
        dst.push_str(digits);
    } else {
        let whole = usize::try_from(exponent + 1).unwrap_or_default();
        if let Some((whole, fraction)) = digits.split_at_checked(whole) {
            let point = if fraction.is_empty() { "" } else { "." };
            put(dst, format_args!("{whole}{point}{fraction}"));
        } else {
            dst.push_str(digits);
            dst.extend((digits.len()..whole).map(|_| '0'));
        }
    }
}

/// `digits * 10^exponent`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// From what `LowerExp` writes, which has at most 17 digits here.
    fn parse(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut digits = 0;
        let mut places = None;
        for byte in mantissa.bytes() {
            if byte == b'.' {
                places = Some(0);
            } else {
                digits = digits * 10 + u64::from(byte.wrapping_sub(b'0'));
                places = places.map(|places| places + 1);
            }
        }
        Self {
            digits,
            exponent: exponent.parse().unwrap_or(0) - places.unwrap_or(0),
        }
    }

    const fn next(self) -> Self {
        Self {
            digits: self.digits + 1,
            exponent: self.exponent,
        }
    }

    fn rounds_to<T: FromStr + PartialEq>(self, size: &T) -> bool {
        let text = Scratch::of(format_args!("{}e{}", self.digits, self.exponent));
        text.as_str().parse().is_ok_and(|parsed: T| parsed == *size)
    }
}

fn shortest<T: LowerExp + FromStr + PartialEq>(size: &T, fields: &Fields) -> Decimal {
    let found = Decimal::parse(Scratch::of(format_args!("{size:e}")).as_str());
    let middle = fields.quarters();
    if fields.is_end(found) {
        for places in 0..MAX_DIGITS {
            let rounded = Decimal::parse(Scratch::of(format_args!("{size:.places$e}")).as_str());
            // Numbers are twice as dense below a power of two: the next decimal may be near
            // enough although it is not the nearest.
            for decimal in [rounded, rounded.next()] {
                if decimal.rounds_to(size) && !fields.is_end(decimal) {
                    return decimal;
                }
            }
        }
    }
    // Halfway between two decimals that both round to the number, the even one is wanted.
    let half = |doubled: u64| equal(doubled, found.exponent, middle, fields.exponent() + 1);
    if !found.digits.is_multiple_of(2) {
        for (doubled, digits) in [
            (2 * found.digits + 1, found.digits + 1),
            (2 * found.digits - 1, found.digits - 1),
        ] {
            let even = Decimal { digits, ..found };
            if half(doubled) && even.rounds_to(size) && !fields.is_end(even) {
                return even;
            }
        }
    }
    found
}

/// Whether `digits * 10^decimal` is exactly `mantissa * 2^binary`, neither being zero.
fn equal(digits: u64, decimal: i32, mantissa: u64, binary: i32) -> bool {
    // Powers of two apart, both sides are odd; those must agree, and the powers as well.
    let twos = |number: u64| i32::try_from(number.trailing_zeros()).unwrap_or_default();
    let odd = |number: u64| u128::from(number.checked_shr(number.trailing_zeros()).unwrap_or(0));
    if decimal + twos(digits) != binary + twos(mantissa) {
        return false;
    }
    // A power of five that does not fit is greater than either number.
    let Some(fives) = 5_u128.checked_pow(decimal.unsigned_abs()) else {
        return false;
    };
    if decimal >= 0 {
        odd(digits).checked_mul(fives) == Some(odd(mantissa))
    } else {
        odd(mantissa).checked_mul(fives) == Some(odd(digits))
    }
}

/// The fields of the binary representation of a finite number other than zero.
struct Fields {
    fraction: u64,
    /// As stored; zero for a subnormal number.
    biased: u32,
    /// How many bits the fraction has.
    width: u32,
    bias: u32,
}

impl Fields {
    /// The number in units of a quarter of its last binary place, `2^exponent()`. The middles
    /// between it and its neighbours are whole numbers then.
    const fn quarters(&self) -> u64 {
        let leading = if self.biased == 0 { 0 } else { 1 << self.width };
        4 * (leading | self.fraction)
    }

    const fn exponent(&self) -> i32 {
        let biased = if self.biased == 0 { 1 } else { self.biased };
        biased.cast_signed() - (self.bias + self.width + 2).cast_signed()
    }

    /// Whether a decimal is the middle between this number and a neighbour, so that it rounds to
    /// this one only because ties go to even.
    fn is_end(&self, decimal: Decimal) -> bool {
        // Below a power of two the numbers are twice as dense.
        let below = if self.fraction == 0 && self.biased > 1 {
            1
        } else {
            2
        };
        let is = |quarters| equal(decimal.digits, decimal.exponent, quarters, self.exponent());
        is(self.quarters() - below) || is(self.quarters() + 2)
    }
}

/// A short text on the stack.
struct Scratch {
    bytes: [u8; 40],
    len: usize,
}

impl Scratch {
    /// What does not fit is left out, which happens to no number.
    fn of(text: Arguments<'_>) -> Self {
        let mut scratch = Self {
            bytes: [0; 40],
            len: 0,
        };
        let _ = scratch.write_fmt(text);
        scratch
    }

    fn as_str(&self) -> &str {
        let written = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(written).unwrap_or_default()
    }
}

impl Write for Scratch {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
