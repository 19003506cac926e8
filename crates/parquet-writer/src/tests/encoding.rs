//! Row groups, incremental output, memory.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::model::{self, Value};
use crate::{ColumnType, EncodeOptions, EncodedFile, FileEncoder, FileSchema, WriteError};

fn metadata(file: Bytes) -> ParquetMetaData {
    SerializedFileReader::new(file).unwrap().metadata().clone()
}

fn group_rows(file: Bytes) -> Vec<i64> {
    metadata(file)
        .row_groups()
        .iter()
        .map(RowGroupMetaData::num_rows)
        .collect()
}

/// Text that does not compress: hexadecimal of a xorshift generator.
fn noise(seed: &mut u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        write!(text, "{seed:016x}").unwrap();
    }
    text.truncate(bytes);
    text
}

fn noise_batch(schema: &FileSchema, seed: &mut u64, rows: usize, bytes: usize) -> RecordBatch {
    let values: Vec<_> = (0..rows)
        .map(|_| Some(Value::Text(noise(seed, bytes))))
        .collect();
    model::batch_of(schema, &values)
}

/// Takes bytes after every batch; also returns the most memory that was held after taking.
fn encode_incrementally(
    schema: &FileSchema,
    options: &EncodeOptions,
    batches: &[RecordBatch],
) -> (Vec<Bytes>, EncodedFile, usize) {
    let mut encoder = FileEncoder::new(schema, options).unwrap();
    let mut parts = Vec::new();
    let mut most = 0;
    for batch in batches {
        encoder.write(batch).unwrap();
        parts.extend(encoder.take_encoded());
        assert!(encoder.take_encoded().is_none());
        most = most.max(encoder.memory_size());
    }
    let (tail, encoded) = encoder.finish().unwrap();
    parts.push(tail);
    (parts, encoded, most)
}

#[test]
fn row_groups_are_full_by_rows() {
    let schema = model::single(ColumnType::Int64);
    let options = EncodeOptions {
        row_group_rows: 10,
        ..EncodeOptions::default()
    };
    let rows: Vec<_> = (0..7).map(|value| Some(Value::Int(value))).collect();
    let batch = model::batch_of(&schema, &rows);
    let (file, _) = model::encode(&schema, &options, &vec![batch; 5]);
    assert_eq!(group_rows(file), [10, 10, 10, 5]);

    let rows: Vec<_> = (0..35).map(|value| Some(Value::Int(value))).collect();
    let (file, _) = model::encode(&schema, &options, &[model::batch_of(&schema, &rows)]);
    assert_eq!(group_rows(file), [10, 10, 10, 5]);
}

#[test]
fn row_groups_end_by_bytes() {
    let schema = model::single(ColumnType::Utf8);
    let options = EncodeOptions {
        row_group_bytes: 256 * 1024,
        ..EncodeOptions::default()
    };
    let batch = noise_batch(&schema, &mut 1, 4096, 1024);
    let (file, _) = model::encode(&schema, &options, &[batch]);
    let groups = group_rows(file);
    assert_eq!(groups.iter().sum::<i64>(), 4096);
    assert!(groups.len() >= 8, "{groups:?}");
    assert!(groups.iter().all(|&rows| rows <= 1024), "{groups:?}");
}

#[test]
fn parts_taken_on_the_way_make_the_same_file() {
    let schema = model::single(ColumnType::Utf8);
    let options = EncodeOptions {
        row_group_rows: 100,
        ..EncodeOptions::default()
    };
    let mut seed = 2;
    let batches: Vec<_> = (0..8)
        .map(|_| noise_batch(&schema, &mut seed, 70, 40))
        .collect();
    let (whole, of_whole) = model::encode(&schema, &options, &batches);
    let (parts, of_parts, _) = encode_incrementally(&schema, &options, &batches);

    assert_eq!(parts.len(), 6);
    assert_eq!(Bytes::from(parts.concat()), whole);
    assert_eq!(of_parts, of_whole);
    assert_eq!(of_whole.size_bytes, whole.len() as u64);
    let [.., a, b, c, d, b'P', b'A', b'R', b'1'] = whole[..] else {
        panic!("no magic bytes")
    };
    assert_eq!(
        of_whole.footer_size,
        u64::from(u32::from_le_bytes([a, b, c, d]))
    );
    assert_eq!(model::read(&schema, whole)[0].len(), 560);
}

#[test]
fn memory_is_bounded_by_the_row_group() {
    let schema = model::single(ColumnType::Utf8);
    let limit = 1024 * 1024;
    let options = EncodeOptions {
        row_group_bytes: limit,
        ..EncodeOptions::default()
    };
    let mut seed = 3;
    let batches: Vec<_> = (0..64)
        .map(|_| noise_batch(&schema, &mut seed, 256, 1024))
        .collect();
    let (parts, encoded, most) = encode_incrementally(&schema, &options, &batches);

    assert!(
        encoded.size_bytes > 8 * 1024 * 1024,
        "{}",
        encoded.size_bytes
    );
    assert!(most < limit, "{most}");
    // A part is one row group, or two where a batch was larger than what was left.
    let largest = parts.iter().map(Bytes::len).max().unwrap();
    assert!(largest < 2 * limit, "{largest}");
}

