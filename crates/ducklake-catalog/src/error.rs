//! The error of this crate, and the one place where database errors are understood.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use rustls::{AlertDescription, CertificateError};

use crate::{CredentialsError, HookError};

/// What went wrong; see [`CatalogError`] for the object and the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogErrorKind {
    /// The metadata schema holds no lake.
    NoLake,
    /// The lake has another format version than [`FORMAT_VERSION`](crate::FORMAT_VERSION).
    WrongVersion {
        /// The version that the catalog names.
        found: String,
    },
    /// The lake keeps its files at another place than the caller wants.
    DataPathMismatch {
        /// The path stored in the catalog.
        catalog: String,
        /// The path asked for.
        wanted: String,
    },
    /// A data path that no lake can use: relative, or with empty or dot segments.
    InvalidDataPath,
    /// The lake is encrypted, which this crate cannot write.
    Encrypted,
    /// The catalog holds rows that this crate cannot safely build upon.
    InvalidCatalog,
    /// The change set contradicts itself or the format; committing it again cannot help.
    InvalidChange,
    /// A table is not what the change set expects: dropped, or with other columns.
    TableChanged,
    /// A schema is not what the change set expects.
    SchemaChanged,
    /// A name is taken already, compared without case.
    NameCollision,
    /// Every attempt lost a race against other writers.
    Conflict,
    /// Another session held a lock for too long.
    LockTimeout,
    /// A publication makes Postgres refuse updates of catalog tables.
    Published,
    /// The commit hook failed; the source is its error.
    Hook,
    /// The role lacks a privilege.
    Privilege,
    /// The server refused the login, or there is no such database.
    Login,
    /// There is no password to log in with.
    Credentials {
        /// Whether there may be one later.
        transient: bool,
    },
    /// One side refused the other's certificate.
    Tls,
    /// The server cannot be reached, or the connection broke.
    Connection,
    /// Any other error of the database.
    Database,
}

/// An error of the catalog: its kind, the object it is about, and what to do about it.
pub struct CatalogError(Box<Inner>);

