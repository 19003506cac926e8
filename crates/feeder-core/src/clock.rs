//! Times as text, for people.

use std::time::{Duration, UNIX_EPOCH};

/// RFC 3339, in UTC. Times before 1970 are shown as 1970.
pub(crate) fn utc_text(micros: i64) -> String {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
}
