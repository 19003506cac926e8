//! Amounts of money with `lc_monetary` C (Postgres documentation, "Monetary Types"; `cash_out`).

use crate::reader::Cursor;
use crate::value::{ValueError, ValueErrorKind};

/// A `money` as it is printed with `lc_monetary` C, such as `-$1,234.56`, in cents.
pub fn money(raw: &[u8]) -> Result<i64, ValueError> {
    cents(raw).map_err(|kind| ValueError::new("money", kind))
}

fn cents(raw: &[u8]) -> Result<i64, ValueErrorKind> {
    let mut cursor = Cursor::new(raw);
    let negative = cursor.eat(b'-');
    if !cursor.eat(b'$') {
        return Err(ValueErrorKind::Malformed);
    }
    let mut total = 0;
    let mut add = |digits: Option<u32>, unit: i64| -> Result<(), ValueErrorKind> {
        let digits = i64::from(digits.ok_or(ValueErrorKind::Malformed)?);
        total = i64::checked_mul(total, unit)
            // Below zero there is one more.
            .and_then(|total| total.checked_sub(digits))
            .ok_or(ValueErrorKind::OutOfRange)?;
        Ok(())
    };
    add(cursor.number(1, 3), 1000)?;
    while cursor.eat(b',') {
        add(cursor.number(3, 3), 1000)?;
    }
    if !cursor.eat(b'.') {
        return Err(ValueErrorKind::Malformed);
    }
    add(cursor.number(2, 2), 100)?;
    if !cursor.is_empty() {
        return Err(ValueErrorKind::Malformed);
    }
    if negative {
        Ok(total)
    } else {
        total.checked_neg().ok_or(ValueErrorKind::OutOfRange)
    }
}
