//! A session: startup, simple queries, COPY OUT.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use postgres_protocol::message::backend::{Message, ParameterStatusBody};
use postgres_protocol::message::frontend;

use crate::endpoint::Endpoint;
use crate::error::{SourceError, SourceErrorKind};
use crate::row::{self, Row};
use crate::wire::{Incoming, Wire};

mod startup;

/// A session with a server. It does one thing at a time.
///
/// A future of this type that is dropped before it is done (except [`CopyOut::next`]) leaves the
/// session in the middle of something: every later call is an error of kind
/// [`SourceErrorKind::Unusable`], and the connection should be dropped.
pub struct Connection {
    pub(crate) wire: Wire,
    pub(crate) label: String,
    kind: SessionKind,
    state: State,
    parameters: BTreeMap<String, String>,
    backend_pid: i32,
    version: ServerVersion,
    encrypted: bool,
    /// Whether it has been a change stream before.
    pub(crate) has_streamed: bool,
    /// An error of the server that is returned once the session is ready again.
    failure: Option<SourceError>,
}

/// What a session can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// SQL.
    Sql,
    /// SQL and replication commands (`replication=database`).
    Replication,
}

/// The version of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServerVersion(u32);

/// Whether the session can take a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle(Transaction),
    Busy,
}

/// The transaction status of ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    None,
    Open,
    Failed,
}

impl ServerVersion {
    /// From the number of `server_version_num`, such as 150018.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number, such as 150018.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The major version, such as 15.
    pub const fn major(self) -> u32 {
        self.0 / 10_000
    }

    /// The minor version, such as 18.
    pub const fn minor(self) -> u32 {
        self.0 % 10_000
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl Connection {
    /// Opens a session. Hosts are tried in order; each may take
    /// [`Endpoint::connect_timeout`]. As with libpq, a host that refuses our credentials ends the
    /// search. A password that may change and is refused (SQLSTATE 28P01) is fetched anew up to
    /// three times within five seconds first.
    ///
    /// The session is pinned so that values and names are rendered in one way, and nothing ends it
    /// from the server's side: UTF-8, ISO dates, UTC, `extra_float_digits` 3, hex bytea,
    /// `lc_monetary` C, an empty `search_path`, and no statement, lock, idle or transaction
    /// timeout.
    ///
    /// # Errors
    /// The error of the last host tried, with endpoint and database named.
    pub async fn connect(endpoint: &Endpoint, kind: SessionKind) -> Result<Self, SourceError> {
        startup::connect(endpoint, kind).await
    }

    /// The server's version.
    pub fn server_version(&self) -> ServerVersion {
        self.version
    }

    /// A parameter the server reported, such as `server_encoding` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The process id the server (or a proxy in front of it) gave with its cancellation key.
    pub fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// What the session can do.
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// Whether the session runs over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether a transaction block is open, failed ones included.
    pub fn in_transaction(&self) -> bool {
        matches!(
            self.state,
            State::Idle(Transaction::Open | Transaction::Failed)
        )
    }

    /// Runs SQL with the simple protocol and yields the rows of all its statements; they should
    /// come from one statement.
    ///
    /// # Errors
    /// The server's error, after which the session can be used again; or the connection is lost.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<Row>, SourceError> {
        self.begin(sql).await?;
        let mut columns: Option<Arc<[String]>> = None;
        let mut rows = Vec::new();
        loop {
            match self.receive().await? {
                Incoming::Message(Message::RowDescription(body)) => {
                    columns = Some(row::column_names(&body)?);
                }
                Incoming::Message(Message::DataRow(body)) => {
                    let Some(columns) = &columns else {
                        return Err(SourceError::protocol("a row came before its description"));
                    };
                    rows.push(Row::new(columns, &body)?);
                }
                Incoming::Message(Message::CommandComplete(_) | Message::EmptyQueryResponse) => {}
                Incoming::Message(Message::ReadyForQuery(body)) => {
                    self.ready(body.status());
                    return Ok(rows);
                }
                Incoming::Message(_) | Incoming::CopyData(_) | Incoming::CopyBoth => {
                    return Err(SourceError::protocol(
                        "the answer to a query makes no sense",
                    ));
                }
            }
        }
    }

    /// Runs SQL and drops its rows.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub async fn execute(&mut self, sql: &str) -> Result<(), SourceError> {
        self.query(sql).await.map(|_| ())
    }

    /// The type modifiers of a query's columns.
    pub(crate) async fn modifiers(&mut self, sql: &str) -> Result<Vec<i32>, SourceError> {
        self.begin(sql).await?;
        let mut columns = Vec::new();
        loop {
            match self.receive().await? {
                Incoming::Message(Message::RowDescription(body)) => {
                    columns = row::column_modifiers(&body)?;
                }
                Incoming::Message(Message::ReadyForQuery(body)) => {
                    self.ready(body.status());
                    return Ok(columns);
                }
                Incoming::Message(_) | Incoming::CopyData(_) => {}
                Incoming::CopyBoth => {
                    return Err(SourceError::protocol(
                        "the answer to a query makes no sense",
                    ));
                }
            }
        }
    }

