//! The janitor on a real catalog and a local store.
//!
//! Needs `DUCKFEEDER_TEST_PG_URL`: a superuser's URL of a scratch server, in which each test makes a
//! database of its own. The random test takes its seed from `DUCKFEEDER_TEST_SEED` and prints it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgConnection};
use ducklake_catalog::sqlx::{self, AssertSqlSafe, Connection as _};
use ducklake_catalog::{Catalog, CatalogOptions, ChangeSet, ColumnDef, LakeType, NoHook, TableDef};
use feeder_core::config::FeederName;
use feeder_core::control::{Control, DeclaredFiles, NewFeeder, migrations};
use feeder_core::janitor::{Entry, Outcome, Report, Section};
use feeder_core::{FeederErrorKind, Janitor};
use pgoutput::Lsn;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use storage::testing::{Fault, FaultStorage};
use storage::{LocalStorage, Operation, Storage, StorageErrorKind};
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);
/// Older than the grace period.
const OLD: Duration = Duration::from_hours(72);
/// Older than the control tables, which the rig makes ten days old.
const ANCIENT: Duration = Duration::from_hours(24 * 30);

/// What all tables of the lake and the feeders' checkpoints hold, apart from what the janitor may take away.
const UNTOUCHED: &str = "select md5(string_agg(line, ',' order by line)) from (
    select 'data' || t::text from ducklake_data_file t union all
    select 'delete' || t::text from ducklake_delete_file t union all
    select 'snapshot' || t::text from ducklake_snapshot t union all
    select 'changes' || t::text from ducklake_snapshot_changes t union all
    select 'table' || t::text from ducklake_table t union all
    select 'feeder' || t::text from duckfeeder.feeders t) as lines (line)";

/// One object and what the world says of it.
#[derive(Clone, Debug)]
struct Case {
    path: String,
    ours: bool,
    named_at: Duration,
    written: Duration,
    reference: Reference,
    scheduled: Option<Duration>,
    declared: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    None,
    Relative,
    Absolute,
    Ended,
    DeleteFile,
}

const DIRECTORIES: [&str; 4] = ["raw/t/", "raw/t/k=1/", "elsewhere/u/", "raw/gone/"];

impl Case {
    fn random(rng: &mut StdRng) -> Self {
        let named_at = *[Duration::ZERO, OLD, OLD, OLD, ANCIENT]
            .choose(rng)
            .unwrap();
        let id = uuid(named_at);
        let (ours, name) = match rng.random_range(0..8) {
            0 => (false, format!("ducklake-{id}.parquet")),
            1 => (false, format!("duckfeeder-{id}.parquet.bak")),
            2 => (false, format!("report-{id}.csv")),
            _ => (true, format!("duckfeeder-{id}.parquet")),
        };
        let directory = DIRECTORIES.choose(rng).unwrap();
        let age = |rng: &mut StdRng| *[Duration::ZERO, OLD].choose(rng).unwrap();
        let reference = *[
            Reference::None,
            Reference::None,
            Reference::None,
            Reference::Relative,
            Reference::Absolute,
            Reference::Ended,
            Reference::DeleteFile,
        ]
        .choose(rng)
        .unwrap();
        Self {
            path: format!("{directory}{name}"),
            ours,
            named_at,
            written: *[Duration::ZERO, OLD, OLD].choose(rng).unwrap(),
            // Relative paths in the catalog are those of the table's directory.
            reference: match (reference, directory.starts_with("raw/t/")) {
                (Reference::None, _) | (_, true) => reference,
                _ => Reference::Absolute,
            },
            scheduled: rng.random_bool(0.2).then(|| age(rng)),
            declared: rng.random_bool(0.2).then(|| age(rng)),
        }
    }

    /// What shall become of it, said in other words than the janitor's.
    fn doomed(&self) -> bool {
        if self.reference != Reference::None {
            return false;
        }
        if let Some(scheduled) = self.scheduled {
            return scheduled == OLD;
        }
        if let Some(declared) = self.declared {
            return declared == OLD;
        }
        let in_a_table = self.path.starts_with("raw/t/") || self.path.starts_with("raw/gone/");
        self.ours && self.named_at == OLD && self.written == OLD && in_a_table
    }
}

