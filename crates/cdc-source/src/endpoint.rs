//! How to reach a Postgres server: one type for the source and for the catalog.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;

use crate::error::SourceError;
use crate::password::PasswordSource;

mod parse;

const DEFAULT_PORT: u16 = 5432;
/// Where Debian's and most packaged servers keep their socket; used when a URL names no host.
const DEFAULT_SOCKET_DIR: &str = "/var/run/postgresql";
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_APPLICATION_NAME: &str = "duckfeeder";

/// A Postgres server, a database in it, and how to prove who we are.
///
/// `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Tried in order; never empty when it comes from [`Endpoint::parse`].
    pub hosts: Vec<Host>,
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// TLS.
    pub tls: TlsOptions,
    /// Whether SCRAM is bound to the TLS channel.
    pub channel_binding: ChannelBindingMode,
    /// `application_name` of the sessions.
    pub application_name: String,
    /// How long one host may take to accept a session.
    pub connect_timeout: Duration,
    /// The `options` startup parameter: command-line options for the server process.
    pub options: Option<String>,
    /// What the session must be able to do.
    pub target_session: TargetSession,
}

/// One host of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A host name or address.
    Tcp {
        /// Name, IPv4 or IPv6 address (without brackets).
        host: String,
        /// Port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The directory that holds the socket.
        dir: PathBuf,
        /// Port, part of the socket's name.
        port: u16,
    },
}

/// How TLS is used. Names as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if it can be had, unverified; plain otherwise.
    Prefer,
    /// TLS, unverified; with a CA file given, the chain is verified as with `VerifyCa`, as in
    /// libpq.
    Require,
    /// TLS, and the certificate is signed by a trusted CA.
    VerifyCa,
    /// TLS, and the certificate is signed by a trusted CA and issued for the host name.
    VerifyFull,
}

/// TLS settings of an [`Endpoint`]. Unix sockets never use TLS, as in libpq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The mode.
    pub mode: TlsMode,
    /// Trusted CA certificates (PEM); the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// Our client certificate chain (PEM); needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The private key of the client certificate (PEM).
    pub key_file: Option<PathBuf>,
}

/// Whether SCRAM authentication is bound to the TLS channel (`SCRAM-SHA-256-PLUS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChannelBindingMode {
    /// Never.
    Disable,
    /// When TLS is on and the server offers it.
    #[default]
    Prefer,
    /// Always; anything else is an error.
    Require,
}

/// What a session must be able to do. Names as libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetSession {
    /// Any server will do.
    #[default]
    Any,
    /// The server is not in recovery and transactions are read-write.
    ReadWrite,
    /// The server is not in recovery.
    Primary,
}

/// A connection URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The URL does not begin with `postgres://` or `postgresql://`.
    #[error("connection url must begin with postgres:// or postgresql://")]
    Scheme,
    /// A percent escape is broken or does not yield UTF-8.
    #[error("connection url: invalid percent-encoding in {part}")]
    Encoding {
        /// The part of the URL.
        part: &'static str,
    },
    /// A port is not a number from 1 to 65535.
    #[error("connection url: port \"{port}\" is not a number from 1 to 65535")]
    Port {
        /// What was given.
        port: String,
    },
    /// An IPv6 address lacks its closing bracket, or has text behind it.
    #[error("connection url: the IPv6 address must stand in brackets, as in [::1]:5432")]
    Brackets,
    /// `host` and `port` parameters do not pair up.
    #[error("connection url: {ports} ports for {hosts} hosts; give one for all, or one for each")]
    PortCount {
        /// Number of hosts.
        hosts: usize,
        /// Number of ports.
        ports: usize,
    },
    /// A parameter this crate does not know.
    #[error("connection url: unknown parameter \"{name}\"")]
    UnknownParameter {
        /// Its name.
        name: String,
    },
    /// A parameter without `=`.
    #[error("connection url: parameter \"{name}\" has no value")]
    MissingValue {
        /// Its name.
        name: String,
    },
    /// A parameter with a value this crate does not know.
    #[error("connection url: \"{value}\" is no value for {name}; known: {known}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is known.
        known: &'static str,
    },
    /// No user is given and `USER` is not set.
    #[error("connection url names no user, and USER is not set")]
    NoUser,
    /// A part contains a NUL byte, which the protocol cannot carry.
    #[error("connection url: {part} contains a NUL byte")]
    Nul {
        /// The part of the URL.
        part: &'static str,
    },
}

impl Endpoint {
    /// Reads a libpq connection URI:
    /// `postgres://user:password@host1:5432,host2/database?sslmode=require&...`
    /// (Postgres documentation, "Connection URIs").
    ///
    /// Known parameters: `host`, `port`, `user`, `password`, `dbname`,
    /// `sslmode`, `sslrootcert` (`system` for the system's), `sslcert`, `sslkey`,
    /// `channel_binding`, `connect_timeout` (seconds, 0 for the default), `application_name`,
    /// `options`, `target_session_attrs`, and `gssencmode` as long as it asks for nothing.
    ///
    /// Where libpq differs: `sslmode` is `verify-full` unless every host is a socket or a
    /// loopback address (then `prefer`), `allow` is refused, and environment variables other than
    /// `USER`, `HOME` and `PGPASSFILE` mean nothing.
    ///
    /// # Errors
    /// Anything that is not understood; nothing is ignored. The error does not repeat the URL.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        parse::endpoint(url, |name| std::env::var(name).ok())
    }

    /// The password for a connection to `host`, resolved anew.
    ///
    /// # Errors
    /// See [`PasswordSource::resolve`].
    pub async fn resolve_password(&self, host: &Host) -> Result<Option<SecretString>, SourceError> {
        self.password.resolve(self, host).await
    }

    /// `database "shop" at db:5432 as feeder`, for messages.
    pub(crate) fn describe(&self, host: &Host) -> String {
        format!(
            "database \"{}\" at {host} as \"{}\"",
            self.database, self.user
        )
    }
}

impl Host {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp { port, .. } | Self::Unix { port, .. } => *port,
        }
    }

    /// Whether the host is a socket or a loopback name or address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => {
                host == "localhost"
                    || host
                        .parse::<std::net::IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { dir, port } => write!(f, "{}/.s.PGSQL.{port}", dir.display()),
        }
    }
}

impl TlsOptions {
    /// The given mode, the system's CA certificates, no client certificate.
    pub fn new(mode: TlsMode) -> Self {
        Self {
            mode,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

impl std::str::FromStr for TlsMode {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            other => Err(EndpointError::Value {
                name: "sslmode",
                value: other.to_owned(),
                known: "disable, prefer, require, verify-ca, verify-full",
            }),
        }
    }
}

impl std::fmt::Display for TlsMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        })
    }
}
