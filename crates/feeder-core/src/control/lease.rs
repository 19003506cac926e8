//! The feeder's lease: which process feeds, and who takes over when it is gone or hangs (rule 13).
//!
//! The lease is a row that its holder renews, by the catalog's clock, in the session that also holds the feeder's
//! advisory lock. A lock that is free tells at once that the holder's process is gone; a lease that ran out tells the
//! same of one that stands still and therefore keeps its lock. Neither protects the tables: the generation of the
//! [`Fence`](super::Fence) does (I8). So a holder that cannot renew, because the catalog is away, keeps what it has and
//! renews once the catalog is back, unless somebody took over.

use std::fmt;
use std::time::Duration;

use ducklake_catalog::Catalog;
use ducklake_catalog::sqlx::{self, PgConnection, Row as _};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::{Control, ControlError};
use crate::config::FeederName;
use crate::failpoint::{self, Failpoint};
use crate::own;
use crate::{FeederError, FeederErrorKind};

/// How long a lease is good for since its last renewal.
const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(2);
/// Older than this, a renewal does not answer for the lease: another process may be about to take over.
const FRESH: Duration = Duration::from_secs(7);
/// A catalog that does not answer a renewal for so long is asked over another connection.
const ANSWER: Duration = Duration::from_secs(5);
/// Between two attempts of one renewal, and two looks at somebody else's lease.
const POLL: Duration = Duration::from_millis(200);
const SESSION_POLL: Duration = Duration::from_millis(20);
/// How long the session of a process that hangs may take to end.
const SESSION_END: Duration = Duration::from_secs(5);

