use cdc_source::partitions::{self, Partition, PartitionStorage};
use cdc_source::publication::{self, PublicationDifference, WantedPublication};
use cdc_source::server::{self, Route};
use cdc_source::tables::{self, Generated, Persistence, TableKind};
use cdc_source::{
    KeyInfo, PublicationName, PublishActions, PublishedTable, SessionKind, SourceErrorKind,
};
use pgoutput::{Oid, ReplicaIdentity};

use crate::cluster::{Cluster, servers};
use crate::streaming::{publication as name, publish, table};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn publications_are_made_compared_and_watched() {
    for (major, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute(
            "create table public.a (id int primary key, x int, \"odd \"\"name\" int); \
             create table public.b (id int primary key); \
             create table public.b_child () inherits (public.b); \
             create table public.c (id int)",
        )
        .await
        .unwrap();
        assert_eq!(publication::inspect(&mut sql, &name()).await.unwrap(), None);

        let mut wanted = WantedPublication {
            name: name(),
            actions: PublishActions::All,
            via_root: true,
            generated: false,
            tables: vec![
                PublishedTable {
                    columns: Some(strings(&["odd \"name", "id"])),
                    row_filter: Some("id > 7 -- seven".into()),
                    ..table("a")
                },
                table("b"),
            ],
        };
        if major < 15 {
            let error = publication::create(&mut sql, &wanted).await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Unsupported);
            wanted.tables[0] = table("a");
        }
        publication::create(&mut sql, &wanted).await.unwrap();
        let error = publication::create(&mut sql, &wanted).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::AlreadyExists);

        let made = publication::inspect(&mut sql, &name())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(publication::diff(&wanted, Some(&made)), []);
        assert!(made.insert && made.update && made.delete && made.truncate && made.via_root);
        assert_eq!(made.owner, "postgres");
        assert_eq!(
            made.tables
                .iter()
                .map(|table| table.name.as_str())
                .collect::<Vec<_>>(),
            ["a", "b"],
            "children do not come along"
        );
        if major >= 15 {
            assert_eq!(made.tables[0].columns, Some(strings(&["id", "odd \"name"])));
            assert_eq!(made.tables[0].row_filter.as_deref(), Some("(id > 7)"));
        }
        assert_eq!(made.tables[1].columns, None);
        assert_eq!(made.tables[1].row_filter, None);

        // Taken out and put in again: other oids (correctness rule 4).
        publication::drop_tables(&mut sql, &name(), &[("public".into(), "b".into())])
            .await
            .unwrap();
        publication::add_tables(&mut sql, &name(), &[table("b"), table("c")])
            .await
            .unwrap();
        let now = publication::inspect(&mut sql, &name())
            .await
            .unwrap()
            .unwrap();
        let changes = publication::changes(&made, Some(&now));
        assert!(
            matches!(
                &changes[..],
                [
                    PublicationDifference::TableReplaced { table: replaced, .. },
                    PublicationDifference::TableUnwanted { table: added, .. },
                ] if replaced == "b" && added == "c"
            ),
            "{changes:?}"
        );

        publication::drop(&mut sql, &name()).await.unwrap();
        publication::drop(&mut sql, &name()).await.unwrap();
        publish(&mut sql, &[]).await;
        let empty = publication::inspect(&mut sql, &name())
            .await
            .unwrap()
            .unwrap();
        let changes = publication::changes(&made, Some(&empty));
        assert!(
            matches!(changes[0], PublicationDifference::Recreated { .. }),
            "{changes:?}"
        );
        assert_eq!(changes.len(), 3);

        let inserts = PublicationName::parse("ins").unwrap();
        let wanted = WantedPublication {
            name: inserts.clone(),
            actions: PublishActions::InsertTruncate,
            via_root: true,
            generated: false,
            tables: vec![table("c")],
        };
        publication::create(&mut sql, &wanted).await.unwrap();
        let found = publication::inspect(&mut sql, &inserts).await.unwrap();
        assert_eq!(publication::diff(&wanted, found.as_ref()), []);
        sql.execute("update public.c set id = 1")
            .await
            .expect("the application goes on");

        let generated = PublicationName::parse("generated").unwrap();
        let wanted = WantedPublication {
            name: generated.clone(),
            generated: true,
            ..wanted
        };
        if major < 18 {
            for error in [
                publication::create(&mut sql, &wanted).await.unwrap_err(),
                publication::publish_generated(&mut sql, &inserts)
                    .await
                    .unwrap_err(),
            ] {
                assert_eq!(error.kind(), SourceErrorKind::Unsupported);
            }
        } else {
            publication::create(&mut sql, &wanted).await.unwrap();
            let found = publication::inspect(&mut sql, &generated).await.unwrap();
            assert_eq!(publication::diff(&wanted, found.as_ref()), []);
            let before = publication::inspect(&mut sql, &inserts).await.unwrap();
            publication::publish_generated(&mut sql, &inserts)
                .await
                .unwrap();
            let now = publication::inspect(&mut sql, &inserts).await.unwrap();
            let [PublicationDifference::Generated { found: true, .. }] =
                &publication::changes(&before.unwrap(), now.as_ref())[..]
            else {
                panic!("{now:?}");
            };
        }

        sql.execute("create publication everything for all tables")
            .await
            .unwrap();
        let everything = PublicationName::parse("everything").unwrap();
        assert!(
            publication::inspect(&mut sql, &everything)
                .await
                .unwrap()
                .unwrap()
                .all_tables
        );
        if major >= 15 {
            sql.execute("create publication s for tables in schema public")
                .await
                .unwrap();
            let schema = PublicationName::parse("s").unwrap();
            let found = publication::inspect(&mut sql, &schema)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(found.schemas, ["public"]);
        }
    }
}

