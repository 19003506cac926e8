use cdc_source::tables::ColumnInfo;
use cdc_source::{KeyInfo, LeafInfo};

use super::*;
use crate::check::Severity;
use crate::config::NumericMapping;
use crate::testing::{self, NUMERIC, numeric_modifier, selection, table_info};
use crate::types::{self, Types};

fn key(columns: &[&str], deferrable: bool) -> KeyInfo {
    KeyInfo {
        columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        deferrable,
    }
}

/// Identity, primary key, identity index; then the view's key and whether the table counts as keyless.
type IdentityCase<'a> = (
    ReplicaIdentity,
    Option<KeyInfo>,
    Option<KeyInfo>,
    &'a [&'a str],
    bool,
);

/// Identity and primary key of the root, identities of the partitions; then as above.
type PartitionCase<'a> = (
    ReplicaIdentity,
    Option<KeyInfo>,
    &'a [ReplicaIdentity],
    &'a [&'a str],
    bool,
);

fn plan(info: TableInfo) -> TablePlan {
    plan_with(info, |_| {})
}

fn plan_with(info: TableInfo, set: impl FnOnce(&mut Selection)) -> TablePlan {
    let mut selection = selection("orders");
    set(&mut selection);
    plan_on(info, StoredColumns::Unpublished, selection)
}

fn plan_on(info: TableInfo, stored: StoredColumns, selection: Selection) -> TablePlan {
    let config = testing::config(&[]);
    TablePlan::new(&config, selection, info, &Types::default(), stored)
}

fn orders() -> TableInfo {
    table_info(7, "orders")
}

fn column(info: &mut TableInfo, position: usize) -> &mut ColumnInfo {
    &mut info.columns[position]
}

fn leaf(replica_identity: ReplicaIdentity) -> LeafInfo {
    LeafInfo {
        id: orders().id,
        relfilenode: 1,
        pages: 0,
        rows: None,
        replica_identity,
    }
}

/// The findings of a table that are not the tests' own doing: none for a plain one.
fn findings(plan: &TablePlan) -> Vec<Finding> {
    findings_under(plan, KeylessPolicy::Auto)
}

fn findings_under(plan: &TablePlan, keyless: KeylessPolicy) -> Vec<Finding> {
    let mut config = testing::config(&[]);
    config.source.keyless = keyless;
    let findings = plan.findings(&config);
    for finding in &findings {
        assert_eq!(finding.check, "table public.orders");
        assert_eq!(finding.severity, Severity::Failed);
        assert!(finding.remedy.is_some(), "{finding:?}");
    }
    findings
}

/// The only finding.
fn finding(plan: &TablePlan) -> Finding {
    let [finding] = findings(plan).try_into().unwrap();
    finding
}

#[test]
fn identity_decides_about_key_and_publication() {
    use ReplicaIdentity as I;
    let primary = || Some(key(&["id"], false));
    let deferrable = || Some(key(&["id"], true));
    let index = || Some(key(&["body"], false));
    let cases: [IdentityCase<'_>; 10] = [
        (I::Default, primary(), None, &["id"], false),
        (I::Default, primary(), index(), &["id"], false),
        (I::Default, deferrable(), None, &[], true),
        (I::Default, None, None, &[], true),
        (I::Index, primary(), index(), &["body"], false),
        (I::Index, primary(), None, &[], true),
        (I::Full, primary(), None, &["id"], false),
        (I::Full, deferrable(), None, &[], false),
        (I::Full, None, None, &[], false),
        (I::Nothing, primary(), None, &[], true),
    ];
    for (replica_identity, primary_key, identity_index, key, keyless) in cases {
        let what = format!("{replica_identity:?}, {primary_key:?}, {identity_index:?}");
        let plan = plan(TableInfo {
            replica_identity,
            primary_key,
            identity_index,
            ..orders()
        });
        assert_eq!(plan.shape.key, key, "{what}");
        assert_eq!(plan.keyless, keyless, "{what}");
        assert_eq!(plan.shape.identity, identity_name(replica_identity));
    }
}

