//! Replication slots.

use std::fmt;
use std::str::FromStr;

use pgoutput::Lsn;
use thiserror::Error;

use crate::connection::Connection;
use crate::error::SourceError;
use crate::sql::quote_literal;

/// The name of a replication slot: 1 to 63 lower-case letters, digits and underscores.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotName(String);

/// A name that no slot can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{name}\" is no slot name: use 1 to 63 lower-case letters, digits and underscores")]
pub struct InvalidSlotName {
    /// What was given.
    pub name: String,
}

impl SlotName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, InvalidSlotName> {
        let valid = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if valid {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidSlotName {
                name: name.to_owned(),
            })
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SlotName {
    type Err = InvalidSlotName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot \"{}\"", self.0)
    }
}

/// A slot as `pg_replication_slots` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInfo {
    /// The output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// The database it belongs to; `None` for a physical slot.
    pub database: Option<String>,
    /// Whether a session streams from it.
    pub active: bool,
    /// The process id of that session's walsender.
    pub active_pid: Option<i32>,
    /// Whether it decodes prepared transactions at PREPARE (correctness rule 5: refuse it).
    pub two_phase: bool,
    /// Whether it ends with its session.
    pub temporary: bool,
    /// The position up to which we have acknowledged: an exclusive end.
    pub confirmed_flush: Option<Lsn>,
    /// The oldest WAL position it retains.
    pub restart: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Why the slot can never be used again: as Postgres 17 says it, before that `wal_removed`, or
    /// `conflict` on a standby; `None` while it is alive.
    pub invalidation_reason: Option<String>,
    /// Whether it is synchronised to standbys (Postgres 17).
    pub failover: bool,
    /// Bytes of WAL from `restart` to the current end.
    pub retained_bytes: Option<u64>,
}

/// Columns that older servers lack are read through `to_jsonb`, which leaves them out. Postgres 16
/// calls every invalidated slot `conflicting`; only on a standby can that be a conflict.
const INSPECT: &str = "select plugin, database, active, active_pid, temporary, \
    confirmed_flush_lsn, restart_lsn, wal_status, \
    coalesce((j ->> 'two_phase')::pg_catalog.bool, false) as two_phase, \
    coalesce((j ->> 'failover')::pg_catalog.bool, false) as failover, \
    coalesce(j ->> 'invalidation_reason', \
        case when (j ->> 'conflicting')::pg_catalog.bool \
        and pg_catalog.pg_is_in_recovery() then 'conflict' end, \
        case when wal_status = 'lost' then 'wal_removed' end) as invalidation_reason, \
    greatest(pg_catalog.pg_wal_lsn_diff(case when pg_catalog.pg_is_in_recovery() \
        then pg_catalog.pg_last_wal_replay_lsn() else pg_catalog.pg_current_wal_lsn() end, \
        restart_lsn), 0)::pg_catalog.int8 as retained \
    from pg_catalog.pg_replication_slots s, \
    lateral (select pg_catalog.to_jsonb(s) as j) as json \
    where slot_name = ";

/// Looks a slot up.
pub async fn inspect(
    connection: &mut Connection,
    name: &SlotName,
) -> Result<Option<SlotInfo>, SourceError> {
    let sql = format!("{INSPECT}{}", quote_literal(name.as_str()));
    let rows = connection
        .query(&sql)
        .await
        .map_err(|error| error.about(name))?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let owned = |column| row.opt(column).map(|value| value.map(str::to_owned));
    Ok(Some(SlotInfo {
        plugin: owned("plugin")?,
        database: owned("database")?,
        active: row.flag("active")?,
        active_pid: row.parse_opt("active_pid")?,
        two_phase: row.flag("two_phase")?,
        temporary: row.flag("temporary")?,
        confirmed_flush: row.parse_opt("confirmed_flush_lsn")?,
        restart: row.parse_opt("restart_lsn")?,
        wal_status: owned("wal_status")?,
        invalidation_reason: owned("invalidation_reason")?,
        failover: row.flag("failover")?,
        retained_bytes: row.parse_opt("retained")?,
    }))
}

/// Drops a slot.
///
/// # Errors
/// It does not exist, or it is in use.
pub async fn drop(connection: &mut Connection, name: &SlotName) -> Result<(), SourceError> {
    let sql = format!(
        "select pg_catalog.pg_drop_replication_slot({})",
        quote_literal(name.as_str())
    );
    connection
        .execute(&sql)
        .await
        .map_err(|error| error.about(name))
}

/// Ends the session of a walsender. False when there was no such session, or it could not be
/// ended.
///
/// # Errors
/// The role may not end the session: it needs the same role, or `pg_signal_backend`.
pub async fn terminate_walsender(
    connection: &mut Connection,
    pid: i32,
) -> Result<bool, SourceError> {
    let sql = format!(
        "select pg_catalog.pg_terminate_backend(pid) as done \
         from pg_catalog.pg_stat_replication where pid = {pid}"
    );
    match connection.query(&sql).await?.first() {
        Some(row) => row.flag("done"),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_server_takes() {
        for good in ["a", "duckfeeder_shop", "0", "_", &"x".repeat(63)] {
            assert_eq!(SlotName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Shop", "a-b", "a b", "ä", "a\"b", &"x".repeat(64)] {
            assert!(SlotName::parse(bad).is_err(), "{bad}");
        }
    }
}
