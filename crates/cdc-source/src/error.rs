//! The error of this crate, and the one table that says what an SQLSTATE means for us.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

/// Something went wrong at the source.
///
/// The message names the object it is about. Row values and secrets never get in: the server's
/// `DETAIL` is dropped, and so is its message for data exceptions (SQLSTATE classes 22 and 23).
pub struct SourceError(Box<Inner>);

struct Inner {
    kind: SourceErrorKind,
    permanent: bool,
    object: Option<String>,
    message: String,
    sqlstate: Option<String>,
    remedy: Option<String>,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of error a [`SourceError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The endpoint cannot be used as given (bad option, unreadable password or key file).
    Config,
    /// No connection could be made: name resolution, refused, unreachable.
    Connect,
    /// TLS was refused by the server, or its certificate was refused by us.
    Tls,
    /// The server did not accept who we are.
    Auth,
    /// The database does not exist.
    DatabaseMissing,
    /// An established connection was lost or closed.
    ConnectionLost,
    /// Something took longer than its limit.
    Timeout,
    /// The server sent what the protocol does not allow here, or what we cannot read.
    Protocol,
    /// The role lacks a privilege, or row-level security would hide rows from it.
    Privilege,
    /// The server, its version or its configuration lacks what is asked for.
    Unsupported,
    /// An object that is asked for does not exist.
    ObjectMissing,
    /// An object that is to be created exists already.
    AlreadyExists,
    /// The slot is in use by another session.
    SlotInUse,
    /// The slot can never be used again: invalidated, or its WAL is gone.
    SlotLost,
    /// A value has a type without a binary output function: ask for text (SQLSTATE 42883).
    NoBinaryOutput,
    /// The exported snapshot does not exist any more.
    SnapshotGone,
    /// A limit of the server is used up (slots, walsenders, connections, memory, disk).
    ServerLimit,
    /// The server is starting, stopping, or ended our session.
    Unavailable,
    /// A deadlock or serialisation failure: run the transaction again.
    Conflict,
    /// Any other error the server reported.
    Server,
    /// The connection was left in the middle of something and cannot be used any more.
    Unusable,
}

impl SourceError {
    pub(crate) fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            permanent: false,
            object: None,
            message: message.into(),
            sqlstate: None,
            remedy: None,
            cause: None,
        }))
    }

    pub(crate) fn permanent(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        let mut error = Self::new(kind, message);
        error.0.permanent = true;
        error
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(SourceErrorKind::Protocol, message)
    }

    /// Maps bytes that `postgres-protocol` cannot read.
    pub(crate) fn malformed(what: &'static str, cause: io::Error) -> Self {
        Self::protocol(format!("malformed {what} from the server")).caused_by(cause)
    }

    /// Maps an input or output error on an established connection.
    pub(crate) fn connection_lost(cause: io::Error) -> Self {
        // With TLS 1.3 the server judges our certificate only when the handshake is over.
        crate::tls::refused_certificate(&cause)
            .unwrap_or_else(|| {
                Self::new(SourceErrorKind::ConnectionLost, "the connection was lost")
            })
            .caused_by(cause)
    }

    /// Maps an `ErrorResponse`.
    pub(crate) fn from_response(body: &ErrorResponseBody) -> Self {
        let mut sqlstate = String::new();
        let mut message = String::new();
        let mut hint = None;
        let mut fields = body.fields();
        loop {
            match fields.next() {
                Ok(Some(field)) => {
                    let value = String::from_utf8_lossy(field.value_bytes());
                    match field.type_() {
                        b'C' => sqlstate = value.into_owned(),
                        b'M' => message = value.into_owned(),
                        b'H' => hint = Some(value.into_owned()),
                        _ => {}
                    }
                }
                Ok(None) => break,
                Err(cause) => return Self::malformed("error response", cause),
            }
        }
        let Classified { kind, permanent } = classify(&sqlstate);
        if may_carry_values(&sqlstate) {
            message = String::from("the server reported a data exception");
            hint = None;
        }
        Self(Box::new(Inner {
            kind,
            permanent,
            object: None,
            message,
            sqlstate: Some(sqlstate),
            remedy: hint,
            cause: None,
        }))
    }

    /// Names the object, unless an inner context already did.
    pub(crate) fn about(mut self, object: impl fmt::Display) -> Self {
        if self.0.object.is_none() {
            self.0.object = Some(object.to_string());
        }
        self
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    pub(crate) fn with_kind(mut self, kind: SourceErrorKind, permanent: bool) -> Self {
        self.0.kind = kind;
        self.0.permanent = permanent;
        self
    }

    pub(crate) fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> SourceErrorKind {
        self.0.kind
    }

    /// The SQLSTATE, when the server reported the error.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// The object the error is about, such as `table "public"."orders"`.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// Whether trying again may help. True unless the error is proven permanent.
    pub fn is_transient(&self) -> bool {
        !self.0.permanent
    }

    /// What to do about it, when there is something to say.
    pub fn remedy(&self) -> Option<String> {
        self.0.remedy.clone()
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = &self.0.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(sqlstate) = &self.0.sqlstate {
            write!(f, " (SQLSTATE {sqlstate})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceError")
            .field("kind", &self.0.kind)
            .field("permanent", &self.0.permanent)
            .field("object", &self.0.object)
            .field("message", &self.0.message)
            .field("sqlstate", &self.0.sqlstate)
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl StdError for SourceError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Some(cause) => Some(cause.as_ref()),
            None => None,
        }
    }
}

struct Classified {
    kind: SourceErrorKind,
    permanent: bool,
}

/// What an SQLSTATE means for us (Postgres documentation, appendix A). Transient unless proven
/// permanent.
fn classify(sqlstate: &str) -> Classified {
    use SourceErrorKind as Kind;
    let (kind, permanent) = match sqlstate {
        "28000" | "28P01" => (Kind::Auth, true),
        "3D000" | "57P04" => (Kind::DatabaseMissing, true),
        "42501" => (Kind::Privilege, true),
        "42883" => (Kind::NoBinaryOutput, true),
        "42710" | "42P04" | "42P06" | "42P07" => (Kind::AlreadyExists, true),
        "42704" | "42P01" | "42703" | "3F000" => (Kind::ObjectMissing, true),
        "55006" => (Kind::SlotInUse, false),
        "55P03" => (Kind::Conflict, false),
        // Object not in prerequisite state: wal_level too low, slot invalidated.
        "55000" | "0A000" => (Kind::Unsupported, true),
        // A file that must exist is gone: the WAL a slot needs.
        "58P01" => (Kind::SlotLost, true),
        "57014" => (Kind::Timeout, false),
        "57P01" | "57P02" | "57P03" | "57P05" => (Kind::Unavailable, false),
        "XX001" | "XX002" => (Kind::Server, true),
        _ => match sqlstate.get(..2) {
            Some("40") => (Kind::Conflict, false),
            Some("53") => (Kind::ServerLimit, false),
            Some("57" | "08") => (Kind::Unavailable, false),
            Some("22" | "23" | "42") => (Kind::Server, true),
            _ => (Kind::Server, false),
        },
    };
    Classified { kind, permanent }
}

fn may_carry_values(sqlstate: &str) -> bool {
    matches!(sqlstate.get(..2), Some("22" | "23"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_states_are_transient() {
        for state in [
            "XX000", "P0001", "", "9", "HV000", "08006", "53300", "57P01",
        ] {
            assert!(!classify(state).permanent, "{state}");
        }
    }

    #[test]
    fn proven_states_are_permanent() {
        for (state, kind) in [
            ("28P01", SourceErrorKind::Auth),
            ("28000", SourceErrorKind::Auth),
            ("3D000", SourceErrorKind::DatabaseMissing),
            ("42501", SourceErrorKind::Privilege),
            ("42P01", SourceErrorKind::ObjectMissing),
            ("42883", SourceErrorKind::NoBinaryOutput),
            ("58P01", SourceErrorKind::SlotLost),
            ("42601", SourceErrorKind::Server),
        ] {
            let classified = classify(state);
            assert!(classified.permanent, "{state}");
            assert_eq!(classified.kind, kind, "{state}");
        }
    }

    #[test]
    fn display_names_the_object_once() {
        let error = SourceError::new(SourceErrorKind::Server, "broken")
            .about("slot \"inner\"")
            .about("slot \"outer\"");
        assert_eq!(error.to_string(), "slot \"inner\": broken");
    }

    #[test]
    fn data_exceptions_lose_their_message() {
        for class in ["22P02", "23505"] {
            assert!(may_carry_values(class));
        }
        assert!(!may_carry_values("42P01"));
    }
}
