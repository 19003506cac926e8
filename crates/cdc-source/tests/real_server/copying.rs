use std::num::NonZeroU32;

use cdc_source::shape::{self, ShapeDifference};
use cdc_source::{
    Connection, CopySession, CtidRange, SessionKind, SlotName, SourceErrorKind, ctid_ranges,
    render_copy,
};
use pgoutput::{CopyBinaryDecoder, Datum, Oid};

use crate::cluster::{Cluster, servers};

async fn oid_of(connection: &mut Connection, table: &str) -> Oid {
    let sql = format!("select '{table}'::regclass::oid as oid");
    Oid::new(
        connection.query(&sql).await.unwrap()[0]
            .parse("oid")
            .unwrap(),
    )
}

/// The first column of the rows that a COPY yields, as integers.
async fn copy(session: &mut CopySession, sql: &str) -> Vec<i32> {
    let mut out = session.copy(sql).await.unwrap();
    let mut decoder = CopyBinaryDecoder::new(1);
    let mut values = Vec::new();
    while let Some(data) = out.next().await.unwrap() {
        decoder.push(data);
        while let Some(row) = decoder.next_row().unwrap() {
            match row.iter().next() {
                Some(Datum::Binary(bytes)) => {
                    values.push(i32::from_be_bytes(bytes.try_into().unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    decoder.finish().unwrap();
    values
}

#[tokio::test]
async fn ranges_under_an_exported_snapshot_are_the_table() {
    let id = ["\"id\"".to_owned()];
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute("create table public.t (id int, pad text)")
            .await
            .unwrap();
        sql.execute(
            "insert into public.t select i, repeat('x', 100) from generate_series(1, 20000) i",
        )
        .await
        .unwrap();
        let oid = oid_of(&mut sql, "public.t").await;

        let mut maker = cluster.connect("postgres", SessionKind::Replication).await;
        let slot = SlotName::parse("copying").unwrap();
        let created = maker.create_slot(&slot, true).await.unwrap();
        // Rows that the snapshot must not show, in old pages and in new ones.
        sql.execute(
            "insert into public.t select -i, repeat('x', 100) from generate_series(1, 9000) i",
        )
        .await
        .unwrap();
        sql.execute("update public.t set id = -id where id % 3 = 0")
            .await
            .unwrap();

        let mut first = CopySession::begin(cluster.sql().await, &created.snapshot)
            .await
            .unwrap();
        first.lock_table("public", "t").await.unwrap();
        let exported = first.export_snapshot().await.unwrap();
        // The session that made the slot may go; the snapshot stays.
        maker.close().await;
        let mut second = CopySession::begin(cluster.sql().await, &exported)
            .await
            .unwrap();

        let pages = first.pages(oid).await.unwrap();
        let ranges = ctid_ranges(pages, NonZeroU32::new(50).unwrap());
        assert!(ranges.len() > 5, "{pages} pages");
        let mut values = Vec::new();
        for (index, range) in ranges.into_iter().enumerate() {
            let session = if index % 2 == 0 {
                &mut first
            } else {
                &mut second
            };
            let sql = render_copy("public", "t", &id, Some(range), None);
            values.extend(copy(session, &sql).await);
        }
        values.sort_unstable();
        assert_eq!(values, (1..=20000).collect::<Vec<_>>());
        let whole = render_copy("public", "t", &id, None, Some("id <= 10 -- ten"));
        assert_eq!(copy(&mut first, &whole).await.len(), 10);

        let mut back = first.end().await.unwrap();
        assert!(!back.in_transaction());
        assert_eq!(
            back.query("select count(*) from public.t").await.unwrap()[0].get(0),
            Some("29000")
        );
        second.end().await.unwrap();
        let error = CopySession::begin(back, &exported).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::SnapshotGone);
        assert!(error.is_transient(), "another snapshot will do");
    }
}

/// Correctness rule 2: COPY under the snapshot of a slot yields nothing after DDL that rewrites,
/// and the shapes say so.
#[tokio::test]
async fn ddl_between_slot_and_copy_shows_in_the_shape() {
    let table: &[(&str, Option<ShapeDifference>)] = &[
        ("select 1", None),
        ("insert into public.t values (2)", None),
        ("create index on public.t (id)", None),
        (
            "alter table public.t alter column id type bigint",
            Some(ShapeDifference::Rewritten),
        ),
        ("truncate public.t", Some(ShapeDifference::Rewritten)),
        ("vacuum full public.t", Some(ShapeDifference::Rewritten)),
        (
            "alter table public.t add column x float default random()",
            Some(ShapeDifference::Rewritten),
        ),
        (
            "alter table public.t add column x int default 1",
            Some(ShapeDifference::Columns),
        ),
        (
            "alter table public.t drop column v",
            Some(ShapeDifference::Columns),
        ),
        (
            "alter table public.t rename column v to w",
            Some(ShapeDifference::Columns),
        ),
        (
            "alter table public.t alter column v type varchar(9)",
            Some(ShapeDifference::Columns),
        ),
        (
            "alter table public.t rename to u",
            Some(ShapeDifference::Name),
        ),
        ("truncate public.p1", Some(ShapeDifference::Rewritten)),
        (
            "alter table public.p detach partition public.p1",
            Some(ShapeDifference::Partitions),
        ),
        (
            "create table public.p3 partition of public.p for values in (3)",
            Some(ShapeDifference::Partitions),
        ),
    ];
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        for (ddl, expected) in table {
            let mut sql = cluster.sql().await;
            sql.execute(
                "create table public.t (id int, v varchar(5)); insert into public.t values (1); \
                 create table public.p (id int) partition by list (id); \
                 create table public.p1 partition of public.p for values in (1); \
                 create table public.p2 partition of public.p for values in (2); \
                 insert into public.p values (1), (2)",
            )
            .await
            .unwrap();
            let name = if ddl.contains("public.p") { "p" } else { "t" };
            let oid = oid_of(&mut sql, &format!("public.{name}")).await;
            let mut maker = cluster.connect("postgres", SessionKind::Replication).await;
            let slot = SlotName::parse("copying").unwrap();
            let created = maker.create_slot(&slot, true).await.unwrap();
            sql.execute(ddl).await.unwrap();

            let mut session = CopySession::begin(cluster.sql().await, &created.snapshot)
                .await
                .unwrap();
            let renamed = *expected == Some(ShapeDifference::Name);
            let locked = session.lock_table("public", name).await;
            assert_eq!(locked.is_err(), renamed, "{ddl}");
            if !renamed {
                let seen = session.shape(oid).await.unwrap().unwrap();
                let live = shape::read(&mut sql, &[oid])
                    .await
                    .unwrap()
                    .remove(&oid)
                    .unwrap();
                assert_eq!(seen.difference(&live), *expected, "{ddl}");
                if name == "t" {
                    let filenode = shape::relation_filenode(session.connection(), oid).await;
                    assert_eq!(
                        filenode.unwrap(),
                        Some(live.leaves[0].relfilenode),
                        "it is live"
                    );
                }
                if *ddl == "truncate public.t" {
                    let sql = render_copy("public", "t", &["id".to_owned()], None, None);
                    assert_eq!(
                        copy(&mut session, &sql).await,
                        [],
                        "this is what would be lost"
                    );
                }
            }
            drop(session);
            maker.close().await;
            let drop = "drop table if exists public.t, public.u, public.p, public.p1";
            sql.execute(drop).await.unwrap();
        }
    }
}

#[tokio::test]
async fn hidden_rows_and_types_without_binary_output_are_errors() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut sql = cluster.sql().await;
        sql.execute(
            "create table public.t (id int, acl aclitem[]); \
             insert into public.t values (1, '{postgres=r/postgres}'); \
             grant select on public.t to trusting; \
             alter table public.t enable row level security; \
             create policy p on public.t using (id > 1)",
        )
        .await
        .unwrap();
        let mut maker = cluster.connect("postgres", SessionKind::Replication).await;
        let slot = SlotName::parse("copying").unwrap();
        let created = maker.create_slot(&slot, true).await.unwrap();

        let reader = cluster.connect("trusting", SessionKind::Sql).await;
        let mut session = CopySession::begin(reader, &created.snapshot).await.unwrap();
        let range = Some(CtidRange {
            first_page: 0,
            end_page: None,
        });
        let sql = render_copy("public", "t", &["id".to_owned()], range, None);
        let error = session.copy(&sql).await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Privilege, "{error}");
        assert!(!error.is_transient());

        let mut session = CopySession::begin(cluster.sql().await, &created.snapshot)
            .await
            .unwrap();
        assert_eq!(copy(&mut session, &sql).await, [1]);
        let sql = render_copy("public", "t", &["acl".to_owned()], range, None);
        let error = match session.copy(&sql).await {
            Err(error) => error,
            Ok(mut out) => loop {
                match out.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("aclitem has no binary output"),
                    Err(error) => break error,
                }
            },
        };
        assert_eq!(error.kind(), SourceErrorKind::NoBinaryOutput);
        session.end().await.unwrap();
    }
}
