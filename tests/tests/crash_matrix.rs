//! A feeder dies at every named point of its way, in three situations, under load; afterwards nothing is lost and
//! nothing is there twice.
//!
//! Each cell is a life that ends at one point and is followed by the next life, from where the dead one left off. What
//! is lost or there twice stays so, whatever comes after (but for losses of the tables that are copied again); so the
//! lake is held against the source after every few lives, in the long form more often. The short form tries what is
//! expected to happen, the long form everything.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use duckfeeder_tests::{
    Options,
    bank::{Bank, Clients, TABLES},
    lake::snapshots,
    process::tail,
};
use serde_json::Value;

use crate::{
    load::expect_consistent_cuts,
    rig::{CATALOG, PATIENCE, Rig, SOURCE, long, seed, size},
};

/// Arms a point in the process that it is set for.
const FAILPOINT: &str = "DUCKFEEDER_TEST_FAILPOINT";

/// Tables beside the bank's: with large values that updates leave alone, never written to, large, truncated again and
/// again.
const OTHERS: [&str; 4] = ["documents", "idle", "bulk", "cleared"];

/// Reached by every start.
const START: &[&str] = &[
    "lake-made",
    "publications-made",
    "feeder-fenced",
    "tables-registered",
    "lake-tables-made",
    "publications-stored",
];

/// Reached by the very first start alone.
const FIRST_START: &[&str] = &[
    "migration-before-commit",
    "migration-committed",
    "slot-made",
    "feeder-registered",
];

/// Reached by whatever writes files and commits them.
const WRITE: &[&str] = &[
    "file-declared",
    "encode-before",
    "encode-after",
    "file-encoded",
    "dead-letters-uploaded",
    "truncate-received",
    "commit-before-lock",
    "commit-before-commit",
    "commit-after",
    "commit-answer-lost",
    "acknowledge-before",
    "acknowledge-after",
    "advance-before",
    "advance-after",
    "resync-requested",
    "resyncs-taken",
    "janitor-claimed",
    "janitor-deleted",
    "janitor-released",
];

/// Reached by small files.
const PUT: &[&str] = &["put-before", "put-after"];

/// Reached by files of several row groups.
const UPLOAD: &[&str] = &[
    "upload-begun",
    "upload-part",
    "upload-before-complete",
    "upload-complete",
];

/// Reached by copies.
const COPY: &[&str] = &[
    "copy-states-written",
    "copy-snapshot-exported",
    "copy-snapshot-shared",
    "copy-range-read",
    "copy-range-uploaded",
    "copy-finished",
    "copy-before-commit",
    "copy-committed",
];

/// Reached by transactions that are larger than the memory.
const SPILL: &[&str] = &["spill-uploaded"];

/// No deaths, and not survived by one process alone: `standby` has them.
const OF_TWO: &[&str] = &["commit-overslept"];

/// What the feeder is doing when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    FirstCopy,
    Streaming,
    LargeTransaction,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario::FirstCopy,
    Scenario::Streaming,
    Scenario::LargeTransaction,
];

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::FirstCopy => "first copy",
            Self::Streaming => "streaming",
            Self::LargeTransaction => "large transaction",
        }
    }

    /// The points that must be reached.
    fn expected(self) -> Vec<&'static str> {
        let groups: &[&[&str]] = match self {
            Self::FirstCopy => &[FIRST_START, START, COPY, PUT, UPLOAD, WRITE],
            Self::Streaming => &[START, PUT, WRITE],
            Self::LargeTransaction => &[START, PUT, SPILL, WRITE],
        };
        groups.concat()
    }
}

/// What became of a life that was to end at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It died there, so often, and the next life went on.
    Killed(u32),
    /// The fault was met and survived.
    Survived,
    /// It never came there.
    NotReached,
    /// The short form does not try what is not expected.
    NotTried,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(1) => f.pad("killed"),
            Self::Killed(times) => f.pad(&format!("killed {times} times")),
            Self::Survived => f.pad("survived"),
            Self::NotReached => f.pad("not reached"),
            Self::NotTried => f.pad("not tried"),
        }
    }
}

/// One situation: a source under load and a lake, and what happened to their feeders.
struct Trial {
    scenario: Scenario,
    rig: Rig,
    bank: Bank,
    clients: Option<Clients>,
    seed: u64,
    checkpoint: Option<String>,
    outcomes: BTreeMap<String, Outcome>,
    unchecked: u32,
}

