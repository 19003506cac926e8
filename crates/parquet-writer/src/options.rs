//! How a file is encoded.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::WriteError;

/// How a [`FileEncoder`](crate::FileEncoder) lays out a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// zstd level, 1 to 22. Default 3.
    pub compression_level: i32,
    /// Most rows of a row group. Default 122,880, as DuckDB writes.
    pub row_group_rows: usize,
    /// Bytes the encoder may hold in memory for the row group in progress before it ends it.
    /// Default 64 MiB.
    pub row_group_bytes: usize,
    /// The footer's `created_by`. Default `duckfeeder`.
    pub created_by: String,
    /// Longest minimum or maximum of a string column that is reported, in bytes. Default 256.
    pub max_stat_bytes: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            compression_level: 3,
            row_group_rows: 122_880,
            row_group_bytes: 64 * 1024 * 1024,
            created_by: "duckfeeder".to_owned(),
            max_stat_bytes: 256,
        }
    }
}

impl EncodeOptions {
    /// The writer properties, with row groups left to the encoder.
    pub(crate) fn writer_properties(&self) -> Result<WriterProperties, WriteError> {
        for (option, value) in [
            ("row_group_rows", self.row_group_rows),
            ("row_group_bytes", self.row_group_bytes),
        ] {
            if value == 0 {
                return Err(WriteError::InvalidOption { option });
            }
        }
        let level = Some(self.compression_level)
            .filter(|level| (1..=22).contains(level))
            .and_then(|level| ZstdLevel::try_new(level).ok())
            .ok_or(WriteError::InvalidOption {
                option: "compression_level",
            })?;
        Ok(WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(self.created_by.clone())
            .set_max_row_group_row_count(None)
            .set_max_row_group_bytes(None)
            // DuckDB prunes by row group only; page indexes would grow every small file.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build())
    }
}
