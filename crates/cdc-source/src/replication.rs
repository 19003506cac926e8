//! Replication commands and the change stream (Postgres documentation, "Streaming Replication
//! Protocol" and "Logical Streaming Replication Parameters").

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use pgoutput::{Lsn, PgTimestamp, ProtocolVersion, ReplicationFrame, StandbyStatusUpdate};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use crate::connection::Connection;
use crate::error::{SourceError, SourceErrorKind};
use crate::publication::PublicationName;
use crate::slot::SlotName;
use crate::sql::{quote_ident, quote_literal, quote_replication_literal};
use crate::wire::Incoming;

/// Which cluster this is, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The identifier that `initdb` gave the cluster; equal on its standbys.
    pub system_id: u64,
    /// The current timeline.
    pub timeline: u32,
    /// The current flush position, or on a standby the replay position.
    pub xlog_pos: Lsn,
    /// The database of the session.
    pub database: Option<String>,
}

/// Where a timeline ended and the next began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: u32,
    /// Its end: what lies before it belongs to this timeline.
    pub end: Lsn,
}

/// A slot that was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Its name.
    pub name: SlotName,
    /// The consistent point S. The stream carries every commit with `commit_lsn >= S`; the
    /// snapshot shows every one before (correctness rule 1).
    pub consistent_point: Lsn,
    /// The exported snapshot. It lives until the next command on the connection that made the
    /// slot, or until that connection ends.
    pub snapshot: String,
}

/// What is asked of the change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    /// Values in binary, where their types have it (correctness rule 9 says when to ask for it).
    pub binary: bool,
    /// Messages of `pg_logical_emit_message` too.
    pub messages: bool,
    /// The version of the protocol.
    pub protocol: ProtocolVersion,
}

impl Connection {
    /// `IDENTIFY_SYSTEM`. Needs a replication session.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity, SourceError> {
        let row = self.query_one("IDENTIFY_SYSTEM").await?;
        Ok(SystemIdentity {
            system_id: row.parse("systemid")?,
            timeline: row.parse("timeline")?,
            xlog_pos: row.parse("xlogpos")?,
            database: row.opt("dbname")?.map(str::to_owned),
        })
    }

    /// `TIMELINE_HISTORY`: the timelines that led to this one, oldest first. The first timeline of
    /// a cluster has no history. Needs a replication session.
    pub async fn timeline_history(
        &mut self,
        timeline: u32,
    ) -> Result<Vec<TimelineSwitch>, SourceError> {
        let row = self
            .query_one(&format!("TIMELINE_HISTORY {timeline}"))
            .await?;
        parse_timeline_history(row.text("content")?)
    }

    /// Creates a logical slot for `pgoutput` and exports the snapshot of its consistent point.
    /// Never two-phase (correctness rule 5). Waits until every transaction that is writing in the
    /// cluster has ended. Needs a replication session; a temporary slot ends with it.
    ///
    /// # Errors
    /// [`SourceErrorKind::AlreadyExists`], [`SourceErrorKind::ServerLimit`] when all slots are in
    /// use, [`SourceErrorKind::Unsupported`] when `wal_level` is not `logical`.
    pub async fn create_slot(
        &mut self,
        name: &SlotName,
        temporary: bool,
    ) -> Result<CreatedSlot, SourceError> {
        // Asked first: any command after the creation would end the exported snapshot.
        let limit = self
            .query_one(
                "select pg_catalog.current_setting('max_slot_wal_keep_size') as keep, \
                 pg_catalog.current_setting('wal_level') as level",
            )
            .await?;
        let keep = limit.text("keep")?.to_owned();
        if limit.text("level")? != "logical" {
            return Err(SourceError::permanent(
                SourceErrorKind::Unsupported,
                format!("wal_level is {}", limit.text("level")?),
            )
            .about(&self.label)
            .with_remedy("set wal_level = logical at the server and restart it"));
        }
        let kind = if temporary { " TEMPORARY" } else { "" };
        let export = if self.server_version().major() >= 15 {
            "(SNAPSHOT 'export')"
        } else {
            "EXPORT_SNAPSHOT"
        };
        let command = format!(
            "CREATE_REPLICATION_SLOT {}{kind} LOGICAL pgoutput {export}",
            quote_ident(name.as_str())
        );
        let row = self
            .query_one(&command)
            .await
            .map_err(|error| match error.sqlstate() {
                Some("53400") => error.about(name).with_remedy(
                    "drop a slot that is not needed, or raise max_replication_slots and restart",
                ),
                _ => error.about(name),
            })?;
        let created = CreatedSlot {
            name: name.clone(),
            consistent_point: row.parse("consistent_point")?,
            snapshot: row.text("snapshot_name")?.to_owned(),
        };
        if temporary {
            tracing::info!(
                slot = %name, lsn = %created.consistent_point,
                "temporary replication slot made: it retains WAL from this position until its \
                 session ends",
            );
        } else {
            tracing::info!(
                slot = %name, lsn = %created.consistent_point, limit = retention_limit(&keep),
                remove = format!(
                    "select pg_drop_replication_slot({})", quote_literal(name.as_str())
                ),
                "replication slot made: the server retains all WAL from this position until we \
                 acknowledge it, also while we are stopped",
            );
        }
        Ok(created)
    }

    /// Starts streaming at `start`: the stream begins with the first commit whose `commit_lsn` is
    /// at or beyond both `start` and the slot's confirmed position (correctness rule 1). The server
    /// does not complain about a position in the future or the past; compare
    /// [`SlotInfo::confirmed_flush`](crate::SlotInfo::confirmed_flush) first (rule 3).
    ///
    /// # Errors
    /// [`SourceErrorKind::SlotInUse`], [`SourceErrorKind::ObjectMissing`],
    /// [`SourceErrorKind::SlotLost`].
    pub async fn start_replication(
        mut self,
        slot: &SlotName,
        start: Lsn,
        publications: &[PublicationName],
        options: StreamOptions,
    ) -> Result<ReplicationStream, SourceError> {
        // A walsender never forgets that a logical stream has ended, and would end the next one at
        // once, as if in good order (Postgres source, `walsender.c`, `streamingDoneSending`).
        if self.has_streamed {
            return Err(SourceError::new(
                SourceErrorKind::Unusable,
                "a connection can stream once; open another",
            )
            .about(slot));
        }
        self.has_streamed = true;
        let command = start_command(slot, start, publications, options);
        self.begin(&command).await?;
        match self
            .receive()
            .await
            .map_err(|error| explain_start(error, slot))?
        {
            Incoming::CopyBoth => Ok(ReplicationStream {
                connection: self,
                slot: slot.clone(),
                state: StreamState::Streaming,
            }),
            _ => Err(
                SourceError::protocol("the answer to START_REPLICATION makes no sense").about(slot),
            ),
        }
    }
}

