//! One data file of a lake table: encoded on the blocking pool, uploaded as it grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use bytes::Bytes;
use ducklake_catalog::{ColumnId, DataFile, TableId};
use parquet_writer::{EncodeOptions, FileEncoder, FileSchema};
use storage::{MultipartUpload, ObjectPath, Storage, StorageError, StorageErrorKind};
use uuid::Uuid;

use crate::error::{FeederError, FeederErrorKind, from_storage};
use crate::failpoint::{self, Failpoint};
use crate::layout::LakeColumn;
use crate::stats;

/// A lake table that this feeder writes to.
#[derive(Clone, Debug)]
pub(crate) struct LakeTable {
    /// OID of the source table.
    pub(crate) source_oid: u32,
    /// `schema.table` at the source.
    pub(crate) source: String,
    /// `schema.table` in the lake.
    pub(crate) target: String,
    pub(crate) target_schema: String,
    pub(crate) target_table: String,
    pub(crate) table_id: TableId,
    /// Directory of the table's files below the lake's data path, without slashes at the ends.
    pub(crate) directory: String,
    pub(crate) schema: FileSchema,
    pub(crate) columns: Vec<LakeColumn>,
    /// The id that the next new column gets.
    pub(crate) next_column_id: i64,
    /// Where values go that its columns cannot hold; `None` for that table itself.
    pub(crate) dead_letters: Option<Arc<LakeTable>>,
}

impl LakeTable {
    /// A path that was never used before and never will be again (I7).
    pub(crate) fn new_file_name() -> String {
        format!("duckfeeder-{}.parquet", Uuid::now_v7())
    }

    /// Where a file of this table is stored, below the lake's data path.
    pub(crate) fn object_path(&self, file_name: &str) -> String {
        format!("{}/{file_name}", self.directory)
    }

    /// Whether no name of an `earlier` version is another column's now: then its files hold what their columns' names say.
    pub(crate) fn keeps_names_of(&self, earlier: &Self) -> bool {
        earlier.columns.iter().all(|column| {
            let now = self
                .columns
                .iter()
                .find(|now| now.name.eq_ignore_ascii_case(&column.name));
            now.is_none_or(|now| now.ids.id == column.ids.id)
        })
    }

    /// The columns as the commit expects to find them.
    pub(crate) fn expected_columns(&self) -> Vec<(ColumnId, String, ducklake_catalog::LakeType)> {
        self.columns
            .iter()
            .map(|column| (column.ids.id, column.name.clone(), column.lake_type.clone()))
            .collect()
    }
}

/// A file that is uploaded and waits for its commit.
#[derive(Clone, Debug)]
pub(crate) struct UploadedFile {
    pub(crate) table: Arc<LakeTable>,
    pub(crate) object_path: String,
    pub(crate) uploaded_at: Instant,
    pub(crate) took: Took,
    pub(crate) data: DataFile,
}

/// Where the time of a file went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) encode: Duration,
    pub(crate) upload: Duration,
}

impl UploadedFile {
    /// Whether it holds dead letters of its source table, not changes.
    pub(crate) fn is_dead_letters(&self) -> bool {
        self.table.dead_letters.is_none()
    }
}

/// Writes one file. Dropping it unfinished leaves an orphan for the janitor, never a visible file.
pub(crate) struct FileWriter {
    storage: Arc<dyn Storage>,
    table: Arc<LakeTable>,
    file_name: String,
    path: ObjectPath,
    encoder: Option<FileEncoder>,
    upload: Option<Box<dyn MultipartUpload>>,
    took: Took,
}

