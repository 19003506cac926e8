//! Facts about the server that preconditions are checked against.

use pgoutput::Lsn;

use crate::connection::{Connection, ServerVersion};
use crate::error::SourceError;

/// What a server is and allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: ServerVersion,
    /// `wal_level`; `logical` is needed.
    pub wal_level: String,
    /// How many slots there may be.
    pub max_replication_slots: u32,
    /// How many there are.
    pub used_replication_slots: u32,
    /// How many walsenders there may be.
    pub max_wal_senders: u32,
    /// How many there are.
    pub used_wal_senders: u32,
    /// `max_slot_wal_keep_size` in bytes; `None` for no limit.
    pub max_slot_wal_keep_size: Option<u64>,
    /// The server is a standby.
    pub in_recovery: bool,
    /// The role.
    pub role: String,
    /// The role is a superuser.
    pub is_superuser: bool,
    /// The role has the REPLICATION attribute, or is a superuser.
    pub can_replicate: bool,
    /// The role may create publications in this database.
    pub can_create_in_database: bool,
    /// `synchronous_standby_names`; must not match our session (correctness rule 12).
    pub synchronous_standby_names: String,
    /// The encoding of the database.
    pub server_encoding: String,
    /// Whether something stands between us and the server.
    pub route: Route,
}

/// What stands between us and the server; a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Nothing that shows.
    Direct,
    /// The process id in the cancellation key is not that of the server process: a proxy or a
    /// pooler.
    Proxied,
    /// Two statements of one session ran in different server processes, or two sessions share one:
    /// a transaction pooler. Sessions settings, locks and snapshots do not hold through it.
    TransactionPooler,
}

const FACTS: &str = "select \
    pg_catalog.current_setting('wal_level') as wal_level, \
    pg_catalog.current_setting('max_replication_slots') as max_slots, \
    (select pg_catalog.count(*) from pg_catalog.pg_replication_slots) as used_slots, \
    pg_catalog.current_setting('max_wal_senders') as max_senders, \
    (select pg_catalog.count(*) from pg_catalog.pg_stat_get_wal_senders()) as used_senders, \
    (select s.setting::pg_catalog.int8 * 1024 * 1024 from pg_catalog.pg_settings s \
        where s.name = 'max_slot_wal_keep_size' and s.setting::pg_catalog.int8 >= 0) as keep, \
    pg_catalog.pg_is_in_recovery() as in_recovery, \
    r.rolname, r.rolsuper, r.rolsuper or r.rolreplication as can_replicate, \
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create') as can_create, \
    pg_catalog.current_setting('synchronous_standby_names') as standby_names, \
    pg_catalog.current_setting('server_encoding') as encoding \
    from pg_catalog.pg_roles r where r.rolname = current_user";

/// Asks for the facts. Any session will do.
pub async fn facts(connection: &mut Connection) -> Result<ServerFacts, SourceError> {
    let row = connection.query_one(FACTS).await?;
    let owned = |column| row.text(column).map(str::to_owned);
    Ok(ServerFacts {
        version: connection.server_version(),
        wal_level: owned("wal_level")?,
        max_replication_slots: row.parse("max_slots")?,
        used_replication_slots: row.parse("used_slots")?,
        max_wal_senders: row.parse("max_senders")?,
        used_wal_senders: row.parse("used_senders")?,
        max_slot_wal_keep_size: row.parse_opt("keep")?,
        in_recovery: row.flag("in_recovery")?,
        role: owned("rolname")?,
        is_superuser: row.flag("rolsuper")?,
        can_replicate: row.flag("can_replicate")?,
        can_create_in_database: row.flag("can_create")?,
        synchronous_standby_names: owned("standby_names")?,
        server_encoding: owned("encoding")?,
        route: route(connection).await?,
    })
}

async fn route(connection: &mut Connection) -> Result<Route, SourceError> {
    let first = process_id(connection).await?;
    let second = process_id(connection).await?;
    Ok(if first != second {
        Route::TransactionPooler
    } else if first != connection.backend_pid() {
        Route::Proxied
    } else {
        Route::Direct
    })
}

