//! A mixed load with a fault again and again: everything is ridden out, memory and open files stay bounded, and at the end
//! the lake equals its source. The long form takes half an hour.

use std::{
    net::TcpListener,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder, Options, Postgres, StoreKind,
    feeder::Config,
    postgres::SUPERUSER,
    process::Signal,
    proxy::Fault as StoreFault,
    tcp_proxy::TcpProxy,
    tools::{default_major, target_dir},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::rig::{CATALOG, Rig, SOURCE, long, seed, size};
use load::{Load, SCHEMA, TABLES};
use samples::{Places, Sampler, figures};

mod load;
mod samples;

/// `limits.memory`, in MiB.
const BUDGET: u64 = 64;

/// What a process of ours needs beside it, in MiB: code, runtime, Parquet encoders, uploads, the allocator's slack.
const CONSTANT: u64 = 192;

/// Connections to source, catalog and store, and what the runtime has open.
const OPEN_FILES: u64 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    StoreRefuses,
    StoreOverloaded,
    StoreSlow,
    CatalogRestarts,
    CatalogCut,
    CatalogHalfOpen,
    WalsenderTerminated,
    SourceRestarts,
    SourceHalfOpen,
    Killed,
    Stopped,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::StoreRefuses,
        Self::StoreOverloaded,
        Self::StoreSlow,
        Self::CatalogRestarts,
        Self::CatalogCut,
        Self::CatalogHalfOpen,
        Self::WalsenderTerminated,
        Self::SourceRestarts,
        Self::SourceHalfOpen,
        Self::Killed,
        Self::Stopped,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::StoreRefuses => "store refuses connections",
            Self::StoreOverloaded => "store answers 503",
            Self::StoreSlow => "store is slow",
            Self::CatalogRestarts => "catalog restarts",
            Self::CatalogCut => "catalog connections cut",
            Self::CatalogHalfOpen => "catalog half-open",
            Self::WalsenderTerminated => "walsender terminated",
            Self::SourceRestarts => "source restarts",
            Self::SourceHalfOpen => "source half-open",
            Self::Killed => "process killed",
            Self::Stopped => "process stopped for a while",
        }
    }

    /// An answer that was under way when the connection died without a word is waited for for minutes.
    fn fits(self) -> bool {
        long() || self != Self::CatalogHalfOpen
    }
}

/// Source, catalog and store, each with something in front of it, and the feeder between them.
struct Ground {
    rig: Rig,
    source: Postgres,
    to_source: TcpProxy,
    to_catalog: TcpProxy,
    feeder: Option<Feeder>,
    sampler: Sampler,
    began: Instant,
    /// The greatest memory of processes that are gone, in bytes.
    peak: u64,
}

impl Ground {
    fn new() -> Result<Self> {
        let pages = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let interval = size("500ms", "5s");
        let rig = Rig::in_store(
            StoreKind::S3,
            default_major()?,
            &Options::default(),
            |config| config,
        )?;
        let patience = Options::default().setting("wal_sender_timeout", "6s");
        let source = Postgres::start(default_major()?, &patience)?;
        source.create_database(SOURCE)?;
        source.sql(SOURCE, SCHEMA)?;
        let to_source = TcpProxy::start(source.port())?;
        let to_catalog = TcpProxy::start(rig.pg.port())?;
        let config = Config::new(
            &to_source.url(SUPERUSER, SOURCE),
            Some(&to_catalog.url(SUPERUSER, CATALOG)),
        )
        .line("storage", "region = \"us-east-1\"")
        .line("flush", &format!("interval = \"{interval}\""))
        .line("limits", &format!("memory = \"{BUDGET}MiB\""))
        .line("server", &format!("listen = \"127.0.0.1:{pages}\""));
        rig.setup.configure(&rig.store.configure(config)?)?;
        let feeder = rig.stream(&TABLES)?;
        let began = Instant::now();
        let places = Places {
            source: source.url(SUPERUSER, SOURCE),
            catalog: rig.pg.url(SUPERUSER, CATALOG),
            pages,
        };
        let sampler = Sampler::start(places, feeder.pid(), began);
        Ok(Self {
            rig,
            source,
            to_source,
            to_catalog,
            feeder: Some(feeder),
            sampler,
            began,
            peak: 0,
        })
    }