#[tokio::test]
async fn tables_are_described_in_full() {
    for (major, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute(
            "create schema app; \
             create domain app.positive as int check (value > 0); \
             create table app.plain (id bigint generated always as identity, \
                price numeric(10, 2) not null, tags text[], gone int, \
                twice numeric generated always as (price * 2) stored, at app.positive, \
                primary key (id, price) include (tags)); \
             alter table app.plain drop column gone; \
             create table app.deferred (id int primary key deferrable, code text not null unique); \
             create unique index by_code on app.deferred (code); \
             alter table app.deferred replica identity using index by_code; \
             create table app.keyless (v int); \
             alter table app.keyless replica identity full; \
             alter table app.keyless enable row level security; \
             create unlogged table app.loose (v int); \
             create temporary table fleeting (v int); \
             create table app.parent (id int); create table app.child () inherits (app.parent); \
             create table app.root (id int, at int, primary key (id, at)) partition by range (at); \
             create table app.leaf1 partition of app.root for values from (0) to (10); \
             create table app.middle partition of app.root for values from (10) to (20) \
                partition by range (at); \
             create table app.leaf2 partition of app.middle for values from (10) to (20); \
             alter table app.leaf2 replica identity full; \
             insert into app.root select i, i % 20 from generate_series(1, 5000) i; \
             insert into app.keyless select i from generate_series(1, 100) i; \
             grant usage on schema app to trusting; grant select (id) on app.plain to trusting",
        )
        .await
        .unwrap();
        // Statistics of a session are flushed when it goes idle between transactions.
        sql.execute("analyze").await.unwrap();
        sql.execute("update app.keyless set v = v; delete from app.keyless where v = 1")
            .await
            .unwrap();
        if major >= 15 {
            sql.execute("select pg_stat_force_next_flush()")
                .await
                .unwrap();
        }

        let listed = tables::list_tables(&mut sql).await.unwrap();
        let names: Vec<_> = listed.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "child", "deferred", "keyless", "loose", "parent", "plain", "root"
            ],
            "neither partitions nor temporary or system tables"
        );
        let oids: Vec<_> = listed.iter().map(|table| table.oid).collect();
        let mut all = tables::describe(&mut sql, &[&oids[..], &[Oid::new(1)]].concat())
            .await
            .unwrap();
        assert_eq!(all.len(), oids.len(), "an oid without a table is left out");
        all.sort_by(|a, b| a.id.name.cmp(&b.id.name));
        let [child, deferred, keyless, loose, parent, plain, root] =
            <[_; 7]>::try_from(all).unwrap();

        assert!(!child.is_inheritance_parent && parent.is_inheritance_parent);
        assert_eq!(loose.id.persistence, Persistence::Unlogged);

        assert_eq!(plain.id.kind, TableKind::Ordinary);
        assert_eq!(plain.replica_identity, ReplicaIdentity::Default);
        let key = KeyInfo {
            columns: strings(&["id", "price"]),
            deferrable: false,
        };
        assert_eq!(
            plain.primary_key,
            Some(key),
            "included columns are not the key"
        );
        let columns: Vec<_> = plain
            .columns
            .iter()
            .map(|column| {
                (
                    column.attnum,
                    column.name.as_str(),
                    column.type_name.as_str(),
                    column.not_null,
                )
            })
            .collect();
        assert_eq!(
            columns,
            [
                (1, "id", "bigint", true),
                (2, "price", "numeric(10,2)", true),
                (3, "tags", "text[]", false),
                (5, "twice", "numeric", false),
                (6, "at", "app.positive", false),
            ]
        );
        assert_eq!(plain.columns[3].generated, Generated::Stored);
        assert_eq!(plain.columns[2].dimensions, 1);
        assert_eq!(plain.columns[1].type_modifier, (10 << 16 | 2) + 4);
        assert!(plain.select_privilege && plain.schema_usage);

        assert_eq!(deferred.replica_identity, ReplicaIdentity::Index);
        assert!(deferred.primary_key.unwrap().deferrable);
        let identity = KeyInfo {
            columns: strings(&["code"]),
            deferrable: false,
        };
        assert_eq!(deferred.identity_index, Some(identity));

        assert_eq!(keyless.primary_key, None);
        assert_eq!(keyless.replica_identity, ReplicaIdentity::Full);
        assert!(keyless.row_security && !keyless.row_security_forced);
        assert!(!keyless.row_security_applies, "not to a superuser");
        if major >= 15 {
            assert_eq!((keyless.updates, keyless.deletes), (100, 1));
        }
        assert_eq!(keyless.rows, Some(100));

        assert_eq!(root.id.kind, TableKind::Partitioned);
        assert_eq!((root.relfilenode, root.primary_key.is_some()), (0, true));
        assert_eq!(root.rows, Some(5000));
        let mut leaves: Vec<_> = root
            .leaves
            .iter()
            .map(|leaf| (leaf.id.name.as_str(), leaf.replica_identity))
            .collect();
        leaves.sort_by_key(|leaf| leaf.0);
        assert_eq!(
            leaves,
            [
                ("leaf1", ReplicaIdentity::Default),
                ("leaf2", ReplicaIdentity::Full)
            ]
        );
        assert_eq!(
            root.pages,
            root.leaves.iter().map(|leaf| leaf.pages).sum::<u64>()
        );
        assert!(
            root.leaves
                .iter()
                .all(|leaf| leaf.pages > 0 && leaf.relfilenode > 0)
        );

        // The same with other eyes.
        let mut reader = cluster.connect("trusting", SessionKind::Sql).await;
        let seen = tables::describe(&mut reader, &[plain.id.oid, keyless.id.oid])
            .await
            .unwrap();
        let plain = seen
            .iter()
            .find(|table| table.id.oid == plain.id.oid)
            .unwrap();
        assert!(plain.schema_usage && !plain.select_privilege);
        let readable: Vec<_> = plain
            .columns
            .iter()
            .map(|column| column.select_privilege)
            .collect();
        assert_eq!(readable, [true, false, false, false, false]);
        let keyless = seen
            .iter()
            .find(|table| table.id.oid == keyless.id.oid)
            .unwrap();
        assert!(keyless.row_security_applies);
    }
}

