use pgoutput::{Oid, RelationId, ReplicaIdentity};

use super::*;
use crate::config::{ChangePolicy, OnSchemaChange};
use crate::testing::{Column, INT4, INT8, TEXT, fed_table, found};

const OID: u32 = 7;
const FOLLOW: ChangePolicy = ChangePolicy {
    on_schema_change: OnSchemaChange::Follow,
    on_drop_column: OnDropColumn::Keep,
    on_type_change: OnTypeChange::NewColumn,
    on_drop_table: crate::config::OnDropTable::Keep,
    on_drop_partition: crate::config::OnDropPartition::Stop,
};
const SINCE: Since = Since { lsn: 500, seq: 3 };

fn version(columns: &[Column]) -> Arc<TableVersion> {
    fed_table(OID, "t", ReplicaIdentity::Default, columns).version
}

fn catalog(columns: &[(i16, Column)], file: u32) -> Found {
    found(OID, "t", columns, file)
}

fn relation(columns: &[Column]) -> Relation {
    Relation {
        xid: None,
        id: RelationId::new(OID),
        namespace: "public".to_owned(),
        name: "t".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns
            .iter()
            .enumerate()
            .map(|(position, (name, type_oid, modifier))| RelationColumn {
                flags: u8::from(position == 0),
                name: (*name).to_owned(),
                type_oid: Oid::new(*type_oid),
                type_modifier: *modifier,
            })
            .collect(),
    }
}

fn followed(
    before: &Arc<TableVersion>,
    wire: &[Column],
    found: &Found,
    policy: ChangePolicy,
) -> Result<Evolution, String> {
    let settings = ColumnSettings::default();
    let relation = relation(wire);
    let evolution = by_relation(before, &relation, None, found, &settings, policy, SINCE)?;
    assert!(fits(&evolution.to, &relation, false));
    Ok(evolution)
}

/// The lake's columns after the six of ours.
fn lake(version: &TableVersion) -> Vec<String> {
    version
        .lake
        .columns
        .iter()
        .skip(layout::META_COLUMNS)
        .map(|column| {
            format!(
                "{} {} {}",
                column.ids.id.get(),
                column.name,
                column.lake_type
            )
        })
        .collect()
}

const ID: Column = ("id", INT8, -1);
const A: Column = ("a", INT4, -1);
const B: Column = ("b", TEXT, -1);

#[test]
fn a_relation_of_the_same_shape_fits() {
    let before = version(&[ID, A, B]);
    assert!(fits(&before, &relation(&[ID, A, B]), false));
    for other in [
        &[ID, A][..],
        &[ID, A, B, ("c", TEXT, -1)],
        &[ID, B, A],
        &[ID, A, ("b", TEXT, 14)],
        &[ID, ("a", INT8, -1), B],
        &[A, ID, B],
    ] {
        assert!(!fits(&before, &relation(other), false), "{other:?}");
    }
    let mut full = relation(&[ID, A, B]);
    full.replica_identity = ReplicaIdentity::Full;
    assert!(!fits(&before, &full, false));
}

#[test]
fn a_new_column_gets_the_next_id_and_nothing_is_copied() {
    let before = version(&[ID, A]);
    let found = catalog(&[(1, ID), (2, A), (3, B)], OID);
    let evolution = followed(&before, &[ID, A, B], &found, FOLLOW).unwrap();
    // Two of ours are lists, whose elements have ids too.
    assert_eq!(
        lake(&evolution.to),
        ["9 id int64", "10 a int32", "11 b varchar"]
    );
    assert_eq!(
        evolution.steps,
        [LakeStep::Add(
            ColumnId::new(11),
            ColumnDef::new("b", LakeType::Varchar)
        )]
    );
    assert_eq!(evolution.recopy, None);
    assert_eq!(evolution.to.shape.columns[2].attnum, Some(3));
    assert_eq!(evolution.to.lake.next_column_id, 12);
    assert_eq!(evolution.changes, ["column \"b\" was added"]);
}