#[test]
fn one_large_batch_is_taken_in_steps() {
    let options = EncodeOptions {
        row_group_bytes: 1024 * 1024,
        ..EncodeOptions::default()
    };
    let list = model::list("list", 2, model::column("", 3, ColumnType::Utf8));
    let nested = FileSchema::new(vec![model::structure("c", 1, vec![list])]).unwrap();
    let mut seed = 4;
    // Rows of 16 KiB: without steps by size, 8192 of them would go into one row group.
    let texts = (0..1000).map(|_| Some(Value::Text(noise(&mut seed, 16 * 1024))));
    let rows: Vec<_> = texts.collect();
    let nested_rows: Vec<_> = rows
        .iter()
        .map(|text| Some(Value::List(vec![text.clone(), None])))
        .map(|list| Some(Value::Struct(vec![list])))
        .collect();
    for (schema, rows) in [
        (model::single(ColumnType::Utf8), rows),
        (nested, nested_rows),
    ] {
        let batch = model::batch_of(&schema, &rows);
        let (file, _) = model::encode(&schema, &options, &[batch]);
        for group in metadata(file).row_groups() {
            assert!(
                group.compressed_size() < 3 * 1024 * 1024,
                "{}",
                group.compressed_size()
            );
        }
    }
}

#[test]
fn a_file_without_rows_is_a_file() {
    let schema = model::all_types();
    let mut encoder = FileEncoder::new(&schema, &EncodeOptions::default()).unwrap();
    assert!(encoder.take_encoded().is_none());
    assert_eq!(encoder.memory_size(), 0);
    let empty = crate::RowBatchBuilder::new(&schema).finish().unwrap();
    encoder.write(&empty).unwrap();
    let (file, encoded) = encoder.finish().unwrap();
    assert_eq!(encoded.row_count, 0);
    assert_eq!(encoded.size_bytes, file.len() as u64);
    assert!(
        encoded
            .columns
            .iter()
            .all(|column| column.bounds == crate::Bounds::Empty)
    );
    assert_eq!(metadata(file).file_metadata().num_rows(), 0);
}

#[test]
fn the_footer_says_who_wrote_and_how() {
    let schema = model::single(ColumnType::Int64);
    let batch = model::batch_of(&schema, &[Some(Value::Int(1))]);
    let (file, _) = model::encode(&schema, &EncodeOptions::default(), &[batch]);
    let metadata = metadata(file);
    assert_eq!(metadata.file_metadata().created_by(), Some("duckfeeder"));
    assert!(metadata.file_metadata().key_value_metadata().is_none());
    let chunk = metadata.row_group(0).column(0);
    assert!(matches!(chunk.compression(), Compression::ZSTD(_)));
    assert!(chunk.statistics().is_some());
    assert!(chunk.column_index_range().is_none() && chunk.offset_index_range().is_none());
}

#[test]
fn a_batch_of_another_schema_is_refused_and_changes_nothing() {
    let schema = model::single(ColumnType::Int64);
    let mut encoder = FileEncoder::new(&schema, &EncodeOptions::default()).unwrap();
    let without_ids =
        RecordBatch::try_from_iter([("c", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let error = encoder.write(&without_ids.unwrap()).unwrap_err();
    assert!(matches!(error, WriteError::SchemaMismatch));
    encoder
        .write(&model::batch_of(&schema, &[Some(Value::Int(1))]))
        .unwrap();
    assert_eq!(encoder.finish().unwrap().1.row_count, 1);
}

#[test]
fn options_out_of_range_are_named() {
    let schema = model::single(ColumnType::Int64);
    let defaults = EncodeOptions::default;
    for (options, name) in [
        (
            EncodeOptions {
                row_group_rows: 0,
                ..defaults()
            },
            "row_group_rows",
        ),
        (
            EncodeOptions {
                row_group_bytes: 0,
                ..defaults()
            },
            "row_group_bytes",
        ),
        (
            EncodeOptions {
                compression_level: 0,
                ..defaults()
            },
            "compression_level",
        ),
        (
            EncodeOptions {
                compression_level: 23,
                ..defaults()
            },
            "compression_level",
        ),
    ] {
        let error = FileEncoder::new(&schema, &options).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("encode option {name} is out of range")
        );
    }
}

#[test]
fn encoders_and_batches_cross_threads() {
    fn crosses<T: Send + 'static>() {}
    crosses::<FileEncoder>();
    crosses::<crate::RowBatchBuilder>();
    crosses::<WriteError>();
}