#[test]
fn the_identity_of_each_partition_counts() {
    use ReplicaIdentity as I;
    let keyed = || Some(key(&["id"], false));
    let cases: [PartitionCase<'_>; 8] = [
        (
            I::Default,
            keyed(),
            &[I::Default, I::Default],
            &["id"],
            false,
        ),
        (I::Default, keyed(), &[I::Default, I::Full], &["id"], false),
        (
            I::Default,
            keyed(),
            &[I::Default, I::Nothing],
            &["id"],
            true,
        ),
        // The columns of a partition's index are not known here.
        (I::Default, keyed(), &[I::Default, I::Index], &[], false),
        (I::Index, keyed(), &[I::Default], &["id"], false),
        // ALTER TABLE root REPLICA IDENTITY FULL does not reach the partitions.
        (I::Full, None, &[I::Full, I::Default], &[], true),
        (I::Full, None, &[I::Full, I::Full], &[], false),
        (I::Nothing, keyed(), &[I::Full], &[], true),
    ];
    for (replica_identity, primary_key, leaves, expected, keyless) in cases {
        let what = format!("{replica_identity:?} over {leaves:?}");
        let plan = plan(TableInfo {
            replica_identity,
            primary_key,
            identity_index: Some(key(&["body"], false)),
            leaves: leaves.iter().copied().map(leaf).collect(),
            ..orders()
        });
        assert_eq!(plan.shape.key, expected, "{what}");
        assert_eq!(plan.keyless, keyless, "{what}");
    }
}

/// Orders with a stored, a virtual and two ordinary columns more.
fn computed() -> TableInfo {
    let mut info = orders();
    for (attnum, name, generated) in [
        (3, "stored", Generated::Stored),
        (4, "virtual", Generated::Virtual),
        (5, "secret", Generated::No),
        (6, "last", Generated::No),
    ] {
        let mut column = info.columns[1].clone();
        column.attnum = attnum;
        column.name = name.to_owned();
        column.generated = generated;
        info.columns.push(column);
    }
    info
}

fn names(plan: &TablePlan) -> Vec<String> {
    let columns = plan.shape.columns.iter();
    columns.map(|column| column.name.clone()).collect()
}

#[test]
fn stored_generated_columns_are_fed_where_they_are_published() {
    let listed = |names: &[&str]| {
        StoredColumns::Listed(names.iter().map(|name| (*name).to_owned()).collect())
    };
    let fed = plan_on(computed(), StoredColumns::Published, selection("orders"));
    assert_eq!(names(&fed), ["id", "body", "stored", "secret", "last"]);
    assert_eq!(fed.published().columns, None);
    let excluding = |name: &str, stored| {
        let mut selection = selection("orders");
        selection.exclude_columns = vec![name.to_owned()];
        plan_on(computed(), stored, selection)
    };
    let without = excluding("stored", StoredColumns::Published);
    assert_eq!(names(&without), ["id", "body", "secret", "last"]);
    assert_eq!(
        without.published().columns.unwrap(),
        ["id", "body", "secret", "last"]
    );
    let secret = excluding("secret", StoredColumns::Published);
    assert_eq!(
        secret.published().columns.unwrap(),
        ["id", "body", "stored", "last"]
    );
    assert!(findings(&without).is_empty() && findings(&secret).is_empty());

    // A list of somebody else's is the only other way to publish them.
    let all = ["id", "body", "stored", "secret", "last"];
    let list = plan_on(computed(), listed(&all), selection("orders"));
    assert_eq!(names(&list), all);
    assert_eq!(list.published().columns.unwrap(), all);
    let short = plan_on(computed(), listed(&["id"]), selection("orders"));
    assert_eq!(names(&short), ["id", "body", "secret", "last"]);
    assert_eq!(short.published().columns, None, "so that it differs");
    let mut full = computed();
    full.replica_identity = ReplicaIdentity::Full;
    let full = plan_on(full, listed(&all), selection("orders"));
    assert!(finding(&full).message.contains("column list"));
}

#[test]
fn what_was_copied_without_a_generated_column_ignores_it() {
    let before = plan(computed());
    let now = plan_on(computed(), StoredColumns::Published, selection("orders"));
    assert_eq!(now.ignored(&before.shape), ["stored"]);
    assert_eq!(now.unfed(&before.shape), ["stored"]);
    assert!(now.ignored(&now.shape).is_empty() && now.unfed(&now.shape).is_empty());
    // Somebody else may publish them while the feeder runs.
    assert_eq!(before.ignored(&before.shape), ["stored"]);
    assert!(before.unfed(&before.shape).is_empty());
}