#[test]
fn a_column_that_is_gone_is_kept_or_dropped() {
    let before = version(&[ID, A, B]);
    let found = catalog(&[(1, ID), (3, B)], OID);
    let kept = followed(&before, &[ID, B], &found, FOLLOW).unwrap();
    assert_eq!(lake(&kept.to), ["9 id int64", "10 a int32", "11 b varchar"]);
    assert!(kept.steps.is_empty());
    assert_eq!(kept.to.columns.len(), 2);
    let policy = ChangePolicy {
        on_drop_column: OnDropColumn::Drop,
        ..FOLLOW
    };
    let dropped = followed(&before, &[ID, B], &found, policy).unwrap();
    assert_eq!(lake(&dropped.to), ["9 id int64", "11 b varchar"]);
    assert_eq!(dropped.steps, [LakeStep::Drop(ColumnId::new(10))]);

    // Its name taken again: the kept one makes room.
    let found = catalog(&[(1, ID), (3, B), (4, A)], OID);
    let again = followed(&kept.to, &[ID, B, A], &found, FOLLOW).unwrap();
    assert_eq!(
        lake(&again.to),
        ["9 id int64", "10 a_v1 int32", "11 b varchar", "12 a int32"]
    );
    assert_eq!(again.recopy, None);
}

#[test]
fn a_renamed_column_keeps_its_id_and_its_former_name() {
    let before = version(&[ID, A, B]);
    let found = catalog(&[(1, ID), (2, ("x", INT4, -1)), (3, B)], OID);
    let evolution = followed(&before, &[ID, ("x", INT4, -1), B], &found, FOLLOW).unwrap();
    assert_eq!(
        lake(&evolution.to),
        ["9 id int64", "10 x int32", "11 b varchar"]
    );
    let former = &evolution.to.shape.columns[1].former;
    assert_eq!(former.len(), 1);
    assert_eq!(
        (&*former[0].name, former[0].until_lsn, former[0].until_seq),
        ("a", 500, 3)
    );
    let view = evolution.to.view().unwrap().sql;
    assert!(
        view.contains("when pos < {'l': 500, 's': 3} then 'a' else 'x' end"),
        "{view}"
    );

    // Two that change names.
    let found = catalog(&[(1, ID), (2, ("b", INT4, -1)), (3, ("a", TEXT, -1))], OID);
    let wire = [ID, ("b", INT4, -1), ("a", TEXT, -1)];
    let swapped = followed(&before, &wire, &found, FOLLOW).unwrap();
    assert_eq!(
        lake(&swapped.to),
        ["9 id int64", "10 b int32", "11 a varchar"]
    );
    assert_eq!(swapped.steps.len(), 3);
    assert_eq!(swapped.recopy, None);
}

#[test]
fn a_wider_type_stays_in_its_column_and_another_begins_anew() {
    let before = version(&[ID, A, B]);
    let wide: Column = ("a", INT8, -1);
    let found = catalog(&[(1, ID), (2, wide), (3, B)], 99);
    let evolution = followed(&before, &[ID, wide, B], &found, FOLLOW).unwrap();
    assert_eq!(
        lake(&evolution.to),
        ["9 id int64", "10 a int64", "11 b varchar"]
    );
    // USING may have changed the values.
    assert!(evolution.recopy.unwrap().contains("rewritten"));

    let number: Column = ("b", INT8, -1);
    let found = catalog(&[(1, ID), (2, A), (3, number)], 99);
    let evolution = followed(&before, &[ID, A, number], &found, FOLLOW).unwrap();
    assert_eq!(
        lake(&evolution.to),
        ["9 id int64", "10 a int32", "11 b_v1 varchar", "12 b int64"]
    );
    assert!(evolution.recopy.unwrap().contains("begins anew"));
    let policy = ChangePolicy {
        on_type_change: OnTypeChange::Stop,
        ..FOLLOW
    };
    let refused = followed(&before, &[ID, A, number], &found, policy).unwrap_err();
    assert!(
        refused.contains("varchar in the lake, int64 now"),
        "{refused}"
    );
}

