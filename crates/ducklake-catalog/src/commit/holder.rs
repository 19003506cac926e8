//! Who holds the lock that a commit waited for in vain.

use std::time::Duration;

use sqlx::Row;

use crate::Catalog;

/// The answer is for a log line: not worth a longer wait.
const PATIENCE: Duration = Duration::from_secs(2);

impl Catalog {
    /// Describes the sessions that hold a lock on `ducklake_snapshot` against us, if they still do.
    pub(super) async fn lock_holder(&self) -> Option<String> {
        tokio::time::timeout(PATIENCE, self.read_lock_holder())
            .await
            .ok()?
            .ok()
            .flatten()
    }

    async fn read_lock_holder(&self) -> Result<Option<String>, sqlx::Error> {
        let Ok(mut connection) = self.acquire().await else {
            return Ok(None);
        };
        let rows = sqlx::query(
            "select l.pid, coalesce(a.application_name, ''), coalesce(a.state, 'unknown'), \
                    coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::bigint \
               from pg_locks l left join pg_stat_activity a on a.pid = l.pid \
              where l.locktype = 'relation' and l.relation = 'ducklake_snapshot'::regclass \
                and l.database = (select oid from pg_database where datname = current_database()) \
                and l.granted and l.mode <> 'AccessShareLock' and l.pid <> pg_backend_pid() \
              order by l.pid limit 3",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut sessions = Vec::new();
        for row in rows {
            let pid: i32 = row.try_get(0)?;
            let application: String = row.try_get(1)?;
            let state: String = row.try_get(2)?;
            let seconds: i64 = row.try_get(3)?;
            sessions.push(format!(
                "server process {pid} ({application:?}, {state}, in its transaction for {seconds} s)"
            ));
        }
        Ok((!sessions.is_empty()).then(|| format!("held by {}", sessions.join(", "))))
    }
}