    /// The one row of a query that has exactly one.
    pub(crate) async fn query_one(&mut self, sql: &str) -> Result<Row, SourceError> {
        let mut rows = self.query(sql).await?;
        match (rows.pop(), rows.is_empty()) {
            (Some(row), true) => Ok(row),
            _ => Err(SourceError::protocol("a query that yields one row did not")),
        }
    }

    /// Starts a `COPY ... TO STDOUT`.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub async fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>, SourceError> {
        self.begin(sql).await?;
        match self.receive().await? {
            Incoming::Message(Message::CopyOutResponse(_)) => Ok(CopyOut {
                connection: self,
                done: false,
            }),
            _ => Err(SourceError::protocol(
                "the statement is not a COPY TO STDOUT",
            )),
        }
    }

    /// Says goodbye and closes the connection.
    pub async fn close(self) {
        self.wire.shutdown().await;
    }

    /// Sends a command. The session is busy until [`Connection::ready`].
    pub(crate) async fn begin(&mut self, sql: &str) -> Result<(), SourceError> {
        if self.state == State::Busy {
            return Err(SourceError::new(
                SourceErrorKind::Unusable,
                "an earlier command was abandoned half-way",
            )
            .about(&self.label));
        }
        self.state = State::Busy;
        frontend::query(sql, self.wire.outbound()).map_err(|cause| {
            SourceError::permanent(SourceErrorKind::Config, "a statement contains a NUL byte")
                .caused_by(cause)
        })?;
        self.wire
            .flush()
            .await
            .map_err(|error| error.about(&self.label))
    }

    /// The next message of an answer. The server's error is returned once the session is ready
    /// again; parameters and notices are dealt with on the way. Cancel safe.
    pub(crate) async fn receive(&mut self) -> Result<Incoming, SourceError> {
        loop {
            if self.failure.is_some() {
                self.recover().await?;
                if let Some(error) = self.failure.take() {
                    return Err(error);
                }
            }
            match self
                .wire
                .next()
                .await
                .map_err(|error| error.about(&self.label))?
            {
                Incoming::Message(Message::ErrorResponse(body)) => {
                    self.failure = Some(SourceError::from_response(&body));
                }
                Incoming::Message(message) => {
                    if let Some(message) = self.absorb(message)? {
                        return Ok(Incoming::Message(message));
                    }
                }
                other => return Ok(other),
            }
        }
    }

    /// Keeps what the server says beside its answers; what is left belongs to the answer.
    fn absorb(&mut self, message: Message) -> Result<Option<Message>, SourceError> {
        match message {
            Message::ParameterStatus(body) => {
                self.keep_parameter(&body)?;
                Ok(None)
            }
            // Notices may quote row values, so their text is not logged.
            Message::NoticeResponse(_) | Message::NotificationResponse(_) => Ok(None),
            other => Ok(Some(other)),
        }
    }

    fn keep_parameter(&mut self, body: &ParameterStatusBody) -> Result<(), SourceError> {
        let malformed = |cause| SourceError::malformed("parameter status", cause);
        let name = body.name().map_err(malformed)?;
        let value = body.value().map_err(malformed)?;
        self.parameters.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// After an error: everything up to ReadyForQuery is part of the failed command. A server that
    /// ends the session closes the connection instead, and then the error is all there is.
    async fn recover(&mut self) -> Result<(), SourceError> {
        loop {
            match self.wire.next().await {
                Ok(Incoming::Message(Message::ReadyForQuery(body))) => {
                    self.ready(body.status());
                    return Ok(());
                }
                Ok(Incoming::Message(message)) => {
                    self.absorb(message)?;
                }
                Ok(Incoming::CopyData(_) | Incoming::CopyBoth) => {}
                Err(error) if error.kind() == SourceErrorKind::ConnectionLost => return Ok(()),
                Err(error) => return Err(error.about(&self.label)),
            }
        }
    }

    pub(crate) fn ready(&mut self, status: u8) {
        self.state = State::Idle(match status {
            b'T' => Transaction::Open,
            b'E' => Transaction::Failed,
            _ => Transaction::None,
        });
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("to", &self.label)
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A running `COPY ... TO STDOUT`. If it is dropped before it ends, the connection is left
/// unusable.
#[derive(Debug)]
pub struct CopyOut<'a> {
    connection: &'a mut Connection,
    done: bool,
}

impl CopyOut<'_> {
    /// The payload of the next CopyData, or `None` at the end, when the connection can be used
    /// again. With the binary format, the first payload begins with the file header; otherwise the
    /// server sends one row per message. Cancel safe.
    ///
    /// # Errors
    /// The server's error, after which the connection can be used again; or it is lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        while !self.done {
            match self.connection.receive().await {
                Ok(Incoming::CopyData(data)) => return Ok(Some(data)),
                Ok(Incoming::Message(Message::CopyDone | Message::CommandComplete(_))) => {}
                Ok(Incoming::Message(Message::ReadyForQuery(body))) => {
                    self.connection.ready(body.status());
                    self.done = true;
                }
                Ok(_) => {
                    self.done = true;
                    return Err(SourceError::protocol("the answer to a COPY makes no sense"));
                }
                Err(error) => {
                    self.done = true;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