#[tokio::test]
async fn a_table_that_is_dropped_meanwhile_is_described_whole_or_not_at_all() {
    let (_, bin) = servers().remove(0);
    let cluster = Cluster::start(&bin, &[]).await;
    let mut sql = cluster.sql().await;
    let mut other = cluster.sql().await;
    for round in 0..200 {
        let sql_text = "create table public.brief (id int primary key, v int)";
        sql.execute(sql_text).await.unwrap();
        let listed = tables::list_tables(&mut sql).await.unwrap();
        let oids: Vec<Oid> = listed.iter().map(|table| table.oid).collect();
        // At another moment of the look in each round.
        let drop = async {
            tokio::time::sleep(std::time::Duration::from_micros(round * 25)).await;
            other.execute("drop table public.brief").await.unwrap();
        };
        let (described, ()) = tokio::join!(tables::describe(&mut sql, &oids), drop);
        for table in described.unwrap() {
            assert_eq!(table.columns.len(), 2, "round {round}");
            assert!(
                table.primary_key.is_some(),
                "round {round}: its key is gone"
            );
        }
        assert!(!sql.in_transaction());
    }
}

#[tokio::test]
async fn types_are_taken_apart() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute(
            "create domain public.acls as aclitem[]; \
             create type public.pair as (a public.acls, b int4range[]); \
             create table public.t (x public.pair[], p point)",
        )
        .await
        .unwrap();
        let rows = sql
            .query(
                "select atttypid as oid from pg_attribute where attrelid = 'public.t'::regclass \
                    and attnum > 0 order by attnum",
            )
            .await
            .unwrap();
        let oids: Vec<_> = rows
            .iter()
            .map(|row| Oid::new(row.parse("oid").unwrap()))
            .collect();
        let types = tables::type_closure(&mut sql, &oids).await.unwrap();
        let mut shown: Vec<_> = types
            .values()
            .map(|one| {
                let parts: Vec<_> = one
                    .parts
                    .iter()
                    .map(|part| types[&part.oid].name.as_str())
                    .collect();
                format!(
                    "{} {}{} <- {}",
                    one.name,
                    one.kind,
                    u8::from(one.is_array),
                    parts.join(" ")
                )
            })
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "_aclitem b1 <- aclitem",
                "_int4range b1 <- int4range",
                "_pair b1 <- pair",
                "aclitem b0 <- ",
                "acls d0 <- _aclitem",
                "int4 b0 <- ",
                "int4range r0 <- int4",
                "pair c0 <- acls _int4range",
                "point b0 <- ",
            ]
        );
    }
}