#[tokio::test]
async fn random_mixtures_are_decided_as_the_reference_decides() {
    let seed = std::env::var("DUCKFEEDER_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| rand::random::<u32>().into());
    eprintln!("DUCKFEEDER_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let Some(rig) = Rig::create().await else {
        return;
    };
    let mut cases = BTreeMap::new();
    for _ in 0..400 {
        let case = Case::random(&mut rng);
        rig.add(&case, cases.len()).await;
        cases.insert(case.path.clone(), case);
    }
    let doomed: BTreeSet<&String> = cases
        .iter()
        .filter_map(|(path, case)| case.doomed().then_some(path))
        .collect();
    assert!(doomed.len() > 20, "{} of 400", doomed.len());
    let before: String = rig.scalar(UNTOUCHED).await;

    let looked = rig.janitor().run().await.unwrap();
    assert!(looked.dry_run && looked.complete(), "{looked}");
    let would: BTreeSet<&String> = paths(&looked, Outcome::WouldRemove).into_iter().collect();
    assert_eq!(would, doomed, "{looked}");
    assert_eq!(rig.files().len(), cases.len(), "nothing is removed");

    let report = rig.janitor().delete(true).run().await.unwrap();
    assert!(report.complete(), "{report}");
    let removed: BTreeSet<&String> = paths(&report, Outcome::Removed).into_iter().collect();
    assert_eq!(removed, doomed, "{report}");
    let bytes: u64 = doomed.iter().map(|path| size_of(path)).sum();
    assert_eq!(
        (report.files(), report.bytes()),
        (doomed.len() as u64, bytes)
    );
    let left: BTreeSet<String> = cases
        .keys()
        .filter(|path| !doomed.contains(path))
        .cloned()
        .collect();
    assert_eq!(rig.files(), left);
    assert_eq!(rig.scalar::<String>(UNTOUCHED).await, before);

    // Files that are gone are off the lists, all others still on them.
    let again = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(again.files(), 0, "{again}");
    let scheduled: i64 = rig
        .scalar("select count(*) from ducklake_files_scheduled_for_deletion")
        .await;
    let kept = cases
        .values()
        .filter(|case| case.scheduled.is_some() && !case.doomed());
    assert_eq!(scheduled, i64::try_from(kept.count()).unwrap());
    let declared: i64 = rig
        .scalar("select count(*) from duckfeeder.pending_files")
        .await;
    let young = cases
        .values()
        .filter(|case| case.declared == Some(Duration::ZERO));
    assert_eq!(declared, i64::try_from(young.count()).unwrap());
    rig.drop().await;
}

#[tokio::test]
async fn a_claim_without_a_deletion_is_carried_out_by_the_next_run() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    let path = rig.declared_file(OLD).await;
    // As far as a janitor comes that dies after its claim.
    let declared = DeclaredFiles::new(&rig.catalog);
    let claimed = declared.older_than(DAY, "", 10, true).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(rig.files().len(), 1);

    let report = rig.janitor().run().await.unwrap();
    assert_eq!(paths(&report, Outcome::WouldRemove), [&path]);
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(paths(&report, Outcome::Removed), [&path]);
    assert_eq!(report.declared.files, 1);
    assert_eq!(rig.files(), BTreeSet::new());
    assert_eq!(rig.declarations().await, 0);
    rig.drop().await;
}

#[tokio::test]
async fn a_declaration_without_an_object_is_dropped_without_a_fuss() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    let path = rig.declared_file(OLD).await;
    rig.store.delete(&path.parse().unwrap()).await.unwrap();
    let report = rig.janitor().run().await.unwrap();
    assert_eq!((report.files(), report.declared.already_gone), (0, 1));
    assert_eq!(rig.declarations().await, 1);
    rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(rig.declarations().await, 0);
    rig.drop().await;
}

#[tokio::test]
async fn a_declared_file_that_the_catalog_names_stays() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    // As after a restore of control tables that are older than the lake.
    let path = rig.declared_file(OLD).await;
    let name = path.rsplit_once('/').unwrap().1;
    rig.execute(&data_file(0, name, true, "null")).await;
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(paths(&report, Outcome::Refused), [&path]);
    assert_eq!(rig.files(), BTreeSet::from([path]));
    rig.drop().await;
}

