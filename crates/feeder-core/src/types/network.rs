//! Network addresses, bit strings and WAL positions: text in the lake (Postgres documentation, sections 8.9, 8.10, 8.20).

use pgoutput::Oid;

use super::{Reader, Rendered};

pub(super) fn reader(oid: Oid) -> Option<Reader> {
    Some(Reader::Rendered(match oid.get() {
        650 => Rendered::Cidr,
        869 => Rendered::Inet,
        829 => Rendered::MacAddr,
        774 => Rendered::MacAddr8,
        1560 | 1562 => Rendered::Bit,
        3220 => Rendered::PgLsn,
        _ => return None,
    }))
}
