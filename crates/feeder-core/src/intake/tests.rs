use std::collections::BTreeMap;
use std::time::Duration;

use cdc_source::tables::{ColumnInfo, Generated};
use pgoutput::{Datum, Oid, OldTuple, Relation, ReplicaIdentity, encode_tuple};

use super::*;
use crate::control::TableChange;
use crate::coordinator::{Action, Thresholds};
use crate::evolution::Found;
use crate::table_look::LookedAt;
use crate::testing::{
    Column, INT4, INT4RANGE, INT8, JSON, JSONB, NUMERIC, Row, TEXT, begin, commit, commit_micros,
    delete, fed_table, found, found_of, insert, numeric_modifier, relation, rows, table_info, text,
    truncate, tuple, update,
};
use crate::types::Types;

mod altered_types;
mod versions;

const ORDERS: u32 = 101;
const NOTES: u32 = 102;
const STRANGER: u32 = 999;
const ORDER_COLUMNS: [Column; 3] = [
    ("id", INT8, -1),
    ("price", NUMERIC, numeric_modifier(10, 2)),
    ("note", TEXT, -1),
];
const NOTE_COLUMNS: [Column; 2] = [("id", INT4, -1), ("body", TEXT, -1)];

const HOUR: Duration = Duration::from_hours(1);

fn thresholds() -> Thresholds {
    Thresholds {
        interval: Duration::from_secs(5),
        max_rows: 1_000_000,
        max_bytes: 1 << 30,
        memory: 1 << 30,
    }
}

/// An intake with the start of its time.
struct Feed {
    intake: Intake,
    start: Instant,
    /// As they were sent last.
    relations: BTreeMap<u32, Relation>,
}

impl Feed {
    fn of(tables: Vec<FedTable>) -> Self {
        Self::with(tables, OnTableError::Isolate, thresholds())
    }

    fn with(tables: Vec<FedTable>, policy: OnTableError, thresholds: Thresholds) -> Self {
        Self {
            intake: Intake::new(Coordinator::new(thresholds, Lsn::new(100)), tables, policy),
            start: Instant::now(),
            relations: BTreeMap::new(),
        }
    }

    /// Orders and notes under DEFAULT identity, with their relations sent in a first, empty transaction.
    fn shop() -> Self {
        let mut feed = Self::of(shop());
        feed.describe();
        feed
    }

    fn describe(&mut self) {
        self.transaction(
            100,
            101,
            [
                relation(ORDERS, ReplicaIdentity::Default, &ORDER_COLUMNS),
                relation(NOTES, ReplicaIdentity::Default, &NOTE_COLUMNS),
            ],
        );
    }

    fn send(&mut self, message: Message) {
        if let Message::Relation(relation) = &message {
            self.relations.insert(relation.id.get(), relation.clone());
        }
        self.intake.message(message, self.start).unwrap();
        if let Some(question) = self.intake.question() {
            let found = self.catalog(question.source_oid);
            let oid = question.source_oid;
            self.intake.answer(oid, &found, self.start).unwrap();
        }
    }

    /// A catalog that is no later than the last relation, and has the generated column of [`sums`].
    fn catalog(&self, oid: u32) -> Found {
        let relation = &self.relations[&oid];
        let column = |attnum, name: &str, type_oid, type_modifier| ColumnInfo {
            attnum,
            name: name.to_owned(),
            type_oid: Oid::new(type_oid),
            type_modifier,
            generated: Generated::No,
            ..table_info(oid, "t").columns[0].clone()
        };
        let mut info = table_info(oid, &relation.name);
        info.replica_identity = relation.replica_identity;
        info.columns = (1..)
            .zip(&relation.columns)
            .map(|(attnum, sent)| {
                column(attnum, &sent.name, sent.type_oid.get(), sent.type_modifier)
            })
            .collect();
        if oid == NOTES && info.columns.len() == 1 {
            let mut twice = column(2, "twice", INT4, -1);
            twice.generated = Generated::Stored;
            info.columns.push(twice);
        }
        found_of(&relation.name, info, &Types::new())
    }

    fn transaction(
        &mut self,
        commit_lsn: u64,
        end_lsn: u64,
        changes: impl IntoIterator<Item = Message>,
    ) {
        self.send(begin(commit_lsn));
        for change in changes {
            self.send(change);
        }
        self.send(commit(commit_lsn, end_lsn));
    }

    fn seal(&mut self) -> (BTreeMap<String, Vec<Row>>, EpochEnd) {
        let part = self.intake.seal().unwrap();
        assert_eq!(part.transaction, None);
        (contents(&part), part.end.unwrap())
    }

    fn state(&self, oid: u32) -> TableState {
        self.table(oid).state
    }

    fn discarded(&self, oid: u32) -> u64 {
        self.table(oid).discarded
    }

