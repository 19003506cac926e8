//! What operators stated ahead, in the control tables of a real Postgres.
//!
//! Needs `DUCKFEEDER_TEST_PG_URL`: a superuser's URL of a scratch server, in which each test makes a
//! database of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise"
)]

use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgConnection};
use ducklake_catalog::sqlx::{self, AssertSqlSafe, Connection as _};
use ducklake_catalog::{Catalog, CatalogOptions, ChangeSet};
use feeder_core::FeederErrorKind;
use feeder_core::config::FeederName;
use feeder_core::control::{
    Control, ControlError, Directive, EpochHook, Fence, NewDirective, NewFeeder, NewTable,
    SchemaChange, TableTransition, TypeId, migrations,
};
use pgoutput::Lsn;
use serde_json::json;
use uuid::Uuid;

const COLUMNS: &str =
    "select string_agg(format('%s.%s %s %s %s', table_name, column_name, data_type,
    is_nullable, column_default), ', ' order by table_name, ordinal_position)
    from information_schema.columns where table_schema = 'duckfeeder'";
const ORDERS: u32 = 4_000_000_001;
const USERS: u32 = 16_385;

#[tokio::test]
async fn every_earlier_version_is_migrated_and_all_of_it_goes_down() {
    let Some(db) = Database::create().await else {
        return;
    };
    let catalog = db.migrated().await;
    let latest: String = db.scalar(COLUMNS).await;
    assert!(latest.contains("directives.applied_lsn"), "{latest}");
    let script = migrations::script();
    let blocks: Vec<usize> = script
        .match_indices("do $duckfeeder$ begin")
        .map(|(at, _)| at)
        .collect();
    assert_eq!(blocks.len(), usize::try_from(migrations::LATEST).unwrap());
    for (version, end) in blocks.into_iter().enumerate() {
        migrations::down(&catalog).await.unwrap();
        let left: i64 = db
            .scalar("select count(*) from pg_namespace where nspname = 'duckfeeder'")
            .await;
        assert_eq!(left, 0);
        db.execute(&format!("{} commit", script.get(..end).unwrap()))
            .await;
        let reached: i64 = db
            .scalar("select count(*) from duckfeeder.migrations")
            .await;
        assert_eq!(reached, i64::try_from(version).unwrap());
        if version > 0 {
            // With a feeder and a table of that version.
            db.execute(
                "insert into duckfeeder.feeders (name, lake, system_identifier, timeline, slot, publication, checkpoint)
                     values ('old', 'main', '7', 1, 's', 'p', '0/64');
                 insert into duckfeeder.tables (feeder, source_oid, lake, source_schema, source_table, target_schema,
                     target_table, shape) values ('old', 16385, 'main', 'public', 't', 'raw', 't', '{}')",
            )
            .await;
        }
        migrations::up(&catalog).await.unwrap();
        assert_eq!(db.scalar::<String>(COLUMNS).await, latest, "from {version}");
        if version > 0 {
            let control = Control::new(&catalog, name("old"));
            let stated = control
                .state_directive(&rename(Some("one"), "a", "b"))
                .await;
            assert!(stated.unwrap().new);
        }
    }
    db.drop().await;
}

