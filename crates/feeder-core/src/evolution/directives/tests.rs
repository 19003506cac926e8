use std::sync::Arc;

use pgoutput::{Oid, Relation, RelationColumn, RelationId, ReplicaIdentity};

use crate::config::{
    ChangePolicy, OnDropColumn, OnDropPartition, OnDropTable, OnSchemaChange, OnTypeChange,
};
use crate::control::{Directive, SchemaChange, TypeId};
use crate::evolution::{Evolution, Found, Since, by_catalog, by_relation};
use crate::layout;
use crate::testing::{Column, INT4, INT8, TEXT, fed_table, found};
use crate::types::ColumnSettings;
use crate::version::TableVersion;

const OID: u32 = 7;
const SINCE: Since = Since { lsn: 500, seq: 3 };
const ID: Column = ("id", INT8, -1);
const A: Column = ("a", INT4, -1);
const B: Column = ("b", TEXT, -1);
const X: Column = ("x", INT4, -1);
const WIDE: Column = ("a", INT8, -1);

const FOLLOW: ChangePolicy = ChangePolicy {
    on_schema_change: OnSchemaChange::Follow,
    on_drop_column: OnDropColumn::Keep,
    on_type_change: OnTypeChange::NewColumn,
    on_drop_table: OnDropTable::Keep,
    on_drop_partition: OnDropPartition::Stop,
};
const STOP: ChangePolicy = ChangePolicy {
    on_schema_change: OnSchemaChange::Stop,
    on_type_change: OnTypeChange::Stop,
    ..FOLLOW
};
const ADDITIVE: ChangePolicy = ChangePolicy {
    on_schema_change: OnSchemaChange::AdditiveOnly,
    ..STOP
};

fn directive(id: &str, change: SchemaChange, next_type: Option<u32>) -> Directive {
    Directive {
        id: id.to_owned(),
        source_oid: OID,
        table: "public.t".to_owned(),
        change,
        next_type: next_type.map(|oid| TypeId { oid, modifier: -1 }),
        stated_at: 0,
        applied: None,
    }
}

fn rename(id: &str, column: &str, to: &str) -> Directive {
    let (column, to) = (column.to_owned(), to.to_owned());
    directive(id, SchemaChange::RenameColumn { column, to }, None)
}

fn dropped(id: &str, column: &str) -> Directive {
    let column = column.to_owned();
    directive(id, SchemaChange::DropColumn { column }, None)
}

fn retyped(id: &str, column: &str, oid: u32, values_unchanged: bool) -> Directive {
    let change = SchemaChange::ChangeType {
        column: column.to_owned(),
        to: "as printed".to_owned(),
        values_unchanged,
    };
    directive(id, change, Some(oid))
}

fn version(columns: &[Column]) -> Arc<TableVersion> {
    fed_table(OID, "t", ReplicaIdentity::Default, columns).version
}

fn catalog(columns: &[(i16, Column)], file: u32, directives: &[Directive]) -> Found {
    Found {
        directives: directives.to_vec(),
        ..found(OID, "t", columns, file)
    }
}

fn streamed(
    before: &Arc<TableVersion>,
    wire: &[Column],
    found: &Found,
    policy: ChangePolicy,
) -> Result<Evolution, String> {
    let relation = Relation {
        xid: None,
        id: RelationId::new(OID),
        namespace: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: wire
            .iter()
            .enumerate()
            .map(|(position, (name, type_oid, modifier))| RelationColumn {
                flags: u8::from(position == 0),
                name: (*name).to_owned(),
                type_oid: Oid::new(*type_oid),
                type_modifier: *modifier,
            })
            .collect(),
    };
    let settings = ColumnSettings::default();
    by_relation(before, &relation, None, found, &settings, policy, SINCE)
}

fn looked_at(
    before: &Arc<TableVersion>,
    found: &Found,
    policy: ChangePolicy,
) -> Result<Evolution, String> {
    let settings = ColumnSettings::default();
    Ok(by_catalog(before, found, &settings, policy, SINCE)?.unwrap())
}

/// The lake's columns after the six of ours.
fn lake(evolution: &Evolution) -> Vec<String> {
    let columns = evolution.to.lake.columns.iter().skip(layout::META_COLUMNS);
    columns
        .map(|column| format!("{} {}", column.name, column.lake_type))
        .collect()
}