    fn table(&self, oid: u32) -> &FedTable {
        let mut tables = self.intake.tables();
        tables.find(|table| table.lake().source_oid == oid).unwrap()
    }
}

fn shop() -> Vec<FedTable> {
    vec![
        fed_table(ORDERS, "orders", ReplicaIdentity::Default, &ORDER_COLUMNS),
        fed_table(NOTES, "notes", ReplicaIdentity::Default, &NOTE_COLUMNS),
    ]
}

/// One table, with its relation sent.
fn single(identity: ReplicaIdentity, columns: &[Column]) -> Feed {
    let mut feed = Feed::of(vec![fed_table(ORDERS, "orders", identity, columns)]);
    feed.transaction(100, 101, [relation(ORDERS, identity, columns)]);
    feed
}

/// A look at the source's catalog while its WAL ended there.
fn looked(position: u64) -> LookedAt {
    LookedAt {
        before: Lsn::new(position),
        after: Lsn::new(position),
    }
}

/// The rows of a part by lake table; several batches of one table in the order of the part.
fn contents(part: &Part) -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for batch in &part.batches {
        assert!(batch.rows.num_rows() > 0, "an empty batch is no file");
        let table = tables.entry(batch.table.target.clone()).or_default();
        table.extend(rows(&batch.rows));
    }
    tables
}

fn row(op: &str, lsn: u64, seq: i64, values: &[Option<&str>]) -> Row {
    Row {
        op: op.to_owned(),
        timestamp: commit_micros(lsn),
        lsn: i64::try_from(lsn).unwrap(),
        seq,
        unchanged: None,
        unrepresentable: None,
        values: values.iter().map(|v| v.map(str::to_owned)).collect(),
    }
}

fn unchanged(mut row: Row, columns: &[&str]) -> Row {
    row.unchanged = Some(columns.iter().map(|name| (*name).to_owned()).collect());
    row
}

fn order(id: &'static str, note: &'static str) -> Message {
    insert(ORDERS, &[text(id), text("1.50"), text(note)])
}

/// A price that `decimal(10, 2)` cannot hold.
fn bad_order() -> Message {
    insert(ORDERS, &[text("66"), text("NaN"), text("bad")])
}

fn note(id: &'static str) -> Message {
    insert(NOTES, &[text(id), text("hello")])
}

fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter()
        .map(|row| row.values[0].as_deref().unwrap())
        .collect()
}

/// Dropped changes that an epoch records, by table.
fn dropped(end: &EpochEnd) -> Vec<(u32, u64)> {
    end.transitions
        .iter()
        .filter_map(|transition| match transition.change {
            TableChange::Discarded(changes) => Some((transition.source_oid, changes)),
            _ => None,
        })
        .collect()
}

