use serde_json::json;

use super::buffers::{Buffers, Pushed, Refused, Stamp};
use super::chunk::Chunk;
use super::given::One;
use super::lake::KnownColumns;
use super::{AppendOptions, AppendTable, ColumnType, Overflow, for_file};
use crate::FeederErrorKind;
use crate::control::{AppendPosition, StoredPosition};
use std::sync::Arc;

fn buffers(options: AppendOptions) -> Buffers {
    let table = AppendTable::new("events").column("n", ColumnType::Int64);
    Buffers::new(options, vec![table]).unwrap()
}

fn ready() -> Buffers {
    let buffers = buffers(AppendOptions::default());
    buffers.begin(KnownColumns::default(), &[]);
    buffers
}

fn push(buffers: &Buffers, n: i64, stamp: Option<Stamp<'_>>) -> Result<Pushed, Refused> {
    buffers.push("events", stamp, &One(&json!({ "n": n })), false, false)
}

fn chunk(pushed: Result<Pushed, Refused>) -> Arc<Chunk> {
    match pushed {
        Ok(Pushed::Buffered(chunk)) => chunk,
        other => panic!("{other:?}"),
    }
}

fn stored(positions: &[AppendPosition], snapshot: i64) -> Vec<StoredPosition> {
    let stored = positions.iter().cloned();
    stored
        .map(|position| StoredPosition { position, snapshot })
        .collect()
}

#[tokio::test]
async fn what_was_sealed_and_is_in_the_lake_is_settled_by_the_next_run() {
    let buffers = ready();
    let fate = chunk(push(&buffers, 1, None));
    let sealed = buffers.seal().unwrap().unwrap();
    let positions = sealed.tables[0].positions.clone();
    assert_eq!(positions.len(), 1);
    // The committer died after COMMIT; the rows are not committed again.
    buffers.begin(KnownColumns::default(), &stored(&positions, 42));
    assert_eq!(fate.fate().await.unwrap(), 42);
    assert!(buffers.is_empty());
    assert!(buffers.seal().unwrap().is_none());
}

#[tokio::test]
async fn what_was_sealed_and_is_not_in_the_lake_is_committed_by_the_next_run() {
    let buffers = ready();
    let first = chunk(push(&buffers, 1, None));
    let before = stored(&buffers.seal().unwrap().unwrap().tables[0].positions, 41);
    buffers.settle(41);
    let second = chunk(push(&buffers, 2, None));
    let sealed = buffers.seal().unwrap().unwrap();
    buffers.begin(KnownColumns::default(), &before);
    let again = buffers.seal().unwrap().unwrap();
    assert!(Arc::ptr_eq(&sealed, &again));
    assert_eq!(again.tables[0].rows(), 1);
    buffers.settle(43);
    assert_eq!(first.fate().await.unwrap(), 41);
    assert_eq!(second.fate().await.unwrap(), 43);
}

#[tokio::test]
async fn a_replay_is_dropped_and_shares_the_fate_of_the_first() {
    let buffers = ready();
    let stamp = |seq| Some(Stamp { producer: "p", seq });
    let first = chunk(push(&buffers, 1, stamp(5)));
    let replay = chunk(push(&buffers, 1, stamp(5)));
    let older = chunk(push(&buffers, 1, stamp(4)));
    assert!(Arc::ptr_eq(&first, &replay) && Arc::ptr_eq(&first, &older));
    assert_eq!(buffers.seal().unwrap().unwrap().tables[0].rows(), 1);
    buffers.settle(7);
    assert!(matches!(
        push(&buffers, 1, stamp(5)),
        Ok(Pushed::Known { snapshot: 7 })
    ));
    // Another producer has numbers of its own.
    chunk(push(
        &buffers,
        1,
        Some(Stamp {
            producer: "q",
            seq: 1,
        }),
    ));
    let (_, counts) = &buffers.counts()[0];
    assert_eq!((counts.accepted, counts.duplicate), (2, 3));
}