    fn feeder(&mut self) -> Result<&mut Feeder> {
        let feeder = self.feeder.as_mut().context("no feeder")?;
        feeder.expect_running()?;
        Ok(feeder)
    }

    /// Makes the fault and takes it back after `lasts`.
    fn suffer(&mut self, fault: Fault, lasts: Duration) -> Result<()> {
        self.feeder()?;
        let store = self.rig.store.proxy()?;
        let store_fault = match fault {
            Fault::StoreRefuses => Some(StoreFault::Refuse),
            Fault::StoreOverloaded => Some(StoreFault::status(
                503,
                "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
            )),
            Fault::StoreSlow => Some(StoreFault::Throttle {
                bytes_per_second: 128 << 10,
            }),
            _ => None,
        };
        if let Some(store_fault) = store_fault {
            store.set(store_fault);
            thread::sleep(lasts);
            store.clear();
            return Ok(());
        }
        match fault {
            Fault::CatalogRestarts => {
                self.rig.pg.stop(Signal::Int)?;
                thread::sleep(lasts);
                self.rig.pg.start_again()?;
            }
            Fault::CatalogCut => self.to_catalog.cut(),
            Fault::CatalogHalfOpen => {
                self.to_catalog.hang();
                thread::sleep(lasts);
                // Until then the lock of the feeder would keep the next process out.
                self.to_catalog.let_server_notice();
            }
            Fault::WalsenderTerminated => {
                self.source.sql(
                    SOURCE,
                    "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
                )?;
            }
            Fault::SourceRestarts => {
                self.source.stop(Signal::Int)?;
                thread::sleep(lasts);
                self.source.start_again()?;
            }
            Fault::SourceHalfOpen => self.to_source.hang(),
            Fault::Killed => {
                let old = self.feeder.take().context("no feeder")?;
                self.peak = self.peak.max(old.peak_memory()?);
                old.kill()?;
                let feeder = self.rig.setup.spawn()?;
                self.sampler.follow(feeder.pid());
                self.feeder = Some(feeder);
            }
            Fault::Stopped => {
                self.feeder()?.signal(Signal::Stop)?;
                thread::sleep(lasts);
                self.feeder()?.signal(Signal::Cont)?;
            }
            Fault::StoreRefuses | Fault::StoreOverloaded | Fault::StoreSlow => {}
        }
        Ok(())
    }

    /// Watches until `until`; returns when the lake had all that the source had at the beginning of the watch.
    fn watch(&mut self, until: Instant) -> Result<Option<Duration>> {
        let began = Instant::now();
        let target = self
            .source
            .scalar(SOURCE, "select pg_current_wal_lsn()::text")?
            .context("no WAL")?;
        let sql = format!(
            "select (confirmed_flush_lsn >= '{target}')::text from pg_replication_slots where slot_name = 'duckfeeder_test'"
        );
        let mut caught_up = None;
        while Instant::now() < until {
            self.feeder()?;
            if caught_up.is_none() && self.source.scalar(SOURCE, &sql)?.as_deref() == Some("true") {
                caught_up = Some(began.elapsed());
            }
            thread::sleep(Duration::from_millis(200));
        }
        Ok(caught_up)
    }

    fn equal(&self) -> Result<()> {
        duckfeeder_tests::compare::Oracle::open(&self.source, SOURCE, &self.rig.lake)?
            .check_all(&TABLES)
    }
}