fn failure(end: &EpochEnd) -> Vec<(u32, u64, i64, String)> {
    end.transitions
        .iter()
        .filter(|transition| !matches!(transition.change, TableChange::Discarded(_)))
        .map(|transition| match &transition.change {
            TableChange::Error { lsn, seq, reason } => {
                (transition.source_oid, lsn.get(), *seq, reason.clone())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

// ---- rows ----

#[test]
fn every_change_is_a_row_with_its_place_in_the_log() {
    let mut feed = Feed::shop();
    feed.transaction(
        200,
        210,
        [
            insert(ORDERS, &[text("1"), text("9.95"), Datum::Null]),
            insert(NOTES, &[text("7"), text("hi")]),
            update(ORDERS, None, &[text("1"), text("10.00"), text("x")]),
            delete(NOTES, OldTuple::Key(tuple(&[text("7"), Datum::Null]))),
        ],
    );
    feed.transaction(210, 220, [truncate(&[NOTES, ORDERS]), order("2", "y")]);

    let (tables, end) = feed.seal();

    assert_eq!(
        tables["raw.orders"],
        [
            row("insert", 200, 0, &[Some("1"), Some("9.95"), None]),
            row("update", 200, 2, &[Some("1"), Some("10.00"), Some("x")]),
            row("truncate", 210, 1, &[None, None, None]),
            row("insert", 210, 2, &[Some("2"), Some("1.50"), Some("y")]),
        ]
    );
    assert_eq!(
        tables["raw.notes"],
        [
            row("insert", 200, 1, &[Some("7"), Some("hi")]),
            row("delete", 200, 3, &[Some("7"), None]),
            row("truncate", 210, 0, &[None, None]),
        ]
    );
    assert_eq!(end.to, Lsn::new(220));
    assert_eq!(end.commit_timestamp, Some(commit_micros(210)));
    assert!(end.transitions.is_empty() && end.cut.is_empty() && end.incomplete.is_empty());
    let (tables, end) = feed.seal();
    assert!(tables.is_empty(), "a row is handed over once");
    assert_eq!(end.commit_timestamp, None);
}

#[test]
fn both_wire_formats_give_the_same_row() {
    let mut feed = Feed::shop();
    let (id, body) = (7_i32.to_be_bytes(), *b"hi");
    feed.transaction(
        200,
        210,
        [insert(NOTES, &[Datum::Binary(&id), Datum::Binary(&body)])],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.notes"],
        [row("insert", 200, 0, &[Some("7"), Some("hi")])]
    );
}

#[test]
fn a_key_change_under_default_identity_is_a_delete_and_an_update() {
    for identity in [ReplicaIdentity::Default, ReplicaIdentity::Index] {
        let mut feed = single(identity, &ORDER_COLUMNS);
        let old = OldTuple::Key(tuple(&[text("1"), Datum::Null, Datum::Null]));
        feed.transaction(
            200,
            210,
            [
                order("5", "first"),
                update(ORDERS, Some(old), &[text("2"), text("3"), text("n")]),
                order("6", "last"),
            ],
        );
        let (tables, _) = feed.seal();
        assert_eq!(
            tables["raw.orders"],
            [
                row("insert", 200, 0, &[Some("5"), Some("1.50"), Some("first")]),
                row("delete", 200, 1, &[Some("1"), None, None]),
                row("update", 200, 2, &[Some("2"), Some("3.00"), Some("n")]),
                row("insert", 200, 3, &[Some("6"), Some("1.50"), Some("last")]),
            ]
        );
    }
}

#[test]
fn a_key_change_under_full_identity_is_a_delete_and_an_update() {
    let mut feed = single(ReplicaIdentity::Full, &ORDER_COLUMNS);
    let old = || OldTuple::Full(tuple(&[text("1"), text("5"), text("old")]));
    feed.transaction(
        200,
        210,
        [
            update(ORDERS, Some(old()), &[text("2"), text("6"), text("new")]),
            update(ORDERS, Some(old()), &[text("1"), text("6"), text("new")]),
        ],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [
            row("delete", 200, 0, &[Some("1"), Some("5.00"), Some("old")]),
            row("update", 200, 1, &[Some("2"), Some("6.00"), Some("new")]),
            row("update", 200, 2, &[Some("1"), Some("6.00"), Some("new")]),
        ]
    );
}

#[test]
fn an_old_key_that_did_not_change_deletes_nothing() {
    let columns = [("name", TEXT, -1), ("n", INT4, -1)];
    let mut feed = single(ReplicaIdentity::Default, &columns);
    let old = || Some(OldTuple::Key(tuple(&[text("long key"), Datum::Null])));
    feed.transaction(
        200,
        210,
        [
            update(ORDERS, old(), &[text("long key"), text("1")]),
            update(ORDERS, old(), &[Datum::UnchangedToast, text("2")]),
        ],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [
            row("update", 200, 0, &[Some("long key"), Some("1")]),
            row("update", 200, 1, &[Some("long key"), Some("2")]),
        ]
    );
}

#[test]
fn unchanged_toast_is_named_and_not_taken_for_null() {
    let mut feed = Feed::shop();
    feed.transaction(
        200,
        210,
        [update(
            ORDERS,
            None,
            &[text("1"), text("2"), Datum::UnchangedToast],
        )],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [unchanged(
            row("update", 200, 0, &[Some("1"), Some("2.00"), None]),
            &["note"]
        )]
    );
}

#[test]
fn unchanged_toast_beside_a_changed_key_is_not_taken_from_the_nulls_of_the_old_key() {
    let mut feed = Feed::shop();
    let old = OldTuple::Key(tuple(&[text("1"), Datum::Null, Datum::Null]));
    feed.transaction(
        200,
        210,
        [update(
            ORDERS,
            Some(old),
            &[text("2"), text("2"), Datum::UnchangedToast],
        )],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [
            row("delete", 200, 0, &[Some("1"), None, None]),
            unchanged(
                row("update", 200, 1, &[Some("2"), Some("2.00"), None]),
                &["note"]
            ),
        ]
    );
}

#[test]
fn unchanged_toast_is_filled_from_the_old_row_under_full() {
    let mut feed = single(ReplicaIdentity::Full, &ORDER_COLUMNS);
    let old = OldTuple::Full(tuple(&[text("1"), text("5"), text("large")]));
    feed.transaction(
        200,
        210,
        [update(
            ORDERS,
            Some(old),
            &[text("1"), text("6"), Datum::UnchangedToast],
        )],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [row(
            "update",
            200,
            0,
            &[Some("1"), Some("6.00"), Some("large")]
        )]
    );
}

#[test]
fn excluded_columns_stay_out() {
    let in_the_lake = [("id", INT4, -1), ("body", TEXT, -1), ("price", INT4, -1)];
    let on_the_wire = [
        ("id", INT4, -1),
        ("body", TEXT, -1),
        ("secret", TEXT, -1),
        ("price", INT4, -1),
    ];
    let mut table = fed_table(NOTES, "notes", ReplicaIdentity::Default, &in_the_lake);
    Arc::make_mut(&mut table.version).ignored = vec!["secret".to_owned()];
    let mut feed = Feed::of(vec![table]);
    feed.transaction(
        100,
        110,
        [
            relation(NOTES, ReplicaIdentity::Default, &on_the_wire),
            insert(NOTES, &[text("1"), text("hi"), text("hush"), text("5")]),
        ],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.notes"],
        [row("insert", 100, 0, &[Some("1"), Some("hi"), Some("5")])]
    );
}

const SUM_COLUMNS: [Column; 2] = [("id", INT4, -1), ("twice", INT4, -1)];

/// A table that waits for its copy, whose second column is generated.
fn sums() -> Feed {
    let mut table = fed_table(NOTES, "sums", ReplicaIdentity::Default, &SUM_COLUMNS);
    Arc::make_mut(&mut table.version).generated = vec!["twice".to_owned()];
    table.state = TableState::Copying;
    Feed::of(vec![table])
}

impl Feed {
    /// A row from before the publication sent generated columns.
    fn without_sum(&mut self, lsn: u64) {
        let columns = &SUM_COLUMNS[..1];
        let relation = relation(NOTES, ReplicaIdentity::Default, columns);
        self.transaction(lsn, lsn + 1, [relation, insert(NOTES, &[text("1")])]);
    }

    fn with_sum(&mut self, lsn: u64) {
        let relation = relation(NOTES, ReplicaIdentity::Default, &SUM_COLUMNS);
        let row = insert(NOTES, &[text("2"), text("4")]);
        self.transaction(lsn, lsn + 1, [relation, row]);
    }
}

#[test]
fn rows_from_before_a_generated_column_was_published_are_taken_until_the_copy_comes() {
    let mut feed = sums();
    feed.without_sum(100);
    feed.with_sum(200);
    assert!(feed.intake.whole_since(NOTES, Lsn::new(150)));
    feed.with_sum(300);
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.sums"],
        [
            row("insert", 100, 0, &[Some("1"), None]),
            row("insert", 200, 0, &[Some("2"), Some("4")]),
            row("insert", 300, 0, &[Some("2"), Some("4")]),
        ]
    );
    assert_eq!(feed.state(NOTES), TableState::Copying);
    // The copy holds; what comes without the column now is not made up for.
    feed.without_sum(400);
    assert_eq!(feed.state(NOTES), TableState::Error);
}

#[test]
fn a_copy_before_rows_without_a_generated_column_does_not_count() {
    let mut feed = sums();
    feed.without_sum(200);
    assert!(!feed.intake.whole_since(NOTES, Lsn::new(200)));
    assert!(feed.intake.whole_since(NOTES, Lsn::new(201)), "a later one");
    feed.without_sum(300);
    assert_eq!(feed.state(NOTES), TableState::Error);
}

#[test]
fn a_streaming_table_must_get_its_generated_columns() {
    let mut table = fed_table(NOTES, "sums", ReplicaIdentity::Default, &SUM_COLUMNS);
    Arc::make_mut(&mut table.version).generated = vec!["twice".to_owned()];
    let mut feed = Feed::of(vec![table]);
    feed.without_sum(100);
    assert_eq!(feed.state(NOTES), TableState::Error);
}

#[test]
fn a_table_that_is_not_fed_is_ignored() {
    let mut feed = Feed::shop();
    feed.transaction(
        200,
        210,
        [
            relation(STRANGER, ReplicaIdentity::Nothing, &NOTE_COLUMNS),
            insert(STRANGER, &[text("not even a number")]),
            truncate(&[STRANGER, NOTES]),
        ],
    );
    let (tables, end) = feed.seal();
    assert_eq!(tables.len(), 1);
    assert_eq!(
        tables["raw.notes"],
        [row("truncate", 200, 0, &[None, None])]
    );
    assert!(end.transitions.is_empty());
}

#[test]
fn a_change_outside_a_transaction_is_refused() {
    let mut feed = Feed::shop();
    let error = feed.intake.message(note("1"), feed.start).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Source);
    assert!(!error.is_transient());
}

// ---- positions ----

#[test]
fn transactions_at_the_position_are_taken_and_those_before_it_are_not() {
    let mut feed = Feed::of(shop());
    feed.send(begin(99));
    feed.send(relation(ORDERS, ReplicaIdentity::Default, &ORDER_COLUMNS));
    feed.send(order("1", "before the consistent point"));
    feed.send(commit(99, 100));
    feed.transaction(100, 200, [order("2", "at the consistent point")]);
    feed.transaction(200, 300, [order("3", "at the end of the one before")]);
    feed.transaction(299, 300, [order("4", "sent twice")]);
    feed.intake.coordinator.keepalive(Lsn::new(400));
    feed.transaction(400, 410, [order("5", "at the keepalive")]);

    let (tables, end) = feed.seal();

    assert_eq!(ids(&tables["raw.orders"]), ["2", "3", "5"]);
    assert_eq!(end.to, Lsn::new(410));
}

#[test]
fn a_skipped_transaction_gives_no_commit_time() {
    let mut feed = Feed::shop();
    feed.transaction(50, 60, [note("1")]);
    let (_, end) = feed.seal();
    assert_eq!(end.commit_timestamp, Some(commit_micros(100)));
    feed.transaction(50, 60, [note("1")]);
    let (tables, end) = feed.seal();
    assert!(tables.is_empty());
    assert_eq!(end.commit_timestamp, None);
    assert_eq!(end.to, Lsn::new(101));
}

// ---- a table fails ----

#[test]
fn a_bad_value_fails_its_table_alone() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole"), note("1")]);
    feed.send(begin(210));
    feed.send(order("2", "of the transaction that fails"));
    feed.send(note("2"));
    feed.send(bad_order());
    feed.send(order("3", "after it"));
    feed.send(note("3"));
    feed.send(commit(210, 220));
    feed.transaction(220, 230, [order("4", "later"), note("4")]);

    assert_eq!(feed.state(ORDERS), TableState::Error);
    assert_eq!(feed.state(NOTES), TableState::Streaming);
    assert_eq!(feed.discarded(ORDERS), 2);
    let (tables, end) = feed.seal();

    assert_eq!(ids(&tables["raw.orders"]), ["1"]);
    assert_eq!(ids(&tables["raw.notes"]), ["1", "2", "3", "4"]);
    let [(oid, lsn, seq, reason)] = failure(&end).try_into().unwrap();
    assert_eq!((oid, lsn, seq), (ORDERS, 210, 2));
    assert_eq!(dropped(&end), [(ORDERS, 2)]);
    assert!(reason.contains("\"price\""), "{reason}");
    assert!(!reason.contains("NaN"), "a value in an error: {reason}");
    assert_eq!(end.cut, [(ORDERS, Lsn::new(210))]);
    assert_eq!(end.incomplete, ["public.orders"]);
    assert_eq!(end.to, Lsn::new(230));

    feed.transaction(230, 240, [order("5", "much later"), note("5")]);
    let (tables, end) = feed.seal();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["raw.notes"]);
    assert!(failure(&end).is_empty() && end.cut.is_empty());
    assert_eq!(dropped(&end), [(ORDERS, 1)], "each is counted once");
    assert_eq!(end.incomplete, ["public.orders"]);
}

