//! Relations of another shape than the one that is known.

use super::*;

#[test]
fn rows_of_two_versions_in_one_transaction_are_one_epoch() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let wider = [("id", INT4, -1), ("body", TEXT, -1), ("extra", TEXT, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    feed.transaction(200, 210, [insert(ORDERS, &[text("1"), text("a")])]);
    feed.transaction(
        300,
        310,
        [
            insert(ORDERS, &[text("2"), text("b")]),
            relation(ORDERS, ReplicaIdentity::Default, &wider),
            insert(ORDERS, &[text("3"), text("c"), text("x")]),
        ],
    );
    let part = feed.intake.seal().unwrap();
    let end = part.end.as_ref().unwrap();
    let [evolution] = &end.evolutions[..] else {
        panic!("{:?}", end.evolutions)
    };
    let of = |lake: &Arc<LakeTable>| -> usize {
        let batches = part.batches.iter();
        let of_version = batches.filter(|batch| Arc::ptr_eq(&batch.table, lake));
        of_version.map(|batch| batch.rows.num_rows()).sum()
    };
    assert_eq!(of(&evolution.from.lake), 2);
    assert_eq!(of(&evolution.to.lake), 1);
    // It is not told twice.
    feed.transaction(
        400,
        410,
        [insert(ORDERS, &[text("4"), text("d"), text("y")])],
    );
    let (tables, end) = feed.seal();
    assert!(end.evolutions.is_empty());
    assert_eq!(tables["raw.orders"].len(), 1);
}

#[test]
fn a_version_of_a_transaction_that_comes_again_is_taken_back() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let wider = [("id", INT4, -1), ("body", TEXT, -1), ("extra", TEXT, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    let wide_row = || insert(ORDERS, &[text("1"), text("a"), text("x")]);
    feed.send(begin(200));
    feed.send(relation(ORDERS, ReplicaIdentity::Default, &wider));
    feed.send(wide_row());
    assert!(!feed.intake.is_sealed(ORDERS));
    // The source failed: the relation of before comes again, then the new one.
    feed.intake
        .restart(Coordinator::new(thresholds(), Lsn::new(101)));
    assert!(feed.intake.is_sealed(ORDERS));
    feed.transaction(
        150,
        160,
        [
            relation(ORDERS, ReplicaIdentity::Default, &known),
            insert(ORDERS, &[text("0"), text("z")]),
        ],
    );
    let (_, end) = feed.seal();
    assert!(end.evolutions.is_empty());
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Default, &wider),
            wide_row(),
        ],
    );
    let (tables, end) = feed.seal();
    assert_eq!(end.evolutions.len(), 1);
    assert_eq!(
        tables["raw.orders"],
        [row("insert", 200, 0, &[Some("1"), Some("a"), Some("x")])]
    );
}

#[test]
fn a_stop_inside_a_transaction_leaves_its_version_to_the_next_start() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let wider = [("id", INT4, -1), ("body", TEXT, -1), ("extra", TEXT, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    feed.transaction(200, 210, [insert(ORDERS, &[text("1"), text("a")])]);
    feed.send(begin(300));
    feed.send(relation(ORDERS, ReplicaIdentity::Default, &wider));
    feed.send(insert(ORDERS, &[text("2"), text("b"), text("x")]));
    let part = feed.intake.cut_open_transaction().unwrap().unwrap();
    assert!(part.end.as_ref().unwrap().evolutions.is_empty());
    assert_eq!(contents(&part)["raw.orders"].len(), 1);
}

#[test]
fn a_table_that_has_to_be_copied_again_waits_for_it_in_the_same_epoch() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let other = [("id", INT4, -1), ("body", INT8, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Default, &other),
            insert(ORDERS, &[text("1"), text("7")]),
        ],
    );
    assert_eq!(feed.state(ORDERS), TableState::Pending);
    let (_, end) = feed.seal();
    assert_eq!(end.incomplete, ["public.orders"]);
    assert!(matches!(end.transitions[0].change, TableChange::Pending));
    assert!(end.evolutions[0].recopy.is_some());
}

/// No row tells the new shape to the table before it.
#[test]
fn a_truncation_that_comes_with_a_new_shape_is_not_lost() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let fewer = [("id", INT4, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    feed.transaction(200, 210, [insert(ORDERS, &[text("1"), text("a")])]);
    feed.transaction(
        210,
        220,
        [
            relation(ORDERS, ReplicaIdentity::Default, &fewer),
            truncate(&[ORDERS]),
        ],
    );
    feed.transaction(220, 230, [insert(ORDERS, &[text("2")])]);
    let (tables, end) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [
            row("insert", 200, 0, &[Some("1"), Some("a")]),
            row("truncate", 210, 0, &[None, None]),
            row("insert", 220, 0, &[Some("2")]),
        ]
    );
    assert_eq!(end.evolutions.len(), 1);
}

#[test]
fn another_primary_key_needs_another_copy() {
    // The tests' relations have their first column as the key.
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    let Message::Relation(mut other) = relation(ORDERS, ReplicaIdentity::Default, &known) else {
        panic!("another message")
    };
    other.columns[0].flags = 0;
    other.columns[1].flags = 1;
    let row = insert(ORDERS, &[text("1"), text("a")]);
    feed.transaction(200, 210, [Message::Relation(other), row]);
    let (_, end) = feed.seal();
    let recopy = end.evolutions[0].recopy.as_deref().unwrap();
    assert_eq!(recopy, "its key is (body) now, and was (id)");
}