impl Trial {
    fn start(scenario: Scenario, seed: u64) -> Result<Self> {
        let rig = Rig::with(&Options::default(), |config| {
            config.line("limits", "memory = \"16MiB\"")
        })?;
        let rows = match scenario {
            // Several row groups of the size that this memory allows a copy.
            Scenario::FirstCopy => 20_000,
            Scenario::Streaming => 1_000,
            Scenario::LargeTransaction => 12_000,
        };
        let bank = Bank::create(&rig.pg, SOURCE, 1, 1_000)?.resting(Duration::from_millis(10));
        rig.source(&format!(
            "create table documents (id int primary key, n int, body text);
             alter table documents alter body set storage external;
             insert into documents select g, 0, repeat(md5(g::text), 200) from generate_series(1, 50) g;
             create table idle (id int primary key, note text);
             insert into idle select g, 'idle' from generate_series(1, 100) g;
             create table cleared (id int primary key);
             create table odd (id serial primary key, price numeric(10, 2));
             insert into odd (price) values ('NaN'), (1);
             create table bulk (id int primary key, payload text);
             insert into bulk select g, (select string_agg(md5(g::text || i), '') from generate_series(1, 18) i)
                 from generate_series(1, {rows}) g;
             create schema unfed; create table unfed.noise (t text)"
        ))?;
        let mut trial = Self {
            scenario,
            rig,
            bank,
            clients: None,
            seed,
            checkpoint: None,
            outcomes: BTreeMap::new(),
            unchecked: 0,
        };
        trial.load();
        Ok(trial)
    }

    fn load(&mut self) {
        if self.clients.is_none() {
            self.seed = self.seed.wrapping_add(1);
            self.clients = Some(self.bank.start(1, self.seed));
        }
    }

    fn quiet(&mut self) -> Result<()> {
        self.clients.take().map_or(Ok(0), Clients::stop).map(drop)
    }

    /// All points, each as far as it is expected here or everything is tried.
    fn run(mut self, points: &[String]) -> Result<BTreeMap<String, Outcome>> {
        let begun = Instant::now();
        let expected = self.scenario.expected();
        if self.scenario == Scenario::FirstCopy {
            self.migrations()?;
        } else {
            self.rig.catch_up()?;
        }
        for point in points {
            if self.outcomes.contains_key(point) {
                continue;
            }
            let is_expected = expected.contains(&point.as_str());
            let outcome = if is_expected || long() {
                self.cell(point)
                    .with_context(|| format!("{}: at {point}", self.scenario.name()))?
            } else {
                Outcome::NotTried
            };
            ensure!(
                !is_expected || matches!(outcome, Outcome::Killed(_) | Outcome::Survived),
                "{}: {point} was not reached",
                self.scenario.name()
            );
            println!(
                "{:6.1} s {}: {point}: {outcome}",
                begun.elapsed().as_secs_f64(),
                self.scenario.name()
            );
            self.outcomes.insert(point.clone(), outcome);
        }
        if let Some(clients) = &self.clients {
            clients.wait_for_more(20)?;
        }
        self.quiet()?;
        self.check()?;
        self.check_history()?;
        Ok(self.outcomes)
    }

    /// Each migration dies before its COMMIT, then after it; a start goes on from any of them.
    fn migrations(&mut self) -> Result<()> {
        let script = self.rig.setup.run(&["migrate", "--print"])?.stdout;
        let all = script.matches("insert into duckfeeder.migrations").count();
        let all = u32::try_from(all)?;
        ensure!(all > 0, "there is nothing to migrate");
        for migration in 1..=all {
            for point in ["migration-before-commit", "migration-committed"] {
                let outcome = self
                    .live(point, &["run", "--until-caught-up"])
                    .with_context(|| format!("{point}, migration {migration}"))?;
                ensure!(outcome == Outcome::Killed(1), "{point}: {outcome}");
                self.outcomes
                    .insert(point.to_owned(), Outcome::Killed(migration));
            }
        }
        Ok(())
    }