#[test]
fn whatever_cannot_be_stored_fails_the_table() {
    let id = text("1");
    let cases: [(&str, Vec<Datum<'_>>, &str); 5] = [
        (
            "invalid UTF-8",
            vec![id, Datum::Null, Datum::Text(b"\xff")],
            "\"note\"",
        ),
        (
            "too many digits",
            vec![id, text("123456789.00"), Datum::Null],
            "\"price\"",
        ),
        (
            "no number",
            vec![text("one"), Datum::Null, Datum::Null],
            "\"id\"",
        ),
        ("too few values", vec![id, Datum::Null], "2 values"),
        (
            "short binary",
            vec![Datum::Binary(&[1]), Datum::Null, Datum::Null],
            "\"id\"",
        ),
    ];
    for (what, values, named) in cases {
        let mut feed = Feed::shop();
        feed.transaction(200, 210, [insert(ORDERS, &values)]);
        let (tables, end) = feed.seal();
        assert!(tables.is_empty(), "{what}");
        let [(_, _, _, reason)] = failure(&end).try_into().unwrap();
        assert!(reason.contains(named), "{what}: {reason}");
    }
}

#[test]
fn an_update_that_fails_leaves_no_delete_behind() {
    let mut feed = Feed::shop();
    let old = OldTuple::Key(tuple(&[text("1"), Datum::Null, Datum::Null]));
    feed.transaction(
        200,
        210,
        [update(
            ORDERS,
            Some(old),
            &[text("2"), text("NaN"), text("x")],
        )],
    );
    let (tables, end) = feed.seal();
    assert!(tables.is_empty());
    assert_eq!(failure(&end)[0].2, 0);
}

#[test]
fn a_failure_alone_is_worth_an_epoch() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [bad_order()]);
    let poll = |feed: &Feed, at| feed.intake.coordinator.poll(at);
    assert_eq!(poll(&feed, feed.start), None);
    assert_eq!(poll(&feed, feed.start + HOUR), Some(Action::Seal));
}

