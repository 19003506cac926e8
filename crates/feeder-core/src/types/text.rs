//! Text, bytes, JSON and what is carried as text (Postgres documentation, sections 8.3, 8.4, 8.12 and 8.14).

use pgoutput::Oid;

use super::Reader;

pub(super) fn reader(oid: Oid) -> Option<Reader> {
    Some(match oid.get() {
        17 => Reader::Bytea,
        // name, text, bpchar, varchar
        19 | 25 | 1042 | 1043 => Reader::Text,
        114 => Reader::Json,
        3802 => Reader::Jsonb,
        2950 => Reader::Uuid,
        _ => return None,
    })
}