#[test]
fn a_column_that_was_renamed_and_dropped_since_is_what_was_stated() {
    let before = version(&[ID, A]);
    // The catalog has neither name any more.
    let gone = [(1, ID)];
    let guessed = streamed(&before, &[ID, X], &catalog(&gone, OID, &[]), FOLLOW).unwrap();
    assert_eq!(lake(&guessed), ["id int64", "a int32", "x int32"]);
    assert!(guessed.directives.is_empty());

    let stated = catalog(
        &gone,
        OID,
        &[rename("one", "a", "x"), rename("two", "a", "x")],
    );
    let evolution = streamed(&before, &[ID, X], &stated, STOP).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "x int32"]);
    assert_eq!(evolution.directives, ["one"], "one of two alike is enough");
    assert_eq!(evolution.at.get(), 500);
    assert_eq!(evolution.to.shape.columns[1].former[0].name, "a");

    // Another table's says nothing of this one.
    let mut other = rename("other", "a", "x");
    other.source_oid = OID + 1;
    let evolution = streamed(&before, &[ID, X], &catalog(&gone, OID, &[other]), FOLLOW).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "a int32", "x int32"]);
    assert!(evolution.directives.is_empty());
}

#[test]
fn renames_that_follow_each_other_are_one() {
    let before = version(&[ID, A]);
    let stated = [
        rename("second", "b", "x"),
        rename("first", "a", "b"),
        rename("back", "b", "a"),
    ];
    for policy in [STOP, ADDITIVE] {
        let evolution = streamed(
            &before,
            &[ID, X],
            &catalog(&[(1, ID)], OID, &stated),
            policy,
        )
        .unwrap();
        assert_eq!(lake(&evolution), ["id int64", "x int32"]);
        assert_eq!(evolution.directives, ["first", "second"]);
        let seen = catalog(&[(1, ID), (2, X)], OID, &stated);
        assert_eq!(
            looked_at(&before, &seen, policy).unwrap().directives,
            ["first", "second"]
        );
    }
    let half = catalog(&[(1, ID), (2, X)], OID, &stated[..1]);
    let refused = looked_at(&before, &half, ADDITIVE).unwrap_err();
    assert!(refused.contains("\"a\" is \"x\" now"), "{refused}");
}

#[test]
fn the_catalog_knows_better_than_a_statement() {
    let before = version(&[ID, A]);
    // Dropped, and another one added.
    let seen = catalog(&[(1, ID), (3, X)], OID, &[rename("one", "a", "x")]);
    let evolution = streamed(&before, &[ID, X], &seen, FOLLOW).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "a int32", "x int32"]);
    assert!(evolution.directives.is_empty());
    let refused = streamed(&before, &[ID, X], &seen, ADDITIVE).unwrap_err();
    assert!(refused.contains("\"a\" was dropped"), "{refused}");
}

#[test]
fn a_stated_drop_takes_the_lakes_column_and_passes() {
    let before = version(&[ID, A, B]);
    let stated = [dropped("one", "a")];
    for policy in [FOLLOW, STOP, ADDITIVE] {
        let seen = catalog(&[(1, ID), (3, B)], OID, &stated);
        let evolution = streamed(&before, &[ID, B], &seen, policy).unwrap();
        assert_eq!(lake(&evolution), ["id int64", "b varchar"]);
        assert_eq!(evolution.directives, ["one"]);
    }
    // What was not stated does not slip in with it.
    let both = catalog(&[(1, ID)], OID, &stated);
    let refused = streamed(&before, &[ID], &both, ADDITIVE).unwrap_err();
    assert!(
        refused.contains("\"b\" was dropped") && !refused.contains("\"a\""),
        "{refused}"
    );
    let more = catalog(&[(1, ID), (3, B), (4, X)], OID, &stated);
    let refused = streamed(&before, &[ID, B, X], &more, STOP).unwrap_err();
    assert!(refused.starts_with("column \"x\" was added;"), "{refused}");
    let evolution = streamed(&before, &[ID, B, X], &more, ADDITIVE).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "b varchar", "x int32"]);
}

#[test]
fn nothing_states_a_key() {
    let before = version(&[ID, A]);
    let mut seen = catalog(&[(1, ID), (2, X)], OID, &[rename("one", "a", "x")]);
    seen.plan.as_mut().unwrap().shape.key = vec!["x".to_owned()];
    for policy in [STOP, ADDITIVE] {
        let refused = looked_at(&before, &seen, policy).unwrap_err();
        assert!(
            refused.contains("its key or replica identity changed"),
            "{refused}"
        );
    }
}

