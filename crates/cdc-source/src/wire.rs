//! Messages over a byte stream. One read buffer, from which messages are split off without
//! copying; one write buffer. All partial state lives in [`Wire`], so that a future dropped in the
//! middle loses nothing.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{SourceError, SourceErrorKind};

/// Room made for one read.
const READ_CHUNK: usize = 512 * 1024;
/// With less room than this, a new buffer is taken.
const SMALLEST_READ: usize = 64 * 1024;
/// The server builds a message in a buffer of at most 1 GiB; the rest is framing.
const MAX_MESSAGE: usize = (1 << 30) + 64 * 1024;
/// Before authentication nobody has a reason to send more.
const MAX_MESSAGE_BEFORE_AUTH: usize = 64 * 1024;
/// The tag of CopyBothResponse, which `postgres-protocol` does not know.
const COPY_BOTH_TAG: u8 = b'W';
const COPY_DATA_TAG: u8 = b'd';
/// Tag and length.
const HEADER: usize = 5;

/// A byte stream to a server.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// A message of the server.
pub(crate) enum Incoming {
    /// The payload of one CopyData.
    CopyData(Bytes),
    /// Copy-both mode begins.
    CopyBoth,
    /// Anything else.
    Message(Message),
}

/// Frames messages on a transport.
pub(crate) struct Wire {
    io: Box<dyn Transport>,
    inbound: BytesMut,
    outbound: BytesMut,
    max_message: usize,
}

impl Wire {
    pub(crate) fn new(io: Box<dyn Transport>) -> Self {
        Self {
            io,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            max_message: MAX_MESSAGE_BEFORE_AUTH,
        }
    }

    /// Accepts messages of any size the server can build, from now on.
    pub(crate) fn authenticated(&mut self) {
        self.max_message = MAX_MESSAGE;
    }

    /// The next message, if it is in the buffer already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Incoming>, SourceError> {
        let Some(total) = self.announced()? else {
            return Ok(None);
        };
        if self.inbound.len() < total {
            return Ok(None);
        }
        match self.inbound.first().copied() {
            Some(COPY_DATA_TAG) => {
                let mut message = self.inbound.split_to(total);
                message.advance(HEADER);
                Ok(Some(Incoming::CopyData(message.freeze())))
            }
            Some(COPY_BOTH_TAG) => {
                self.inbound.advance(total);
                Ok(Some(Incoming::CopyBoth))
            }
            _ => match Message::parse(&mut self.inbound) {
                Ok(message) => Ok(message.map(Incoming::Message)),
                Err(cause) => Err(SourceError::malformed("message", cause)),
            },
        }
    }

    /// The next message; an end of the stream is an error. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Incoming, SourceError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            if self.fill().await? == 0 {
                return Err(SourceError::new(
                    SourceErrorKind::ConnectionLost,
                    "the server closed the connection",
                ));
            }
        }
    }

    /// The write buffer: append a message, then [`Wire::flush`].
    pub(crate) fn outbound(&mut self) -> &mut BytesMut {
        &mut self.outbound
    }

    /// Sends what is in the write buffer. Cancel safe: what is not yet sent stays in the buffer
    /// and goes first next time.
    pub(crate) async fn flush(&mut self) -> Result<(), SourceError> {
        while !self.outbound.is_empty() {
            let sent = self
                .io
                .write_buf(&mut self.outbound)
                .await
                .map_err(SourceError::connection_lost)?;
            if sent == 0 {
                return Err(SourceError::connection_lost(
                    std::io::ErrorKind::WriteZero.into(),
                ));
            }
        }
        self.io.flush().await.map_err(SourceError::connection_lost)
    }

    /// Says goodbye and closes; errors do not matter any more.
    pub(crate) async fn shutdown(mut self) {
        postgres_protocol::message::frontend::terminate(&mut self.outbound);
        if let Err(error) = self.flush().await {
            tracing::debug!(error = %error, "connection was gone before it was closed");
            return;
        }
        if let Err(error) = self.io.shutdown().await {
            tracing::debug!(error = %error, "connection was gone before it was closed");
        }
    }

    /// Length of the message at the head of the buffer, header included, once it is known.
    fn announced(&self) -> Result<Option<usize>, SourceError> {
        let header = Header::parse(&self.inbound)
            .map_err(|cause| SourceError::malformed("message header", cause))?;
        let Some(header) = header else {
            return Ok(None);
        };
        let length = usize::try_from(header.len())
            .ok()
            .filter(|length| *length <= self.max_message)
            .ok_or_else(|| {
                SourceError::protocol(format!(
                    "the server announced a message of {} bytes; is this a Postgres server?",
                    header.len()
                ))
            })?;
        Ok(Some(length + 1))
    }

    /// Reads once. Memory grows with what has arrived, never with what was announced. While earlier
    /// messages are still held, their buffer is used up first; once they are gone, it is used again.
    async fn fill(&mut self) -> Result<usize, SourceError> {
        let spare = self.inbound.capacity() - self.inbound.len();
        if spare < READ_CHUNK && !self.inbound.try_reclaim(READ_CHUNK) && spare < SMALLEST_READ {
            self.inbound.reserve(READ_CHUNK);
        }
        self.io
            .read_buf(&mut self.inbound)
            .await
            .map_err(SourceError::connection_lost)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("inbound", &self.inbound.len())
            .field("outbound", &self.outbound.len())
            .finish_non_exhaustive()
    }
}
