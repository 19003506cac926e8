//! The right to write for a feeder.

use std::fmt;
use std::time::Duration;

use ducklake_catalog::sqlx::{self, PgConnection, Postgres, Transaction};
use tokio::time::{Instant, sleep};

use super::feeders::{LockedFeeder, lock_feeder};
use super::{Control, ControlError, Generation};
use crate::FeederError;
use crate::config::FeederName;

/// How long a starting process waits for the one that it replaces.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(200);

/// The feeder's advisory lock, held by a connection of its own.
///
/// It only keeps two processes from starting side by side. Losing its connection is harmless: what
/// protects the tables is the generation of the [`Fence`]. Dropping it closes the connection, and
/// thereby releases the lock.
pub struct FeederLock {
    _connection: PgConnection,
}

impl fmt::Debug for FeederLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeederLock").finish_non_exhaustive()
    }
}

/// The right to write for a feeder: one generation of its row, and the lock.
///
/// Every method of [`Control`] that takes it is one transaction, which locks the feeder's row first
/// and fails with kind [`Fenced`](crate::FeederErrorKind::Fenced) when another process has raised the
/// generation. Dropping it releases the lock.
#[derive(Debug)]
pub struct Fence {
    feeder: FeederName,
    generation: Generation,
    _lock: FeederLock,
}

impl Control {
    /// Takes the feeder's lock; waits up to 10 seconds for the process that has it.
    ///
    /// The row need not exist yet: a first start takes the lock before it makes slot and publication.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), naming the owner in the row, when the other
    /// process still has it; otherwise errors of the database.
    pub async fn lock(&self) -> Result<FeederLock, FeederError> {
        let failed = ControlError::database("taking the feeder's lock");
        // Out of the pool for good: the lock must live as long as the process, not as a pooled
        // connection does.
        let mut connection = self.pool.acquire().await.map_err(&failed)?.detach();
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let locked: bool = sqlx::query_scalar(
                "select pg_try_advisory_lock(hashtextextended('duckfeeder:' || $1, 0))",
            )
            .bind(self.feeder.as_str())
            .fetch_one(&mut connection)
            .await
            .map_err(&failed)?;
            if locked {
                return Ok(FeederLock {
                    _connection: connection,
                });
            }
            if Instant::now() >= deadline {
                let feeder = self.load_feeder().await?;
                return Err(ControlError::Running {
                    feeder: self.feeder.clone(),
                    owner: feeder.and_then(|feeder| feeder.owner),
                }
                .into());
            }
            sleep(LOCK_POLL).await;
        }
    }

    /// Raises the generation: every other process is fenced off from now on. `owner` tells an
    /// operator who this is, say `host:pid`.
    ///
    /// # Errors
    /// Kind [`Catalog`](crate::FeederErrorKind::Catalog) before [`Control::register`]; otherwise as
    /// [`Control::load_feeder`].
    pub async fn fence(&self, lock: FeederLock, owner: &str) -> Result<Fence, FeederError> {
        let generation: Option<i64> = sqlx::query_scalar(
            "update duckfeeder.feeders
             set generation = generation + 1, owner = $2, waiting_for = null, waiting_since = null,
                 updated_at = clock_timestamp()
             where name = $1 and lake = $3 returning generation",
        )
        .bind(self.feeder.as_str())
        .bind(owner)
        .bind(&self.lake)
        .fetch_optional(&self.pool)
        .await
        .map_err(ControlError::database("raising the feeder's generation"))?;
        if let Some(generation) = generation {
            return Ok(Fence {
                feeder: self.feeder.clone(),
                generation: Generation::new(generation),
                _lock: lock,
            });
        }
        // Tells another lake's feeder of this name from none.
        self.load_feeder().await?;
        Err(ControlError::UnknownFeeder {
            feeder: self.feeder.clone(),
        }
        .into())
    }

    /// [`Control::lock`] and [`Control::fence`], for a feeder that is registered.
    ///
    /// # Errors
    /// As these two.
    pub async fn acquire(&self, owner: &str) -> Result<Fence, FeederError> {
        let lock = self.lock().await?;
        self.fence(lock, owner).await
    }
}

impl Fence {
    /// The feeder's name.
    pub fn feeder(&self) -> &FeederName {
        &self.feeder
    }

    /// The generation that this process holds.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

impl Control {
    /// Begins a transaction (READ COMMITTED) with the feeder's row locked and its generation compared.
    pub(super) async fn begin(
        &self,
        fence: &Fence,
    ) -> Result<(Transaction<'static, Postgres>, LockedFeeder), ControlError> {
        let failed = ControlError::database("beginning a transaction on the control tables");
        let mut tx = self.pool.begin().await.map_err(&failed)?;
        // Long enough for any commit, short enough to tell somebody what blocks it.
        sqlx::query("set local lock_timeout = '30s'")
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        let locked = lock_feeder(&mut tx, &self.feeder, fence.generation).await?;
        Ok((tx, locked))
    }
}