#[test]
fn unpublished_generated_and_excluded_columns_are_left_out_of_everything() {
    let info = computed();
    let all = plan(info.clone());
    assert_eq!(names(&all), ["id", "body", "secret", "last"]);
    assert_eq!(
        all.published().columns,
        None,
        "columns that are added later too"
    );
    let without = plan_with(info, |selection| {
        selection.exclude_columns = vec!["secret".to_owned()];
        selection.row_filter = Some("id > 0".to_owned());
    });
    assert_eq!(names(&without), ["id", "body", "last"]);
    let published = without.published();
    assert_eq!(published.columns.unwrap(), ["id", "body", "last"]);
    assert_eq!(published.row_filter.as_deref(), Some("id > 0"));
    assert_eq!((&*published.schema, &*published.name), ("public", "orders"));
    assert!(findings(&without).is_empty());
    assert_eq!(without.source(), "public.orders");
    assert_eq!(without.selection.target_table, "orders");
}

#[test]
fn numeric_columns_follow_the_table_then_the_source() {
    let mut info = orders();
    column(&mut info, 1).type_oid = pgoutput::Oid::new(NUMERIC);
    let reader = |plan: &TablePlan| plan.shape.source_columns(&plan.settings)[1].reader.clone();
    assert_eq!(reader(&plan(info.clone())), types::Reader::NumericText);
    let overridden = plan_with(info.clone(), |selection| {
        selection.numeric = [("body".to_owned(), NumericMapping::Float64)].into();
    });
    assert_eq!(reader(&overridden), types::Reader::NumericFloat);
    column(&mut info, 1).type_modifier = numeric_modifier(6, 2);
    let bounded = types::Reader::Decimal {
        precision: 6,
        scale: 2,
    };
    assert_eq!(reader(&plan(info)), bounded);
}

#[test]
fn a_plain_table_has_no_findings() {
    assert!(findings(&plan(orders())).is_empty());
}

#[test]
fn what_cannot_be_read_is_granted() {
    for (schema_usage, select_privilege) in [(false, true), (true, false)] {
        let finding = finding(&plan(TableInfo {
            schema_usage,
            select_privilege,
            ..orders()
        }));
        assert_eq!(finding.message, "role feeder may not read public.orders");
        assert_eq!(
            finding.sql.unwrap(),
            "GRANT USAGE ON SCHEMA \"public\" TO \"feeder\";\nGRANT SELECT ON TABLE \"public\".\"orders\" TO \"feeder\";"
        );
    }
}

#[test]
fn what_would_hide_rows_is_refused() {
    let secured = finding(&plan(TableInfo {
        row_security_applies: true,
        ..orders()
    }));
    assert!(secured.message.contains("row-level security"));
    assert_eq!(secured.sql.unwrap(), "ALTER ROLE \"feeder\" BYPASSRLS;");
    let parent = finding(&plan(TableInfo {
        is_inheritance_parent: true,
        ..orders()
    }));
    assert!(parent.message.contains("inheritance children"));
    let mut unlogged = orders();
    unlogged.id.persistence = Persistence::Unlogged;
    let unlogged = finding(&plan(unlogged));
    assert!(unlogged.message.contains("is unlogged"));
    assert_eq!(
        unlogged.sql.unwrap(),
        "ALTER TABLE \"public\".\"orders\" SET LOGGED;"
    );
    for finding in [secured.remedy, parent.remedy, unlogged.remedy] {
        assert!(finding.unwrap().contains("enabled = false"));
    }
}

#[test]
fn a_table_without_identity_is_fed_while_it_only_grows() {
    use KeylessPolicy as P;
    let table = |updates, deletes| {
        plan(TableInfo {
            primary_key: None,
            updates,
            deletes,
            ..orders()
        })
    };
    let refused = |plan: &TablePlan, policy| {
        let found = findings_under(plan, policy);
        assert!(found.len() <= 1);
        for finding in &found {
            assert!(finding.message.contains("no replica identity"));
            assert!(
                finding
                    .remedy
                    .as_ref()
                    .unwrap()
                    .contains("keyless = \"inserts\"")
            );
            assert_eq!(
                finding.sql.as_deref(),
                Some("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY FULL;")
            );
            let changed = plan.info.updates + plan.info.deletes > 0;
            assert_eq!(finding.message.contains("sees updates"), changed);
        }
        !found.is_empty()
    };
    for (policy, grows, updated) in [
        (P::Auto, false, true),
        (P::Refuse, true, true),
        (P::Inserts, false, false),
    ] {
        assert_eq!(refused(&table(0, 0), policy), grows, "{policy:?}");
        assert_eq!(refused(&table(1, 0), policy), updated, "{policy:?}");
        assert_eq!(refused(&table(0, 1), policy), updated, "{policy:?}");
    }
    let keyed = plan(TableInfo {
        updates: 5,
        ..orders()
    });
    assert!(!refused(&keyed, P::Refuse));
}