/// Object not in prerequisite state: the slot was invalidated, or belongs to another database.
fn explain_start(error: SourceError, slot: &SlotName) -> SourceError {
    if error.sqlstate() == Some("55000") {
        return error
            .with_kind(SourceErrorKind::SlotLost, true)
            .about(slot)
            .with_remedy(
                "look at wal_status and database in pg_replication_slots; a lost slot has to be \
                 dropped, and everything copied again",
            );
    }
    if error.kind() == SourceErrorKind::SlotInUse {
        return error.about(slot).with_remedy(format!(
            "if that is not a session of ours which is ending, find it (select active_pid from \
             pg_replication_slots where slot_name = {}) and end it, or give it a slot of its own",
            quote_literal(slot.as_str())
        ));
    }
    error.about(slot)
}

fn start_command(
    slot: &SlotName,
    start: Lsn,
    publications: &[PublicationName],
    options: StreamOptions,
) -> String {
    // A list of identifiers inside a literal: quoted once as each, once as a whole.
    let names: Vec<_> = publications
        .iter()
        .map(|name| quote_ident(name.as_str()))
        .collect();
    let mut command = format!(
        "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '{}', publication_names {}",
        quote_ident(slot.as_str()),
        options.protocol.number(),
        quote_replication_literal(&names.join(","))
    );
    if options.binary {
        command.push_str(", binary 'true'");
    }
    if options.messages {
        command.push_str(", messages 'true'");
    }
    command.push(')');
    command
}

fn retention_limit(keep: &str) -> String {
    if keep == "-1" {
        String::from("none: the disk may fill up; set max_slot_wal_keep_size to bound it")
    } else {
        format!("max_slot_wal_keep_size = {keep}: beyond it the slot is lost")
    }
}

/// Lines of `timeline TAB position TAB reason`; `#` begins a comment (Postgres source,
/// `timeline.c`).
fn parse_timeline_history(content: &str) -> Result<Vec<TimelineSwitch>, SourceError> {
    content
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let end = fields.next().and_then(|field| field.parse().ok());
            timeline
                .zip(end)
                .map(|(timeline, end)| TimelineSwitch { timeline, end })
                .ok_or_else(|| SourceError::protocol("the timeline history makes no sense"))
        })
        .collect()
}