#[test]
fn before_the_lake_is_known_only_declared_columns_are_taken() {
    let buffers = buffers(AppendOptions::default());
    chunk(push(&buffers, 1, None));
    let row = json!({"n": 1, "more": true});
    let refused = buffers.push("events", None, &One(&row), false, false);
    assert!(matches!(refused, Err(Refused::NotReady)));
    let refused = buffers.push("other", None, &One(&row), false, false);
    assert!(matches!(refused, Err(Refused::NotReady)));
    let stamp = Stamp {
        producer: "p",
        seq: 1,
    };
    assert!(matches!(
        push(&buffers, 1, Some(stamp)),
        Err(Refused::NotReady)
    ));
    // The lake has the column already, as something else.
    let columns = vec![super::column::Column::new(
        "n",
        ducklake_catalog::LakeType::Varchar,
    )];
    let lake = [(("raw".to_owned(), "events".to_owned()), columns)];
    buffers.begin(lake.into_iter().collect(), &[]);
    assert!(matches!(push(&buffers, 1, None), Err(Refused::Broken(_))));
}

#[test]
fn batches_from_before_a_column_have_null_in_it() {
    let buffers = ready();
    chunk(push(&buffers, 1, None));
    let row = json!({"n": 2, "s": "x", "l": [1]});
    buffers
        .push("events", None, &One(&row), false, false)
        .unwrap();
    let sealed = buffers.seal().unwrap().unwrap();
    let chunks = &sealed.tables[0].chunks;
    assert_eq!(chunks.len(), 2);
    let schema = chunks[1].batch.schema();
    let padded = for_file(&chunks[0].batch, &schema).unwrap();
    assert_eq!(padded.num_columns(), 7);
    assert_eq!(padded.column(5).null_count(), 1);
}

#[test]
fn a_row_whose_serialize_panics_or_appends_leaves_nothing() {
    struct Bad<'a>(&'a Buffers, bool);
    impl serde::Serialize for Bad<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap as _;
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("n", &1)?;
            assert!(!self.1, "on purpose");
            let refused = push(self.0, 3, None).unwrap_err();
            assert!(matches!(refused, Refused::Error(_)));
            map.end()
        }
    }
    let buffers = ready();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        buffers.push("events", None, &One(&Bad(&buffers, true)), false, false)
    }));
    panics.unwrap_err();
    chunk(push(&buffers, 2, None));
    buffers
        .push("events", None, &One(&Bad(&buffers, false)), false, false)
        .unwrap();
    assert_eq!(buffers.seal().unwrap().unwrap().tables[0].rows(), 2);
}

#[test]
fn names_that_readers_confuse_are_refused() {
    let buffers = ready();
    for name in ["N", "_df_op", "_DF_x", ""] {
        let row = std::collections::BTreeMap::from([(name, 1)]);
        let refused = buffers.push("events", None, &One(&row), false, false);
        let Err(Refused::Error(error)) = refused else {
            panic!("{name}: {refused:?}");
        };
        assert_eq!(error.kind(), FeederErrorKind::Data);
    }
    let tables = vec![
        AppendTable::new("a"),
        AppendTable::new("b").target("RAW", "A"),
    ];
    let error = Buffers::new(AppendOptions::default(), tables).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Config);
}

#[tokio::test]
async fn the_end_tells_everybody_who_waits() {
    let buffers = ready();
    let sealed = chunk(push(&buffers, 1, None));
    buffers.seal().unwrap();
    let buffered = chunk(push(&buffers, 2, None));
    buffers.abandon(None);
    for fate in [sealed, buffered] {
        let error = fate.fate().await.unwrap_err();
        assert_eq!(error.kind(), FeederErrorKind::Stopped);
    }
    assert!(matches!(push(&buffers, 3, None), Err(Refused::Broken(_))));
    assert_eq!(
        (buffers.buffered_bytes(), buffers.counts()[0].1.lost),
        (0, 2)
    );
}

#[test]
fn a_full_buffer_has_what_its_strategy_says() {
    for overflow in [Overflow::Block, Overflow::Fail, Overflow::DropOldest] {
        let buffers = buffers(AppendOptions {
            memory: 1,
            overflow,
            ..AppendOptions::default()
        });
        buffers.begin(KnownColumns::default(), &[]);
        chunk(push(&buffers, 1, None));
        let second = push(&buffers, 2, None);
        let (_, counts) = buffers.counts().remove(0);
        let seen = (counts.blocked, counts.refused, counts.dropped);
        match overflow {
            Overflow::DropOldest => {
                chunk(second);
                assert_eq!(seen, (0, 0, 1));
            }
            Overflow::Fail => assert_eq!(seen, (0, 1, 0)),
            Overflow::Block => assert_eq!(seen, (1, 0, 0)),
        }
    }
}