#[tokio::test]
async fn types_are_found_by_name_as_a_column_has_them() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute(
            "create schema app; create type app.\"Mood; \" as enum ('good'); \
             create domain app.filled as int not null; create table public.t (id int)",
        )
        .await
        .unwrap();
        for text in [
            "int",
            "bigint",
            "varchar(20)",
            "character varying",
            "char",
            "\"char\"",
            "decimal(10,2)",
            "numeric(3,-2)",
            "float(20)[]",
            "varchar(7)[][]",
            "timestamptz(3)",
            "time without time zone",
            "interval day to second(2)",
            "bit varying(5)",
            "app.\"Mood; \"",
            "app.filled",
            "int -- a comment",
        ] {
            if text.contains("(3,-2)") && sql.server_version().major() < 15 {
                continue;
            }
            let named = tables::named_type(&mut sql, text).await.unwrap();
            sql.execute(&format!("alter table public.t add column c {text}\n"))
                .await
                .unwrap();
            let rows = sql
                .query(
                    "select atttypid as oid, atttypmod as modifier, format_type(atttypid, atttypmod) as name \
                     from pg_attribute where attrelid = 'public.t'::regclass and attname = 'c'",
                )
                .await
                .unwrap();
            assert_eq!(
                (named.oid, named.modifier, named.name.as_str()),
                (
                    Oid::new(rows[0].parse("oid").unwrap()),
                    rows[0].parse("modifier").unwrap(),
                    rows[0].text("name").unwrap()
                ),
                "{text}"
            );
            sql.execute("alter table public.t drop column c")
                .await
                .unwrap();
        }
        for text in [
            "",
            "-",
            "23",
            "mood",
            "nothing",
            "serial",
            "setof int",
            "public.t.id%type",
            "varchar(0)",
            "varchar(pg_sleep(1))",
            "int; drop table public.t",
            "int, pg_sleep(100)",
            "int where true; drop table public.t; --",
            "int'; drop table public.t; --",
            "int /*",
        ] {
            let error = tables::named_type(&mut sql, text).await.unwrap_err();
            assert!(!error.is_transient(), "{text}: {error}");
            assert!(error.sqlstate().is_some(), "{text}: {error}");
        }
        let left = sql.query("select count(*) from public.t").await.unwrap();
        assert_eq!(left.len(), 1, "the session and the table are as they were");
    }
}