#[test]
fn a_strict_policy_lets_less_pass() {
    let before = version(&[ID, A]);
    let additive = ChangePolicy {
        on_schema_change: OnSchemaChange::AdditiveOnly,
        ..FOLLOW
    };
    let stop = ChangePolicy {
        on_schema_change: OnSchemaChange::Stop,
        ..FOLLOW
    };
    let added = catalog(&[(1, ID), (2, A), (3, B)], OID);
    assert!(followed(&before, &[ID, A, B], &added, additive).is_ok());
    let refused = followed(&before, &[ID, A, B], &added, stop).unwrap_err();
    assert!(refused.contains("\"b\" was added"), "{refused}");
    let renamed = catalog(&[(1, ID), (2, B)], OID);
    let refused = followed(&before, &[ID, B], &renamed, additive).unwrap_err();
    assert!(refused.contains("additive_only"), "{refused}");
}

/// The catalog is ahead: it knows the column under its later name alone, so that nobody can tell whether it is that.
#[test]
fn a_column_without_a_number_that_gives_way_to_another_is_copied() {
    let first = version(&[ID, A]);
    let ahead = catalog(&[(1, ID), (2, A), (3, ("later", TEXT, -1))], OID);
    let added = followed(&first, &[ID, A, B], &ahead, FOLLOW).unwrap();
    assert_eq!(added.to.shape.columns[2].attnum, None);
    let renamed = [ID, A, ("later", TEXT, -1)];
    let evolution = followed(&added.to, &renamed, &ahead, FOLLOW).unwrap();
    let recopy = evolution.recopy.unwrap();
    assert!(recopy.contains("had another name"), "{recopy}");
    // A drop alone is one.
    let dropped = catalog(&[(1, ID), (2, A)], OID);
    let evolution = followed(&added.to, &[ID, A], &dropped, FOLLOW).unwrap();
    assert_eq!(evolution.recopy, None);
}

/// No relation tells that: rows of the new one went into the old one until somebody looked.
#[test]
fn a_column_that_takes_the_place_of_one_of_its_name_and_type_is_copied() {
    let before = version(&[ID, A]);
    let settings = ColumnSettings::default();
    let mut found = catalog(&[(1, ID), (3, A)], OID);
    let follow = |found: &Found| {
        by_catalog(&before, found, &settings, FOLLOW, SINCE)
            .unwrap()
            .unwrap()
    };
    let recopy = follow(&found).recopy.unwrap();
    assert!(recopy.contains("took the place"), "{recopy}");
    // The event trigger told it before the first row.
    found.rewritten = Some(false);
    assert_eq!(follow(&found).recopy, None);
}

/// Another file comes with another type of a column, and with `TRUNCATE` or `VACUUM FULL`, which no copy is needed for.
#[test]
fn rows_in_other_files_are_copied_where_their_values_may_be_others() {
    let settings = ColumnSettings::default();
    let look = |file, altered_by| {
        let mut found = catalog(&[(1, ID), (2, A)], file);
        let plan = found.plan.as_mut().unwrap();
        plan.shape.altered_by.insert(2, altered_by);
        found
    };
    let follow = |before: &Arc<TableVersion>, found: &Found| {
        by_catalog(before, found, &settings, FOLLOW, SINCE).unwrap()
    };
    let unknown = version(&[ID, A]);
    assert!(unknown.shape.altered_by.is_empty());
    assert!(follow(&unknown, &look(99, 1)).is_none());

    let known = follow(&unknown, &look(OID, 1)).unwrap();
    assert_eq!(known.recopy, None);
    assert!(!known.touches_lake());
    assert!(follow(&known.to, &look(OID, 1)).is_none());

    let elsewhere = follow(&known.to, &look(99, 1)).unwrap();
    assert_eq!(elsewhere.recopy, None);
    assert_eq!(elsewhere.to.shape.files[&OID], 99);
    let altered = follow(&known.to, &look(99, 2)).unwrap();
    assert!(altered.recopy.unwrap().contains("rewritten"));
    let constrained = follow(&known.to, &look(OID, 2)).unwrap();
    assert_eq!(constrained.recopy, None);

    // The event trigger does not say who altered what.
    let mut announced = catalog(&[(1, ID), (2, A)], 99);
    announced.rewritten = Some(false);
    assert!(follow(&known.to, &announced).is_none());
}

