//! From an endpoint to a session that can take commands.

use std::collections::BTreeMap;
use std::time::Duration;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::{Connection, ServerVersion, SessionKind, State};
use crate::auth::{self, Credentials};
use crate::dial::{self, Dialled, Encryption};
use crate::endpoint::{Endpoint, Host, TargetSession, TlsMode};
use crate::error::{SourceError, SourceErrorKind};
use crate::wire::{Incoming, Wire};

/// The oldest server whose `pgoutput` has what we ask for.
const OLDEST_VERSION: ServerVersion = ServerVersion::new(140_000);

/// Sent in the startup message, since poolers know these three too.
const STARTUP_PARAMETERS: [(&str, &str); 3] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "UTC"),
];

/// Set once the session is up, as far as the server has the setting: poolers refuse most of them
/// as startup parameters. One plain `SELECT`, because the replication grammar of Postgres 14 takes
/// a single statement. `search_path` comes last and empty.
const PIN_SESSION: &str = "select s.name, pg_catalog.set_config(s.name, v.value, false) \
    from (values \
    ('IntervalStyle', 'postgres'), ('extra_float_digits', '3'), ('bytea_output', 'hex'), \
    ('lc_monetary', 'C'), ('statement_timeout', '0'), ('lock_timeout', '0'), \
    ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'), \
    ('transaction_timeout', '0'), ('search_path', '')) as v (name, value) \
    join pg_catalog.pg_settings s on s.name = v.name";

/// Those of [`PIN_SESSION`] that every supported server has.
const PINNED_EVERYWHERE: usize = 9;

/// The waits after which a password that was refused is fetched anew: whoever changes it at the server and where it
/// is kept does one before the other.
const REFUSED_WAITS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(4),
];

pub(super) async fn connect(
    endpoint: &Endpoint,
    kind: SessionKind,
) -> Result<Connection, SourceError> {
    let mut last = None;
    for host in &endpoint.hosts {
        let mut waits = REFUSED_WAITS.into_iter();
        let error = loop {
            let attempt =
                tokio::time::timeout(endpoint.connect_timeout, open(endpoint, host, kind));
            let error = match attempt.await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => SourceError::new(
                    SourceErrorKind::Timeout,
                    format!("no session within {} s", endpoint.connect_timeout.as_secs()),
                ),
            };
            let refused = error.sqlstate() == Some("28P01") && endpoint.password.may_change();
            match waits.next() {
                Some(wait) if refused => tokio::time::sleep(wait).await,
                _ => break error.about(endpoint.describe(host)),
            }
        };
        if error.kind() == SourceErrorKind::Auth {
            return Err(error);
        }
        last = Some(error);
    }
    Err(last.unwrap_or_else(|| {
        SourceError::permanent(SourceErrorKind::Config, "the endpoint names no host")
    }))
}

async fn open(
    endpoint: &Endpoint,
    host: &Host,
    kind: SessionKind,
) -> Result<Connection, SourceError> {
    let dialled = dial::dial(host, &endpoint.tls, Encryption::AsConfigured).await;
    let error = match dialled {
        Ok(dialled) => {
            let encrypted = dialled.encrypted;
            match Connection::on(dialled, endpoint, host, kind).await {
                // pg_hba.conf may take plain connections only.
                Err(error) if encrypted && error.sqlstate() == Some("28000") => error,
                other => return other,
            }
        }
        Err(error) if error.kind() == SourceErrorKind::Tls => error,
        Err(error) => return Err(error),
    };
    // As libpq: prefer falls back to plain text, every other mode does not.
    if endpoint.tls.mode != TlsMode::Prefer {
        return Err(error);
    }
    let dialled = dial::dial(host, &endpoint.tls, Encryption::Off).await?;
    Connection::on(dialled, endpoint, host, kind).await
}

impl Connection {
    /// Opens a session on a byte stream.
    pub(crate) async fn on(
        dialled: Dialled,
        endpoint: &Endpoint,
        host: &Host,
        kind: SessionKind,
    ) -> Result<Self, SourceError> {
        let credentials = Credentials {
            user: endpoint.user.clone(),
            password: endpoint.resolve_password(host).await?,
            mode: endpoint.channel_binding,
            channel_binding: dialled.channel_binding,
        };
        let mut connection = Self {
            wire: Wire::new(dialled.io),
            label: endpoint.describe(host),
            kind,
            state: State::Busy,
            parameters: BTreeMap::new(),
            backend_pid: 0,
            version: ServerVersion::default(),
            encrypted: dialled.encrypted,
            has_streamed: false,
            failure: None,
        };
        connection.start(endpoint, &credentials).await?;
        connection.pin().await?;
        connection.check_target(endpoint.target_session).await?;
        Ok(connection)
    }

