//! Composite types that are altered: of that no relation tells, and the catalog shows the present.

use cdc_source::tables::{TypeInfo, TypePart};

use super::*;
use crate::config::OnUnrepresentable;
use crate::epoch::TableBatch;
use crate::testing::cells;

const ADDRESS: u32 = 9000;
const COLUMNS: [Column; 2] = [("id", INT4, -1), ("place", ADDRESS, -1)];

/// Numbers and names of the attributes of `address`, all of them texts.
type Attributes = [(i16, &'static str)];

fn types(attributes: &Attributes) -> Types {
    let parts = attributes
        .iter()
        .map(|(number, name)| TypePart {
            oid: Oid::new(TEXT),
            modifier: -1,
            name: Some((*name).to_owned()),
            number: Some(*number),
            dimensions: 0,
        })
        .collect();
    let address = TypeInfo {
        oid: Oid::new(ADDRESS),
        schema: "public".to_owned(),
        name: "address".to_owned(),
        kind: 'c',
        parts,
        is_array: false,
        dimensions: 0,
        delimiter: b',',
    };
    Types::from([(address.oid, address)])
}

/// The table as the catalog has it now.
fn now(attributes: &Attributes) -> Found {
    let column = |attnum, (name, type_oid, type_modifier): Column| ColumnInfo {
        attnum,
        name: name.to_owned(),
        type_oid: Oid::new(type_oid),
        type_modifier,
        generated: Generated::No,
        ..table_info(ORDERS, "t").columns[0].clone()
    };
    let mut info = table_info(ORDERS, "orders");
    info.columns = (1..).zip(COLUMNS).map(|(n, c)| column(n, c)).collect();
    found_of("orders", info, &types(attributes))
}

struct Places {
    feed: Feed,
    /// How often the source was asked.
    asked: u32,
}

impl Places {
    /// A table that streams with these attributes.
    fn with(attributes: &Attributes) -> Self {
        let table = fed_table(ORDERS, "orders", ReplicaIdentity::Default, &COLUMNS[..1]);
        Self::of(table, attributes)
    }

    fn of(table: FedTable, attributes: &Attributes) -> Self {
        let mut places = Self {
            feed: Feed::of(vec![table]),
            asked: 0,
        };
        places.transaction(
            100,
            attributes,
            [
                relation(ORDERS, ReplicaIdentity::Default, &COLUMNS),
                insert(ORDERS, &[text("0"), Datum::Null]),
            ],
        );
        places.feed.seal();
        places.asked = 0;
        places
    }

    fn transaction<const N: usize>(
        &mut self,
        lsn: u64,
        attributes: &Attributes,
        changes: [Message; N],
    ) {
        let all = [begin(lsn)].into_iter().chain(changes);
        for message in all.chain([commit(lsn, lsn + 10)]) {
            let now_is = self.feed.start;
            self.feed.intake.message(message, now_is).unwrap();
            while let Some(question) = self.feed.intake.question() {
                self.asked += 1;
                assert!(self.asked < 10, "it is asked again and again");
                let found = now(attributes);
                let oid = question.source_oid;
                self.feed.intake.answer(oid, &found, now_is).unwrap();
            }
        }
    }
}

fn place(id: &'static str, value: &'static str) -> Message {
    insert(ORDERS, &[text(id), text(value)])
}

fn values(tables: &BTreeMap<String, Vec<Row>>) -> Vec<(&str, Option<&str>)> {
    tables["raw.orders"]
        .iter()
        .map(|row| {
            let id = row.values[0].as_deref().unwrap();
            (id, row.values[1].as_deref())
        })
        .collect()
}

#[test]
fn a_new_attribute_is_there_with_the_row_that_has_it() {
    let after = [(1, "street"), (2, "town"), (3, "country")];
    let mut places = Places::with(&after[..2]);
    places.transaction(200, &after, [place("1", "(a,b)"), place("2", "(a,b,c)")]);
    assert_eq!(places.asked, 1);
    let (tables, end) = places.feed.seal();
    assert_eq!(
        values(&tables),
        [("1", Some("(a, b)")), ("2", Some("(a, b, c)"))]
    );
    assert_eq!(end.evolutions.len(), 1);
    assert_eq!(end.evolutions[0].recopy, None);
}

#[test]
fn a_relation_of_another_shape_leaves_the_types_as_the_stream_has_them() {
    let mut places = Places::with(&[(1, "street"), (2, "town")]);
    let wider = [COLUMNS[0], COLUMNS[1], ("note", TEXT, -1)];
    // The catalog is ahead: the town is gone there.
    let message = [
        relation(ORDERS, ReplicaIdentity::Default, &wider),
        insert(ORDERS, &[text("1"), text("(a,b)"), text("n")]),
    ];
    places.transaction(200, &[(1, "street")], message);
    let (tables, end) = places.feed.seal();
    assert_eq!(tables["raw.orders"][0].values[1].as_deref(), Some("(a, b)"));
    assert_eq!(end.evolutions[0].recopy, None);
}

#[test]
fn what_the_catalog_knows_no_more_is_null_and_copied_again() {
    let mut table = fed_table(ORDERS, "orders", ReplicaIdentity::Default, &COLUMNS[..1]);
    table.on_unrepresentable = OnUnrepresentable::Null;
    let mut places = Places::of(table, &[(1, "street")]);
    // In between it had three attributes.
    let present = [(1, "street"), (2, "town")];
    let rows = [
        place("1", "(a)"),
        place("2", "(a,b,c)"),
        place("3", "(d,e,f)"),
        place("4", "(a,b)"),
    ];
    places.transaction(200, &present, rows);
    // Once to see that the type is another, once to see that it is that no more; not for every row.
    assert_eq!(places.asked, 2);
    assert_eq!(places.feed.state(ORDERS), TableState::Pending);
    assert!(places.feed.table(ORDERS).copy_after >= Lsn::new(200));
    let mut part = places.feed.intake.seal().unwrap();
    let is_letters = |batch: &TableBatch| batch.table.target.ends_with("_df_dead_letters");
    let letters: Vec<_> = part
        .batches
        .extract_if(.., |batch| is_letters(batch))
        .flat_map(|batch| cells(&batch.rows))
        .collect();
    let (tables, end) = (contents(&part), part.end.unwrap());
    assert_eq!(
        values(&tables),
        [
            ("1", Some("(a)")),
            ("2", None),
            ("3", None),
            ("4", Some("(a, b)"))
        ]
    );
    assert_eq!(
        tables["raw.orders"][1].unrepresentable.as_deref(),
        Some(&["place".to_owned()][..])
    );
    let kept: Vec<_> = letters.iter().map(|letter| letter[7].as_deref()).collect();
    assert_eq!(kept, [Some("(a,b,c)"), Some("(d,e,f)")]);
    let recopy = end.evolutions.last().unwrap().recopy.as_deref().unwrap();
    assert!(recopy.contains("\"place\" was altered"), "{recopy}");
    assert!(matches!(end.transitions[0].change, TableChange::Pending));
}

#[test]
fn a_policy_that_stops_at_such_a_value_fails_the_table() {
    let mut table = fed_table(ORDERS, "orders", ReplicaIdentity::Default, &COLUMNS[..1]);
    table.on_unrepresentable = OnUnrepresentable::Stop;
    let mut places = Places::of(table, &[(1, "street")]);
    places.transaction(200, &[(1, "street")], [place("1", "(a,b)")]);
    let (_, end) = places.feed.seal();
    assert_eq!(places.feed.state(ORDERS), TableState::Error);
    let reason = &failure_among(&end)[0];
    assert!(reason.contains("on_unrepresentable"), "{reason}");
}

#[test]
fn the_delete_of_a_key_that_changed_is_not_repeated_after_the_question() {
    let after = [(1, "street"), (2, "town")];
    let mut places = Places::with(&after[..1]);
    let old = OldTuple::Key(tuple(&[text("1"), Datum::Null]));
    let change = update(ORDERS, Some(old), &[text("2"), text("(a,b)")]);
    places.transaction(200, &after, [place("1", "(a)"), change]);
    let (tables, _) = places.feed.seal();
    let rows: Vec<(&str, i64)> = tables["raw.orders"]
        .iter()
        .map(|row| (row.op.as_str(), row.seq))
        .collect();
    assert_eq!(rows, [("insert", 0), ("delete", 1), ("update", 2)]);
}

#[test]
fn an_attribute_that_is_replaced_by_one_of_its_name_is_copied_again() {
    let mut places = Places::with(&[(1, "street"), (2, "town")]);
    let replaced = now(&[(1, "street"), (3, "town")]);
    let at = places.feed.start;
    let evolve = |feed: &mut Feed, position: u64| {
        let follow = feed
            .intake
            .follow_catalog(ORDERS, &replaced, looked(position), at);
        assert!(follow.unwrap());
    };
    evolve(&mut places.feed, 150);
    let (_, end) = places.feed.seal();
    let recopy = end.evolutions[0].recopy.as_deref().unwrap();
    assert!(recopy.contains("were replaced"), "{recopy}");
    // It is told once.
    evolve(&mut places.feed, 160);
    let (_, end) = places.feed.seal();
    assert!(end.evolutions.is_empty());
}

/// The reasons of tables that failed.
fn failure_among(end: &EpochEnd) -> Vec<String> {
    end.transitions
        .iter()
        .filter_map(|transition| match &transition.change {
            TableChange::Error { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .collect()
}