#[test]
fn columns_that_cannot_be_excluded_or_told_apart_are_named() {
    let excluding = |name: &str| {
        let name = name.to_owned();
        plan_with(orders(), |selection| selection.exclude_columns = vec![name])
    };
    let message = |plan: &TablePlan| finding(plan).message;
    assert_eq!(
        message(&excluding("bodi")),
        "public.orders has no column \"bodi\", which exclude_columns names"
    );
    assert!(message(&excluding("id")).contains("\"id\" is part of the replica identity"));
    assert!(findings(&excluding("body")).is_empty());
    let mut twins = orders();
    column(&mut twins, 1).name = "ID".to_owned();
    assert!(message(&plan(twins)).contains("\"id\" and \"ID\""));
    let mut generated = orders();
    for column in &mut generated.columns {
        column.generated = Generated::Stored;
    }
    let found = findings(&plan(generated));
    assert!(
        found
            .iter()
            .any(|finding| finding.message.contains("no column that can be fed"))
    );
}

#[test]
fn a_column_list_must_cover_the_identity() {
    let excluding = |info| {
        let set = |selection: &mut Selection| selection.exclude_columns = vec!["body".to_owned()];
        plan_with(info, set)
    };
    let full = TableInfo {
        replica_identity: ReplicaIdentity::Full,
        ..orders()
    };
    assert!(finding(&excluding(full)).message.contains("IDENTITY FULL"));
    let leaves = vec![leaf(ReplicaIdentity::Default), leaf(ReplicaIdentity::Full)];
    let partitioned = TableInfo { leaves, ..orders() };
    assert_eq!(findings(&excluding(partitioned)).len(), 1);
    let inserts_alone = TableInfo {
        primary_key: None,
        ..orders()
    };
    assert!(findings(&excluding(inserts_alone)).is_empty());
}

#[test]
fn a_row_filter_must_be_on_the_identity() {
    let filtered = |info, filter: &str| {
        let filter = filter.to_owned();
        findings(&plan_with(info, |selection| {
            selection.row_filter = Some(filter);
        }))
    };
    for filter in [
        "body <> 'x'",
        "id > 0 AND (BODY IS NULL)",
        "\"body\" = ''",
        "lower(body) = 'x'",
        "id::text = body::text",
    ] {
        let [finding] = filtered(orders(), filter).try_into().unwrap();
        assert!(finding.message.contains("column \"body\""), "{filter}");
        assert!(finding.sql.unwrap().contains("REPLICA IDENTITY FULL"));
    }
    for filter in [
        "id > 0",
        "id::body = 'body'",
        "\"Body\" IS NULL AND id < 5",
        "somebody = 1 OR body_2 = 2",
        "'it''s body' <> ''",
        "",
        "\"",
    ] {
        assert!(filtered(orders(), filter).is_empty(), "{filter}");
    }
    let full = TableInfo {
        replica_identity: ReplicaIdentity::Full,
        ..orders()
    };
    assert!(filtered(full, "body <> 'x'").is_empty());
    let inserts_alone = TableInfo {
        primary_key: None,
        ..orders()
    };
    assert!(filtered(inserts_alone, "body <> 'x'").is_empty());
}

#[test]
fn a_row_filter_must_not_name_the_whole_row() {
    for filter in ["orders IS NOT NULL", "orders.* IS NOT NULL"] {
        let finding = finding(&plan_with(orders(), |selection| {
            selection.row_filter = Some(filter.to_owned());
        }));
        assert!(finding.message.contains("whole row"), "{filter}");
    }
}