/// A connection in copy-both mode: changes come in, status updates go out.
///
/// ```text
/// Streaming --CopyDone or CommandComplete of the server--> Ended
///     |  `--error--> Failed
///     `--stop(): CopyDone -> .. -> CopyDone, CommandComplete, ReadyForQuery--> Connection
/// ```
pub struct ReplicationStream {
    connection: Connection,
    slot: SlotName,
    state: StreamState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamState {
    Streaming,
    Ended,
    Failed,
}

impl ReplicationStream {
    /// The next frame, or `None` when the server ended the stream in good order (it is shutting
    /// down). Cancel safe: what was read stays here.
    ///
    /// # Errors
    /// The server's error, a lost connection, or bytes that make no sense. The stream is over then.
    pub async fn next_frame(&mut self) -> Result<Option<ReplicationFrame>, SourceError> {
        while self.streaming()? {
            let received = self.connection.wire.next().await;
            if let Some(frame) = self.interpret(received)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The next frame that has arrived already. Never waits; `None` says nothing about the end of
    /// the stream, ask [`ReplicationStream::next_frame`] then.
    ///
    /// # Errors
    /// As [`ReplicationStream::next_frame`].
    pub fn try_next_frame(&mut self) -> Result<Option<ReplicationFrame>, SourceError> {
        while self.streaming()? {
            let received = match self.connection.wire.buffered() {
                Ok(None) => return Ok(None),
                Ok(Some(incoming)) => Ok(incoming),
                Err(error) => Err(error),
            };
            if let Some(frame) = self.interpret(received)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Reports that everything before `flushed` is safe: written, flushed and applied are the same
    /// to us (correctness rule 3). With `reply_requested` the server answers with a keepalive.
    /// Cancel safe: what was not sent goes out with the next update.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send_status(
        &mut self,
        flushed: Lsn,
        reply_requested: bool,
    ) -> Result<(), SourceError> {
        let update = StandbyStatusUpdate {
            written: flushed,
            flushed,
            applied: flushed,
            client_time: now(),
            reply_requested,
        };
        encode_copy_data(&update, self.connection.wire.outbound());
        self.connection
            .wire
            .flush()
            .await
            .map_err(|error| error.about(&self.slot))
    }

    /// The slot that is streamed from.
    pub fn slot(&self) -> &SlotName {
        &self.slot
    }

    /// Ends the stream in good order and gives the connection back, for SQL and commands about
    /// slots; it cannot stream again. Frames on their way are dropped: the slot sends them again. The server may first finish sending a large
    /// transaction; bound the time, and drop the stream instead if it runs out.
    ///
    /// # Errors
    /// The server's error, or a lost connection.
    pub async fn stop(mut self) -> Result<Connection, SourceError> {
        frontend::copy_done(self.connection.wire.outbound());
        self.connection
            .wire
            .flush()
            .await
            .map_err(|error| error.about(&self.slot))?;
        loop {
            match self
                .connection
                .receive()
                .await
                .map_err(|error| error.about(&self.slot))?
            {
                Incoming::CopyData(_)
                | Incoming::Message(Message::CopyDone | Message::CommandComplete(_)) => {}
                Incoming::Message(Message::ReadyForQuery(body)) => {
                    self.connection.ready(body.status());
                    return Ok(self.connection);
                }
                Incoming::Message(_) | Incoming::CopyBoth => {
                    return Err(
                        SourceError::protocol("the end of the stream makes no sense")
                            .about(&self.slot),
                    );
                }
            }
        }
    }

    fn streaming(&self) -> Result<bool, SourceError> {
        match self.state {
            StreamState::Streaming => Ok(true),
            StreamState::Ended => Ok(false),
            StreamState::Failed => Err(SourceError::new(
                SourceErrorKind::Unusable,
                "the stream has failed before",
            )
            .about(&self.slot)),
        }
    }

    fn interpret(
        &mut self,
        received: Result<Incoming, SourceError>,
    ) -> Result<Option<ReplicationFrame>, SourceError> {
        let error = match received {
            Ok(Incoming::CopyData(data)) => match ReplicationFrame::decode(data) {
                Ok(frame) => return Ok(Some(frame)),
                Err(cause) => SourceError::protocol("malformed replication frame").caused_by(cause),
            },
            Ok(Incoming::Message(Message::CopyDone | Message::CommandComplete(_))) => {
                self.state = StreamState::Ended;
                return Ok(None);
            }
            Ok(Incoming::Message(
                Message::ParameterStatus(_)
                | Message::NoticeResponse(_)
                | Message::NotificationResponse(_),
            )) => return Ok(None),
            Ok(Incoming::Message(Message::ErrorResponse(body))) => {
                SourceError::from_response(&body)
            }
            Ok(Incoming::Message(_) | Incoming::CopyBoth) => {
                SourceError::protocol("the change stream makes no sense")
            }
            Err(error) => error,
        };
        self.state = StreamState::Failed;
        Err(error.about(&self.slot))
    }
}

impl fmt::Debug for ReplicationStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationStream")
            .field("slot", &self.slot)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

fn encode_copy_data(update: &StandbyStatusUpdate, out: &mut BytesMut) {
    /// Tag `r`, three positions, a time, a flag.
    const PAYLOAD: i32 = 1 + 3 * 8 + 8 + 1;
    out.put_u8(b'd');
    out.put_i32(4 + PAYLOAD);
    update.encode(out);
}

/// The server shows this time to its users and does nothing else with it.
fn now() -> PgTimestamp {
    let micros = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_micros());
    PgTimestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
