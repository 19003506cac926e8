//! The right to write for a feeder.

use std::time::Duration;

use ducklake_catalog::sqlx::{self, Postgres, Transaction};
use tokio::time::sleep;

use super::feeders::{LockedFeeder, lock_feeder};
use super::{Claimant, Control, ControlError, Generation, Lease, Look};
use crate::FeederError;
use crate::config::FeederName;

/// How long a process that does not stand by waits for the one that it replaces.
const LEASE_WAIT: Duration = Duration::from_secs(10);
/// How long the raise of the generation waits before the sessions of a process that hangs are ended.
const BLOCKED: Duration = Duration::from_secs(1);

/// The right to write for a feeder: one generation of its row, and the lease.
///
/// Every method of [`Control`] that takes it is one transaction, which locks the feeder's row first
/// and fails with kind [`Fenced`](crate::FeederErrorKind::Fenced) when another process has raised the
/// generation. Dropping it gives the lease up.
#[derive(Debug)]
pub struct Fence {
    feeder: FeederName,
    generation: Generation,
    lease: Lease,
}

impl Control {
    /// Raises the generation: every other process is fenced off from now on.
    ///
    /// What a process that hangs has open in the catalog, and would keep this waiting, is ended.
    ///
    /// # Errors
    /// Kind [`Catalog`](crate::FeederErrorKind::Catalog) before [`Control::register`],
    /// [`Fenced`](crate::FeederErrorKind::Fenced) when the lease is another process's by now; otherwise as
    /// [`Control::load_feeder`].
    pub async fn fence(&self, lease: Lease, owner: &str) -> Result<Fence, FeederError> {
        let generation = self.raise(&lease, owner).await?;
        if let Some(generation) = generation {
            return Ok(Fence {
                feeder: self.feeder.clone(),
                generation: Generation::new(generation),
                lease,
            });
        }
        // Tells another lake's feeder of this name, and one that was taken over, from none.
        if self.load_feeder().await?.is_some() {
            return Err(ControlError::LeaseTaken {
                feeder: self.feeder.clone(),
                owner: None,
            }
            .into());
        }
        Err(ControlError::UnknownFeeder {
            feeder: self.feeder.clone(),
        }
        .into())
    }

    /// The new generation; `None` without a row, or without the lease.
    pub(crate) async fn raise(
        &self,
        lease: &Lease,
        owner: &str,
    ) -> Result<Option<i64>, FeederError> {
        let failed = ControlError::database("raising the feeder's generation");
        let mut connection = self.connection().await?;
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut *connection)
            .await
            .map_err(&failed)?;
        let raise = sqlx::query_scalar(
            "update duckfeeder.feeders
             set generation = generation + 1, owner = $2, waiting_for = null, waiting_since = null,
                 updated_at = clock_timestamp()
             where name = $1 and lake = $3
               and exists (select from duckfeeder.leases where feeder = $1 and holder = $4)
             returning generation",
        )
        .bind(self.feeder.as_str())
        .bind(owner)
        .bind(&self.lake)
        .bind(lease.holder())
        .fetch_optional(&mut *connection);
        tokio::pin!(raise);
        loop {
            tokio::select! {
                raised = &mut raise => return Ok(raised.map_err(&failed)?),
                () = sleep(BLOCKED), if lease.seized() => self.end_blockers(pid).await?,
            }
        }
    }

    /// Ends sessions of a feeder for which the session `pid` waits.
    async fn end_blockers(&self, pid: i32) -> Result<(), FeederError> {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
             where pid = any (pg_blocking_pids($1)) and usename = session_user
               and application_name = current_setting('application_name')",
        )
        .bind(pid)
        .execute(&mut *self.connection().await?)
        .await
        .map_err(ControlError::database(
            "ending the sessions of a process that hangs",
        ))?;
        Ok(())
    }

    /// Takes the lease and raises the generation of a feeder that is registered; waits up to 10 seconds for the
    /// process that has it. `owner` as in [`Control::claimant`].
    ///
    /// # Errors
    /// As [`Control::lease`] and [`Control::fence`].
    pub async fn acquire(&self, owner: &str) -> Result<Fence, FeederError> {
        let lease = self.lease(&mut self.claimant(owner)).await?;
        self.fence(lease, owner).await
    }

    /// Takes the lease; waits up to 10 seconds for the process that has it.
    ///
    /// # Errors
    /// Kind [`Fenced`](crate::FeederErrorKind::Fenced), naming the owner, when the other process still has it;
    /// otherwise errors of the database.
    pub async fn lease(&self, claimant: &mut Claimant) -> Result<Lease, FeederError> {
        match claimant.look_for(LEASE_WAIT).await? {
            Look::Taken(lease) => Ok(lease),
            Look::Held(owner) => Err(ControlError::Running {
                feeder: self.feeder.clone(),
                owner,
            }
            .into()),
        }
    }
}

impl Fence {
    /// The feeder's name.
    pub fn feeder(&self) -> &FeederName {
        &self.feeder
    }

    /// The lease: while it lasts, this process feeds.
    pub fn lease(&self) -> &Lease {
        &self.lease
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
        let mut tx = self.catalog.begin().await.map_err(ControlError::from)?;
        // Long enough for any commit, short enough to tell somebody what blocks it.
        sqlx::query("set local lock_timeout = '30s'")
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        let locked = lock_feeder(&mut tx, &self.feeder, fence.generation).await?;
        Ok((tx, locked))
    }
}