#[tokio::test]
async fn uploads_that_are_dead_are_aborted_and_others_go_on() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    for (name, age) in [
        (format!("raw/t/.{}.tmp", Uuid::new_v4()), OLD),
        (format!("raw/t/.{}.tmp", Uuid::new_v4()), Duration::ZERO),
        ("raw/t/.somebody.tmp".to_owned(), OLD),
    ] {
        rig.write(&name, age);
    }
    let report = rig.janitor().run().await.unwrap();
    assert_eq!(report.uploads.files, 1, "{report}");
    assert_eq!(rig.files().len(), 3);
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!((report.uploads.files, report.files()), (1, 1), "{report}");
    assert_eq!(rig.files().len(), 2);
    rig.drop().await;
}

#[tokio::test]
async fn what_the_store_refuses_for_one_file_does_not_keep_the_others() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    for _ in 0..3 {
        rig.declared_file(OLD).await;
    }
    let store = FaultStorage::new(Arc::clone(&rig.store));
    let janitor = Janitor::new(&rig.catalog, Arc::new(store.clone()), DAY).delete(true);
    store.inject(
        Operation::Head,
        1,
        Fault::refused(StorageErrorKind::Unavailable),
    );
    let report = janitor.run().await.unwrap();
    assert_eq!((report.declared.failed, report.declared.files), (1, 2));
    assert!(!report.complete() && report.to_string().contains("FAILED"));
    assert_eq!(rig.declarations().await, 1, "kept for the next run");

    // A whole request that fails, and a listing.
    store.inject(
        Operation::Delete,
        1,
        Fault::refused(StorageErrorKind::Unavailable),
    );
    store.inject(
        Operation::List,
        1,
        Fault::refused(StorageErrorKind::Unavailable),
    );
    let report = janitor.run().await.unwrap();
    assert_eq!((report.declared.failed, report.declared.files), (1, 0));
    assert!(report.stray.error.is_some() && report.scheduled.error.is_none());

    let report = janitor.run().await.unwrap();
    assert_eq!(report.declared.files, 1);
    assert_eq!(rig.declarations().await, 0);
    rig.drop().await;
}

#[tokio::test]
async fn an_unreadable_interval_is_no_permission_to_delete() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    let path = "raw/t/data.parquet";
    rig.write(path, OLD);
    rig.execute(&scheduled(0, path, ANCIENT)).await;
    rig.execute("insert into ducklake_metadata (key, value) values ('delete_older_than', 'soon')")
        .await;
    rig.declared_file(OLD).await;
    let report = rig.janitor().delete(true).run().await.unwrap();
    let error = report.scheduled.error.unwrap();
    assert!(error.contains("delete_older_than"), "{error}");
    assert_eq!(report.declared.files, 1, "the others are not kept from it");
    assert_eq!(rig.files(), BTreeSet::from([path.to_owned()]));

    rig.execute("update ducklake_metadata set value = '60 days' where key = 'delete_older_than'")
        .await;
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!((report.files(), report.complete()), (0, true), "not due");
    rig.execute("update ducklake_metadata set value = '29 days' where key = 'delete_older_than'")
        .await;
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(report.scheduled.files, 1);
    assert_eq!(rig.files(), BTreeSet::new());
    rig.drop().await;
}

#[tokio::test]
async fn scheduled_files_that_lie_elsewhere_or_share_a_name_are_told_apart() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    // A live file of the same name in another directory, as an export makes them.
    rig.write("raw/t/data_0.parquet", OLD);
    rig.write("raw/t/k=1/data_0.parquet", OLD);
    rig.execute(&data_file(1, "data_0.parquet", true, "null"))
        .await;
    rig.execute(&scheduled(2, "raw/t/k=1/data_0.parquet", OLD))
        .await;
    let outside = rig.folder.path().join("outside.parquet");
    std::fs::write(&outside, "x").unwrap();
    for (id, path) in [
        (3, outside.display().to_string()),
        (4, format!("{}../outside.parquet", rig.store.url())),
    ] {
        rig.execute(&format!(
            "insert into ducklake_files_scheduled_for_deletion
             values ({id}, '{path}', false, now() - interval '9 days')"
        ))
        .await;
    }
    let report = rig.janitor().delete(true).run().await.unwrap();
    assert_eq!(
        (report.scheduled.files, report.scheduled.refused),
        (1, 2),
        "{report}"
    );
    assert!(outside.exists());
    assert_eq!(
        rig.files(),
        BTreeSet::from(["raw/t/data_0.parquet".to_owned()])
    );
    rig.drop().await;
}

