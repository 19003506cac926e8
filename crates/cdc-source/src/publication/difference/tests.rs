use pgoutput::Oid;

use super::*;
use crate::publication::{PublicationName, PublishedTable};

fn wanted_table(name: &str) -> PublishedTable {
    PublishedTable {
        schema: "public".into(),
        name: name.into(),
        columns: None,
        row_filter: None,
    }
}

fn wanted() -> WantedPublication {
    WantedPublication {
        name: PublicationName::parse("feeder").unwrap(),
        actions: PublishActions::All,
        via_root: true,
        generated: false,
        tables: vec![wanted_table("a"), wanted_table("b")],
    }
}

fn found_table(name: &str, rel_oid: u32) -> PublicationTable {
    PublicationTable {
        relid: Oid::new(1000 + rel_oid),
        schema: "public".into(),
        name: name.into(),
        rel_oid: Oid::new(rel_oid),
        columns: None,
        row_filter: None,
    }
}

fn found() -> Publication {
    Publication {
        name: PublicationName::parse("feeder").unwrap(),
        oid: Oid::new(1),
        owner: "dba".into(),
        all_tables: false,
        insert: true,
        update: true,
        delete: true,
        truncate: true,
        via_root: true,
        generated: false,
        tables: vec![found_table("a", 10), found_table("b", 11)],
        schemas: Vec::new(),
    }
}

fn texts(differences: &[PublicationDifference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

#[test]
fn wanted_and_found() {
    type Change = fn(&mut WantedPublication, &mut Publication);
    let table: &[(Change, &[&str])] = &[
        (|_, _| {}, &[]),
        (|_, found| found.owner = "else".into(), &[]),
        (
            |_, found| {
                found.all_tables = true;
                found.tables.clear();
            },
            &["publication \"feeder\" is for all tables"],
        ),
        (
            |_, found| {
                found.schemas = vec!["public".into()];
                found.tables.remove(1);
            },
            &["publication \"feeder\" publishes all tables in schema \"public\""],
        ),
        (
            |_, found| found.schemas = vec!["other".into()],
            &["publication \"feeder\" publishes all tables in schema \"other\""],
        ),
        (
            |_, found| {
                found.tables.remove(0);
            },
            &["publication \"feeder\" lacks table \"public\".\"a\""],
        ),
        (
            |wanted, _| {
                wanted.tables.remove(0);
            },
            &["publication \"feeder\" has table \"public\".\"a\", which is not asked for"],
        ),
        (
            |_, found| (found.update, found.truncate) = (false, false),
            &[
                "publication \"feeder\" does not publish update",
                "publication \"feeder\" does not publish truncate",
            ],
        ),
        (
            |wanted, _| wanted.actions = PublishActions::InsertTruncate,
            &[
                "publication \"feeder\" publishes update and should not",
                "publication \"feeder\" publishes delete and should not",
            ],
        ),
        (
            |_, found| found.via_root = false,
            &["publication \"feeder\" has publish_via_partition_root = false"],
        ),
        (
            |wanted, _| wanted.generated = true,
            &["publication \"feeder\" does not publish generated columns"],
        ),
        (
            |_, found| found.generated = true,
            &["publication \"feeder\" publishes generated columns"],
        ),
        (
            |wanted, found| {
                wanted.tables[0].columns = Some(vec!["y".into(), "x".into()]);
                found.tables[0].columns = Some(vec!["x".into(), "y".into()]);
            },
            &[],
        ),
        (
            |wanted, found| {
                wanted.tables[0].columns = Some(vec!["x".into()]);
                found.tables[1].columns = Some(vec!["y".into()]);
            },
            &[
                "publication \"feeder\": table \"public\".\"a\" has the column list (all), not (x)",
                "publication \"feeder\": table \"public\".\"b\" has the column list (y), not (all)",
            ],
        ),
        (
            |wanted, found| {
                wanted.tables[0].row_filter = Some("id > 1".into());
                found.tables[0].row_filter = Some("(id > 1)".into());
                found.tables[1].row_filter = Some("(id > 2)".into());
            },
            &[
                "publication \"feeder\": table \"public\".\"b\" has row filter (id > 2), \
               not no row filter",
            ],
        ),
    ];
    for (change, expected) in table {
        let (mut wanted, mut found) = (wanted(), found());
        change(&mut wanted, &mut found);
        assert_eq!(texts(&diff(&wanted, Some(&found))), *expected);
    }
    assert_eq!(
        texts(&diff(&wanted(), None)),
        ["publication \"feeder\" does not exist"]
    );
}

#[test]
fn before_and_now() {
    type Change = fn(&mut Publication, &mut Publication);
    let table: &[(Change, &[&str])] = &[
        (|_, _| {}, &[]),
        (|_, now| now.owner = "else".into(), &[]),
        (
            |_, now| now.oid = Oid::new(2),
            &["publication \"feeder\" was dropped and created again"],
        ),
        (
            |_, now| now.tables[0].rel_oid = Oid::new(12),
            &["publication \"feeder\": table \"public\".\"a\" was taken out and put in again"],
        ),
        (
            |_, now| now.tables[0].relid = Oid::new(12),
            &["publication \"feeder\": table \"public\".\"a\" was taken out and put in again"],
        ),
        (
            |before, now| {
                before.tables.remove(0);
                now.tables.remove(1);
            },
            &[
                "publication \"feeder\" lacks table \"public\".\"b\"",
                "publication \"feeder\" has table \"public\".\"a\", which is not asked for",
            ],
        ),
        (
            |before, now| {
                before.tables[0].row_filter = Some("(id > 1)".into());
                now.tables[0].row_filter = Some("(id > 2)".into());
            },
            &[
                "publication \"feeder\": table \"public\".\"a\" has row filter (id > 2), \
               not row filter (id > 1)",
            ],
        ),
        (
            |before, now| {
                before.tables[0].columns = Some(vec!["x".into(), "y".into()]);
                now.tables[0].columns = Some(vec!["x".into()]);
            },
            &["publication \"feeder\": table \"public\".\"a\" has the column list (x), not (x, y)"],
        ),
        (
            |before, now| {
                before.all_tables = true;
                before.schemas = vec!["s".into()];
                now.schemas = vec!["t".into()];
            },
            &[
                "publication \"feeder\" is no longer for all tables",
                "publication \"feeder\" publishes all tables in schema \"t\"",
                "publication \"feeder\" no longer publishes schema \"s\"",
            ],
        ),
        (
            |before, _| before.generated = true,
            &["publication \"feeder\" does not publish generated columns"],
        ),
        (
            |before, now| (before.update, now.delete, now.via_root) = (false, false, false),
            &[
                "publication \"feeder\" publishes update and should not",
                "publication \"feeder\" does not publish delete",
                "publication \"feeder\" has publish_via_partition_root = false",
            ],
        ),
    ];
    for (change, expected) in table {
        let (mut before, mut now) = (found(), found());
        change(&mut before, &mut now);
        assert_eq!(texts(&changes(&before, Some(&now))), *expected);
    }
    assert_eq!(
        texts(&changes(&found(), None)),
        ["publication \"feeder\" does not exist"]
    );
}