#[test]
fn a_mixed_load_with_a_fault_again_and_again_loses_and_repeats_nothing() -> Result<()> {
    let lasts = match std::env::var("DUCKFEEDER_TEST_SOAK_MINUTES") {
        Ok(minutes) => Duration::from_mins(minutes.parse()?),
        Err(_) => size(Duration::from_secs(44), Duration::from_mins(30)),
    };
    let every = size(Duration::from_secs(4), Duration::from_secs(20));
    let seed = seed()?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut ground = Ground::new()?;
    let load = Load::start(&ground.source.url(SUPERUSER, SOURCE), seed);
    let mut marks = Vec::new();
    let mut bag: Vec<Fault> = Vec::new();
    println!(
        "| at | fault | lasted | everything up to its end in the lake after |\n|---|---|---|---|"
    );
    let end = ground.began + lasts;
    let mut next = ground.began + every / 2;
    ground.watch(next)?;
    while next + every / 2 < end {
        // Each once, in another order each time.
        if bag.is_empty() {
            bag.extend(Fault::ALL.into_iter().filter(|fault| fault.fits()));
            bag.shuffle(&mut rng);
        }
        let fault = bag.pop().context("no fault")?;
        let span = rng.random_range(size(500..=1500, 2_000..=12_000));
        let at = ground.began.elapsed();
        marks.push((at.as_secs_f64(), fault.name().to_owned()));
        ground
            .suffer(fault, Duration::from_millis(span))
            .with_context(|| format!("{} at {at:.1?}", fault.name()))?;
        let lasted = ground.began.elapsed().saturating_sub(at);
        next += every;
        let caught_up = ground
            .watch(next)
            .with_context(|| format!("after {} at {at:.1?}", fault.name()))?;
        let caught_up = caught_up.map_or_else(
            || "not before the next".to_owned(),
            |after| format!("{after:.1?}"),
        );
        println!(
            "| {at:.1?} | {} | {lasted:.1?} | {caught_up} |",
            fault.name()
        );
    }
    let transactions = load.stop()?;
    let stopped = Instant::now();
    // A position could be confirmed before the flush of what comes after it: the last row itself is waited for.
    ground
        .source
        .sql(SOURCE, "insert into calm values (0, 'the end')")?;
    let feeder = ground.feeder.as_mut().context("no feeder")?;
    ground
        .rig
        .wait_for(feeder, "exists (from lake.raw.calm where v = 'the end')")?;
    println!("caught up {:.1?} after the load ended", stopped.elapsed());
    let equal = ground.equal();
    let peak = ground.peak.max(ground.feeder()?.peak_memory()?);
    let feeder = ground.feeder.take().context("no feeder")?;
    // Whatever the comparison says, the figures are there to be looked at.
    report(ground.sampler, &marks, transactions, peak, seed)?;
    equal?;
    println!("equal, no position repeated");
    feeder.terminate()
}

fn report(
    sampler: Sampler,
    marks: &[(f64, String)],
    transactions: u64,
    peak: u64,
    seed: u64,
) -> Result<()> {
    let samples = sampler.stop()?;
    let folder: PathBuf = target_dir()?.join("tmp/soak");
    let bound = (BUDGET + CONSTANT) << 20;
    let title = format!(
        "{} faults, {transactions} transactions, seed {seed}",
        marks.len()
    );
    samples::write(&folder, &samples, marks, (bound, OPEN_FILES), &title)?;
    let found = figures(&samples);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{title}\n\
         resident memory at most {} MiB (peak {} MiB) of a budget of {BUDGET} MiB and a constant of {CONSTANT} MiB; \
         open files at most {} of {OPEN_FILES}\n\
         lag at most {} MiB; paused in {} of {} samples; lake: {} files, {} MiB\n{}",
        mib(found.rss),
        mib(peak),
        found.open_files,
        mib(found.lag),
        found.paused,
        found.samples,
        found.files,
        mib(found.bytes),
        folder.display()
    );
    ensure!(
        found.samples > 10 && found.files > 0,
        "too few samples: {found:?}"
    );
    ensure!(peak <= bound && found.rss <= bound, "{found:?}");
    ensure!(found.open_files <= OPEN_FILES, "{found:?}");
    Ok(())
}
