use std::collections::HashMap;

use arrow_array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};
use storage::LocalStorage;

use super::*;
use crate::append::OP;

fn extension(name: &str) -> HashMap<String, String> {
    HashMap::from([("ARROW:extension:name".to_owned(), name.to_owned())])
}

fn batch() -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("op", DataType::Utf8, true),
        Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            true,
        ),
        Field::new("n", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("d", DataType::Decimal128(20, 2), true),
        Field::new("any", DataType::Utf8, true).with_metadata(extension("arrow.json")),
        Field::new("id", DataType::FixedSizeBinary(16), true)
            .with_metadata(extension("arrow.uuid")),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![OP, OP, "a\"\n"])),
        Arc::new(
            TimestampMicrosecondArray::from(vec![1_709_208_000_000_001, -1, i64::MAX])
                .with_timezone("UTC"),
        ),
        Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(0)])),
        Arc::new(Float64Array::from(vec![0.1, f64::NAN, f64::NEG_INFINITY])),
        Arc::new(
            Decimal128Array::from(vec![1_234, -5, 0])
                .with_precision_and_scale(20, 2)
                .unwrap(),
        ),
        Arc::new(StringArray::from(vec![
            Some("{\"a\":\n[1, null]}"),
            None,
            Some("\"x\""),
        ])),
        Arc::new(FixedSizeBinaryArray::try_from_iter([[7_u8; 16]; 3].into_iter()).unwrap()),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

async fn write(times: usize) -> (tempfile::TempDir, JsonLinesFile, String) {
    let home = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open(home.path()).unwrap());
    let path = ObjectPath::parse("raw/t/a.jsonl").unwrap();
    let mut writer = JsonLinesWriter::new(Arc::clone(&storage), path.clone());
    for _ in 0..times {
        writer.write(batch()).await.unwrap();
    }
    assert!(!home.path().join("raw/t/a.jsonl").exists());
    let file = writer.finish().await.unwrap();
    let text = std::fs::read_to_string(home.path().join(&file.path)).unwrap();
    // Again under the same name: what is there stays.
    let again = JsonLinesWriter::new(storage, path);
    assert_eq!(again.finish().await.unwrap().rows, 0);
    (home, file, text)
}

#[tokio::test]
async fn every_row_is_a_line_with_the_values_that_it_has() {
    let (_home, file, text) = write(1).await;
    assert_eq!((file.rows, file.bytes), (3, text.len() as u64));
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let id = "07070707-0707-0707-0707-070707070707";
    assert_eq!(
        lines,
        [
            json!({"op": "append", "at": "2024-02-29T12:00:00.000001Z", "n": i64::MAX, "f": 0.1, "d": 12.34, "any": {"a": [1, null]}, "id": id}),
            json!({"op": "append", "at": "1969-12-31T23:59:59.999999Z", "f": "NaN", "d": -0.05, "id": id}),
            json!({"op": "a\"\n", "at": "infinity", "n": 0, "f": "-Infinity", "d": 0.0, "any": "x", "id": id}),
        ]
    );
    assert!(text.contains("\"d\":-0.05"), "{text}");
}

#[tokio::test]
async fn a_large_file_is_uploaded_in_parts() {
    let times = PART_BYTES / 400 + 2_000;
    let (_home, file, text) = write(times).await;
    assert_eq!(file.rows, 3 * times as u64);
    assert_eq!(file.bytes, text.len() as u64);
    assert!(text.len() > PART_BYTES);
    assert_eq!(text.lines().count(), 3 * times);
}

#[test]
fn dates_agree_with_their_reader() {
    for days in (-800_000_i64..3_000_000).step_by(97) {
        let mut out = Vec::new();
        encode::timestamp(days * 86_400_000_000 + 1, "Z", &mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.trim_matches('"');
        if text.len() == "2024-02-29T12:00:00.000001Z".len() && !text.starts_with('-') {
            let read = crate::append::instant(text).unwrap();
            assert_eq!(read, days * 86_400_000_000 + 1, "{text}");
        }
    }
}
