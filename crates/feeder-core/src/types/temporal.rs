//! Dates and times (Postgres documentation, section 8.5).

use pgoutput::Oid;

use super::{Reader, Rendered};

pub(super) fn reader(oid: Oid) -> Option<Reader> {
    Some(match oid.get() {
        1082 => Reader::Date,
        1083 => Reader::Time,
        1114 => Reader::Timestamp,
        1184 => Reader::TimestampTz,
        // Parquet has neither the offset of a `timetz` nor negative intervals.
        1266 => Reader::Rendered(Rendered::TimeTz),
        1186 => Reader::Rendered(Rendered::Interval),
        _ => return None,
    })
}
