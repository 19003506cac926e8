use cdc_source::publication::PublicationTable;
use pgoutput::Oid;

use super::*;
use crate::testing::{selection, table_info};

const ORDERS: u32 = 10;
const USERS: u32 = 20;

fn table(relid: u32, rel_oid: u32) -> PublicationTable {
    PublicationTable {
        relid: Oid::new(relid),
        schema: "public".to_owned(),
        name: format!("t{relid}"),
        rel_oid: Oid::new(rel_oid),
        columns: None,
        row_filter: None,
    }
}

fn publication(name: &str, tables: Vec<PublicationTable>) -> Publication {
    Publication {
        name: PublicationName::parse(name).unwrap(),
        oid: Oid::new(1),
        owner: "dba".to_owned(),
        all_tables: false,
        insert: true,
        update: true,
        delete: true,
        truncate: true,
        via_root: true,
        generated: false,
        tables,
        schemas: Vec::new(),
    }
}

fn shop() -> Publication {
    publication("shop", vec![table(ORDERS, 100), table(USERS, 200)])
}

fn seen(found: &[Publication]) -> Published {
    // Orders have a generated column.
    let tables = [ORDERS, USERS].map(|oid| Covered {
        oid,
        schema: "public".to_owned(),
        generated: oid == ORDERS,
    });
    Published::of(found, &tables)
}

/// Which tables are lost when `change` happens to the publication, and the reason of the first.
fn after(change: impl FnOnce(&mut Publication)) -> (Vec<u32>, String) {
    let mut changed = shop();
    change(&mut changed);
    lost(&[shop()], &[changed])
}

fn lost(before: &[Publication], now: &[Publication]) -> (Vec<u32>, String) {
    let lost = seen(before).lost(&seen(now));
    let reason = lost.first().map(|(_, reason)| reason.clone());
    let oids = lost.into_iter().map(|(oid, _)| oid).collect();
    (oids, reason.unwrap_or_default())
}

#[test]
fn what_covers_a_table_is_taken_down() {
    let mut listed = table(ORDERS, 100);
    listed.columns = Some(vec!["id".to_owned()]);
    listed.row_filter = Some("(id > 0)".to_owned());
    let found = seen(&[publication("shop", vec![listed])]);
    assert_eq!(
        found.tables,
        BTreeMap::from([(
            ORDERS,
            TableEntry {
                publication: "shop".to_owned(),
                rel_oid: Some(100),
                columns: Some(vec!["id".to_owned()]),
                row_filter: Some("(id > 0)".to_owned()),
                generated: false,
            }
        )])
    );
    assert_eq!(found.publications.len(), 1);
}

#[test]
fn schemas_and_databases_cover_their_tables() {
    let covered = |change: fn(&mut Publication)| {
        let mut all = publication("shop", Vec::new());
        change(&mut all);
        seen(&[all]).tables.len()
    };
    assert_eq!(covered(|_| {}), 0);
    assert_eq!(covered(|p| p.all_tables = true), 2);
    assert_eq!(covered(|p| p.schemas = vec!["public".to_owned()]), 2);
    assert_eq!(covered(|p| p.schemas = vec!["other".to_owned()]), 0);
}

#[test]
fn nothing_is_lost_while_nothing_changes() {
    assert_eq!(lost(&[shop()], &[shop()]).0, [0_u32; 0]);
    let (oids, _) = after(|p| p.owner = "somebody else".to_owned());
    assert_eq!(oids, [0_u32; 0]);
    let (oids, _) = after(|p| p.tables.push(table(30, 300)));
    assert_eq!(oids, [0_u32; 0], "another table came in");
    let (oids, _) = after(|p| p.schemas = vec!["other".to_owned()]);
    assert_eq!(oids, [0_u32; 0], "another schema came in");
    let other = publication("shop_ins", vec![table(30, 300)]);
    assert_eq!(lost(&[shop()], &[shop(), other]).0, [0_u32; 0]);
    assert_eq!(lost(&[], &[shop()]).0, [0_u32; 0], "the first look");
}

