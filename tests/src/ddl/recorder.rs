//! A reader that is attached throughout: it reads snapshots when they are made, each that changes a table's columns among
//! them, and again at the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{
    duckdb::DuckDb,
    lake::{Lake, qualified},
    postgres::{connect, query},
};

/// Of snapshots that only bring rows, one in so many is recorded: a table is read whole each time.
const EVERY: i64 = 10;

/// What a table was at a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The snapshot.
    pub version: i64,
    /// Schema and name at it.
    pub table: (String, String),
    /// Its columns and their types, the number of its rows, and a checksum of them.
    pub content: Vec<Option<String>>,
}

/// The reader, in a thread.
#[derive(Debug)]
pub struct Recorder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(DuckDb, Vec<Record>)>>,
}

impl Recorder {
    /// Starts to read, as soon as there is a lake. `catalog` is the URL of its database.
    pub fn start(lake: &Lake, catalog: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (lake, catalog, asked) = (lake.clone(), catalog.to_owned(), Arc::clone(&stop));
        Self {
            stop,
            thread: thread::spawn(move || record(&lake, &catalog, &asked)),
        }
    }

    /// Ends the recording when everything that is there is recorded, and reads all of it again: with the
    /// reader that was attached throughout, and with one that is new. Returns how much that was.
    ///
    /// # Errors
    /// Any error that a reader ever had, or what reads otherwise than when it was made.
    pub fn finish(self, lake: &Lake) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut attached, records) = self
            .thread
            .join()
            .map_err(|_| anyhow!("the recorder panicked"))??;
        let mut fresh = lake.open()?;
        for (who, db) in [("attached", &mut attached), ("new", &mut fresh)] {
            for record in &records {
                let again = content(db, record.version, &record.table)
                    .with_context(|| format!("the {who} reader, later"))?;
                ensure!(
                    again == record.content,
                    "{:?} at version {} was {:?}; to the {who} reader it is {again:?} now",
                    record.table,
                    record.version,
                    record.content
                );
            }
        }
        Ok(records.len())
    }
}

fn record(lake: &Lake, catalog: &str, stop: &AtomicBool) -> Result<(DuckDb, Vec<Record>)> {
    // Before there is a lake, there is nothing to attach.
    let mut db = loop {
        match lake.open() {
            Ok(db) => break db,
            Err(error) if stop.load(Ordering::Relaxed) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    };
    let mut client = connect(catalog)?;
    let mut records = Vec::new();
    let mut seen = 0;
    loop {
        // Asked before the look, so that the last look comes after everything.
        let is_last = stop.load(Ordering::Relaxed);
        let changed = query(
            &mut client,
            &format!(
                "select s.snapshot_id::text, n.schema_name, t.table_name \
                   from ducklake_snapshot s \
                   join ducklake_table t on t.begin_snapshot <= s.snapshot_id \
                        and (t.end_snapshot is null or s.snapshot_id < t.end_snapshot) \
                   join ducklake_schema n on n.schema_id = t.schema_id \
                  where s.snapshot_id > {seen} \
                    and (t.begin_snapshot = s.snapshot_id \
                         or s.snapshot_id % {EVERY} = 0 and exists (select from ducklake_data_file f \
                                 where f.table_id = t.table_id and s.snapshot_id in (f.begin_snapshot, f.end_snapshot)) \
                         or exists (select from ducklake_column c where c.table_id = t.table_id \
                                       and s.snapshot_id in (c.begin_snapshot, c.end_snapshot))) \
                  order by s.snapshot_id, t.table_id"
            ),
        )?;
        for row in changed {
            let mut row = row.into_iter().flatten();
            let (version, schema, table) = row
                .next()
                .zip(row.next())
                .zip(row.next())
                .map(|((version, schema), table)| (version, schema, table))
                .context("a snapshot without a table")?;
            let (version, table) = (version.parse()?, (schema, table));
            let content = content(&mut db, version, &table).context("the attached reader")?;
            records.push(Record {
                version,
                table,
                content,
            });
            seen = seen.max(version);
        }
        if is_last {
            return Ok((db, records));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn content(db: &mut DuckDb, version: i64, table: &(String, String)) -> Result<Vec<Option<String>>> {
    let at = format!(
        "{} at (version => {version})",
        qualified(&table.0, &table.1)
    );
    let read = db.query(&format!(
        "select (select string_agg(column_name || ' ' || column_type, ', ') from (describe select * from {at})), \
                count(*), sum(hash(t)) from (from {at}) t"
    ))?;
    read.rows
        .into_iter()
        .next()
        .context("no row of an aggregate")
}