#[test]
fn the_servers_version_decides_about_lists_and_generated_columns() {
    let messages = |plan: &TablePlan, major| -> Vec<String> {
        let findings = plan.publishing_findings(major);
        findings
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    };
    let filtered = plan_with(orders(), |selection| {
        selection.row_filter = Some("id > 0".to_owned());
    });
    assert!(messages(&filtered, 14)[0].contains("needs Postgres 15"));
    assert!(messages(&filtered, 15).is_empty());
    let excluding = plan_with(orders(), |selection| {
        selection.exclude_columns = vec!["body".to_owned()];
    });
    assert!(
        excluding
            .clone()
            .on_server(15)
            .published()
            .columns
            .is_some()
    );
    let without_lists = excluding.on_server(14);
    assert_eq!(without_lists.published().columns, None);
    assert!(messages(&without_lists, 14).is_empty());

    let mut generated = orders();
    column(&mut generated, 1).generated = Generated::Stored;
    generated.replica_identity = ReplicaIdentity::Full;
    assert!(messages(&plan(generated.clone()), 17).is_empty());
    let published = plan_on(
        generated.clone(),
        StoredColumns::Published,
        selection("orders"),
    );
    assert!(messages(&published, 18).is_empty());
    column(&mut generated, 1).generated = Generated::Virtual;
    let [found] = plan(generated.clone())
        .publishing_findings(18)
        .try_into()
        .unwrap();
    assert!(found.message.contains("virtual generated column \"body\""));
    assert_eq!(
        found.sql.as_deref(),
        Some("ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY DEFAULT;")
    );
    generated.primary_key = None;
    let [found] = plan(generated).publishing_findings(18).try_into().unwrap();
    assert_eq!(found.sql, None, "there is no key to fall back on");
}

#[test]
fn a_key_that_is_generated_and_not_published_is_refused() {
    let mut info = orders();
    column(&mut info, 0).generated = Generated::Stored;
    let published = plan_on(info.clone(), StoredColumns::Published, selection("orders"));
    assert!(findings(&published).is_empty());
    assert!(
        finding(&plan(info))
            .message
            .contains("column \"id\" is generated")
    );
}

#[test]
fn partitions_are_given_their_identity_one_by_one() {
    let mut partition = leaf(ReplicaIdentity::Default);
    partition.id.name = "orders_2026".to_owned();
    let mut partitioned = |identity| {
        partition.replica_identity = identity;
        plan(TableInfo {
            replica_identity: ReplicaIdentity::Full,
            primary_key: None,
            updates: 1,
            leaves: vec![partition.clone()],
            ..orders()
        })
    };
    let refused = finding(&partitioned(ReplicaIdentity::Default));
    assert_eq!(
        refused.sql.as_deref(),
        Some(
            "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY FULL;\nALTER TABLE \"public\".\"orders_2026\" REPLICA IDENTITY FULL;"
        )
    );
    let full = partitioned(ReplicaIdentity::Full);
    assert!(findings(&full).is_empty());
    let [warned] = full.publishing_findings(18).try_into().unwrap();
    assert_eq!(warned.severity, Severity::Warning);
    assert!(warned.message.contains("new partition"));
}

#[test]
fn a_table_that_is_fed_already_is_given_up_instead() {
    let updated = plan(TableInfo {
        primary_key: None,
        updates: 1,
        ..orders()
    });
    let given_up = |policy, registered: &[u32]| {
        let mut findings = findings_under(&updated, policy);
        let registered = registered.iter().copied().collect();
        let given_up = crate::check::give_up(&mut findings, &registered).lost;
        let [finding] = findings.try_into().unwrap();
        assert_eq!(finding.severity == Severity::Warning, !given_up.is_empty());
        given_up
    };
    assert!(given_up(KeylessPolicy::Auto, &[8]).is_empty());
    let reasons = given_up(KeylessPolicy::Auto, &[7, 8]);
    assert!(reasons[&7].contains("REPLICA IDENTITY FULL"), "{reasons:?}");
    assert_eq!(reasons.len(), 1);
    assert!(
        given_up(KeylessPolicy::Refuse, &[7]).is_empty(),
        "it was asked for"
    );
}

#[test]
fn a_shape_is_read_back() {
    let shape = plan(orders()).shape;
    let text = serde_json::to_string(&shape).unwrap();
    assert_eq!(serde_json::from_str::<SourceShape>(&text).unwrap(), shape);
}