/// The lease, renewed in the background until it is dropped or lost.
pub struct Lease {
    holder: Uuid,
    seized: bool,
    state: watch::Receiver<State>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct State {
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    lost: Option<LeaseLoss>,
}

/// Another process took the lease.
#[derive(Clone, Debug)]
pub struct LeaseLoss {
    feeder: FeederName,
    owner: Option<String>,
}

impl From<LeaseLoss> for FeederError {
    fn from(LeaseLoss { feeder, owner }: LeaseLoss) -> Self {
        ControlError::LeaseTaken { feeder, owner }.into()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Ends when another process has taken the lease; from then on nothing can be written.
    pub fn lost(&self) -> impl Future<Output = LeaseLoss> + Send + use<> {
        let mut state = self.state.clone();
        async move {
            loop {
                if let Some(loss) = state.borrow_and_update().lost.clone() {
                    return loss;
                }
                if state.changed().await.is_err() {
                    // The keeper ends without a word only together with the lease.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Whether no other process can have the lease at this moment. What can be had by one process only, as the slot at
    /// the source, is to be asked for only if this holds.
    ///
    /// # Errors
    /// A lease that was not renewed for some seconds; a transient error of kind
    /// [`Catalog`](crate::FeederErrorKind::Catalog).
    pub fn vouch(&self) -> Result<(), FeederError> {
        let age = self.state.borrow().renewed.elapsed();
        if age < FRESH {
            return Ok(());
        }
        Err(FeederError::transient(
            FeederErrorKind::Catalog,
            format!(
                "the lease was not renewed for {} s, and another process may have taken over",
                age.as_secs()
            ),
        )
        .with_remedy("see whether the catalog can be reached"))
    }

    pub(super) fn holder(&self) -> Uuid {
        self.holder
    }

    /// Whether the holder before let it run out, but its process hangs and may have sessions that hold locks.
    pub(crate) fn seized(&self) -> bool {
        self.seized
    }
}

impl Drop for Lease {
    /// Closes the session and thereby frees the advisory lock: who waits takes over at once.
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// A process that wants the lease.
pub struct Claimant {
    catalog: Catalog,
    feeder: FeederName,
    owner: String,
    session: Option<PgConnection>,
    /// The holder that was seen last; it is the one whose end a free lock means.
    seen: Option<Uuid>,
    /// Until when neither lock nor lease tell that the holder is gone, since our own session broke as well.
    blind_until: Option<Instant>,
}

impl fmt::Debug for Claimant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimant")
            .field("feeder", &self.feeder)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// What a claimant found.
#[derive(Debug)]
pub enum Look {
    /// The lease is ours.
    Taken(Lease),
    /// Another process has it: its owner, as far as that is known.
    Held(Option<String>),
}

/// The lease as it is stored.
struct Row {
    holder: Uuid,
    owner: String,
    expired: bool,
}

impl Control {
    /// Somebody who wants to feed. `owner` tells an operator who this is, say `host:pid`. Does not connect.
    pub fn claimant(&self, owner: &str) -> Claimant {
        Claimant {
            catalog: self.catalog.clone(),
            feeder: self.feeder.clone(),
            owner: owner.to_owned(),
            session: None,
            seen: None,
            blind_until: None,
        }
    }
}

impl Claimant {
    /// Takes the lease if nobody has it, if its holder's process is gone, or if it ran out.
    ///
    /// The feeder's row need not exist yet: a first start takes the lease before it makes slot and publication. May be
    /// called again after an error.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn look(&mut self) -> Result<Look, FeederError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.connect().await?,
        };
        let asked = Instant::now();
        match self.look_in(&mut session).await? {
            Looked::Held(owner) => {
                self.session = Some(session);
                Ok(Look::Held(owner))
            }
            Looked::Taken { holder, seized } => {
                let keeper = Keeper {
                    catalog: self.catalog.clone(),
                    feeder: self.feeder.clone(),
                    holder,
                };
                let locked = !seized || keeper.seize_lock(&mut session).await?;
                let session = Session { session, locked };
                let (sender, state) = watch::channel(State {
                    renewed: asked,
                    lost: None,
                });
                let keeper = tokio::spawn(own::task(keeper.keep(session, sender)));
                Ok(Look::Taken(Lease {
                    holder,
                    seized,
                    state,
                    keeper: keeper.abort_handle(),
                }))
            }
        }
    }

    /// As [`Claimant::look`], again and again for so long.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn look_for(&mut self, limit: Duration) -> Result<Look, FeederError> {
        let deadline = Instant::now() + limit;
        loop {
            let look = self.look().await?;
            if matches!(look, Look::Taken(_)) || Instant::now() >= deadline {
                return Ok(look);
            }
            sleep(POLL).await;
        }
    }

    async fn connect(&mut self) -> Result<PgConnection, FeederError> {
        let session = connect(&self.catalog).await?;
        if self.seen.is_some() {
            // Our own session broke. The catalog may have been away, and the holder, if it lives, needs a moment to take
            // the lock again and to renew.
            self.blind_until = Some(Instant::now() + 2 * RENEWAL);
        }
        Ok(session)
    }

    async fn look_in(&mut self, session: &mut PgConnection) -> Result<Looked, ControlError> {
        let free = try_lock(session, &self.feeder).await?;
        let found = read(session, &self.feeder).await?;
        let blind = self.blind_until.is_some_and(|until| Instant::now() < until);
        let (may_take, seized) = match &found {
            None => (free, false),
            Some(row) if row.expired => (!blind, !free),
            // A lock that is free for another reason than the end of the holder that was seen: somebody has just taken
            // over and does not have it yet.
            Some(row) => {
                let same = self.seen.is_none_or(|seen| seen == row.holder);
                (free && same && !blind, false)
            }
        };
        self.seen = found.as_ref().map(|row| row.holder);
        let holder = Uuid::now_v7();
        if may_take && take(session, &self.feeder, holder, &self.owner, self.seen).await? {
            return Ok(Looked::Taken { holder, seized });
        }
        if free {
            unlock(session, &self.feeder).await?;
        }
        Ok(Looked::Held(found.map(|row| row.owner)))
    }
}

enum Looked {
    Taken { holder: Uuid, seized: bool },
    Held(Option<String>),
}

/// The holder's session.
struct Session {
    session: PgConnection,
    /// Whether it has the advisory lock. The lease is good without, but others would believe that its holder is gone.
    locked: bool,
}

/// Renews one lease.
struct Keeper {
    catalog: Catalog,
    feeder: FeederName,
    holder: Uuid,
}

impl Keeper {
    /// Renews until another process has the lease.
    async fn keep(self, session: Session, state: watch::Sender<State>) {
        let mut session = Some(session);
        loop {
            let renewed = state.borrow().renewed;
            sleep_until(renewed + RENEWAL).await;
            failpoint::stall(Failpoint::CommitOverslept).await;
            let asked = Instant::now();
            match timeout(ANSWER, self.renew(&mut session)).await {
                Ok(Ok(true)) => state.send_modify(|state| state.renewed = asked),
                Ok(Ok(false)) => {
                    let owner = timeout(ANSWER, self.owner(session)).await;
                    let loss = LeaseLoss {
                        feeder: self.feeder,
                        owner: owner.ok().flatten(),
                    };
                    state.send_modify(|state| state.lost = Some(loss));
                    return;
                }
                Ok(Err(error)) => {
                    tracing::debug!(
                        error = error.explained(),
                        "the lease could not be renewed yet"
                    );
                    sleep(POLL).await;
                }
                Err(_elapsed) => {
                    tracing::debug!("the catalog does not answer the renewal of the lease");
                }
            }
        }
    }

    /// Whether the lease is still ours. A session that broke is not put back, and the next call makes another.
    async fn renew(&self, session: &mut Option<Session>) -> Result<bool, FeederError> {
        let mut current = match session.take() {
            Some(current) => current,
            None => Session {
                session: connect(&self.catalog).await?,
                locked: false,
            },
        };
        if !current.locked {
            current.locked = try_lock(&mut current.session, &self.feeder).await?;
        }
        let renewed = sqlx::query(
            "update duckfeeder.leases set expires_at = clock_timestamp() + make_interval(secs => $3)
             where feeder = $1 and holder = $2",
        )
        .bind(self.feeder.as_str())
        .bind(self.holder)
        .bind(LEASE.as_secs_f64())
        .execute(&mut current.session)
        .await
        .map_err(ControlError::database("renewing the feeder's lease"))?;
        *session = Some(current);
        Ok(renewed.rows_affected() == 1)
    }

    async fn owner(&self, session: Option<Session>) -> Option<String> {
        let row = read(&mut session?.session, &self.feeder).await;
        row.ok().flatten().map(|row| row.owner)
    }

    /// Ends the session by which a process that hangs keeps the lock, and takes the lock; without success it is left to
    /// the next renewals.
    async fn seize_lock(&self, session: &mut PgConnection) -> Result<bool, FeederError> {
        let deadline = Instant::now() + SESSION_END;
        loop {
            let ended = sqlx::query(
                "select pg_terminate_backend(pid) from pg_catalog.pg_locks
                 where locktype = 'advisory' and granted and objsubid = 1 and pid <> pg_backend_pid()
                   and database = (select oid from pg_catalog.pg_database where datname = current_database())
                   and (classid::bigint << 32) | objid::bigint = hashtextextended('duckfeeder:' || $1, 0)",
            )
            .bind(self.feeder.as_str())
            .execute(&mut *session)
            .await;
            if let Err(error) = ended {
                tracing::warn!(error = %error, "the session of the process that hangs cannot be ended");
                return Ok(false);
            }
            sleep(SESSION_POLL).await;
            let locked = try_lock(session, &self.feeder).await?;
            if locked || Instant::now() >= deadline {
                return Ok(locked);
            }
        }
    }
}

/// A session of its own, out of the pool for good: the lock must live as long as the lease does.
async fn connect(catalog: &Catalog) -> Result<PgConnection, FeederError> {
    let connection = catalog.acquire().await.map_err(ControlError::from)?;
    Ok(connection.detach())
}

async fn try_lock(session: &mut PgConnection, feeder: &FeederName) -> Result<bool, ControlError> {
    sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended('duckfeeder:' || $1, 0))")
        .bind(feeder.as_str())
        .fetch_one(session)
        .await
        .map_err(ControlError::database("taking the feeder's lock"))
}

async fn unlock(session: &mut PgConnection, feeder: &FeederName) -> Result<(), ControlError> {
    sqlx::query("select pg_advisory_unlock(hashtextextended('duckfeeder:' || $1, 0))")
        .bind(feeder.as_str())
        .execute(session)
        .await
        .map_err(ControlError::database("releasing the feeder's lock"))?;
    Ok(())
}

async fn read(
    session: &mut PgConnection,
    feeder: &FeederName,
) -> Result<Option<Row>, ControlError> {
    let failed = ControlError::database("reading the feeder's lease");
    let row = sqlx::query(
        "select holder, owner, expires_at <= clock_timestamp() as expired
         from duckfeeder.leases where feeder = $1",
    )
    .bind(feeder.as_str())
    .fetch_optional(session)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Row {
        holder: row.try_get("holder").map_err(&failed)?,
        owner: row.try_get("owner").map_err(&failed)?,
        expired: row.try_get("expired").map_err(&failed)?,
    }))
}

/// Compare and swap: fails when another process was faster.
async fn take(
    session: &mut PgConnection,
    feeder: &FeederName,
    holder: Uuid,
    owner: &str,
    before: Option<Uuid>,
) -> Result<bool, ControlError> {
    let taken = sqlx::query(
        "insert into duckfeeder.leases (feeder, holder, owner, expires_at)
         values ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
         on conflict (feeder) do update
         set holder = excluded.holder, owner = excluded.owner, expires_at = excluded.expires_at
         where leases.holder = $5",
    )
    .bind(feeder.as_str())
    .bind(holder)
    .bind(owner)
    .bind(LEASE.as_secs_f64())
    .bind(before)
    .execute(session)
    .await
    .map_err(ControlError::database("taking the feeder's lease"))?;
    Ok(taken.rows_affected() == 1)
}
