//! JSON lines beside Parquet: one object per row, in a file that no lake knows.
//!
//! For what is read by people and by tools without a lake. Every value is there as exactly itself: JSON columns are
//! embedded, times are RFC 3339 text, decimals are numbers, bytes are hexadecimal text, and what JSON has no number for
//! is text (`"NaN"`, `"infinity"`). A NULL field is left out.

mod encode;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_json::writer::{LineDelimited, Writer, WriterBuilder};
use bytes::Bytes;
use storage::{MultipartUpload, ObjectPath, Storage, StorageErrorKind};

use crate::error::{FeederError, FeederErrorKind, from_storage};

/// Bytes that are gathered before they are uploaded: an upload in parts wants at least 5 MiB in each.
const PART_BYTES: usize = 8 << 20;

/// A file that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonLinesFile {
    /// Its path below the store's root.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Writes one file. Dropping it unfinished leaves nothing that a reader could see.
#[derive(Debug)]
pub struct JsonLinesWriter {
    storage: Arc<dyn Storage>,
    path: ObjectPath,
    encoder: Option<Writer<Vec<u8>, LineDelimited>>,
    upload: Option<Box<dyn MultipartUpload>>,
    rows: u64,
    bytes: u64,
}

impl JsonLinesWriter {
    /// Begins a file at a path that no object has.
    pub fn new(storage: Arc<dyn Storage>, path: ObjectPath) -> Self {
        let encoder = WriterBuilder::new()
            .with_encoder_factory(Arc::new(encode::Exact))
            .build::<_, LineDelimited>(Vec::new());
        Self {
            storage,
            path,
            encoder: Some(encoder),
            upload: None,
            rows: 0,
            bytes: 0,
        }
    }

    /// Encodes a batch, and uploads what has become enough for a part.
    ///
    /// # Errors
    /// Of kind `Data` when a column has no JSON, of kind `Storage` from the store; the file is lost then.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), FeederError> {
        let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        let mut encoder = self.take_encoder()?;
        let encoded = tokio::task::spawn_blocking(move || {
            let written = crate::own::sync(|| encoder.write(&batch));
            (encoder, written)
        });
        let (mut encoder, written) = encoded.await.map_err(|error| {
            FeederError::permanent(FeederErrorKind::Internal, "encoding was interrupted")
                .with_source(error)
        })?;
        written.map_err(|error| {
            FeederError::permanent(FeederErrorKind::Data, format!("encoding {}", self.path))
                .with_source(error)
        })?;
        self.rows += rows;
        let part = if encoder.get_ref().len() >= PART_BYTES {
            Some(std::mem::take(encoder.get_mut()))
        } else {
            None
        };
        self.encoder = Some(encoder);
        if let Some(part) = part {
            if self.upload.is_none() {
                let upload = self.storage.start_multipart(&self.path).await;
                self.upload = Some(upload.map_err(from_storage)?);
            }
            self.put_part(part.into()).await?;
        }
        Ok(())
    }

    async fn put_part(&mut self, part: Bytes) -> Result<(), FeederError> {
        self.bytes += u64::try_from(part.len()).unwrap_or(u64::MAX);
        if let Some(upload) = &mut self.upload {
            upload.put_part(part).await.map_err(from_storage)?;
        }
        Ok(())
    }

    /// Makes the object complete. One that is there already under this path is left alone and taken for the same: a name
    /// belongs to one content.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn finish(mut self) -> Result<JsonLinesFile, FeederError> {
        let rest = Bytes::from(self.take_encoder()?.into_inner());
        let stored = if self.upload.is_some() {
            self.put_part(rest).await?;
            match &mut self.upload {
                Some(upload) => upload.complete().await,
                None => Ok(()),
            }
        } else {
            self.bytes += u64::try_from(rest.len()).unwrap_or(u64::MAX);
            self.storage.put(&self.path, rest.into()).await
        };
        match stored {
            Err(error) if error.kind() != StorageErrorKind::AlreadyExists => {
                Err(from_storage(error))
            }
            _ => Ok(JsonLinesFile {
                path: self.path.as_str().to_owned(),
                rows: self.rows,
                bytes: self.bytes,
            }),
        }
    }

    /// Gives the file up; what it left behind is removed as far as the store allows.
    pub async fn abort(mut self) {
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(path = %self.path, error = %error, "an aborted upload could not be removed");
        }
    }

    fn take_encoder(&mut self) -> Result<Writer<Vec<u8>, LineDelimited>, FeederError> {
        self.encoder.take().ok_or_else(|| {
            let message = format!("file {} was used after an error", self.path);
            FeederError::permanent(FeederErrorKind::Internal, message)
        })
    }
}

#[cfg(test)]
mod tests;
