//! Record batches to the bytes of a Parquet file, a row group at a time.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::ArrowRowGroupWriterFactory;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::writer::SerializedFileWriter;

use crate::accumulate::ColumnAccumulator;
use crate::error::WriteError;
use crate::options::EncodeOptions;
use crate::row_group::RowGroup;
use crate::schema::FileSchema;
use crate::stats::ColumnStats;

/// Most rows that are handed to the Parquet writer between two looks at its memory.
const STEP_ROWS: usize = 8192;
/// Most bytes of values that are handed over between two looks, unless a single row is larger.
const STEP_BYTES: usize = 4 * 1024 * 1024;

/// What a finished file is.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedFile {
    /// Rows in the file.
    pub row_count: u64,
    /// Bytes of the whole file.
    pub size_bytes: u64,
    /// Bytes of the footer's metadata: the little-endian number before the closing magic bytes.
    pub footer_size: u64,
    /// Statistics of every leaf column, in the order of the schema: of a list, its element's leaves; of
    /// a struct, its fields' one after the other.
    pub columns: Vec<ColumnStats>,
}

/// Encodes one Parquet file incrementally.
///
/// The file is everything [`take_encoded`](Self::take_encoded) returned, in that order, followed by
/// what [`finish`](Self::finish) returns. When a batch could not be encoded, the file is lost: every
/// further call fails.
pub struct FileEncoder {
    file: SerializedFileWriter<Vec<u8>>,
    row_groups: ArrowRowGroupWriterFactory,
    in_progress: Option<RowGroup>,
    schema: SchemaRef,
    columns: Vec<ColumnAccumulator>,
    row_group_rows: usize,
    row_group_bytes: usize,
    row_count: u64,
    /// A batch was begun and not completed: the file may lack some of its rows.
    incomplete: bool,
}

impl FileEncoder {
    /// Starts a file.
    ///
    /// # Errors
    /// [`WriteError::InvalidOption`] when an option is out of range.
    pub fn new(schema: &FileSchema, options: &EncodeOptions) -> Result<Self, WriteError> {
        let arrow = schema.arrow_schema();
        let parquet_schema = ArrowSchemaConverter::new()
            .schema_root("schema")
            .convert(&arrow)?;
        let properties = Arc::new(options.writer_properties()?);
        let file =
            SerializedFileWriter::new(Vec::new(), parquet_schema.root_schema_ptr(), properties)?;
        let row_groups = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&arrow));
        let columns = schema
            .columns()
            .iter()
            .map(|spec| ColumnAccumulator::new(spec, options.max_stat_bytes))
            .collect();
        Ok(Self {
            file,
            row_groups,
            in_progress: None,
            schema: arrow,
            columns,
            row_group_rows: options.row_group_rows,
            row_group_bytes: options.row_group_bytes,
            row_count: 0,
            incomplete: false,
        })
    }

    /// Encodes the rows of a batch of the file's schema, ending row groups as they fill.
    ///
    /// # Errors
    /// [`WriteError::SchemaMismatch`] when the batch has another schema, which leaves the file as it
    /// was; else what Parquet reports.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.check_complete()?;
        if batch.schema_ref() != &self.schema {
            return Err(WriteError::SchemaMismatch);
        }
        self.incomplete = true;
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.update(array, None)?;
        }
        self.encode_rows(batch)?;
        self.row_count += count("row count", batch.num_rows())?;
        self.incomplete = false;
        Ok(())
    }

    /// Bytes of the row groups ended since the last call; `None` when there are none.
    ///
    /// They leave the encoder, so that a file need not be in memory as a whole.
    pub fn take_encoded(&mut self) -> Option<Bytes> {
        let encoded = std::mem::take(self.file.inner_mut());
        (!encoded.is_empty()).then(|| Bytes::from(encoded))
    }

    /// Bytes held: the row group in progress and what [`take_encoded`](Self::take_encoded) would return.
    pub fn memory_size(&self) -> usize {
        let in_progress = self.in_progress.as_ref().map_or(0, RowGroup::memory_size);
        in_progress + self.file.inner().len()
    }

    /// Ends the file and returns the bytes that were not taken yet, with what the file is.
    ///
    /// # Errors
    /// [`WriteError::IncompleteFile`] when a batch could not be encoded, else what Parquet reports.
    pub fn finish(mut self) -> Result<(Bytes, EncodedFile), WriteError> {
        self.check_complete()?;
        if let Some(group) = self.in_progress.take() {
            self.end_row_group(group)?;
        }
        let metadata = self.file.finish()?;
        let size_bytes = count("file", self.file.bytes_written())?;
        let tail = Bytes::from(std::mem::take(self.file.inner_mut()));
        let footer_size = footer_size(&tail)?;
        let mut leaves = Vec::new();
        for column in self.columns {
            column.append_leaves(&mut leaves);
        }
        let columns = leaves
            .into_iter()
            .enumerate()
            .map(|(index, leaf)| Ok(leaf.finish(compressed_size(&metadata, index)?)))
            .collect::<Result<_, WriteError>>()?;
        Ok((
            tail,
            EncodedFile {
                row_count: self.row_count,
                size_bytes,
                footer_size,
                columns,
            },
        ))
    }

    fn check_complete(&self) -> Result<(), WriteError> {
        if self.incomplete {
            Err(WriteError::IncompleteFile)
        } else {
            Ok(())
        }
    }

    fn encode_rows(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let rows = batch.num_rows();
        let mut written = 0;
        while written < rows {
            let mut group = match self.in_progress.take() {
                Some(group) => group,
                None => RowGroup::new(&self.row_groups, self.file.flushed_row_groups().len())?,
            };
            let room = self.row_group_rows.saturating_sub(group.rows()).max(1);
            let step = self.next_step(batch, written, room.min(rows - written));
            group.write(&self.schema, &step)?;
            written += step.num_rows();
            if group.rows() >= self.row_group_rows || group.memory_size() >= self.row_group_bytes {
                self.end_row_group(group)?;
            } else {
                self.in_progress = Some(group);
            }
        }
        Ok(())
    }

    /// At most `max_rows` from `offset`: as many as a step may have by number and size, at least one.
    fn next_step(&self, batch: &RecordBatch, offset: usize, max_rows: usize) -> RecordBatch {
        let limit = STEP_BYTES.min(self.row_group_bytes);
        let mut step = batch.slice(offset, max_rows.min(STEP_ROWS));
        while step.num_rows() > 1 && value_bytes(&step) > limit {
            step = step.slice(0, step.num_rows() / 2);
        }
        step
    }

    fn end_row_group(&mut self, group: RowGroup) -> Result<(), WriteError> {
        group.close(&mut self.file)?;
        // Empties the writer's own buffer, so that what is taken ends with the row group.
        self.file.flush().map_err(ParquetError::from)?;
        Ok(())
    }
}

