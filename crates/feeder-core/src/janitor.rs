//! Removes what nobody can need any more: files that were uploaded and never committed, uploads that were never
//! finished, and files that the catalog itself gives up.
//!
//! It never touches a file that the catalog names, never moves a checkpoint and never makes a snapshot, so it may run
//! beside feeders, readers and DuckDB's own maintenance. Nothing of it is needed for correctness (I7): what it leaves
//! behind costs room, nothing else. So it leaves everything of which it is not certain.

mod file_name;
mod report;
mod schedule;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ducklake_catalog::{Catalog, FileReference, LakeInfo, ScheduledFile};
use futures_util::StreamExt as _;
use storage::{ObjectMeta, ObjectPath, OpenUpload, Storage, StorageError, StorageErrorKind};

use crate::check;
use crate::config::CatalogConfig;
use crate::control::{DeclaredFile, DeclaredFiles, JanitorLock, migrations};
use crate::error::{FeederError, FeederErrorKind, from_catalog, from_storage};
use crate::failpoint::{self, Failpoint};

use report::Found;

pub use report::{Entry, Outcome, Report, Section};
pub(crate) use schedule::keep_clean;

/// Files that are claimed, or read from the catalog, at once.
const BATCH: u32 = 1_000;
/// Objects that are deleted at once: as many as the largest request of an object store takes.
const DELETIONS: usize = 1_000;
/// Objects of a listing that are collected before the catalog is asked about them, which reads all its files' names.
const CANDIDATES: usize = 20_000;
/// Due declarations that are remembered for what depends on them, while nothing is deleted.
const DUE: usize = 100_000;
/// Objects whose size is asked for at the same time.
const HEADS: usize = 16;

/// The janitor of one lake. It only reports, until [`delete`](Self::delete) says otherwise.
///
/// Four kinds of things are looked for:
///
/// 1. files that a feeder declared before it uploaded them, and that no commit named within the grace period;
/// 2. objects with a name of duckfeeder's that nothing names: neither a row of the catalog, of whichever snapshot, nor
///    a declaration;
/// 3. uploads in parts that were begun and never completed;
/// 4. files of any writer that the catalog schedules for deletion, once the lake's `delete_older_than` has passed.
///
/// The grace period must be longer than the longest time between the declaration of a file and its commit. That is
/// minutes for streamed changes, and as long as a copy for its files, which are exempt while their feeder is alive. A
/// file that is removed too early costs time only: its commit fails and its rows are sent again.
#[derive(Debug, Clone)]
pub struct Janitor {
    catalog: Catalog,
    declared: DeclaredFiles,
    storage: Arc<dyn Storage>,
    grace: Duration,
    delete: bool,
}

impl Janitor {
    /// A janitor of the lake of `catalog`, whose data path must be that of `storage`. Connects to nothing.
    pub fn new(catalog: &Catalog, storage: Arc<dyn Storage>, grace: Duration) -> Self {
        Self {
            catalog: catalog.clone(),
            declared: DeclaredFiles::new(catalog),
            storage,
            grace,
            delete: false,
        }
    }

    /// As [`new`](Self::new), with connections of its own.
    ///
    /// # Errors
    /// A catalog that cannot be reached.
    pub async fn connect(
        config: &CatalogConfig,
        storage: Arc<dyn Storage>,
        grace: Duration,
    ) -> Result<Self, FeederError> {
        let catalog = check::connect_catalog(config).await?;
        Ok(Self::new(&catalog, storage, grace))
    }

    /// Whether anything is deleted, or only reported.
    #[must_use]
    pub fn delete(mut self, delete: bool) -> Self {
        self.delete = delete;
        self
    }

    /// Looks at everything once. What goes wrong with one object, or with one of the four kinds, is in the report and
    /// does not keep the others.
    ///
    /// # Errors
    /// Before anything is done: no lake, control tables of another version, a store that is not the lake's; kind
    /// [`Fenced`](FeederErrorKind::Fenced) while another janitor deletes in this lake.
    pub async fn run(&self) -> Result<Report, FeederError> {
        migrations::require(&self.catalog).await?;
        let lake = self.lake().await?;
        let lock = if self.delete {
            Some(self.lock().await?)
        } else {
            None
        };
        let mut report = Report::new(!self.delete);
        let mut due = BTreeSet::new();
        let ended = self.declared(&mut due, &mut report.declared).await;
        report.declared.end(ended);
        let ended = self.stray(&mut report.stray).await;
        report.stray.end(ended);
        let ended = self.uploads(&due, &mut report.uploads).await;
        report.uploads.end(ended);
        let ended = self.scheduled(&lake, &mut report.scheduled).await;
        report.scheduled.end(ended);
        if let Some(lock) = lock
            && let Err(error) = lock.release().await
        {
            tracing::debug!(error = %error, "the janitor's lock ends with its connection");
        }
        Ok(report)
    }

