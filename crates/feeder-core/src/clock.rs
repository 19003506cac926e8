//! Times as text, for people.

use std::time::{Duration, UNIX_EPOCH};

/// RFC 3339, in UTC. Times before 1970 are shown as 1970.
pub(crate) fn utc_text(micros: i64) -> String {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_to_the_microsecond() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            utc_text(1_709_164_799_000_001),
            "2024-02-28T23:59:59.000001Z"
        );
        assert_eq!(
            utc_text(1_709_164_800_000_000),
            "2024-02-29T00:00:00.000000Z"
        );
        assert_eq!(utc_text(-1), "1970-01-01T00:00:00.000000Z");
    }
}