#[test]
fn hold_stops_instead_of_discarding() {
    let mut feed = Feed::with(shop(), OnTableError::Hold, thresholds());
    feed.describe();
    feed.send(begin(200));
    let error = feed.intake.message(bad_order(), feed.start).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Data);
    assert!(!error.is_transient());
    assert!(error.to_string().contains("public.orders"), "{error}");
    assert!(error.remedy().unwrap().contains("isolate"));
    assert_eq!(feed.state(ORDERS), TableState::Streaming);
}

#[test]
fn a_second_failure_does_not_move_the_first() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole")]);
    feed.transaction(210, 220, [bad_order()]);
    // What the copy of the same table reports later.
    feed.intake
        .fail_table(
            RelationId::new(ORDERS),
            Lsn::new(220),
            0,
            "its copy failed",
            feed.start,
        )
        .unwrap();
    let (tables, end) = feed.seal();
    assert_eq!(ids(&tables["raw.orders"]), ["1"]);
    let [(oid, lsn, ..)] = failure(&end).try_into().unwrap();
    assert_eq!((oid, lsn), (ORDERS, 210));
}

#[test]
fn a_failure_from_outside_takes_the_open_transaction_with_it() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole")]);
    feed.send(begin(230));
    feed.send(order("2", "open"));
    let (_head, tail) = feed.intake.spill().unwrap();
    assert_eq!(tail.transaction, Some(Lsn::new(230)));
    feed.send(order("3", "open"));
    let at = feed.intake.coordinator.received();
    feed.intake
        .fail_table(RelationId::new(ORDERS), at, 0, "unpublished", feed.start)
        .unwrap();
    feed.send(commit(230, 240));
    let (tables, end) = feed.seal();
    assert!(tables.is_empty());
    assert_eq!(
        end.cut,
        [(ORDERS, Lsn::new(230))],
        "what was handed over of the open transaction does not get into the lake"
    );
}