#[tokio::test]
async fn a_store_that_is_not_the_lakes_and_a_second_janitor_are_refused() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    let other = tempfile::tempdir().unwrap();
    let other: Arc<dyn Storage> = Arc::new(LocalStorage::open(other.path()).unwrap());
    let error = Janitor::new(&rig.catalog, other, DAY).run().await;
    assert_eq!(error.unwrap_err().kind(), FeederErrorKind::Config);

    let lock = DeclaredFiles::new(&rig.catalog).lock().await.unwrap();
    let error = rig.janitor().delete(true).run().await.unwrap_err();
    assert_eq!(error.kind(), FeederErrorKind::Fenced);
    assert!(error.is_transient());
    rig.janitor().run().await.expect("looking is free");
    drop(lock);
    rig.drop().await;
}

#[tokio::test]
async fn janitors_that_meet_remove_everything_once() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    for _ in 0..20 {
        rig.declared_file(OLD).await;
    }
    let run = async || match rig.janitor().delete(true).run().await {
        Ok(report) => report.files(),
        Err(error) => {
            assert_eq!(error.kind(), FeederErrorKind::Fenced, "{error}");
            0
        }
    };
    let (one, two, three) = tokio::join!(run(), run(), run());
    assert_eq!(one + two + three, 20);
    assert_eq!((rig.files().len(), rig.declarations().await), (0, 0));
    rig.drop().await;
}

#[tokio::test]
async fn reports_are_for_people_and_for_programs() {
    let Some(rig) = Rig::create().await else {
        return;
    };
    let path = rig.declared_file(OLD).await;
    let report = rig.janitor().run().await.unwrap();
    let text = report.to_string();
    for part in [
        "would remove",
        &path,
        "3days",
        "objects that nothing names: none",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["declared"]["files"], 1);
    let entry = &json["declared"]["entries"][0];
    assert_eq!(entry["path"], path);
    assert_eq!(entry["outcome"], "would_remove");
    assert_eq!(entry["bytes"], size_of(&path));
    rig.drop().await;
}

// ---- support -------------------------------------------------------------------------------------

/// A lake with a table `raw.t` and one that was dropped, fed by a feeder `shop` that does not run.
struct Rig {
    server: PgConnectOptions,
    options: PgConnectOptions,
    catalog: Catalog,
    folder: tempfile::TempDir,
    store: Arc<dyn Storage>,
}

