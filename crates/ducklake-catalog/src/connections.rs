//! The connections to the catalog: a pool whose new connections have a fresh password.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{Connection, PgPool, Postgres};
use tokio::time::{sleep, timeout};

use crate::catalog::CatalogOptions;
use crate::{CatalogError, CatalogErrorKind};

/// Makes the options for one new connection, its password fetched anew. Called before each.
pub type ConnectProvider = Arc<
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<PgConnectOptions, CredentialsError>> + Send>>
        + Send
        + Sync,
>;

/// Why a [`ConnectProvider`] has no password.
#[derive(Debug)]
pub struct CredentialsError {
    /// Whether the same call may succeed later.
    pub transient: bool,
    /// What an operator can do about it.
    pub remedy: Option<String>,
    /// The cause; without anything secret.
    pub cause: Box<dyn Error + Send + Sync>,
}

/// How long to wait for a connection, a new one included. The server may be starting or have none left for us; whoever
/// wants one tries again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take to answer before it is used.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The waits after which a password that was refused is fetched anew: whoever changes it at the server and where it
/// is kept does one before the other.
const REFUSED_WAITS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// Clones share one pool.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: PgPool,
    provider: Option<ConnectProvider>,
    /// The database, for messages.
    label: Arc<str>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("to", &self.label)
            .field("open", &self.pool.size())
            .finish_non_exhaustive()
    }
}

impl Connections {
    /// None is open yet.
    pub(crate) fn new(options: CatalogOptions) -> Self {
        let label = Arc::from(label(&options.connect));
        let schema = options.metadata_schema;
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // In place of the ping: a session that began while the database was read-only stays so, a new one may not.
            .test_before_acquire(false)
            .before_acquire(|connection, _| Box::pin(async move { can_write(connection).await }))
            .after_connect(move |connection, _| {
                let search_path = crate::changes_made::quote(&schema);
                Box::pin(async move { set_up_session(connection, &search_path).await })
            })
            .connect_lazy_with(named(options.connect));
        Self {
            pool,
            provider: options.provider,
            label,
        }
    }

    /// One that answers, or a new one.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, CatalogError> {
        // The pool would replace one that is dead by itself, with the password of the one before.
        if let Some(mut connection) = self.pool.try_acquire() {
            match can_write(&mut connection).await {
                Ok(true) => return Ok(connection),
                // It says nothing any more: there is nobody to take leave of.
                Ok(false) | Err(_) => drop(connection.detach().close_hard().await),
            }
        }
        let Some(provider) = &self.provider else {
            return self.open().await;
        };
        // One that comes back to a pool that is full needs no password.
        if self.pool.size() < self.pool.options().get_max_connections() {
            self.refresh(provider).await?;
        }
        for wait in REFUSED_WAITS {
            match self.open().await {
                Err(error) if is_refused(&error) => {
                    tracing::debug!(error = %error, "the password was refused and is fetched anew");
                }
                done => return done,
            }
            sleep(wait).await;
            self.refresh(provider).await?;
        }
        self.open().await
    }

    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    async fn open(&self) -> Result<PoolConnection<Postgres>, CatalogError> {
        let opened = self.pool.acquire().await;
        opened.map_err(|error| CatalogError::from_sqlx(error, &*self.label))
    }

    async fn refresh(&self, provider: &ConnectProvider) -> Result<(), CatalogError> {
        let options = provider()
            .await
            .map_err(|error| CatalogError::credentials(error, &*self.label))?;
        self.pool.set_connect_options(named(options));
        Ok(())
    }
}

fn is_refused(error: &CatalogError) -> bool {
    // invalid_password; what a server says that finds no password file entry or an expired token is the same.
    *error.kind() == CatalogErrorKind::Login && error.sqlstate() == Some("28P01")
}

fn named(connect: PgConnectOptions) -> PgConnectOptions {
    match connect.get_application_name() {
        Some(_) => connect,
        None => connect.application_name("duckfeeder"),
    }
}

/// Names a database for messages, without anything secret.
pub(crate) fn label(connect: &PgConnectOptions) -> String {
    let user = connect.get_username();
    let database = connect.get_database().unwrap_or(user);
    let port = connect.get_port();
    match connect.get_socket() {
        Some(dir) => format!(
            "catalog database \"{database}\" at {}/.s.PGSQL.{port} as \"{user}\"",
            dir.display()
        ),
        None => format!(
            "catalog database \"{database}\" at {}:{port} as \"{user}\"",
            connect.get_host()
        ),
    }
}

async fn set_up_session(
    connection: &mut PgConnection,
    search_path: &str,
) -> Result<(), sqlx::Error> {
    // The role's own settings must not cut a commit short. What bounds it: no statement of ours
    // takes long, and a session that stops in mid-transaction (a stopped process) would otherwise
    // block every other writer of the lake for ever. transaction_timeout exists from Postgres 17 on.
    sqlx::query(
        "select set_config('search_path', $1, false), \
                set_config('timezone', 'UTC', false), \
                set_config('statement_timeout', '120s', false), \
                set_config('idle_in_transaction_session_timeout', '60s', false), \
                (select count(set_config(name, '0', false)) from pg_catalog.pg_settings \
                  where name in ('transaction_timeout', 'idle_session_timeout'))",
    )
    .bind(search_path)
    .execute(connection)
    .await?;
    Ok(())
}

/// One that does not answer in time may have died without a word, and another is taken.
async fn can_write(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let asked = sqlx::query_scalar("select current_setting('transaction_read_only') = 'off'")
        .fetch_one(connection);
    timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Ok(false))
}