#[tokio::test]
async fn what_is_stated_is_stored_once() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control, _) = db.shop("shop").await;
    let first = control
        .state_directive(&rename(Some("one"), "a", "b"))
        .await
        .unwrap();
    assert!(first.new);
    assert_eq!(first.directive.id, "one");
    assert_eq!(first.directive.table, "public.users");
    assert_eq!(first.directive.applied, None);
    let again = control
        .state_directive(&rename(Some("one"), "a", "b"))
        .await
        .unwrap();
    assert_eq!((again.new, &again.directive), (false, &first.directive));
    // Without an id it is the one that is pending.
    let unnamed = control
        .state_directive(&rename(None, "a", "b"))
        .await
        .unwrap();
    assert_eq!((unnamed.new, &unnamed.directive), (false, &first.directive));

    let mut elsewhere = rename(Some("one"), "a", "b");
    elsewhere.source_oid = ORDERS;
    let wider = |id, values_unchanged| NewDirective {
        id,
        source_oid: USERS,
        change: SchemaChange::ChangeType {
            column: "a".to_owned(),
            to: "bigint".to_owned(),
            values_unchanged,
        },
        next_type: Some(TypeId {
            oid: 20,
            modifier: -1,
        }),
    };
    for other in [
        rename(Some("one"), "a", "c"),
        elsewhere,
        wider(Some("one".to_owned()), false),
    ] {
        let refused = control.state_directive(&other).await.unwrap_err();
        assert_eq!(refused.kind(), FeederErrorKind::Config);
        let text = refused.to_string();
        assert!(
            text.contains("it is rename-column a b of public.users"),
            "{text}"
        );
        assert!(text.ends_with(&other.change.to_string()), "{text}");
    }
    let vouched = control.state_directive(&wider(None, true)).await.unwrap();
    assert!(vouched.new);
    assert_eq!(
        vouched.directive.next_type,
        Some(TypeId {
            oid: 20,
            modifier: -1
        })
    );
    assert!(
        control
            .state_directive(&wider(None, false))
            .await
            .unwrap()
            .new
    );
    let dropped = NewDirective {
        change: SchemaChange::DropColumn {
            column: "a".to_owned(),
        },
        ..rename(None, "a", "b")
    };
    assert!(control.state_directive(&dropped).await.unwrap().new);
    let stored = control.directives().await.unwrap();
    assert_eq!(stored.len(), 4, "in their order: {stored:?}");
    assert_eq!(
        (&stored[0], &stored[1]),
        (&first.directive, &vouched.directive)
    );
    assert_eq!(stored, control.pending_directives().await.unwrap());

    // Ids are the feeder's own.
    let (_, other, _) = db.shop("other").await;
    assert!(
        other
            .state_directive(&rename(Some("one"), "a", "z"))
            .await
            .unwrap()
            .new
    );
    assert_eq!(control.directives().await.unwrap(), stored);
    db.drop().await;
}

#[tokio::test]
async fn what_is_pending_can_be_cancelled() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control, fence) = db.shop("shop").await;
    for id in ["one", "two"] {
        control
            .state_directive(&rename(Some(id), "a", "b"))
            .await
            .unwrap();
    }
    control.cancel_directive("one").await.unwrap();
    for id in ["one", "three"] {
        let refused = control.cancel_directive(id).await.unwrap_err();
        assert_eq!(refused.kind(), FeederErrorKind::Config);
        assert!(
            refused
                .to_string()
                .contains(&format!("no directive {id:?}")),
            "{refused}"
        );
    }
    assert_eq!(ids(&control.pending_directives().await.unwrap()), ["two"]);
    control
        .update_tables(&fence, &[followed("two", 150)])
        .await
        .unwrap();
    let refused = control.cancel_directive("two").await.unwrap_err();
    assert!(
        refused.to_string().contains("was applied at 0/96"),
        "{refused}"
    );
    // A cancelled one may be stated again; an applied one is what it was.
    assert!(
        control
            .state_directive(&rename(Some("one"), "a", "c"))
            .await
            .unwrap()
            .new
    );
    assert!(
        !control
            .state_directive(&rename(Some("two"), "a", "b"))
            .await
            .unwrap()
            .new
    );
    // Without an id, what was applied says nothing of the next.
    assert!(
        control
            .state_directive(&rename(None, "a", "b"))
            .await
            .unwrap()
            .new
    );
    db.drop().await;
}