    fn cell(&mut self, point: &str) -> Result<Outcome> {
        let mut args = vec!["run", "--until-caught-up"];
        match point {
            "resync-requested" => args = vec!["resync", "public.idle"],
            "resyncs-taken" => self.resync("idle")?,
            _ if point.starts_with("janitor-") => {
                self.leave_files_behind()?;
                args = vec!["maintain"];
            }
            _ => {}
        }
        // The large transaction is to come first: the rows of the others would be written before it is spilled.
        if self.scenario == Scenario::LargeTransaction {
            self.quiet()?;
        }
        self.write()?;
        // Only where nothing else happens the checkpoint moves alone.
        if point.starts_with("advance-") {
            self.quiet()?;
        } else {
            self.load();
        }
        let outcome = self.live(point, &args)?;
        self.expect_no_step_back()?;
        self.unchecked += 1;
        // A check would lead the first start to its end.
        let starting =
            self.scenario == Scenario::FirstCopy && [START, FIRST_START].concat().contains(&point);
        if !starting && self.unchecked >= size(20, 4) {
            self.check()?;
        }
        Ok(outcome)
    }

    /// One life with this point armed.
    fn live(&self, point: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = self.rig.setup.command(args)?;
        command.env(FAILPOINT, point);
        let ended = self.rig.setup.run_command(command, PATIENCE)?;
        let reached = ended.stderr.lines().any(|line| {
            line.contains("reached") && line.contains(&format!("failpoint=\"{point}\""))
        });
        match (ended.code, reached) {
            (None, true) => Ok(Outcome::Killed(1)),
            (Some(0), true) => Ok(Outcome::Survived),
            (Some(0), false) => Ok(Outcome::NotReached),
            (code, _) => bail!("ended with {code:?}\n{}", tail(&ended.stderr, 40)),
        }
    }

    /// What waits at the source for the next life, beside what the bank's clients do: one transaction.
    fn write(&self) -> Result<()> {
        let large = match self.scenario {
            Scenario::LargeTransaction => {
                "update bulk set payload = repeat(md5(id::text || clock_timestamp()), 18);"
            }
            Scenario::FirstCopy | Scenario::Streaming => "",
        };
        self.rig.source(&format!(
            "{large}
             update documents set n = n + 1 where id % 7 = 0;
             insert into odd (price) values ('NaN');
             insert into cleared select g from generate_series(1, 5) g;
             truncate cleared;
             insert into unfed.noise values ('x')"
        ))?;
        if self.scenario == Scenario::FirstCopy {
            for table in ["bulk", "odd"] {
                if self.state(table)?.as_deref() == Some("streaming") {
                    self.resync(table)?;
                }
            }
        }
        Ok(())
    }

    fn resync(&self, table: &str) -> Result<()> {
        let table = format!("public.{table}");
        self.rig.setup.run(&["resync", &table])?.expect_code(0)?;
        Ok(())
    }

    /// The state of a table, once there is one.
    fn state(&self, table: &str) -> Result<Option<String>> {
        if !self.registered()? {
            return Ok(None);
        }
        let sql =
            format!("select max(state) from duckfeeder.tables where source_table = '{table}'");
        self.rig.pg.scalar(CATALOG, &sql)
    }

    fn registered(&self) -> Result<bool> {
        let sql = "select to_regclass('duckfeeder.feeders') is not null";
        Ok(self.rig.pg.scalar(CATALOG, sql)?.as_deref() == Some("t"))
    }

    /// A file that was declared, uploaded and never committed, and is due.
    fn leave_files_behind(&self) -> Result<()> {
        let left = "select exists (select from duckfeeder.pending_files)::text";
        if self.rig.pg.scalar(CATALOG, left)?.as_deref() == Some("false") {
            self.rig.source("update documents set n = n + 1")?;
            let outcome = self.live("commit-before-lock", &["run", "--until-caught-up"])?;
            ensure!(outcome == Outcome::Killed(1), "{outcome}");
        }
        self.rig.pg.sql(
            CATALOG,
            "update duckfeeder.pending_files set created_at = created_at - interval '3 days';
             update duckfeeder.leases set expires_at = expires_at - interval '3 days'",
        )?;
        Ok(())
    }

    /// The checkpoint only ever moves on.
    fn expect_no_step_back(&mut self) -> Result<()> {
        if !self.registered()? {
            return Ok(());
        }
        let sql = "select max(checkpoint)::text from duckfeeder.feeders";
        let Some(now) = self.rig.pg.scalar(CATALOG, sql)? else {
            return Ok(());
        };
        if let Some(before) = self.checkpoint.replace(now.clone()) {
            let sql = format!("select '{before}'::pg_lsn <= '{now}'::pg_lsn");
            ensure!(
                self.rig.pg.scalar(CATALOG, &sql)?.as_deref() == Some("t"),
                "the checkpoint went from {before} back to {now}"
            );
        }
        Ok(())
    }