#[tokio::test]
async fn servers_say_what_they_are() {
    for (major, bin) in servers() {
        let cluster = Cluster::start(
            &bin,
            &[
                "synchronous_standby_names=nobody",
                "synchronous_commit=local",
            ],
        )
        .await;
        let mut sql = cluster.sql().await;
        let mut maker = cluster.connect("postgres", SessionKind::Replication).await;
        maker
            .create_slot(&"one".parse().unwrap(), true)
            .await
            .unwrap();
        let facts = server::facts(&mut sql).await.unwrap();
        assert_eq!(facts.version.major(), major);
        assert_eq!(facts.wal_level, "logical");
        assert_eq!(
            (facts.max_replication_slots, facts.used_replication_slots),
            (10, 1)
        );
        assert_eq!((facts.max_wal_senders, facts.used_wal_senders), (10, 1));
        assert_eq!(facts.max_slot_wal_keep_size, Some(1 << 30));
        assert!(!facts.in_recovery && facts.is_superuser && facts.can_replicate);
        assert!(facts.can_create_in_database);
        assert_eq!(facts.role, "postgres");
        assert_eq!(facts.synchronous_standby_names, "nobody");
        assert_eq!(facts.server_encoding, "UTF8");
        assert_eq!(facts.route, Route::Direct);

        let mut other = cluster.connect("trusting", SessionKind::Sql).await;
        let facts = server::facts(&mut other).await.unwrap();
        assert!(!facts.is_superuser && facts.can_replicate && !facts.can_create_in_database);
        assert_eq!(facts.used_replication_slots, 1);
        assert_eq!(facts.used_wal_senders, 1);
        let route = server::detect_pooler(&mut sql, &mut other).await.unwrap();
        assert_eq!(route, Route::Direct);
        assert!(!other.in_transaction());
    }
}

