//! An upload in parts to a local store: one temporary file that grows.

use async_trait::async_trait;
use bytes::Bytes;

use super::blocking;
use super::error::io_error;
use super::root::Target;
use super::temp::TempFile;
use crate::{MultipartUpload, ObjectPath, Operation, StorageError, StorageErrorKind};

#[derive(Debug)]
pub(super) struct LocalUpload {
    target: Target,
    path: ObjectPath,
    state: State,
}

/// The file is moved into each blocking task and comes back with its result. When the future of a call is dropped it
/// does not come back: the task ends by dropping it, which removes the file, and the upload stays closed.
#[derive(Debug)]
enum State {
    Open(TempFile),
    Completed,
    Closed,
}

impl LocalUpload {
    pub(super) fn new(target: Target, path: ObjectPath, temp: TempFile) -> Self {
        Self {
            target,
            path,
            state: State::Open(temp),
        }
    }

    /// Takes the file out, which leaves the upload closed until it is put back.
    fn take(&mut self, operation: Operation) -> Result<TempFile, StorageError> {
        let kind = match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(temp) => return Ok(temp),
            State::Completed => {
                self.state = State::Completed;
                match operation {
                    Operation::Complete => StorageErrorKind::AlreadyExists,
                    _ => StorageErrorKind::UploadClosed,
                }
            }
            State::Closed => StorageErrorKind::UploadClosed,
        };
        Err(StorageError::new(kind, operation, self.path.as_str()))
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    async fn put_part(&mut self, part: Bytes) -> Result<(), StorageError> {
        let mut temp = self.take(Operation::PutPart)?;
        let (temp, result) = blocking(Operation::PutPart, self.path.as_str(), move || {
            let result = temp.append(&part);
            Ok((temp, result))
        })
        .await?;
        self.state = State::Open(temp);
        result.map_err(|error| io_error(Operation::PutPart, self.path.as_str(), error))
    }

    async fn complete(&mut self) -> Result<(), StorageError> {
        let temp = self.take(Operation::Complete)?;
        let (target, path) = (self.target.clone(), self.path.clone());
        blocking(Operation::Complete, self.path.as_str(), move || {
            target.publish(Operation::Complete, &path, temp)
        })
        .await?;
        self.state = State::Completed;
        Ok(())
    }

    async fn abort(&mut self) -> Result<(), StorageError> {
        let State::Open(temp) = std::mem::replace(&mut self.state, State::Closed) else {
            return Ok(());
        };
        blocking(Operation::Abort, self.path.as_str(), move || {
            drop(temp);
            Ok(())
        })
        .await
    }
}