#[test]
fn without_a_key_an_update_is_known_by_its_whole_row() {
    let mut table = fed_table(ORDERS, "orders", ReplicaIdentity::Full, &NOTE_COLUMNS);
    Arc::make_mut(&mut table.version).shape.key = Vec::new();
    let mut feed = Feed::of(vec![table]);
    let old = OldTuple::Full(tuple(&[text("1"), text("old")]));
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Full, &NOTE_COLUMNS),
            update(ORDERS, Some(old), &[text("1"), Datum::UnchangedToast]),
        ],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [
            row("delete", 200, 0, &[Some("1"), Some("old")]),
            row("update", 200, 1, &[Some("1"), Some("old")]),
        ]
    );
}

#[test]
fn a_shape_without_rows_fails_nothing() {
    let mut feed = Feed::shop();
    let other = [("id", INT4, -1)];
    feed.transaction(
        200,
        210,
        [relation(ORDERS, ReplicaIdentity::Default, &other)],
    );
    // A transaction that is covered already may show a shape that is long gone.
    feed.transaction(
        50,
        60,
        [
            relation(ORDERS, ReplicaIdentity::Default, &other),
            insert(ORDERS, &[text("1")]),
        ],
    );
    feed.transaction(
        210,
        220,
        [
            relation(ORDERS, ReplicaIdentity::Default, &ORDER_COLUMNS),
            order("1", "fine"),
        ],
    );
    let (tables, end) = feed.seal();
    assert_eq!(ids(&tables["raw.orders"]), ["1"]);
    assert!(end.transitions.is_empty());
}

#[test]
fn a_type_of_the_same_lake_type_is_read_as_what_it_is_now() {
    let known = [("id", INT4, -1), ("doc", JSON, -1), ("amount", TEXT, -1)];
    let now = [
        ("id", INT4, -1),
        ("doc", JSONB, -1),
        ("amount", NUMERIC, -1),
    ];
    let mut feed = single(ReplicaIdentity::Default, &known);
    // 12.5 as numeric_send writes it: 2 digits of base 10000, weight 0, positive, display scale 1.
    let numeric = [0, 2, 0, 0, 0, 0, 0, 1, 0, 12, 0x13, 0x88];
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Default, &now),
            insert(
                ORDERS,
                &[
                    Datum::Binary(&[0, 0, 0, 1]),
                    Datum::Binary(b"\x01{\"a\": 1}"),
                    Datum::Binary(&numeric),
                ],
            ),
        ],
    );
    let (tables, _) = feed.seal();
    assert_eq!(
        tables["raw.orders"],
        [row(
            "insert",
            200,
            0,
            &[Some("1"), Some("{\"a\": 1}"), Some("12.5")]
        )]
    );
}

#[test]
fn the_binary_form_of_a_type_that_is_not_known_fails_the_table() {
    let mut feed = single(ReplicaIdentity::Default, &NOTE_COLUMNS);
    let inet = [("id", INT4, -1), ("body", INT4RANGE, -1)];
    // 10.0.0.1 as inet_send writes it; it happens to be valid UTF-8.
    let address = [2, 32, 0, 4, 10, 0, 0, 1];
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Default, &inet),
            insert(
                ORDERS,
                &[Datum::Binary(&[0, 0, 0, 1]), Datum::Binary(&address)],
            ),
        ],
    );
    let (tables, end) = feed.seal();
    assert!(tables.is_empty(), "{tables:?}");
    assert!(failure(&end)[0].3.contains("\"body\""));
}

#[test]
fn a_table_that_is_gone_is_left_though_it_was_to_be_copied_again() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let other = [("id", INT4, -1), ("body", INT8, -1)];
    let mut feed = single(ReplicaIdentity::Default, &known);
    feed.transaction(
        200,
        210,
        [
            relation(ORDERS, ReplicaIdentity::Default, &other),
            insert(ORDERS, &[text("1"), text("7")]),
        ],
    );
    assert_eq!(feed.state(ORDERS), TableState::Pending);
    assert!(feed.intake.leave(ORDERS, feed.start));
    let (tables, end) = feed.seal();
    assert_eq!(tables["raw.orders"].len(), 1);
    assert!(matches!(
        end.transitions.last().unwrap().change,
        TableChange::Paused
    ));
    assert!(!feed.intake.leave(ORDERS, feed.start), "it is told once");
}

/// The catalog was looked at before the column came, and is heard of after it.
#[test]
fn a_look_that_is_older_than_the_version_takes_nothing_back() {
    let known = [("id", INT4, -1), ("body", TEXT, -1)];
    let wider = [("id", INT4, -1), ("body", TEXT, -1), ("extra", TEXT, -1)];
    let renamed = [(1, ("id", INT4, -1)), (2, ("text", TEXT, -1))];
    let mut feed = single(ReplicaIdentity::Default, &known);
    let old = found(ORDERS, "orders", &renamed, ORDERS);
    let row = insert(ORDERS, &[text("1"), text("a"), text("x")]);
    let add = relation(ORDERS, ReplicaIdentity::Default, &wider);
    feed.transaction(200, 210, [add, row]);
    let start = feed.start;
    let mut follow = |found: &Found, before: u64| {
        let intake = &mut feed.intake;
        intake
            .follow_catalog(ORDERS, found, looked(before), start)
            .unwrap()
    };
    assert!(!follow(&old, 150));
    assert!(!follow(&old, 200));
    // A commit that waits for a standby is in the stream, and the catalog does not show it yet.
    let mut waiting = old.clone();
    waiting.plan.as_mut().unwrap().info.columns_ever = 2;
    assert!(!follow(&waiting, 300));
    // A later one that shows the column dropped is another matter.
    assert!(follow(&old, 300));
    let (_, end) = feed.seal();
    let steps: Vec<_> = end.evolutions.iter().map(|step| &step.changes).collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(
        steps[1]
            .iter()
            .any(|change| change.contains("\"extra\" was dropped"))
    );
}