    async fn lake(&self) -> Result<LakeInfo, FeederError> {
        let lake = self.catalog.inspect().await.map_err(from_catalog)?;
        let lake = lake.ok_or_else(|| {
            let schema = self.catalog.metadata_schema();
            FeederError::permanent(
                FeederErrorKind::Config,
                format!("schema {schema} of the catalog holds no lake"),
            )
            .with_remedy("check catalog.url and catalog.metadata_schema")
        })?;
        let store = self.storage.url();
        // With another store everything in it would look like nobody's.
        if lake.data_path.trim_end_matches('/') == store.trim_end_matches('/') {
            return Ok(lake);
        }
        let message = format!("the lake's files are in {}, not in {store}", lake.data_path);
        Err(FeederError::permanent(FeederErrorKind::Config, message)
            .with_remedy("let storage.url be the lake's data path"))
    }

    async fn lock(&self) -> Result<JanitorLock, FeederError> {
        self.declared.lock().await?.ok_or_else(|| {
            FeederError::transient(
                FeederErrorKind::Fenced,
                "another janitor is at work in this lake",
            )
            .with_remedy("let it end, then try again")
        })
    }

    /// Kind 1. The paths of files that are only looked at go to `due`: their declarations stay.
    async fn declared(
        &self,
        due: &mut BTreeSet<String>,
        section: &mut Section,
    ) -> Result<(), FeederError> {
        let mut after = String::new();
        loop {
            let files = self
                .declared
                .older_than(self.grace, &after, BATCH, self.delete)
                .await?;
            let Some(last) = files.last() else {
                return Ok(());
            };
            after.clone_from(&last.path);
            failpoint::reach(Failpoint::JanitorClaimed);
            if !self.delete && due.len() < DUE {
                due.extend(files.iter().map(|file| file.path.clone()));
            }
            self.declared_batch(files, section).await?;
        }
    }

    /// No commit can name these files from now on; what the catalog says of them is final.
    async fn declared_batch(
        &self,
        files: Vec<DeclaredFile>,
        section: &mut Section,
    ) -> Result<(), FeederError> {
        const WHY: &str = "declared by a feeder, and in no commit since";
        let named = self
            .named(files.iter().map(|file| file.path.as_str()))
            .await?;
        let mut done = Vec::new();
        let mut found = Vec::new();
        for file in files {
            let Ok(path) = ObjectPath::parse(&file.path) else {
                // Nothing can be stored under it.
                done.push(file.path);
                continue;
            };
            let file = Found::new(path, file.age, WHY);
            if named.contains(file.name()) {
                // Control tables that are older than the lake; the declaration is settled, if late.
                done.push(file.path.to_string());
                section.refuse(file, "the catalog names it");
            } else {
                found.push(file);
            }
        }
        done.extend(self.clear(found, section).await);
        if self.delete {
            failpoint::reach(Failpoint::JanitorDeleted);
            self.declared.release(&done).await?;
            failpoint::reach(Failpoint::JanitorReleased);
        }
        Ok(())
    }