impl fmt::Debug for FileEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEncoder")
            .field("row_count", &self.row_count)
            .field("memory_size", &self.memory_size())
            .finish_non_exhaustive()
    }
}

/// Bytes of the values a slice of a batch shows, not of the memory behind it.
fn value_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|array| array_bytes(array)).sum()
}

fn array_bytes(array: &dyn Array) -> usize {
    if let Some(strings) = array.as_string_opt::<i32>() {
        span(strings.value_offsets())
    } else if let Some(bytes) = array.as_binary_opt::<i32>() {
        span(bytes.value_offsets())
    } else if let Some(lists) = array.as_list_opt::<i32>() {
        let elements = lists.value_offsets();
        let start = elements
            .first()
            .map_or(0, |&first| usize::try_from(first).unwrap_or_default());
        array_bytes(&lists.values().slice(start, span(elements)))
    } else if let Some(structs) = array.as_struct_opt() {
        structs
            .columns()
            .iter()
            .map(|field| array_bytes(field))
            .sum()
    } else {
        // The widest fixed-width types, decimal and UUID, have 16 bytes.
        array.len() * array.data_type().primitive_width().unwrap_or(16)
    }
}

fn span(offsets: &[i32]) -> usize {
    match offsets {
        [first, .., last] => usize::try_from(last - first).unwrap_or_default(),
        _ => 0,
    }
}

fn compressed_size(metadata: &ParquetMetaData, leaf: usize) -> Result<u64, WriteError> {
    let mut size = 0;
    for chunk in metadata
        .row_groups()
        .iter()
        .filter_map(|group| group.columns().get(leaf))
    {
        size += count("column chunk", chunk.compressed_size())?;
    }
    Ok(size)
}

/// Reads the footer's length (Parquet format, "File format": 4-byte length of file metadata).
fn footer_size(tail: &[u8]) -> Result<u64, WriteError> {
    match tail.last_chunk::<8>() {
        Some(&[a, b, c, d, b'P', b'A', b'R', b'1']) => {
            Ok(u64::from(u32::from_le_bytes([a, b, c, d])))
        }
        _ => Err(WriteError::MissingFooter),
    }
}

fn count<N: TryInto<u64>>(what: &'static str, number: N) -> Result<u64, WriteError> {
    number
        .try_into()
        .map_err(|_| WriteError::SizeOverflow { what })
}