#[test]
fn a_stated_type_passes_and_is_followed_as_usual() {
    let before = version(&[ID, A, B]);
    let wider = catalog(
        &[(1, ID), (2, WIDE), (3, B)],
        99,
        &[retyped("one", "a", INT8, false)],
    );
    let evolution = streamed(&before, &[ID, WIDE, B], &wider, STOP).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "a int64", "b varchar"]);
    assert_eq!(evolution.directives, ["one"]);
    assert!(evolution.recopy.unwrap().contains("rewritten"));

    let number: Column = ("b", INT8, -1);
    let live = [(1, ID), (2, A), (3, number)];
    let other = catalog(&live, 99, &[retyped("one", "b", INT8, true)]);
    let evolution = streamed(&before, &[ID, A, number], &other, STOP).unwrap();
    assert_eq!(
        lake(&evolution),
        ["id int64", "a int32", "b_v1 varchar", "b int64"]
    );
    assert!(
        evolution.recopy.is_some(),
        "a new column is copied whatever was vouched"
    );

    // Another type than the stated one.
    let wrong = catalog(&live, 99, &[retyped("one", "b", INT4, false)]);
    let refused = streamed(&before, &[ID, A, number], &wrong, STOP).unwrap_err();
    assert!(refused.contains("on_type_change"), "{refused}");
}

#[test]
fn values_that_are_vouched_for_are_not_copied_again() {
    let before = version(&[ID, A, B]);
    let stated = [retyped("one", "a", INT8, true)];
    let wire = [ID, WIDE, B];
    let now = catalog(&[(1, ID), (2, WIDE), (3, B)], 99, &stated);
    let evolution = streamed(&before, &wire, &now, STOP).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "a int64", "b varchar"]);
    assert_eq!(evolution.recopy, None);
    assert_eq!(evolution.to.shape.files[&OID], 99);

    // Rewritten once more since, for something that nobody vouched for.
    let later = catalog(&[(1, ID), (2, WIDE), (3, ("b", INT8, -1))], 99, &stated);
    let evolution = streamed(&before, &wire, &later, STOP).unwrap();
    assert_eq!(evolution.recopy, None);
    assert_eq!(
        evolution.to.shape.files[&OID], OID,
        "the next change sees it"
    );

    // Another type beside it, and a new column.
    let short: Column = ("b", TEXT, 14);
    let both = catalog(&[(1, ID), (2, WIDE), (3, short)], 99, &stated);
    let evolution = streamed(&before, &[ID, WIDE, short], &both, FOLLOW).unwrap();
    assert!(evolution.recopy.is_some());
    let more = catalog(&[(1, ID), (2, WIDE), (3, B), (4, X)], 99, &stated);
    let evolution = streamed(&before, &[ID, WIDE, B, X], &more, FOLLOW).unwrap();
    assert!(evolution.recopy.is_some());
    let mut constant = more;
    let plan = constant.plan.as_mut().unwrap();
    plan.info.columns[3].missing_value = Some("5".to_owned());
    let evolution = streamed(&before, &[ID, WIDE, B, X], &constant, FOLLOW).unwrap();
    assert!(evolution.recopy.is_some());
}

#[test]
fn one_statement_is_for_one_column() {
    let before = version(&[ID, A, X]);
    let renames = [
        rename("out", "a", "y"),
        rename("over", "x", "a"),
        rename("in", "y", "x"),
    ];
    let live = [(1, ID), (2, ("x", INT8, -1)), (3, ("a", INT8, -1))];
    let mut stated = renames.to_vec();
    // Either of them has this name, before or after.
    stated.push(retyped("type", "a", INT8, false));
    let refused = looked_at(&before, &catalog(&live, OID, &stated), ADDITIVE).unwrap_err();
    assert!(refused.contains("another type"), "{refused}");
    stated.push(retyped("other type", "x", INT8, false));
    let evolution = looked_at(&before, &catalog(&live, OID, &stated), ADDITIVE).unwrap();
    assert_eq!(lake(&evolution), ["id int64", "x int64", "a int64"]);
    assert_eq!(evolution.directives.len(), 5);
}

#[test]
fn a_rename_and_a_type_at_once_may_be_stated_under_either_name() {
    let before = version(&[ID, A]);
    let wide: Column = ("x", INT8, -1);
    for name in ["a", "x"] {
        let stated = [retyped("type", name, INT8, false), rename("name", "a", "x")];
        let seen = catalog(&[(1, ID), (2, wide)], 99, &stated);
        let evolution = looked_at(&before, &seen, STOP).unwrap();
        assert_eq!(lake(&evolution), ["id int64", "x int64"]);
        assert_eq!(evolution.directives, ["name", "type"]);
        let half = catalog(&[(1, ID), (2, wide)], 99, &stated[..1]);
        assert!(looked_at(&before, &half, ADDITIVE).is_err());
    }
}