struct Inner {
    kind: CatalogErrorKind,
    object: String,
    detail: Option<String>,
    sqlstate: Option<String>,
    remedy: Option<Cow<'static, str>>,
    commit_outcome_unknown: bool,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl CatalogError {
    pub(crate) fn new(kind: CatalogErrorKind, object: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            object: object.into(),
            detail: None,
            sqlstate: None,
            remedy: None,
            commit_outcome_unknown: false,
            source: None,
        }))
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    pub(crate) fn hook(source: HookError) -> Self {
        let mut error = Self::new(CatalogErrorKind::Hook, "commit hook");
        error.0.source = Some(source);
        error
    }

    /// Maps an error of the database. `object` is what the statement was about.
    pub(crate) fn from_sqlx(source: sqlx::Error, object: impl Into<String>) -> Self {
        let sqlstate = source
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .map(Cow::into_owned);
        let (kind, remedy) = match sqlstate.as_deref() {
            Some(code) => (kind_of_sqlstate(code), remedy_of_sqlstate(code)),
            None => match refused_certificate(&source) {
                Some(remedy) => (CatalogErrorKind::Tls, Some(remedy)),
                None => (
                    kind_of_client_error(&source),
                    remedy_of_client_error(&source),
                ),
            },
        };
        let mut error = Self::new(kind, object);
        error.0.remedy = remedy.map(Cow::Borrowed);
        error.0.sqlstate = sqlstate;
        error.0.source = Some(Box::new(source));
        error
    }

    pub(crate) fn credentials(cause: CredentialsError, object: impl Into<String>) -> Self {
        let transient = cause.transient;
        let mut error = Self::new(CatalogErrorKind::Credentials { transient }, object);
        error.0.remedy = cause.remedy.map(Cow::Owned);
        error.0.source = Some(cause.cause);
        error
    }

    pub(crate) fn during_commit(mut self) -> Self {
        self.0.commit_outcome_unknown = true;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> &CatalogErrorKind {
        &self.0.kind
    }

    /// The object that the error is about, such as `table raw.orders`.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// The SQLSTATE, when the error came from the server.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// Whether the same call may succeed later without anybody changing anything.
    ///
    /// An error counts as transient unless it is proven permanent. A hook's error is transient here:
    /// only the hook's author can tell, from [`source`](Error::source).
    pub fn is_transient(&self) -> bool {
        use CatalogErrorKind as Kind;
        match self.0.kind {
            Kind::NoLake
            | Kind::WrongVersion { .. }
            | Kind::DataPathMismatch { .. }
            | Kind::InvalidDataPath
            | Kind::Encrypted
            | Kind::InvalidCatalog
            | Kind::InvalidChange
            | Kind::TableChanged
            | Kind::SchemaChanged
            | Kind::NameCollision
            | Kind::Published
            | Kind::Privilege
            | Kind::Login
            | Kind::Tls => false,
            Kind::Credentials { transient } => transient,
            Kind::Conflict | Kind::LockTimeout | Kind::Hook | Kind::Connection | Kind::Database => {
                true
            }
        }
    }

    /// Whether somebody else's change of the lake is the reason.
    pub fn is_conflict(&self) -> bool {
        use CatalogErrorKind as Kind;
        matches!(
            self.0.kind,
            Kind::TableChanged | Kind::SchemaChanged | Kind::NameCollision | Kind::Conflict
        )
    }

    /// Whether the transaction may have been committed although the call failed.
    ///
    /// Then the caller must find out (by reading, with a lock, something that its hook wrote) before
    /// it commits the same changes again.
    pub fn commit_outcome_unknown(&self) -> bool {
        self.0.commit_outcome_unknown
    }

    /// Whether another attempt at the same transaction is worthwhile right away.
    pub(crate) fn is_lost_race(&self) -> bool {
        !self.0.commit_outcome_unknown
            && self.0.kind != CatalogErrorKind::Hook
            && matches!(self.sqlstate(), Some("23505" | "40001" | "40P01" | "55P03"))
    }

    /// What an operator can do about it, as one sentence.
    pub fn remedy(&self) -> Option<String> {
        use CatalogErrorKind as Kind;
        if self.0.commit_outcome_unknown {
            return Some(
                "read back what the commit hook wrote, with a row lock, before trying again".into(),
            );
        }
        if let Some(remedy) = &self.0.remedy {
            return Some(remedy.clone().into_owned());
        }
        Some(match &self.0.kind {
            Kind::NoLake => "create the lake first, or name the schema it is in".into(),
            Kind::WrongVersion { found } => format!(
                "use a catalog of DuckLake version {} (DuckDB 1.5.2 or later creates one), \
                 not {found}; an older one is migrated by attaching it in DuckDB with \
                 AUTOMATIC_MIGRATION",
                crate::FORMAT_VERSION
            ),
            Kind::DataPathMismatch { catalog, .. } => {
                format!("set the storage location to {catalog}, or use another metadata schema")
            }
            Kind::InvalidDataPath => {
                "use an absolute path or a URL without empty, . or .. segments".into()
            }
            Kind::Encrypted => "use a lake that was created without ENCRYPTED".into(),
            Kind::Conflict => "try again when fewer writers are active".into(),
            Kind::LockTimeout => {
                "end the session that holds the lock, or wait until it is done".into()
            }
            Kind::Published => {
                "give the catalog a database of its own, or set REPLICA IDENTITY FULL \
                 on the ducklake_* tables"
                    .into()
            }
            Kind::Privilege => "grant the role the missing privilege".into(),
            Kind::Login => "check database name, user and password".into(),
            Kind::Credentials { .. } => {
                "see whether the file, command or function that the password comes from works"
                    .into()
            }
            Kind::Connection => {
                "check host, port and TLS settings, and that the server runs".into()
            }
            Kind::TableChanged
            | Kind::SchemaChanged
            | Kind::NameCollision
            | Kind::InvalidCatalog
            | Kind::InvalidChange
            | Kind::Hook
            | Kind::Tls
            | Kind::Database => return None,
        })
    }
}

fn kind_of_sqlstate(code: &str) -> CatalogErrorKind {
    match code {
        "55P03" => CatalogErrorKind::LockTimeout,
        "23505" | "40001" | "40P01" => CatalogErrorKind::Conflict,
        // object_not_in_prerequisite_state: "does not have a replica identity and publishes updates"
        "55000" => CatalogErrorKind::Published,
        "42501" => CatalogErrorKind::Privilege,
        "3D000" => CatalogErrorKind::Login,
        // undefined_table: every table that we name exists in each lake
        "42P01" => CatalogErrorKind::NoLake,
        code if code.starts_with("28") => CatalogErrorKind::Login,
        code if code.starts_with("08") || code.starts_with("57P") => CatalogErrorKind::Connection,
        _ => CatalogErrorKind::Database,
    }
}