#[tokio::test]
async fn a_directive_is_applied_with_its_commit_and_never_twice() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (catalog, control, fence) = db.shop("shop").await;
    catalog.bootstrap("file:///lake/").await.unwrap();
    for id in ["one", "two", "three"] {
        control
            .state_directive(&rename(Some(id), "a", "b"))
            .await
            .unwrap();
    }
    // Nothing of a commit that fails.
    let claimed = hook(&fence, 100, 200, &["one"], &["not-declared.parquet"]);
    commit(&catalog, claimed, "first").await.unwrap_err();
    assert_eq!(control.pending_directives().await.unwrap().len(), 3);
    let checkpoint = |expected| {
        let (control, fence) = (&control, &fence);
        async move {
            assert_eq!(control.checkpoint(fence).await.unwrap(), Lsn::new(expected));
        }
    };
    checkpoint(100).await;

    commit(&catalog, hook(&fence, 100, 200, &["one"], &[]), "first")
        .await
        .unwrap();
    checkpoint(200).await;
    let stored = control.directives().await.unwrap();
    let applied = stored[0].applied.unwrap();
    assert_eq!((stored[0].id.as_str(), applied.lsn), ("one", Lsn::new(150)));
    assert!(applied.at >= stored[0].stated_at);
    assert_eq!(
        ids(&control.pending_directives().await.unwrap()),
        ["two", "three"]
    );

    // The lake does not get a snapshot that uses it again, nor one that uses another one twice.
    for used in [&["one"][..], &["two", "two"], &["nothing"]] {
        let error = commit(&catalog, hook(&fence, 200, 300, used, &[]), "second")
            .await
            .unwrap_err();
        let id = used[0].to_owned();
        let gone = hook_error(&error);
        assert!(
            matches!(gone, ControlError::DirectiveGone { id: found, .. } if *found == id),
            "{gone:?}"
        );
        let error = control
            .advance_checkpoint(
                &fence,
                Lsn::new(200),
                Lsn::new(300),
                &used.iter().map(|id| followed(id, 250)).collect::<Vec<_>>(),
            )
            .await
            .unwrap_err();
        assert!(error.is_transient(), "the checkpoint cures it");
        checkpoint(200).await;
    }
    let lake = catalog.load().await.unwrap();
    assert!(lake.find_schema("second").is_none());

    // Without a snapshot.
    control
        .advance_checkpoint(
            &fence,
            Lsn::new(200),
            Lsn::new(300),
            &[followed("two", 250)],
        )
        .await
        .unwrap();
    assert_eq!(ids(&control.pending_directives().await.unwrap()), ["three"]);

    // Not by a process that was taken over.
    db.execute("update duckfeeder.feeders set generation = generation + 1")
        .await;
    let refused = control
        .update_tables(&fence, &[followed("three", 350)])
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), FeederErrorKind::Fenced);
    commit(&catalog, hook(&fence, 300, 400, &["three"], &[]), "third")
        .await
        .unwrap_err();
    assert_eq!(ids(&control.pending_directives().await.unwrap()), ["three"]);
    db.drop().await;
}

#[tokio::test]
async fn directives_share_the_fate_of_their_table_and_feeder() {
    let Some(db) = Database::create().await else {
        return;
    };
    let (_, control, fence) = db.shop("shop").await;
    let (_, other, _) = db.shop("other").await;
    for control in [&control, &other] {
        control
            .state_directive(&rename(Some("one"), "a", "b"))
            .await
            .unwrap();
        let mut orders = rename(Some("two"), "a", "b");
        orders.source_oid = ORDERS;
        control.state_directive(&orders).await.unwrap();
    }
    // Dropped and made again, it is the same table to whoever states something.
    let replaced = [
        TableTransition::replaced(USERS, 99_999),
        TableTransition::removed(ORDERS),
    ];
    control.update_tables(&fence, &replaced).await.unwrap();
    let left = control.directives().await.unwrap();
    assert_eq!(ids(&left), ["one"]);
    assert_eq!(left[0].source_oid, 99_999);
    let unknown = control
        .state_directive(&rename(Some("three"), "a", "b"))
        .await;
    assert!(unknown.is_err(), "there is no such table any more");

    control.tear_down(&fence).await.unwrap();
    assert!(control.directives().await.unwrap().is_empty());
    assert_eq!(ids(&other.directives().await.unwrap()), ["one", "two"]);
    db.drop().await;
}

fn name(name: &str) -> FeederName {
    FeederName::parse(name).unwrap()
}

fn ids(directives: &[Directive]) -> Vec<&str> {
    directives
        .iter()
        .map(|directive| directive.id.as_str())
        .collect()
}

fn rename(id: Option<&str>, column: &str, to: &str) -> NewDirective {
    NewDirective {
        id: id.map(str::to_owned),
        source_oid: USERS,
        change: SchemaChange::RenameColumn {
            column: column.to_owned(),
            to: to.to_owned(),
        },
        next_type: None,
    }
}