    /// Catches up, and holds the lake against the source.
    fn check(&mut self) -> Result<()> {
        self.unchecked = 0;
        self.quiet()?;
        self.rig.catch_up()?;
        let mut oracle = self.rig.oracle()?;
        oracle.check_all(&TABLES)?;
        oracle.check_all(&OTHERS)?;
        // Its NaN is NULL in the lake, so it cannot be compared by value.
        let odd = oracle.table("odd")?;
        oracle.no_repeats(&odd)?;
        let rows = oracle
            .db()
            .int("select count(*) from lake.raw.odd_current")?;
        let there = self
            .rig
            .pg
            .scalar(SOURCE, "select count(*)::text from odd")?;
        ensure!(
            Some(rows.to_string()) == there,
            "odd has {there:?} rows at the source, {rows} in the lake"
        );
        let rows =
            "select _df_lsn, _df_seq from lake.raw.odd where _df_unrepresentable is not null";
        let letters = "select _df_lsn, _df_seq from lake.raw._df_dead_letters";
        for (one, other, what) in [
            (rows, letters, "missing"),
            (letters, rows, "there twice or without a row"),
        ] {
            let found = oracle
                .db()
                .int(&format!("select count(*) from ({one} except all {other})"))?;
            ensure!(found == 0, "{found} dead letters are {what}");
        }
        let twice = self.rig.pg.sql(
            CATALOG,
            "select path from ducklake_data_file group by path having count(*) > 1",
        )?;
        ensure!(
            twice.is_empty(),
            "files that were committed twice: {twice:?}"
        );
        Ok(())
    }

    /// What every snapshot since the beginning says of itself.
    fn check_history(&mut self) -> Result<()> {
        let mut oracle = self.rig.oracle()?;
        let mut last = None;
        for snapshot in snapshots(oracle.db())? {
            let lsn = snapshot
                .info
                .get("lsn")
                .and_then(Value::as_str)
                .and_then(position);
            ensure!(lsn.is_some() && lsn >= last, "after {last:?}: {snapshot:?}");
            last = lsn;
        }
        expect_consistent_cuts(&mut oracle, 1)
    }
}

/// A position in the WAL as a number, from Postgres' text.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let parse = |half| u64::from_str_radix(half, 16).ok();
    Some((parse(high)? << 32) | parse(low)?)
}

/// The names of all points, from the binary itself.
fn points(rig: &Rig) -> Result<Vec<String>> {
    let mut command = rig.setup.command(&["migrate", "--print"])?;
    command.env(FAILPOINT, "?");
    let ended = rig.setup.run_command(command, PATIENCE)?;
    let (_, names) = ended
        .stderr
        .split_once("there are: ")
        .context("the binary has no failpoints: only a debug build does")?;
    let names = names.lines().next().unwrap_or_default();
    Ok(names
        .split(' ')
        .filter(|name| !OF_TWO.contains(name))
        .map(str::to_owned)
        .collect())
}

#[test]
fn a_death_at_every_point_loses_and_repeats_nothing() -> Result<()> {
    let seed = seed()?;
    let points = points(&Rig::new()?)?;
    let trials: Vec<_> = SCENARIOS
        .into_iter()
        .map(|scenario| {
            let points = points.clone();
            thread::spawn(move || Trial::start(scenario, seed)?.run(&points))
        })
        .collect();
    let columns = trials
        .into_iter()
        .map(|trial| trial.join().map_err(|_| anyhow!("a scenario panicked"))?)
        .collect::<Result<Vec<_>>>()?;

    let mut header = format!("{:26}", "");
    for scenario in SCENARIOS {
        write!(header, "{:20}", scenario.name())?;
    }
    println!("{header}");
    for point in &points {
        let mut line = format!("{point:26}");
        let mut met = false;
        for column in &columns {
            let outcome = column.get(point).context("a cell is missing")?;
            met |= matches!(outcome, Outcome::Killed(_) | Outcome::Survived);
            write!(line, "{outcome:20}")?;
        }
        println!("{line}");
        ensure!(met, "{point} is reached in no scenario");
    }
    println!("{} points", points.len());
    Ok(())
}