#[tokio::test]
async fn partitions_that_were_made_as_such_are_told_from_attached_ones() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        for statement in [
            "create table public.root (id int, v text default 'a', primary key (id)) partition by range (id)",
            "create table public.made partition of public.root for values from (0) to (10)",
            "create table public.tree partition of public.root for values from (10) to (20) partition by range (id)",
            "begin",
            "savepoint s",
            "create table public.twig partition of public.tree for values from (10) to (20)",
            "insert into public.root values (10)",
            "release s",
            "commit",
            "create table public.late (id int primary key, v text)",
            "insert into public.late values (20)",
            "alter table public.root attach partition public.late for values from (20) to (30)",
            "begin",
            "create table public.once (id int primary key, v text)",
            "insert into public.once values (30)",
            "alter table public.root attach partition public.once for values from (30) to (40)",
            "commit",
            "create table public.bare (v text, id int primary key)",
            "alter table public.root attach partition public.bare for values from (40) to (50)",
            "begin",
            "create table public.again partition of public.root for values from (50) to (60)",
            "alter table public.root detach partition public.again",
            "insert into public.again values (50)",
            "alter table public.root attach partition public.again for values from (50) to (60)",
            "commit",
            "create table public.gone partition of public.root for values from (60) to (70)",
            "alter table public.root detach partition public.gone concurrently",
        ] {
            sql.execute(statement).await.unwrap();
        }
        let root = sql
            .query("select 'public.root'::regclass::oid")
            .await
            .unwrap();
        let root = Oid::new(root[0].get(0).unwrap().parse().unwrap());
        let read = partitions::read(&mut sql, &[root]).await.unwrap();
        let before = read.trees.get(&root).unwrap();
        let mut made: Vec<(&str, bool)> = before
            .iter()
            .map(|partition| (partition.name.as_str(), partition.made_as_partition))
            .collect();
        made.sort_unstable();
        assert_eq!(
            made,
            [
                ("again", false),
                ("bare", false),
                ("late", false),
                ("made", true),
                ("once", false),
                ("tree", true),
                ("twig", true),
            ]
        );
        let find = |partitions: &[Partition], name: &str| {
            let mut partitions = partitions.iter();
            partitions
                .find(|partition| partition.name == name)
                .unwrap()
                .clone()
        };
        let oid = |name: &str| find(before, name).oid;
        assert_eq!(find(before, "twig").parent, oid("tree"));
        assert_eq!(find(before, "tree").storage, PartitionStorage::Partitions);
        assert!(
            before
                .iter()
                .all(|partition| !partition.new_file_since_attached())
        );
        let filled = partitions::filled(&mut sql, &[oid("late"), oid("bare"), Oid::new(1)])
            .await
            .unwrap();
        assert_eq!(filled, [Oid::new(1), oid("late")].into());

        let mut other = cluster.sql().await;
        other
            .execute("begin; lock table public.late in access exclusive mode")
            .await
            .unwrap();
        let error = partitions::filled(&mut sql, &[oid("late")])
            .await
            .unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Conflict);
        assert!(error.is_transient());
        other.execute("rollback").await.unwrap();

        // Nothing of this loses a row.
        for statement in [
            "vacuum (freeze, analyze) public.made",
            "grant select on public.made to public",
            "alter table public.root alter column id set statistics 10",
        ] {
            sql.execute(statement).await.unwrap();
        }
        sql.execute("truncate public.late").await.unwrap();
        sql.execute("vacuum full public.twig").await.unwrap();
        let read = partitions::read(&mut sql, &[root]).await.unwrap();
        let after = read.trees.get(&root).unwrap();
        for partition in after {
            let new = ["late", "twig"].contains(&partition.name.as_str());
            assert_eq!(partition.new_file_since_attached(), new, "{partition:?}");
            let was = find(before, &partition.name);
            assert_eq!(partition.file != was.file, new, "{partition:?}");
            assert_eq!(partition.attached_by, was.attached_by);
        }

        // By the transaction that truncated the root, whatever else came in place.
        sql.execute("begin").await.unwrap();
        let by = sql.query("select txid_current()").await.unwrap();
        let by: u32 = by[0].get(0).unwrap().parse().unwrap();
        sql.execute("truncate public.root").await.unwrap();
        sql.execute("commit").await.unwrap();
        sql.execute("insert into public.root select generate_series(0, 49)")
            .await
            .unwrap();
        sql.execute("vacuum analyze public.root").await.unwrap();
        let read = partitions::read(&mut sql, &[root]).await.unwrap();
        let leaves = read.trees.get(&root).unwrap().iter();
        for leaf in leaves.filter(|leaf| leaf.storage == PartitionStorage::Heap) {
            assert_eq!(leaf.altered_by, by, "{leaf:?}");
        }
        sql.execute("drop table public.bare").await.unwrap();
        let existing = partitions::existing(&mut sql, &[oid("late"), oid("bare")])
            .await
            .unwrap();
        assert_eq!(existing, [oid("late")].into());
    }
}