#[test]
fn a_publication_that_is_gone_or_new_loses_all_its_tables() {
    let (oids, reason) = lost(&[shop()], &[]);
    assert_eq!(oids, [ORDERS, USERS]);
    assert!(reason.contains("publication shop was dropped;"), "{reason}");
    let (oids, reason) = after(|p| p.oid = Oid::new(2));
    assert_eq!(oids, [ORDERS, USERS]);
    assert!(reason.contains("dropped and made again"), "{reason}");
}

#[test]
fn every_flag_counts() {
    let flags: [fn(&mut Publication); 6] = [
        |p| p.insert = false,
        |p| p.update = false,
        |p| p.delete = false,
        |p| p.truncate = false,
        |p| p.via_root = false,
        |p| p.all_tables = true,
    ];
    for flag in flags {
        let (oids, reason) = after(flag);
        assert_eq!(oids, [ORDERS, USERS]);
        assert!(reason.contains("publishes other operations"), "{reason}");
    }
}

#[test]
fn generated_columns_that_are_not_sent_any_more_lose_the_tables_that_have_some() {
    let sending = || Publication {
        generated: true,
        ..shop()
    };
    let (oids, reason) = lost(&[sending()], &[shop()]);
    assert_eq!(oids, [ORDERS]);
    assert!(reason.contains("generated columns any more"), "{reason}");
    assert_eq!(lost(&[shop()], &[sending()]).0, [0_u32; 0], "they stay out");
    // A column list says for itself.
    let listed = |generated| {
        let mut listed = shop();
        listed.generated = generated;
        listed.tables[0].columns = Some(vec!["id".to_owned()]);
        listed
    };
    assert_eq!(lost(&[listed(true)], &[listed(false)]).0, [0_u32; 0]);
}

#[test]
fn what_an_earlier_version_kept_is_read() {
    let state = r#"{"oid":1,"all_tables":false,"insert":true,"update":true,"delete":true,"truncate":true,"via_root":true}"#;
    let entry = r#"{"publication":"shop","rel_oid":100,"columns":null,"row_filter":null}"#;
    let before = Published {
        publications: BTreeMap::from([("shop".to_owned(), serde_json::from_str(state).unwrap())]),
        tables: BTreeMap::from([(ORDERS, serde_json::from_str(entry).unwrap())]),
    };
    assert_eq!(before.lost(&seen(&[shop()])), []);
    let altered = Publication {
        generated: true,
        ..shop()
    };
    assert_eq!(before.lost(&seen(&[altered])), []);
}

#[test]
fn who_sends_generated_columns() {
    use StoredColumns::{Listed, Published, Unpublished};
    let mut config = crate::testing::config(&["public.*"]);
    let info = table_info(ORDERS, "orders");
    let silent = shop();
    let sending = Publication {
        generated: true,
        ..shop()
    };
    let ask = |config: &FeederConfig, major, found: &[Publication]| {
        stored_columns(config, major, found, &info)
    };
    assert_eq!(
        ask(&config, 17, std::slice::from_ref(&sending)),
        Unpublished
    );
    assert_eq!(ask(&config, 18, &[]), Published);
    assert_eq!(
        ask(&config, 18, std::slice::from_ref(&silent)),
        Published,
        "it is altered"
    );
    config.source.manage_publication = false;
    assert_eq!(ask(&config, 17, &[]), Unpublished);
    assert_eq!(ask(&config, 18, &[]), Published, "as is proposed");
    assert_eq!(ask(&config, 18, std::slice::from_ref(&silent)), Unpublished);
    assert_eq!(ask(&config, 18, std::slice::from_ref(&sending)), Published);
    let mut without = sending.clone();
    without.tables.clear();
    let second = publication("shop_ins", vec![table(ORDERS, 101)]);
    assert_eq!(ask(&config, 18, &[without.clone(), second]), Unpublished);
    without.all_tables = true;
    assert_eq!(ask(&config, 18, &[without]), Published);
    for generated in [false, true] {
        let mut listed = shop();
        listed.generated = generated;
        listed.tables[0].columns = Some(vec!["id".to_owned()]);
        assert_eq!(ask(&config, 18, &[listed]), Listed(vec!["id".to_owned()]));
    }
}

