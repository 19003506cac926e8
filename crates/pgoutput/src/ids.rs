//! Small identifiers of the server, and its clock.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// Wraps the number as the server reports it.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The number as the server reports it.
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// The object identifier of a data type.
    Oid
}
id! {
    /// The object identifier of a table, as announced by a [`Relation`](crate::Relation) message.
    RelationId
}
id! {
    /// A transaction identifier without its epoch. It wraps around: never compare two by size.
    Xid
}

impl RelationId {
    /// Bytes on the wire.
    pub(crate) const WIRE_LEN: usize = 4;
}

/// Microseconds from 1970-01-01 to 2000-01-01, the epoch of Postgres.
pub(crate) const PG_EPOCH_UNIX_MICROS: i64 = 946_684_800_000_000;

/// An instant of the server's clock: microseconds since 2000-01-01 00:00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PgTimestamp(i64);

impl PgTimestamp {
    /// Microseconds since 2000-01-01 00:00:00 UTC, as on the wire.
    pub const fn from_pg_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC; saturates at the ends of the range.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros.saturating_sub(PG_EPOCH_UNIX_MICROS))
    }

    /// Microseconds since 2000-01-01 00:00:00 UTC, as on the wire.
    pub const fn pg_micros(self) -> i64 {
        self.0
    }

    /// Microseconds since 1970-01-01 00:00:00 UTC; saturates at the ends of the range.
    pub const fn unix_micros(self) -> i64 {
        self.0.saturating_add(PG_EPOCH_UNIX_MICROS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_is_the_year_2000() {
        assert_eq!(PgTimestamp::default().unix_micros(), 946_684_800_000_000);
        assert_eq!(
            PgTimestamp::from_unix_micros(0).pg_micros(),
            -946_684_800_000_000
        );
        assert_eq!(
            PgTimestamp::from_pg_micros(i64::MAX).unix_micros(),
            i64::MAX
        );
        assert_eq!(
            PgTimestamp::from_unix_micros(i64::MIN).pg_micros(),
            i64::MIN
        );
    }
}