fn kind_of_client_error(error: &sqlx::Error) -> CatalogErrorKind {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => CatalogErrorKind::Connection,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound => {
            CatalogErrorKind::InvalidCatalog
        }
        _ => CatalogErrorKind::Database,
    }
}

/// What is known beyond the kind (Postgres documentation, appendix "PostgreSQL Error Codes").
fn remedy_of_sqlstate(code: &str) -> Option<&'static str> {
    match code {
        "28P01" => Some("check the user, and the password or where it comes from"),
        "28000" => Some(
            "check the user, its client certificate (tls_cert_file, tls_key_file), and the server's pg_hba.conf for \
             this host and TLS",
        ),
        "3D000" => Some("create the database, or name another"),
        "53100" => Some("make room on the disk of the catalog server"),
        _ => None,
    }
}

fn remedy_of_client_error(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        // The pool also waits while the server has no connection left for us.
        sqlx::Error::PoolTimedOut => Some(
            "see whether the catalog server answers, and whether max_connections or a connection limit of the role or \
             the database is reached",
        ),
        sqlx::Error::Tls(_) => {
            Some("turn ssl on at the server, or allow plain text with sslmode=disable")
        }
        _ => None,
    }
}

/// What to do when a handshake ended over a certificate; nobody but a person can mend that.
fn refused_certificate(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Io(error) = error else {
        return None;
    };
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Some("renew the server's certificate, or set the clock of this machine"),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            Some("connect by a name that the certificate is issued for, or use tls = \"verify-ca\"")
        }
        rustls::Error::InvalidCertificate(_) => Some(
            "name the CA that signed the server's certificate: tls_ca_file, or sslrootcert in the url",
        ),
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA,
        ) => Some(
            "the server does not take our client certificate: give one (tls_cert_file, tls_key_file) that a CA in its \
             ssl_ca_file has signed and that is valid",
        ),
        _ => None,
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CatalogErrorKind as Kind;
        let object = &self.0.object;
        match &self.0.kind {
            Kind::NoLake => write!(f, "{object} holds no lake"),
            Kind::WrongVersion { found } => {
                write!(
                    f,
                    "{object} has catalog version {found}, not {}",
                    crate::FORMAT_VERSION
                )
            }
            Kind::DataPathMismatch { catalog, wanted } => {
                write!(f, "{object} keeps its files in {catalog}, not in {wanted}")
            }
            Kind::InvalidDataPath => write!(f, "{object} cannot be the data path of a lake"),
            Kind::Encrypted => write!(f, "{object} is encrypted"),
            Kind::InvalidCatalog => write!(f, "{object} holds rows that cannot be built upon"),
            Kind::InvalidChange => write!(f, "invalid change of {object}"),
            Kind::TableChanged | Kind::SchemaChanged => {
                write!(f, "{object} is not what the change expects")
            }
            Kind::NameCollision => write!(f, "the name of {object} is taken"),
            Kind::Conflict => write!(f, "{object} lost a race against another writer"),
            Kind::LockTimeout => write!(f, "{object} is locked by another session"),
            Kind::Published => {
                write!(f, "{object} is published without a replica identity")
            }
            Kind::Hook => write!(f, "{object} refused the commit"),
            Kind::Privilege => write!(f, "no privilege for {object}"),
            Kind::Login => write!(f, "login to {object} refused"),
            Kind::Credentials { .. } => write!(f, "no password for {object}"),
            Kind::Tls => write!(f, "no TLS session with {object}"),
            Kind::Connection => write!(f, "no connection for {object}"),
            Kind::Database => write!(f, "database error at {object}"),
        }?;
        if let Some(detail) = &self.0.detail {
            write!(f, ": {detail}")?;
        }
        if let Some(sqlstate) = &self.0.sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        if self.0.commit_outcome_unknown {
            write!(f, "; the commit may have happened")?;
        }
        Ok(())
    }
}

/// Without the fields of a server's error, which can quote row values.
impl fmt::Debug for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogError")
            .field("kind", &self.0.kind)
            .field("object", &self.0.object)
            .field("detail", &self.0.detail)
            .field("sqlstate", &self.0.sqlstate)
            .field("commit_outcome_unknown", &self.0.commit_outcome_unknown)
            .field("source", &self.0.source.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl Error for CatalogError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}