#[test]
fn a_table_is_lost_alone() {
    let (oids, reason) = after(|p| p.tables.retain(|t| t.relid.get() != USERS));
    assert_eq!(oids, [USERS]);
    assert!(
        reason.contains("taken out of publication shop;"),
        "{reason}"
    );
    let (oids, reason) = after(|p| p.tables[0].rel_oid = Oid::new(101));
    assert_eq!(oids, [ORDERS]);
    assert!(reason.contains("put in again"), "{reason}");
    for change in [
        (|p| p.tables[1].row_filter = Some("(id > 0)".to_owned())) as fn(&mut Publication),
        |p| p.tables[1].columns = Some(vec!["id".to_owned()]),
    ] {
        let (oids, reason) = after(change);
        assert_eq!(oids, [USERS]);
        assert!(reason.contains("column list or row filter"), "{reason}");
    }
    // It moved to another publication: what the first one did not send is missing.
    let moved = publication("shop_ins", vec![table(USERS, 201)]);
    let left = publication("shop", vec![table(ORDERS, 100)]);
    assert_eq!(lost(&[shop()], &[left, moved]).0, [USERS]);
}

#[test]
fn a_schema_that_is_taken_out_loses_its_tables() {
    let whole = |schemas: &[&str]| Publication {
        schemas: schemas.iter().map(|name| (*name).to_owned()).collect(),
        ..publication("shop", Vec::new())
    };
    let (oids, _) = lost(&[whole(&["public"])], &[whole(&["other"])]);
    assert_eq!(oids, [ORDERS, USERS]);
    let (oids, _) = lost(&[whole(&["public"])], &[whole(&["other", "public"])]);
    assert_eq!(oids, [0_u32; 0]);
}

#[test]
fn what_is_kept_is_read_back() {
    let mut listed = shop();
    listed.tables[0].columns = Some(vec!["id".to_owned()]);
    let published = seen(&[listed]);
    for state in published.publications.values() {
        let text = serde_json::to_string(state).unwrap();
        assert_eq!(
            &serde_json::from_str::<PublicationState>(&text).unwrap(),
            state
        );
    }
    for entry in published.tables.values() {
        let text = serde_json::to_string(entry).unwrap();
        assert_eq!(&serde_json::from_str::<TableEntry>(&text).unwrap(), entry);
    }
}

#[test]
fn tables_without_an_identity_go_into_a_publication_of_their_own() {
    let config = crate::testing::config(&["public.*"]);
    assert_eq!(
        insert_only_name(&config).unwrap().as_str(),
        "duckfeeder_shop_ins"
    );
    let plan = |name: &str, keyed: bool| {
        let mut info = table_info(1, name);
        if !keyed {
            info.primary_key = None;
        }
        TablePlan::new(
            &config,
            selection(name),
            info,
            &crate::types::Types::default(),
            StoredColumns::Unpublished,
        )
    };
    let plans = [plan("keyed", true), plan("keyless", false)];
    let wanted = wanted(&config, &plans, 17).unwrap();
    let names =
        |n: usize| -> Vec<&str> { wanted[n].tables.iter().map(|table| &*table.name).collect() };
    assert_eq!(wanted.len(), 2);
    assert_eq!(wanted[0].name.as_str(), "duckfeeder_shop");
    assert_eq!(wanted[0].actions, PublishActions::All);
    assert_eq!(names(0), ["keyed"]);
    assert_eq!(wanted[1].name.as_str(), "duckfeeder_shop_ins");
    assert_eq!(wanted[1].actions, PublishActions::InsertTruncate);
    assert_eq!(names(1), ["keyless"]);
    assert!(wanted.iter().all(|publication| publication.via_root));
    assert!(wanted.iter().all(|publication| !publication.generated));
    let latest = super::wanted(&config, &plans, 18).unwrap();
    assert!(latest.iter().all(|publication| publication.generated));
    let keyed = super::wanted(&config, &plans[..1], 17).unwrap();
    assert_eq!(keyed.len(), 1, "an empty publication is not wanted");
}