#[test]
fn a_table_that_the_committer_lost_stays_lost() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "gone"), note("1")]);
    feed.intake.lost_table(ORDERS, "dropped");
    feed.transaction(210, 220, [order("2", "discarded"), note("2")]);
    assert_eq!(feed.discarded(ORDERS), 1);
    let (tables, end) = feed.seal();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["raw.notes"]);
    assert!(failure(&end).is_empty(), "it is recorded already");
    assert_eq!(dropped(&end), [(ORDERS, 1)]);
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(210)));
    assert_eq!(feed.state(ORDERS), TableState::Error);
}

#[test]
fn discarded_changes_are_counted_on_and_recorded_without_rows_of_others() {
    let mut orders = fed_table(ORDERS, "orders", ReplicaIdentity::Default, &ORDER_COLUMNS);
    orders.state = TableState::Error;
    orders.error = Some("a reason".to_owned());
    orders.discarded = 5;
    let mut feed = Feed::of(vec![orders]);
    feed.transaction(200, 210, [order("1", "x"), order("2", "y")]);
    assert_eq!(feed.discarded(ORDERS), 7);
    let later = feed.start + thresholds().interval;
    assert_eq!(feed.intake.coordinator.poll(later), Some(Action::Seal));
    let (tables, end) = feed.seal();
    assert!(tables.is_empty());
    assert_eq!(dropped(&end), [(ORDERS, 2)]);
    assert_eq!(feed.table(ORDERS).error.as_deref(), Some("a reason"));
}

#[test]
fn a_failure_says_why_until_it_is_forgotten() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [bad_order()]);
    assert!(feed.table(ORDERS).error.is_some());
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(210)));
    assert_eq!(feed.table(ORDERS).error, None);
}

#[test]
fn a_recorded_failure_is_not_forgotten_with_an_unrecorded_one() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [bad_order()]);
    feed.intake.lost_table(ORDERS, "dropped");
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(210)));
    assert_eq!(feed.state(ORDERS), TableState::Error);
}

// ---- parts ----

#[test]
fn a_spill_cuts_between_committed_and_open_rows() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole"), note("1")]);
    feed.send(begin(210));
    feed.send(order("2", "open"));
    let bytes = feed.intake.coordinator.buffered_bytes();
    assert!(bytes > 0);

    let (head, tail) = feed.intake.spill().unwrap();

    let head = head.unwrap();
    let end = head.end.as_ref().unwrap();
    assert_eq!(end.to, Lsn::new(210), "before the open transaction");
    assert_eq!(end.commit_timestamp, Some(commit_micros(200)));
    assert_eq!(head.transaction, None);
    let tables = contents(&head);
    assert_eq!(ids(&tables["raw.orders"]), ["1"]);
    assert_eq!(ids(&tables["raw.notes"]), ["1"]);
    assert!(tail.end.is_none());
    assert_eq!(tail.transaction, Some(Lsn::new(210)));
    assert_eq!(ids(&contents(&tail)["raw.orders"]), ["2"]);
    assert_eq!(contents(&tail).len(), 1);
    assert_eq!(
        head.bytes + tail.bytes,
        bytes,
        "each byte is accounted once"
    );
    assert_eq!(feed.intake.coordinator.buffered_bytes(), bytes);

    feed.send(order("3", "open, too"));
    feed.send(note("2"));
    let (head, tail) = feed.intake.spill().unwrap();
    assert!(head.is_none(), "nothing was committed since");
    assert_eq!(ids(&contents(&tail)["raw.orders"]), ["3"]);
    feed.send(order("4", "last"));
    feed.send(commit(210, 220));
    let (tables, end) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [row(
            "insert",
            210,
            3,
            &[Some("4"), Some("1.50"), Some("last")]
        )]
    );
    assert_eq!(end.to, Lsn::new(220));
    assert_eq!(end.commit_timestamp, Some(commit_micros(210)));
}

