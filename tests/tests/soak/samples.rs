//! What a feeder looks like from outside, second by second.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use duckfeeder_tests::{
    plot::{Panel, svg},
    postgres::{connect, query},
};
use postgres::Client;

use crate::stores::page;

const EVERY: Duration = Duration::from_secs(1);

/// `None` is what could not be asked for: the process is stopped or gone, a server is down.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    at: f64,
    /// WAL of the source that is not acknowledged.
    lag_bytes: Option<u64>,
    /// Resident memory.
    rss: Option<u64>,
    open_files: Option<u64>,
    /// Files of the lake that the catalog names.
    files: Option<u64>,
    /// Their size.
    bytes: Option<u64>,
    paused: Option<bool>,
}

/// Where to look.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// URL of the source database, past any proxy.
    pub(super) source: String,
    /// URL of the catalog database, past any proxy.
    pub(super) catalog: String,
    /// The port of the feeder's pages.
    pub(super) pages: u16,
}

/// Looks once a second until it is stopped.
#[derive(Debug)]
pub(super) struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    pid: AtomicU32,
    stop: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Sampler {
    pub(super) fn start(places: Places, pid: u32, began: Instant) -> Self {
        let shared = Arc::new(Shared {
            began,
            pid: AtomicU32::new(pid),
            stop: AtomicBool::new(false),
            samples: Mutex::default(),
        });
        let looking = Arc::clone(&shared);
        let thread = thread::spawn(move || look(&looking, &places));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Another process is the feeder now.
    pub(super) fn follow(&self, pid: u32) {
        self.shared.pid.store(pid, Ordering::Relaxed);
    }

    pub(super) fn stop(mut self) -> Result<Vec<Sample>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the sampler panicked"))?;
        }
        let mut samples = self
            .shared
            .samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *samples))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn look(shared: &Shared, places: &Places) {
    let (mut source, mut catalog) = (None, None);
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let pid = shared.pid.load(Ordering::Relaxed);
        let lag = ask(
            &mut source,
            &places.source,
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
             from pg_replication_slots where slot_name = 'duckfeeder_test'",
        );
        let lake = ask(
            &mut catalog,
            &places.catalog,
            "select count(*), coalesce(sum(file_size_bytes), 0)::bigint from ducklake_data_file where end_snapshot is null",
        );
        let status = page(places.pages, "/status", Duration::from_millis(300));
        let sample = Sample {
            at: shared.began.elapsed().as_secs_f64(),
            lag_bytes: number(lag.as_ref(), 0),
            rss: resident(pid).ok(),
            open_files: fs::read_dir(format!("/proc/{pid}/fd"))
                .ok()
                .and_then(|folder| u64::try_from(folder.count()).ok()),
            files: number(lake.as_ref(), 0),
            bytes: number(lake.as_ref(), 1),
            paused: status.ok().and_then(|text| {
                let status: serde_json::Value = serde_json::from_str(&text).ok()?;
                status.get("paused")?.as_bool()
            }),
        };
        let mut samples = shared
            .samples
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        samples.push(sample);
        drop(samples);
        due += EVERY;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// The first row, by a connection that is kept while it works.
fn ask(client: &mut Option<Client>, url: &str, sql: &str) -> Option<Vec<Option<String>>> {
    let mut open = client.take().or_else(|| connect(url).ok())?;
    let rows = query(&mut open, sql).ok()?;
    *client = Some(open);
    rows.into_iter().next()
}

fn number(row: Option<&Vec<Option<String>>>, column: usize) -> Option<u64> {
    row?.get(column)?.as_ref()?.parse().ok()
}

fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS line")?;
    Ok(kib.parse::<u64>()? * 1024)
}

/// What must hold of all samples, and what to say of them.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) rss: u64,
    pub(super) open_files: u64,
    pub(super) lag: u64,
    pub(super) paused: usize,
    pub(super) samples: usize,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

pub(super) fn figures(samples: &[Sample]) -> Figures {
    let most = |figure: fn(&Sample) -> Option<u64>| samples.iter().filter_map(figure).max();
    Figures {
        rss: most(|sample| sample.rss).unwrap_or_default(),
        open_files: most(|sample| sample.open_files).unwrap_or_default(),
        lag: most(|sample| sample.lag_bytes).unwrap_or_default(),
        paused: samples
            .iter()
            .filter(|sample| sample.paused == Some(true))
            .count(),
        samples: samples.len(),
        files: most(|sample| sample.files).unwrap_or_default(),
        bytes: most(|sample| sample.bytes).unwrap_or_default(),
    }
}

/// Writes `samples.csv` and `soak.svg` into a folder.
pub(super) fn write(
    folder: &Path,
    samples: &[Sample],
    marks: &[(f64, String)],
    bounds: (u64, u64),
    title: &str,
) -> Result<()> {
    fs::create_dir_all(folder)?;
    let cell = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut csv =
        "seconds,lag_bytes,rss_bytes,open_files,lake_files,lake_bytes,paused\n".to_owned();
    for sample in samples {
        writeln!(
            csv,
            "{:.1},{},{},{},{},{},{}",
            sample.at,
            cell(sample.lag_bytes),
            cell(sample.rss),
            cell(sample.open_files),
            cell(sample.files),
            cell(sample.bytes),
            cell(sample.paused.map(u64::from))
        )?;
    }
    fs::write(folder.join("samples.csv"), csv)?;
    let panel =
        |title: &str, divisor: f64, bound: Option<u64>, figure: fn(&Sample) -> Option<u64>| Panel {
            title: title.to_owned(),
            points: samples
                .iter()
                .map(|sample| {
                    (
                        sample.at,
                        figure(sample).map(|value| float(value) / divisor),
                    )
                })
                .collect(),
            bound: bound.map(|bound| float(bound) / divisor),
        };
    let mib = f64::from(1 << 20);
    let panels = [
        panel("lag, MiB of WAL", mib, None, |sample| sample.lag_bytes),
        panel("resident memory, MiB", mib, Some(bounds.0), |sample| {
            sample.rss
        }),
        panel("open files", 1.0, Some(bounds.1), |sample| {
            sample.open_files
        }),
        panel("files of the lake", 1.0, None, |sample| sample.files),
        panel("size of the lake, MiB", mib, None, |sample| sample.bytes),
        panel("paused", 1.0, None, |sample| sample.paused.map(u64::from)),
    ];
    fs::write(folder.join("soak.svg"), svg(title, &panels, marks))?;
    Ok(())
}

/// Exact below 2^32 times 2^20, which is more than is drawn here.
fn float(value: u64) -> f64 {
    let high = u32::try_from(value >> 20).unwrap_or(u32::MAX);
    let low = u32::try_from(value & 0xf_ffff).unwrap_or_default();
    f64::from(high) * f64::from(1 << 20) + f64::from(low)
}
