//! An upload in parts.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

use super::Bucket;
use super::error::Subject;
use super::json::{self, Object};
use super::session::{Piece, Progress, QUANTUM, Session, Whole, encode_crc32c};
use super::window::Window;
use crate::{MultipartUpload, ObjectPath, Operation, StorageError, StorageErrorKind};

/// What is sent at once. The store advises 8 MiB or more.
const PIECE: usize = 32 * QUANTUM;
/// While so much waits for the store, no part is taken.
const MOST_WAITING: usize = 2 * PIECE;

/// Sends one piece while the next is filled. In memory are two pieces, a part, and a copy of the piece that is on its
/// way, at most. A piece whose fate is unknown stays there until the store has said how much of it has come.
pub(super) struct GcsUpload {
    bucket: Arc<Bucket>,
    path: ObjectPath,
    session: Session,
    window: Window,
    crc32c: u32,
    /// The request that is on its way: one at most, and aborted when this is dropped.
    sending: JoinSet<Result<Progress, StorageError>>,
    /// Whether the store has to be asked how far it is before anything else is sent.
    unsure: bool,
    /// Whether the last piece has been sent, so that the object may be there.
    finishing: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Complete,
    /// By an error, or by `abort`.
    Closed,
    /// By `abort`, and the store knows.
    Cancelled,
}

/// Neither address of the session nor contents.
impl fmt::Debug for GcsUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsUpload")
            .field("path", &self.path)
            .field("state", &self.state)
            .field("stored", &self.window.base())
            .field("waiting", &self.window.len())
            .finish_non_exhaustive()
    }
}

impl GcsUpload {
    pub(super) async fn start(bucket: Arc<Bucket>, path: ObjectPath) -> Result<Self, StorageError> {
        let subject = Subject {
            operation: Operation::StartMultipart,
            path: path.as_str(),
        };
        let key = bucket.root.key(&path);
        let session = Session::start(&bucket.client, subject, &bucket.root, &key).await?;
        Ok(Self {
            bucket,
            path,
            session,
            window: Window::default(),
            crc32c: 0,
            sending: JoinSet::new(),
            unsure: false,
            finishing: false,
            state: State::Open,
        })
    }

    /// Puts the next request on its way.
    fn send(&mut self, operation: Operation) {
        let (bucket, session, path) = (
            Arc::clone(&self.bucket),
            self.session.clone(),
            self.path.clone(),
        );
        let piece = (!self.unsure).then(|| self.next_piece(operation));
        self.sending.spawn(async move {
            let subject = Subject {
                operation,
                path: path.as_str(),
            };
            match piece {
                Some(piece) => session.append(&bucket.client, subject, piece).await,
                None => session.query(&bucket.client, subject).await,
            }
        });
    }

    fn next_piece(&mut self, operation: Operation) -> Piece {
        let bytes = self.window.front(PIECE);
        let last = operation == Operation::Complete && bytes.len() == self.window.len();
        self.finishing |= last;
        Piece {
            offset: self.window.base(),
            bytes,
            last: last.then(|| Whole {
                size: self.window.end(),
                crc32c: self.crc32c,
            }),
        }
    }

    /// Waits for the request that is on its way.
    async fn settle(&mut self, operation: Operation) -> Result<(), StorageError> {
        match self.sending.join_next().await {
            Some(outcome) => self.settled(operation, outcome).await,
            None => Ok(()),
        }
    }

    async fn settled(
        &mut self,
        operation: Operation,
        outcome: Result<Result<Progress, StorageError>, tokio::task::JoinError>,
    ) -> Result<(), StorageError> {
        let path = self.path.clone();
        let subject = Subject {
            operation,
            path: path.as_str(),
        };
        let asked = std::mem::replace(&mut self.unsure, true);
        let progress = outcome
            .map_err(|stopped| subject.error(StorageErrorKind::Other).with_source(stopped))
            .flatten()
            .inspect_err(|error| {
                if !error.is_transient() {
                    self.close();
                }
            })?;
        match progress {
            Progress::Stored(length) => {
                let advanced = length > self.window.base();
                if !self.window.confirm(length) {
                    self.close();
                    return Err(subject.unexpected("the store has lost a part of the upload"));
                }
                if !advanced && !asked {
                    return Err(subject
                        .error(StorageErrorKind::Unavailable)
                        .with_detail("the store took nothing of a piece"));
                }
                self.unsure = false;
                Ok(())
            }
            Progress::Complete(object) => self.completed(subject, &object).await,
            Progress::Gone => self.gone(subject).await,
        }
    }

    /// The object is there; whether it is ours, byte for byte, is what its checksum says.
    async fn completed(
        &mut self,
        subject: Subject<'_>,
        object: &Object,
    ) -> Result<(), StorageError> {
        let expected = encode_crc32c(self.crc32c);
        let same = object.size() == Some(self.window.end())
            && object
                .crc32c
                .as_ref()
                .is_none_or(|crc32c| *crc32c == expected);
        if same {
            self.state = State::Complete;
            self.window.clear();
            return Ok(());
        }
        self.close();
        let Some(generation) = &object.generation else {
            return Err(subject.unexpected("the store does not name what it has made"));
        };
        let Bucket { client, root } = &*self.bucket;
        let key = root.key(&self.path);
        Err(json::discard(client, subject, root, &key, generation).await)
    }

    async fn gone(&mut self, subject: Subject<'_>) -> Result<(), StorageError> {
        if self.finishing {
            // It may have ended well, with an answer that nobody heard.
            let Bucket { client, root } = &*self.bucket;
            let question = Subject {
                operation: Operation::Head,
                ..subject
            };
            match json::get(client, question, root, &root.key(&self.path)).await {
                Ok(_) => {
                    self.close();
                    return Err(subject.error(StorageErrorKind::AlreadyExists));
                }
                Err(error) if error.kind() == StorageErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.close();
        Err(self.closed(subject.operation))
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.window.clear();
    }

    fn closed(&self, operation: Operation) -> StorageError {
        StorageError::new(
            StorageErrorKind::UploadClosed,
            operation,
            self.path.as_str(),
        )
    }
}

#[async_trait]
impl MultipartUpload for GcsUpload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        const OPERATION: Operation = Operation::PutPart;
        if self.state != State::Open || self.finishing {
            return Err(self.closed(OPERATION));
        }
        if let Some(outcome) = self.sending.try_join_next() {
            self.settled(OPERATION, outcome).await?;
        }
        while self.window.len() >= MOST_WAITING {
            if self.sending.is_empty() {
                self.send(OPERATION);
            }
            self.settle(OPERATION).await?;
        }
        self.crc32c = crc32c::crc32c_append(self.crc32c, &part);
        self.window.push(part);
        // The last piece is left to `complete`, so a byte is held back.
        if self.sending.is_empty() && self.window.len() > PIECE {
            self.send(OPERATION);
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        const OPERATION: Operation = Operation::Complete;
        loop {
            match self.state {
                State::Complete => return Ok(()),
                State::Closed | State::Cancelled => return Err(self.closed(OPERATION)),
                State::Open => {}
            }
            if self.sending.is_empty() {
                self.send(OPERATION);
            }
            self.settle(OPERATION).await?;
        }
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        if matches!(self.state, State::Complete | State::Cancelled) {
            return Ok(());
        }
        self.close();
        self.sending.shutdown().await;
        let subject = Subject {
            operation: Operation::Abort,
            path: self.path.as_str(),
        };
        self.session.cancel(&self.bucket.client, subject).await?;
        self.state = State::Cancelled;
        Ok(())
    }
}