#[test]
fn a_spill_keeps_the_whole_transactions_of_a_failed_table() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole")]);
    feed.send(begin(210));
    feed.send(bad_order());
    feed.send(note("1"));
    let (head, tail) = feed.intake.spill().unwrap();
    let head = head.unwrap();
    assert_eq!(ids(&contents(&head)["raw.orders"]), ["1"]);
    assert_eq!(failure(head.end.as_ref().unwrap()).len(), 1);
    assert_eq!(contents(&tail).keys().collect::<Vec<_>>(), ["raw.notes"]);
    // The head will be committed, and with it the failure.
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(210)));
    assert_eq!(feed.state(ORDERS), TableState::Error);
}

#[test]
fn a_failure_inside_a_spilled_transaction_cuts_what_was_handed_over() {
    let mut feed = Feed::shop();
    feed.send(begin(200));
    feed.send(order("1", "handed over"));
    let (head, tail) = feed.intake.spill().unwrap();
    assert!(head.is_none());
    assert_eq!(tail.transaction, Some(Lsn::new(200)));
    feed.send(order("2", "dropped"));
    feed.send(bad_order());
    feed.send(commit(200, 210));
    let (tables, end) = feed.seal();
    assert!(tables.is_empty());
    assert_eq!(end.cut, [(ORDERS, Lsn::new(200))]);
    assert_eq!(failure(&end)[0].2, 2);
}

#[test]
fn a_stop_inside_a_transaction_keeps_what_was_before_it() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole"), note("1")]);
    feed.send(begin(220));
    feed.send(order("2", "open"));
    let bytes = feed.intake.coordinator.buffered_bytes();
    let part = feed.intake.cut_open_transaction().unwrap().unwrap();
    assert_eq!(ids(&contents(&part)["raw.orders"]), ["1"]);
    assert_eq!(ids(&contents(&part)["raw.notes"]), ["1"]);
    assert_eq!(part.transaction, None);
    assert_eq!(part.bytes, bytes);
    let end = part.end.unwrap();
    assert_eq!(end.to, Lsn::new(210));
    let coordinator = &mut feed.intake.coordinator;
    coordinator.part_done(part.bytes);
    coordinator.committed(end.to);
    assert!(coordinator.stopped());
    assert_eq!(coordinator.buffered_bytes(), 0);
}

#[test]
fn a_stop_inside_a_first_transaction_has_nothing_to_hand_over() {
    let mut feed = Feed::of(shop());
    feed.send(begin(100));
    feed.send(relation(ORDERS, ReplicaIdentity::Default, &ORDER_COLUMNS));
    feed.send(order("1", "open"));
    assert!(feed.intake.cut_open_transaction().unwrap().is_none());
    assert!(feed.intake.coordinator.stopped());
}

#[test]
fn a_stop_inside_a_spilled_transaction_cuts_what_was_handed_over_of_it() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "whole")]);
    feed.send(begin(210));
    feed.send(order("2", "open"));
    let (head, tail) = feed.intake.spill().unwrap();
    feed.send(order("3", "open"));
    let part = feed.intake.cut_open_transaction().unwrap().unwrap();
    assert!(part.batches.is_empty());
    let end = part.end.unwrap();
    assert_eq!(end.to, Lsn::new(210));
    assert_eq!(tail.transaction, Some(Lsn::new(210)));
    assert!(end.cut.contains(&(ORDERS, Lsn::new(210))));
    let coordinator = &mut feed.intake.coordinator;
    coordinator.part_done(head.unwrap().bytes);
    coordinator.part_done(tail.bytes);
    coordinator.part_done(part.bytes);
    coordinator.committed(Lsn::new(210));
    assert!(!coordinator.stopped(), "two epochs are to be committed");
    coordinator.committed(Lsn::new(210));
    assert!(coordinator.stopped());
}