impl FileWriter {
    /// Begins a file under a name from [`LakeTable::new_file_name`].
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        table: Arc<LakeTable>,
        file_name: String,
        options: &EncodeOptions,
    ) -> Result<Self, FeederError> {
        let object_path = table.object_path(&file_name);
        let path = ObjectPath::parse(&object_path).map_err(|error| {
            FeederError::permanent(FeederErrorKind::Internal, format!("path {object_path}"))
                .with_source(error)
        })?;
        let encoder = FileEncoder::new(&table.schema, options).map_err(encode_error(&table))?;
        Ok(Self {
            storage,
            table,
            file_name,
            path,
            encoder: Some(encoder),
            upload: None,
            took: Took::default(),
        })
    }

    /// Encodes a batch and uploads the row groups that are complete.
    pub(crate) async fn write(&mut self, batch: RecordBatch) -> Result<(), FeederError> {
        let mut encoder = self.take_encoder()?;
        failpoint::reach(Failpoint::EncodeBefore);
        let began = Instant::now();
        let (encoder, result) = blocking(move || {
            let result = encoder.write(&batch);
            let encoded = encoder.take_encoded();
            (encoder, result.map(|()| encoded))
        })
        .await?;
        self.encoder = Some(encoder);
        failpoint::reach(Failpoint::EncodeAfter);
        self.took.encode += began.elapsed();
        if let Some(bytes) = result.map_err(encode_error(&self.table))? {
            let began = Instant::now();
            if self.upload.is_none() {
                let upload = self.storage.start_multipart(&self.path).await;
                self.upload = Some(upload.map_err(upload_error)?);
                failpoint::reach(Failpoint::UploadBegun);
            }
            if let Some(upload) = &mut self.upload {
                upload.put_part(bytes).await.map_err(upload_error)?;
                failpoint::reach(Failpoint::UploadPart);
            }
            self.took.upload += began.elapsed();
        }
        Ok(())
    }

    /// Writes the footer and makes the object complete. It is in the lake only once a commit names it (I7).
    pub(crate) async fn finish(mut self) -> Result<UploadedFile, FeederError> {
        let encoder = self.take_encoder()?;
        let began = Instant::now();
        let encoded = blocking(move || encoder.finish()).await;
        self.took.encode += began.elapsed();
        let began = Instant::now();
        let stored = match encoded.map(|encoded| encoded.map_err(encode_error(&self.table))) {
            Ok(Ok((tail, file))) => self.store(tail).await.map(|()| file),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        let file = match stored {
            Ok(file) => file,
            Err(error) => {
                self.abort().await;
                return Err(error);
            }
        };
        Ok(UploadedFile {
            object_path: self.path.as_str().to_owned(),
            uploaded_at: Instant::now(),
            took: Took {
                upload: self.took.upload + began.elapsed(),
                ..self.took
            },
            data: DataFile {
                path: self.file_name,
                record_count: file.row_count,
                file_size_bytes: file.size_bytes,
                footer_size: file.footer_size,
                columns: file.columns.into_iter().map(stats::to_lake).collect(),
            },
            table: self.table,
        })
    }

    /// Makes the object complete with its last bytes.
    async fn store(&mut self, tail: Bytes) -> Result<(), FeederError> {
        failpoint::reach(Failpoint::FileEncoded);
        let Some(upload) = &mut self.upload else {
            failpoint::reach(Failpoint::PutBefore);
            let put = self.storage.put(&self.path, tail.into()).await;
            put.map_err(upload_error)?;
            failpoint::reach(Failpoint::PutAfter);
            return Ok(());
        };
        upload.put_part(tail).await.map_err(upload_error)?;
        failpoint::reach(Failpoint::UploadBeforeComplete);
        upload.complete().await.map_err(upload_error)?;
        failpoint::reach(Failpoint::UploadComplete);
        Ok(())
    }

    /// Gives the upload up; what it left behind is removed as far as the store allows.
    pub(crate) async fn abort(mut self) {
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::warn!(path = %self.path, error = %error, "an aborted upload could not be removed");
        }
    }

    fn take_encoder(&mut self) -> Result<FileEncoder, FeederError> {
        self.encoder.take().ok_or_else(|| {
            FeederError::permanent(
                FeederErrorKind::Internal,
                format!("file {} was used after an error", self.path),
            )
        })
    }
}

/// Each attempt has a name of its own, so what is wrong with this one says nothing about the next.
fn upload_error(error: StorageError) -> FeederError {
    match error.kind() {
        StorageErrorKind::UploadClosed | StorageErrorKind::AlreadyExists => {
            FeederError::transient(FeederErrorKind::Storage, error.to_string())
        }
        _ => from_storage(error),
    }
}

fn encode_error(
    table: &LakeTable,
) -> impl FnOnce(parquet_writer::WriteError) -> FeederError + use<> {
    let target = table.target.clone();
    move |error| {
        FeederError::permanent(
            FeederErrorKind::Data,
            format!("encoding a file of {target}"),
        )
        .with_source(error)
    }
}

/// Runs CPU-bound work beside the async tasks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FeederError> {
    tokio::task::spawn_blocking(|| crate::own::sync(work))
        .await
        .map_err(|error| {
            FeederError::permanent(FeederErrorKind::Internal, "encoding was interrupted")
                .with_source(error)
        })
}

#[cfg(test)]
mod tests;