    async fn start(
        &mut self,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<(), SourceError> {
        let mut parameters = vec![
            ("user", endpoint.user.as_str()),
            ("database", endpoint.database.as_str()),
            ("application_name", endpoint.application_name.as_str()),
        ];
        parameters.extend(STARTUP_PARAMETERS);
        if self.kind == SessionKind::Replication {
            parameters.push(("replication", "database"));
        }
        if let Some(options) = &endpoint.options {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, self.wire.outbound()).map_err(|cause| {
            SourceError::permanent(
                SourceErrorKind::Config,
                "user, database, application name or options contain a NUL byte",
            )
            .caused_by(cause)
        })?;
        self.wire.flush().await?;
        auth::authenticate(&mut self.wire, credentials)
            .await
            .map_err(explain_refusal)?;
        self.wire.authenticated();
        loop {
            match self.wire.next().await? {
                Incoming::Message(Message::BackendKeyData(body)) => {
                    self.backend_pid = body.process_id();
                }
                Incoming::Message(Message::ReadyForQuery(body)) => {
                    self.ready(body.status());
                    return Ok(());
                }
                Incoming::Message(Message::ErrorResponse(body)) => {
                    return Err(explain_refusal(SourceError::from_response(&body)));
                }
                Incoming::Message(message) => {
                    if self.absorb(message)?.is_some() {
                        return Err(SourceError::protocol("the server's startup makes no sense"));
                    }
                }
                Incoming::CopyData(_) | Incoming::CopyBoth => {
                    return Err(SourceError::protocol("the server's startup makes no sense"));
                }
            }
        }
    }

    async fn pin(&mut self) -> Result<(), SourceError> {
        if self.query(PIN_SESSION).await?.len() < PINNED_EVERYWHERE {
            return Err(SourceError::permanent(
                SourceErrorKind::Unsupported,
                "the server lacks settings that every supported Postgres has",
            ));
        }
        let row = self
            .query_one("select pg_catalog.current_setting('server_version_num') as version")
            .await?;
        self.version = ServerVersion::new(row.parse("version")?);
        if self.version < OLDEST_VERSION {
            return Err(SourceError::permanent(
                SourceErrorKind::Unsupported,
                format!("Postgres {} is too old", self.version),
            )
            .with_remedy("use Postgres 14 or later"));
        }
        Ok(())
    }

    async fn check_target(&mut self, target: TargetSession) -> Result<(), SourceError> {
        if target == TargetSession::Any {
            return Ok(());
        }
        let row = self
            .query_one(
                "select pg_catalog.pg_is_in_recovery() as standby, \
                 pg_catalog.current_setting('transaction_read_only') = 'on' as read_only",
            )
            .await?;
        let refused = match target {
            TargetSession::Any => false,
            TargetSession::Primary => row.flag("standby")?,
            TargetSession::ReadWrite => row.flag("standby")? || row.flag("read_only")?,
        };
        if refused {
            return Err(SourceError::new(
                SourceErrorKind::Unavailable,
                "the server is a standby or read-only, and target_session_attrs wants otherwise",
            ));
        }
        Ok(())
    }
}

/// Says more about the refusals that users meet.
fn explain_refusal(error: SourceError) -> SourceError {
    match error.sqlstate() {
        Some("28P01") => {
            error.with_remedy("check the user, and the password or where it comes from")
        }
        Some("28000") => error.with_remedy(
            "check the user, its REPLICATION attribute, its client certificate (tls_cert_file, tls_key_file), and \
             the server's pg_hba.conf for this host and TLS",
        ),
        // What poolers say to parameters they do not know, such as `replication`.
        Some("08P01") => error.with_kind(SourceErrorKind::Unsupported, true).with_remedy(
            "this looks like a connection pooler: connect to Postgres itself, by its direct host",
        ),
        // A walsender slot or the REPLICATION attribute is missing (42501 since Postgres 16).
        Some("42501") => error.with_remedy("grant the role what it lacks: LOGIN and REPLICATION"),
        Some("53300") => error
            .with_remedy("raise max_wal_senders or max_connections, or end sessions not needed"),
        _ => error,
    }
}