/// A column that came with another file, and that the stream has not got to yet.
#[test]
fn files_that_the_catalog_shows_too_early_are_the_next_changes() {
    let settings = ColumnSettings::default();
    let known = |found: &mut Found| {
        let plan = found.plan.as_mut().unwrap();
        plan.shape.altered_by = [(1, 1)].into();
    };
    let mut first = catalog(&[(1, ID), (2, A)], OID);
    known(&mut first);
    let first = by_catalog(&version(&[ID, A]), &first, &settings, FOLLOW, SINCE);
    let mut ahead = catalog(&[(1, ID), (3, B)], 99);
    known(&mut ahead);
    let dropped = followed(&first.unwrap().unwrap().to, &[ID], &ahead, FOLLOW).unwrap();
    assert_eq!(dropped.recopy, None);
    let added = followed(&dropped.to, &[ID, B], &ahead, FOLLOW).unwrap();
    assert!(added.recopy.unwrap().contains("not in the WAL"));
}

#[test]
fn files_of_a_version_are_of_use_as_long_as_its_names_are_its_columns() {
    let first = version(&[ID, A]);
    let catalog = catalog(&[(1, ID), (2, A)], OID);
    let follow = |before: &Arc<TableVersion>, wire: &[Column]| {
        followed(before, wire, &catalog, FOLLOW).unwrap().to
    };
    let renamed = follow(&first, &[ID, ("x", INT4, -1)]);
    assert!(renamed.lake.keeps_names_of(&first.lake));
    // The stream is behind: the column is not there yet, and comes.
    let behind = follow(&first, &[ID]);
    assert!(behind.lake.keeps_names_of(&first.lake));
    let again = follow(&behind, &[ID, A]);
    assert!(again.shape.agrees(&first.shape));
    assert!(!again.lake.keeps_names_of(&first.lake));
}

#[test]
fn another_key_is_copied_again_under_the_view_of_before() {
    let before = version(&[ID, A]);
    let mut found = catalog(&[(1, ID), (2, A)], OID);
    let plan = found.plan.as_mut().unwrap();
    plan.shape.key = vec!["a".to_owned()];
    let mut relation = relation(&[ID, A]);
    relation.columns[0].flags = 0;
    relation.columns[1].flags = 1;
    let settings = ColumnSettings::default();
    let evolution =
        by_relation(&before, &relation, None, &found, &settings, FOLLOW, SINCE).unwrap();
    assert!(
        evolution
            .recopy
            .as_ref()
            .unwrap()
            .contains("key is (a) now")
    );
    assert_eq!(evolution.interim_shape().key, ["id"]);
    assert_eq!(evolution.to.shape.key, ["a"]);
}

#[test]
fn an_excluded_column_does_not_slip_in_under_another_name() {
    let before = version(&[ID, A]);
    let mut found = catalog(&[(1, ID), (2, A), (3, ("card", TEXT, -1))], OID);
    let plan = found.plan.as_mut().unwrap();
    plan.selection.exclude_columns = vec!["card_number".to_owned()];
    let wire = [ID, A, ("card", TEXT, -1)];
    let refused = followed(&before, &wire, &found, FOLLOW).unwrap_err();
    assert!(refused.contains("exclude_columns"), "{refused}");
}

#[test]
fn the_catalog_alone_is_followed_by_number() {
    let before = version(&[ID, A]);
    let settings = ColumnSettings::default();
    let same = catalog(&[(1, ID), (2, A)], 99);
    let follow = |found: &Found| by_catalog(&before, found, &settings, FOLLOW, SINCE).unwrap();
    assert!(follow(&same).is_none());
    let renamed = catalog(&[(1, ID), (2, ("x", INT4, -1)), (4, A)], OID);
    let evolution = follow(&renamed).unwrap();
    assert_eq!(
        lake(&evolution.to),
        ["9 id int64", "10 x int32", "11 a int32"]
    );
}