#[test]
fn a_stop_after_a_spilled_transaction_keeps_all_of_it() {
    let mut feed = Feed::shop();
    feed.send(begin(200));
    feed.send(order("1", "handed over"));
    let (_, tail) = feed.intake.spill().unwrap();
    assert_eq!(tail.transaction, Some(Lsn::new(200)));
    feed.send(order("2", "the rest"));
    feed.send(commit(200, 210));
    // An epoch is in flight, so that the next transaction begins before this one is sealed.
    feed.send(begin(210));
    feed.send(order("3", "open"));
    let part = feed.intake.cut_open_transaction().unwrap().unwrap();
    assert_eq!(ids(&contents(&part)["raw.orders"]), ["2"]);
    let end = part.end.unwrap();
    assert_eq!(end.to, Lsn::new(210));
    assert!(
        !end.cut.iter().any(|(_, lsn)| *lsn == Lsn::new(200)),
        "it is whole"
    );
}

// ---- beginning again ----

#[test]
fn a_restart_drops_what_was_not_handed_over() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [order("1", "not handed over")]);
    feed.send(begin(210));
    feed.send(order("2", "open"));
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(101)));
    assert_eq!(feed.intake.coordinator.buffered_bytes(), 0);
    let error = feed.intake.message(note("1"), feed.start).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Source);
    // The server sends relations again in every session.
    feed.send(begin(200));
    let error = feed.intake.message(note("1"), feed.start).unwrap_err();
    assert!(error.to_string().contains("before its relation"), "{error}");
    feed.send(relation(ORDERS, ReplicaIdentity::Default, &ORDER_COLUMNS));
    feed.send(order("1", "sent again"));
    feed.send(commit(200, 210));
    let (tables, _) = feed.seal();
    assert_eq!(ids(&tables["raw.orders"]), ["1"]);
    assert_eq!(tables["raw.orders"][0].seq, 0);
}

#[test]
fn a_restart_takes_back_a_failure_that_is_not_committed() {
    for (before, after) in [
        (TableState::Streaming, TableState::Streaming),
        (TableState::Pending, TableState::Pending),
        (TableState::Copying, TableState::Pending),
    ] {
        let mut feed = Feed::shop();
        feed.intake.table_mut(ORDERS).unwrap().state = before;
        feed.transaction(200, 210, [order("1", "whole"), bad_order()]);
        assert_eq!(feed.state(ORDERS), TableState::Error);
        feed.intake
            .restart(Coordinator::new(thresholds(), Lsn::new(101)));
        assert_eq!(feed.state(ORDERS), after);
        let (tables, end) = feed.seal();
        assert!(tables.is_empty());
        assert!(end.transitions.is_empty() && end.cut.is_empty());
    }
}

#[test]
fn a_restart_keeps_a_failure_that_was_handed_over() {
    let mut feed = Feed::shop();
    feed.transaction(200, 210, [bad_order()]);
    let (_, end) = feed.seal();
    assert_eq!(end.transitions.len(), 1);
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(210)));
    assert_eq!(feed.state(ORDERS), TableState::Error);
}

// ---- shapes ----

#[test]
fn one_column_that_is_not_decoded_makes_the_session_text() {
    assert!(Feed::shop().intake.binary());
    let inet = [("id", INT4, -1), ("address", INT4RANGE, -1)];
    let mut tables = shop();
    tables.push(fed_table(103, "hosts", ReplicaIdentity::Default, &inet));
    assert!(!Feed::of(tables).intake.binary());
}

#[test]
fn a_paused_table_is_not_recorded_and_a_copied_one_is() {
    for (state, recorded) in [
        (TableState::Pending, true),
        (TableState::Copying, true),
        (TableState::Paused, false),
        (TableState::Error, false),
    ] {
        let mut feed = Feed::shop();
        feed.intake.table_mut(NOTES).unwrap().state = state;
        feed.transaction(200, 210, [note("1")]);
        let (tables, end) = feed.seal();
        assert_eq!(tables.contains_key("raw.notes"), recorded, "{state:?}");
        let counted = u64::from(state == TableState::Error);
        assert_eq!(feed.discarded(NOTES), counted, "{state:?}");
        assert_eq!(end.incomplete, ["public.notes"], "{state:?}");
    }
}

#[test]
fn a_message_that_was_not_asked_for_is_refused() {
    let mut feed = Feed::shop();
    let stream = Message::StreamStop;
    let error = feed.intake.message(stream, feed.start).unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Source);
}

#[test]
fn rows_are_bounded_by_what_is_accounted() {
    let mut feed = Feed::shop();
    let large = "x".repeat(10_000);
    let values = encode_tuple(&[text("1"), text("1"), text(&large)]).unwrap();
    feed.send(begin(200));
    for _ in 0..10 {
        let values: Vec<Datum<'_>> = values.iter().collect();
        feed.send(insert(ORDERS, &values));
    }
    assert!(feed.intake.coordinator.buffered_bytes() >= 100_000);
    feed.send(commit(200, 210));
    let part = feed.intake.seal().unwrap();
    assert!(part.bytes >= 100_000);
    feed.intake.coordinator.part_done(part.bytes);
    assert_eq!(feed.intake.coordinator.buffered_bytes(), 0);
}

mod directives;