impl Rig {
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
        let name = format!("janitor_{}", Uuid::new_v4().simple());
        execute(&server, &format!("create database {name}")).await;
        let options = server.clone().database(&name);
        let catalog = Catalog::connect(CatalogOptions::new(options.clone()))
            .await
            .unwrap();
        migrations::up(&catalog).await.unwrap();
        let control = Control::new(&catalog, FeederName::parse("shop").unwrap());
        let feeder = NewFeeder {
            system_identifier: "7400000000000000000".to_owned(),
            timeline: 3,
            slot: "duckfeeder_shop".to_owned(),
            publication: "duckfeeder_shop".to_owned(),
            checkpoint: Lsn::new(100),
        };
        control.register(&feeder).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Storage> =
            Arc::new(LocalStorage::open(&folder.path().join("lake")).unwrap());
        catalog.bootstrap(&store.url()).await.unwrap();
        let mut changes = ChangeSet::new();
        let schema = changes.create_schema("raw");
        for table in ["t", "gone"] {
            let column = ColumnDef::new("id", LakeType::Int64);
            changes.create_table(schema, TableDef::new(table, vec![column]));
        }
        catalog.commit(&changes, &mut NoHook).await.unwrap();
        let rig = Self {
            server,
            options,
            catalog,
            folder,
            store,
        };
        rig.execute(
            "update duckfeeder.migrations set applied_at = applied_at - interval '10 days';
             update ducklake_table set end_snapshot = 1 where table_name = 'gone'",
        )
        .await;
        Some(rig)
    }

    fn janitor(&self) -> Janitor {
        Janitor::new(&self.catalog, Arc::clone(&self.store), DAY)
    }

    /// Puts an object, and what is said of it, where it belongs.
    async fn add(&self, case: &Case, id: usize) {
        self.write(&case.path, case.written);
        let in_table = case.path.strip_prefix("raw/t/").unwrap_or(&case.path);
        let whole = format!("{}{}", self.store.url(), case.path);
        match case.reference {
            Reference::None => {}
            Reference::Relative => self.execute(&data_file(id, in_table, true, "null")).await,
            Reference::Absolute => self.execute(&data_file(id, &whole, false, "null")).await,
            Reference::Ended => self.execute(&data_file(id, in_table, true, "1")).await,
            Reference::DeleteFile => {
                self.execute(&format!(
                    "insert into ducklake_delete_file (delete_file_id, table_id, begin_snapshot, path, path_is_relative)
                     select {id}, table_id, 1, '{in_table}', true from ducklake_table where table_name = 't'"
                ))
                .await;
            }
        }
        if let Some(age) = case.scheduled {
            self.execute(&scheduled(id, &case.path, age)).await;
        }
        if let Some(age) = case.declared {
            self.declare(&case.path, age).await;
        }
    }

    async fn declare(&self, path: &str, age: Duration) {
        self.execute(&format!(
            "insert into duckfeeder.pending_files (path, feeder, lake_table_id, created_at)
             values ('{path}', 'shop', 1, now() - interval '{} seconds')",
            age.as_secs()
        ))
        .await;
    }

    /// A file of a feeder that died before its commit; returns its path.
    async fn declared_file(&self, age: Duration) -> String {
        let path = format!("raw/t/duckfeeder-{}.parquet", uuid(age));
        self.write(&path, age);
        self.declare(&path, age).await;
        path
    }

    /// A file that was last written so long ago.
    fn write(&self, path: &str, age: Duration) {
        let file = self.root().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "x".repeat(usize::try_from(size_of(path)).unwrap())).unwrap();
        let file = std::fs::File::options().write(true).open(&file).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(self.store.url())
    }

    /// All files there are, by path.
    fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut directories = vec![self.root()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    let below = path.strip_prefix(self.root()).unwrap();
                    found.insert(below.display().to_string());
                }
            }
        }
        found
    }

    async fn declarations(&self) -> i64 {
        self.scalar("select count(*) from duckfeeder.pending_files")
            .await
    }

    async fn execute(&self, sql: &str) {
        execute(&self.options, sql).await;
    }

    async fn scalar<T>(&self, sql: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut connection = PgConnection::connect_with(&self.options).await.unwrap();
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    async fn drop(self) {
        let name = self.options.get_database().unwrap();
        execute(&self.server, &format!("drop database {name} with (force)")).await;
    }
}

async fn execute(options: &PgConnectOptions, sql: &str) {
    let mut connection = PgConnection::connect_with(options).await.unwrap();
    // Safe: every text is of this file.
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
}

fn data_file(id: usize, path: &str, relative: bool, end: &str) -> String {
    format!(
        "insert into ducklake_data_file (data_file_id, table_id, begin_snapshot, end_snapshot, path, path_is_relative)
         select {id}, table_id, 1, {end}, '{path}', {relative} from ducklake_table where table_name = 't'"
    )
}

fn scheduled(id: usize, path: &str, age: Duration) -> String {
    format!(
        "insert into ducklake_files_scheduled_for_deletion
         values ({id}, '{path}', true, now() - interval '{} seconds')",
        age.as_secs()
    )
}

/// An id as it was made so long ago.
fn uuid(age: Duration) -> Uuid {
    let millis = (SystemTime::now() - age)
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let millis = u64::try_from(millis).unwrap();
    uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// Sizes differ from file to file.
fn size_of(path: &str) -> u64 {
    path.bytes().map(u64::from).sum::<u64>() % 97
}

fn paths(report: &Report, outcome: Outcome) -> Vec<&String> {
    let entries = report.sections().into_iter().flat_map(entries);
    entries
        .filter(|entry| entry.outcome == outcome)
        .map(|entry| &entry.path)
        .collect()
}

fn entries(section: &Section) -> &[Entry] {
    &section.entries
}
