//! Exact decimal numbers as scaled integers.

use super::ValueErrorKind;

/// The greatest precision of a 128-bit decimal.
const MAX_PRECISION: u8 = 38;

const POWERS_OF_TEN: [u128; 39] = {
    let mut powers = [1; 39];
    let mut i = 1;
    while i < powers.len() {
        #[expect(clippy::indexing_slicing, reason = "checked when compiled")]
        {
            powers[i] = powers[i - 1] * 10;
        }
        i += 1;
    }
    powers
};

/// Ten to the power of `exponent`, up to 38.
pub(super) fn power_of_ten(exponent: u32) -> Option<u128> {
    POWERS_OF_TEN.get(usize::try_from(exponent).ok()?).copied()
}

/// `coefficient * 10^exponent`. Fails when the result needs more than 128 bits.
pub(super) fn scale_up(coefficient: u128, exponent: u32) -> Result<u128, ValueErrorKind> {
    if coefficient == 0 {
        return Ok(0);
    }
    power_of_ten(exponent)
        .and_then(|power| coefficient.checked_mul(power))
        .ok_or(ValueErrorKind::OutOfRange)
}

/// Applies the sign, and insists on at most `precision` digits (at most 38 in any case).
pub(super) fn finish(
    negative: bool,
    magnitude: u128,
    precision: u8,
) -> Result<i128, ValueErrorKind> {
    let limit = power_of_ten(u32::from(precision.min(MAX_PRECISION)));
    if limit.is_none_or(|limit| magnitude >= limit) {
        return Err(ValueErrorKind::OutOfRange);
    }
    let value = i128::try_from(magnitude).map_err(|_| ValueErrorKind::OutOfRange)?;
    Ok(if negative { -value } else { value })
}
