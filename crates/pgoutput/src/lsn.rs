//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A position in the write-ahead log: a byte offset from the beginning of the log.
///
/// Printed and parsed the way Postgres does it: two hexadecimal halves, `16/B374D848`
/// (Postgres documentation, "pg_lsn Type").
///
/// ```
/// use pgoutput::Lsn;
///
/// let lsn: Lsn = "16/B374D848".parse()?;
/// assert_eq!(lsn.get(), 0x16_B374_D848);
/// assert_eq!(lsn.to_string(), "16/B374D848");
/// # Ok::<(), pgoutput::ParseLsnError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// The invalid position, which Postgres uses for "none".
    pub const ZERO: Self = Self(0);
    /// The greatest position that can be written.
    pub const MAX: Self = Self(u64::MAX);

    /// The position `position` bytes after the beginning of the log.
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// Bytes from the beginning of the log.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes from `earlier` to `self`; `None` when `earlier` is in fact later.
    pub const fn checked_sub(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// Bytes from `earlier` to `self`; zero when `earlier` is in fact later.
    pub const fn saturating_sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a log position of the form `16/B374D848`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log position is not of the form X/Y with one to eight hexadecimal digits each")]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError)?;
        Ok(Self(u64::from(half(high)?) << 32 | u64::from(half(low)?)))
    }
}

/// Parses one half; `u32::from_str_radix` alone would also take a sign.
fn half(digits: &str) -> Result<u32, ParseLsnError> {
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ParseLsnError);
    }
    u32::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_like_postgres() {
        assert_eq!(Lsn::ZERO.to_string(), "0/0");
        assert_eq!(Lsn::MAX.to_string(), "FFFFFFFF/FFFFFFFF");
        assert_eq!(Lsn::new(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!(Lsn::new(0x1_0000_00AB).to_string(), "1/AB");
        assert_eq!(format!("{:?}", Lsn::new(0x1_0000_00AB)), "1/AB");
    }

    #[test]
    fn parses_what_the_server_accepts() {
        assert_eq!("16/b374d848".parse(), Ok(Lsn::new(0x16_B374_D848)));
        assert_eq!("0/00000001".parse(), Ok(Lsn::new(1)));
        for bad in [
            "",
            "/",
            "1",
            "1/",
            "/1",
            "1/2/3",
            "+1/2",
            "1/-2",
            " 1/2",
            "1/2 ",
            "g/0",
            "100000000/0",
            "0/100000000",
            "000000001/0",
        ] {
            assert_eq!(bad.parse::<Lsn>(), Err(ParseLsnError), "{bad:?}");
        }
    }

    #[test]
    fn distances() {
        let (a, b) = (Lsn::new(10), Lsn::new(25));
        assert_eq!(b.checked_sub(a), Some(15));
        assert_eq!(a.checked_sub(b), None);
        assert_eq!(b.saturating_sub(a), 15);
        assert_eq!(a.saturating_sub(b), 0);
        assert!(a < b);
    }

    proptest! {
        #[test]
        fn text_round_trip(position: u64) {
            let lsn = Lsn::new(position);
            prop_assert_eq!(lsn.to_string().parse(), Ok(lsn));
        }
    }
}