/// Looks harder for a transaction pooler, with two sessions to the same endpoint: while one holds a
/// transaction open, the other must not have been, nor be, in the same server process.
///
/// # Errors
/// As [`Connection::query`]; a transaction is left open in `second` then.
pub async fn detect_pooler(
    first: &mut Connection,
    second: &mut Connection,
) -> Result<Route, SourceError> {
    let before = process_id(first).await?;
    second.execute("begin").await?;
    let held = process_id(second).await?;
    let after = process_id(first).await?;
    second.execute("rollback").await?;
    if before == held || after == held || before != after {
        return Ok(Route::TransactionPooler);
    }
    route(first).await
}

async fn process_id(connection: &mut Connection) -> Result<i32, SourceError> {
    connection
        .query_one("select pg_catalog.pg_backend_pid() as pid")
        .await?
        .parse("pid")
}

/// A position of the primary's WAL behind everything that a query so far can have shown, and that its stream reaches
/// without another record.
///
/// # Errors
/// As [`Connection::query`].
pub async fn wal_position(connection: &mut Connection) -> Result<Lsn, SourceError> {
    // The end of what was inserted, since a commit may be seen before it is flushed.
    let end: Lsn = connection
        .query_one("select pg_catalog.pg_current_wal_insert_lsn() as lsn")
        .await?
        .parse("lsn")?;
    Ok(before_page_header(end))
}

/// At the beginning of a page the next record comes after the page's header, which nothing that was flushed ends at.
fn before_page_header(lsn: Lsn) -> Lsn {
    const PAGE: u64 = 8192;
    // The first page of a file has the longer one.
    const HEADERS: [u64; 2] = [24, 40];
    let offset = lsn.get() % PAGE;
    if HEADERS.contains(&offset) {
        Lsn::new(lsn.get() - offset)
    } else {
        lsn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::SessionKind;
    use crate::scripted::{self, rows};

    /// A session whose queries for the process id are answered with these, one after the other.
    async fn session(pids: &'static [&'static str]) -> Connection {
        scripted::session(4096, SessionKind::Sql, async |mut server| {
            let mut pids = pids.iter();
            loop {
                let answer = if server.query().await.contains("pg_backend_pid") {
                    rows(&["pid"], &[vec![pids.next().copied()]])
                } else {
                    rows(&["a"], &[])
                };
                server.send(&answer).await;
                if pids.as_slice().is_empty() {
                    break;
                }
            }
            // Whatever comes without a process id, such as rollback.
            loop {
                server.query().await;
                server.send(&rows(&["a"], &[])).await;
            }
        })
        .await
    }

    /// The scripted server gives 7 with its cancellation key.
    #[tokio::test]
    async fn routes_are_told_apart() {
        for (pids, expected) in [
            (&["7", "7"], Route::Direct),
            (&["9", "9"], Route::Proxied),
            (&["7", "9"], Route::TransactionPooler),
        ] {
            assert_eq!(route(&mut session(pids).await).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn sharing_a_server_process_gives_a_pooler_away() {
        let table: &[(&[&str], &[&str], Route)] = &[
            (&["7", "7", "7", "7"], &["8"], Route::Direct),
            // The second session got the process that the first had used.
            (&["7", "9", "9", "9"], &["7"], Route::TransactionPooler),
            (&["7", "8", "8", "8"], &["8"], Route::TransactionPooler),
            (&["6", "7", "7", "7"], &["8"], Route::TransactionPooler),
            (&["5", "5", "5", "5"], &["6"], Route::Proxied),
        ];
        for (first, second, expected) in table {
            let (mut first, mut second) = (session(first).await, session(second).await);
            assert_eq!(
                detect_pooler(&mut first, &mut second).await.unwrap(),
                *expected
            );
        }
    }

    #[test]
    fn a_position_behind_a_page_header_is_that_of_the_page() {
        for (end, expected) in [
            (0x0200_0000, 0x0200_0000),
            (0x0200_0028, 0x0200_0000),
            (0x0200_2018, 0x0200_2000),
            (0x0200_2028, 0x0200_2000),
            (0x0200_2030, 0x0200_2030),
            (0x0200_1ff8, 0x0200_1ff8),
        ] {
            assert_eq!(before_page_header(Lsn::new(end)), Lsn::new(expected));
        }
    }
}