fn followed(id: &str, lsn: u64) -> TableTransition {
    TableTransition::directive(USERS, id, Lsn::new(lsn))
}

fn hook(fence: &Fence, from: u64, to: u64, used: &[&str], files: &[&str]) -> EpochHook {
    let transitions = used.iter().map(|id| followed(id, from + 50)).collect();
    let files = files.iter().map(|file| (*file).to_owned()).collect();
    let (from, to) = (Lsn::new(from), Lsn::new(to));
    EpochHook::new(fence, Uuid::new_v4(), from, to, None, transitions, files)
}

async fn commit(
    catalog: &Catalog,
    mut hook: EpochHook,
    schema: &str,
) -> Result<(), ducklake_catalog::CatalogError> {
    let mut changes = ChangeSet::new();
    changes.create_schema(schema);
    catalog.commit(&changes, &mut hook).await.map(drop)
}

/// What the hook reported, as a caller gets at it.
fn hook_error(error: &ducklake_catalog::CatalogError) -> &ControlError {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref())
        .unwrap_or_else(|| panic!("not an error of the hook: {error:?}"))
}

/// A database of its own.
struct Database {
    server: PgConnectOptions,
    options: PgConnectOptions,
}

impl Database {
    /// `None`, said aloud, without a server.
    async fn create() -> Option<Self> {
        let Ok(url) = std::env::var("DUCKFEEDER_TEST_PG_URL") else {
            assert!(
                std::env::var_os("REQUIRE_SERVICES").is_none_or(|value| value != "1"),
                "DUCKFEEDER_TEST_PG_URL is not set"
            );
            eprintln!("SKIPPED: DUCKFEEDER_TEST_PG_URL is not set");
            return None;
        };
        let server: PgConnectOptions = url.parse().expect("DUCKFEEDER_TEST_PG_URL is a URL");
        let name = format!("feeder_core_{}", Uuid::new_v4().simple());
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("the server");
        execute(&mut connection, &format!("create database {name}")).await;
        Some(Self {
            options: server.clone().database(&name),
            server,
        })
    }

    async fn drop(self) {
        let name = self.options.get_database().unwrap();
        let mut connection = PgConnection::connect_with(&self.server).await.unwrap();
        execute(
            &mut connection,
            &format!("drop database {name} with (force)"),
        )
        .await;
    }

    async fn catalog(&self) -> Catalog {
        Catalog::connect(CatalogOptions::new(self.options.clone()))
            .await
            .unwrap()
    }

    async fn migrated(&self) -> Catalog {
        let catalog = self.catalog().await;
        migrations::up(&catalog).await.unwrap();
        catalog
    }

    /// A feeder that this process runs, with the tables `users` and `orders` and the checkpoint 100.
    async fn shop(&self, feeder: &str) -> (Catalog, Control, Fence) {
        let catalog = self.migrated().await;
        let control = Control::new(&catalog, name(feeder));
        control
            .register(&NewFeeder {
                system_identifier: "7400000000000000000".to_owned(),
                timeline: 3,
                slot: "duckfeeder_shop".to_owned(),
                publication: "duckfeeder_shop".to_owned(),
                checkpoint: Lsn::new(100),
            })
            .await
            .unwrap();
        let fence = control.acquire("here:1").await.unwrap();
        let tables = [(USERS, "users"), (ORDERS, "orders")].map(|(source_oid, table)| NewTable {
            source_oid,
            source_schema: "public".to_owned(),
            source_table: table.to_owned(),
            target_schema: feeder.to_owned(),
            target_table: table.to_owned(),
            lake_table_id: None,
            shape: json!({}),
            publication: None,
        });
        control.insert_tables(&fence, &tables).await.unwrap();
        (catalog, control, fence)
    }

    async fn execute(&self, sql: &str) {
        let mut connection = PgConnection::connect_with(&self.options).await.unwrap();
        execute(&mut connection, sql).await;
    }

    async fn scalar<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        sqlx::query_scalar(sql)
            .fetch_one(&mut PgConnection::connect_with(&self.options).await.unwrap())
            .await
            .unwrap()
    }
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    // Safe: every text is of this file, or the printed script.
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}