    /// Kind 2.
    async fn stray(&self, section: &mut Section) -> Result<(), FeederError> {
        let since = self.declared.since().await?;
        let mut candidates = Vec::new();
        let mut token = None;
        loop {
            let page = self.storage.list(None, token.as_ref()).await;
            let page = page.map_err(from_storage)?;
            let now = SystemTime::now();
            candidates.extend(
                page.objects
                    .into_iter()
                    .filter(|object| self.is_candidate(object, now, since)),
            );
            token = page.next;
            if token.is_none() || candidates.len() >= CANDIDATES {
                self.judge(std::mem::take(&mut candidates), now, section)
                    .await?;
            }
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// By name and age alone: whether a feeder of these control tables made it, and longer ago than the grace period,
    /// by the store's clock and by that of the feeder.
    fn is_candidate(&self, object: &ObjectMeta, now: SystemTime, since: SystemTime) -> bool {
        let made = file_name::made_at(object.path.as_str());
        made.is_some_and(|made| {
            // One that is older than the control tables is of a lake that was at this place before.
            made >= since && self.is_old(made, now) && self.is_old(object.last_modified, now)
        })
    }

    fn is_old(&self, time: SystemTime, now: SystemTime) -> bool {
        now.duration_since(time).is_ok_and(|age| age >= self.grace)
    }

    /// The order decides that nothing is taken that a feeder may still commit: listed, then declarations, then the
    /// catalog. An object that is listed was declared before its upload. If it is not declared any more then either
    /// a commit settled it, which the catalog, read after that, shows; or a janitor claimed it, and no commit can
    /// name it ever after.
    async fn judge(
        &self,
        mut objects: Vec<ObjectMeta>,
        now: SystemTime,
        section: &mut Section,
    ) -> Result<(), FeederError> {
        const WHY: &str = "named by neither the catalog nor a declaration";
        if objects.is_empty() {
            return Ok(());
        }
        let paths: Vec<String> = objects.iter().map(|o| o.path.to_string()).collect();
        let declared = self.declared.among(&paths).await?;
        let named = self.named(paths.iter().map(String::as_str)).await?;
        objects.retain(|object| {
            let path = object.path.as_str();
            !declared.contains(path) && !named.contains(file_name::of(path))
        });
        if objects.is_empty() {
            return Ok(());
        }
        let tables = self.tables().await?;
        objects.retain(|object| tables.hold(&object.path));
        let mut found = Vec::new();
        for object in objects {
            let age = now.duration_since(object.last_modified).unwrap_or_default();
            let mut file = Found::new(object.path, age, WHY);
            file.bytes = Some(object.size);
            found.push(file);
        }
        self.remove(found, section).await;
        Ok(())
    }

    /// Kind 3. An object is declared before its upload begins, and settled when it is complete: an upload that is not
    /// declared, among the tables of this catalog, has no owner that could commit it.
    async fn uploads(
        &self,
        due: &BTreeSet<String>,
        section: &mut Section,
    ) -> Result<(), FeederError> {
        let mut token = None;
        loop {
            let page = self.storage.list_uploads(None, token.as_ref()).await;
            let page = page.map_err(from_storage)?;
            let now = SystemTime::now();
            let mut dead = page.uploads;
            dead.retain(|upload| self.is_abandoned(upload, now));
            if !dead.is_empty() {
                let paths: Vec<String> = dead.iter().map(|u| u.path.to_string()).collect();
                let declared = self.declared.among(&paths).await?;
                let tables = self.tables().await?;
                for upload in dead {
                    let path = upload.path.as_str();
                    let owned = declared.contains(path) && !due.contains(path);
                    if !owned && tables.hold(&upload.path) {
                        self.abort(&upload, now, section).await;
                    }
                }
            }
            token = page.next;
            if token.is_none() {
                return Ok(());
            }
        }
    }

    fn is_abandoned(&self, upload: &OpenUpload, now: SystemTime) -> bool {
        let path = upload.path.as_str();
        let ours = file_name::made_at(path).is_some() || file_name::is_temporary(path);
        ours && self.is_old(upload.started, now)
    }

    /// Another lake may lie below this one's data path.
    async fn tables(&self) -> Result<Tables, FeederError> {
        let directories = self.catalog.table_directories().await;
        Ok(Tables {
            root: with_slash(&self.storage.url()),
            directories: directories.map_err(from_catalog)?.into_iter().collect(),
        })
    }

    async fn abort(&self, upload: &OpenUpload, now: SystemTime, section: &mut Section) {
        let age = now.duration_since(upload.started).unwrap_or_default();
        let found = Found::new(
            upload.path.clone(),
            age,
            "an upload that was never completed",
        );
        let answer = if self.delete {
            Some(self.storage.abort_upload(upload).await)
        } else {
            None
        };
        section.found(found, answer);
    }

    /// Kind 4.
    async fn scheduled(&self, lake: &LakeInfo, section: &mut Section) -> Result<(), FeederError> {
        let age = lake.delete_older_than().ok_or_else(|| {
            FeederError::permanent(
                FeederErrorKind::Catalog,
                "the lake's delete_older_than is no interval",
            )
            .with_remedy("CALL lake.set_option('delete_older_than', '2 days')")
        })?;
        let mut after = None;
        loop {
            let files = self
                .catalog
                .scheduled_files(age, after.as_ref(), BATCH)
                .await
                .map_err(from_catalog)?;
            let Some(last) = files.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            self.scheduled_batch(&lake.data_path, files, section)
                .await?;
        }
    }

    async fn scheduled_batch(
        &self,
        data_path: &str,
        files: Vec<ScheduledFile>,
        section: &mut Section,
    ) -> Result<(), FeederError> {
        const WHY: &str = "scheduled for deletion by the catalog, and due";
        let names: Vec<String> = files
            .iter()
            .map(|file| file_name::of(&file.path).to_owned())
            .collect();
        let references = self.catalog.file_references(&names).await;
        let references = references.map_err(from_catalog)?;
        let root = with_slash(data_path);
        let mut found = Vec::new();
        for file in &files {
            let below = file.path.strip_prefix(&root).map(ObjectPath::parse);
            let Some(Ok(path)) = below else {
                section.refuse_elsewhere(&file.path, file.age, WHY);
                continue;
            };
            let entry = Found::new(path, file.age, WHY);
            if references.iter().any(|row| names_still(row, &file.path)) {
                section.refuse(entry, "a snapshot names it");
            } else {
                found.push(entry);
            }
        }
        let gone: BTreeSet<String> = self.clear(found, section).await.into_iter().collect();
        if self.delete {
            let is_gone = |file: &&ScheduledFile| {
                let path = file.path.strip_prefix(&root);
                path.is_some_and(|path| gone.contains(path))
            };
            let gone: Vec<ScheduledFile> = files.iter().filter(is_gone).cloned().collect();
            self.catalog
                .forget_scheduled_files(&gone)
                .await
                .map_err(from_catalog)?;
        }
        Ok(())
    }

    /// The file names among `paths` that the catalog names, in whichever directory. Names of duckfeeder's are unique,
    /// so that this errs on the safe side only, whatever somebody did to the paths of the lake.
    async fn named(
        &self,
        paths: impl Iterator<Item = &str>,
    ) -> Result<BTreeSet<String>, FeederError> {
        let names: Vec<String> = paths.map(|path| file_name::of(path).to_owned()).collect();
        let references = self.catalog.file_references(&names).await;
        let references = references.map_err(from_catalog)?;
        Ok(references.into_iter().map(|row| row.name).collect())
    }

    /// Removes files that may be gone already; returns the paths where nothing is left.
    async fn clear(&self, files: Vec<Found>, section: &mut Section) -> Vec<String> {
        let mut there = Vec::new();
        let mut gone = Vec::new();
        let mut heads = futures_util::stream::iter(files)
            .map(async |mut file| {
                let head = self.storage.head(&file.path).await;
                file.bytes = head.as_ref().ok().map(|object| object.size);
                (file, head.err())
            })
            .buffered(HEADS);
        while let Some((file, error)) = heads.next().await {
            match error {
                None => there.push(file),
                Some(error) if error.kind() == StorageErrorKind::NotFound => {
                    section.already_gone += 1;
                    gone.push(file.path.to_string());
                }
                Some(error) => section.found(file, Some(Err(error))),
            }
        }
        drop(heads);
        gone.extend(self.remove(there, section).await);
        gone
    }

    /// Deletes objects, or only reports them; returns the paths of those that are gone.
    async fn remove(&self, files: Vec<Found>, section: &mut Section) -> Vec<String> {
        let mut gone = Vec::new();
        let mut files = files.into_iter().peekable();
        while files.peek().is_some() {
            let batch: Vec<Found> = files.by_ref().take(DELETIONS).collect();
            if !self.delete {
                for file in batch {
                    section.found(file, None);
                }
                continue;
            }
            let paths: Vec<ObjectPath> = batch.iter().map(|file| file.path.clone()).collect();
            let results = self.storage.delete_all(&paths).await;
            for (file, result) in batch.into_iter().zip(results) {
                if result.is_ok() {
                    gone.push(file.path.to_string());
                }
                section.found(file, Some(result));
            }
        }
        gone
    }
}

/// Whether a row keeps a file from being deleted.
fn names_still(row: &FileReference, path: &str) -> bool {
    let same = match &row.path {
        Some(known) => known == path,
        // Nobody knows where it is; the name is all there is to compare.
        None => row.name == file_name::of(path),
    };
    !row.scheduled && same
}

/// Where the tables of the catalog keep their files.
struct Tables {
    /// Of the store, with a slash at its end, as the directories have.
    root: String,
    directories: BTreeSet<String>,
}

impl Tables {
    /// Whether a path lies in one of the directories, or below one.
    fn hold(&self, path: &ObjectPath) -> bool {
        let path = format!("{}{path}", self.root);
        path.match_indices('/').any(|(slash, _)| {
            path.get(..=slash)
                .is_some_and(|directory| self.directories.contains(directory))
        })
    }
}

fn with_slash(directory: &str) -> String {
    format!("{}/", directory.trim_end_matches('/'))
}

/// A store that is asked to delete says so for each object.
type Deleted = Result<(), StorageError>;
