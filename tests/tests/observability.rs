//! What a running feeder says of itself, compared with what the lake and the source say.
#![allow(
    clippy::float_cmp,
    reason = "what is counted is whole, and exact in a float"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder, Options, StoreKind,
    bank::{Bank, TABLES},
    feeder::Config,
    proxy::Fault,
    tools::default_major,
};
use serde_json::Value;

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, seed, size};

/// A feeder's pages.
struct Pages {
    port: u16,
}

impl Pages {
    fn new() -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        Ok(Self { port })
    }

    fn serve(&self, config: Config) -> Config {
        config.line("server", &format!("listen = \"127.0.0.1:{}\"", self.port))
    }

    fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let code = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((code, body.to_owned()))
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.get("/status")?.1)?)
    }

    fn scrape(&self) -> Result<Scrape> {
        let (code, text) = self.get("/metrics")?;
        ensure!(code == 200, "/metrics: {code}");
        Scrape::parse(&text)
    }

    /// Waits until `/readyz` has this code and says this.
    fn wait_until_ready_is(&self, feeder: &mut Feeder, code: u16, says: &str) -> Result<()> {
        let mut last = None;
        let waited = feeder.wait_until(&format!("/readyz is {code}: {says}"), PATIENCE, || {
            let answer = self.get("/readyz")?;
            let so = answer.0 == code && answer.1.contains(says);
            last = Some(answer);
            Ok(so.then_some(()))
        });
        waited.with_context(|| format!("the last answer: {last:?}"))?;
        println!(
            "/readyz: {}",
            last.map(|(_, text)| text).unwrap_or_default()
        );
        Ok(())
    }
}

/// One answer of `/metrics`.
#[derive(Debug)]
struct Scrape {
    /// Kind by name.
    kinds: BTreeMap<String, String>,
    series: Vec<(String, f64)>,
}

impl Scrape {
    fn parse(text: &str) -> Result<Self> {
        let mut scrape = Self {
            kinds: BTreeMap::new(),
            series: Vec::new(),
        };
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a kind")?;
                scrape.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                let (series, value) = line.rsplit_once(' ').context("a value")?;
                scrape.series.push((series.to_owned(), value.parse()?));
            }
        }
        Ok(scrape)
    }

    /// The sum of all series of a name with these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let found: Vec<f64> = self
            .series
            .iter()
            .filter(|(series, _)| {
                series.split('{').next() == Some(name)
                    && labels.iter().all(|label| series.contains(label))
            })
            .map(|(_, value)| *value)
            .collect();
        ensure!(!found.is_empty(), "no {name} with {labels:?}");
        Ok(found.iter().sum())
    }
}

/// Names in docs/metrics.md.
fn documented() -> Result<BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let text = fs::read_to_string(path)?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("duckfeeder_"))
        .map(str::to_owned)
        .collect())
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
fn float(count: i64) -> f64 {
    count as f64
}

#[test]
fn metrics_under_load_equal_the_lake() -> Result<()> {
    let pages = Pages::new()?;
    let rig = Rig::with(&Options::default(), |config| pages.serve(config))?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, size(5_000, 100_000))?;
    let clients = bank.start(3, seed()?);
    clients.wait_for_more(20)?;
    let mut feeder = rig.stream(&TABLES)?;
    clients.wait_for_more(size(500, 10_000))?;
    let before = pages.scrape()?;
    clients.wait_for_more(100)?;
    clients.stop()?;
    rig.wait_until_equal(&mut feeder, &TABLES)?;
    let scrape = feeder.wait_until("the lag is 0", PATIENCE, || {
        let scrape = pages.scrape()?;
        let lag =
            scrape.sum("duckfeeder_lag_seconds", &[])? + scrape.sum("duckfeeder_lag_bytes", &[])?;
        Ok((lag == 0.0).then_some(scrape))
    })?;

    let mut db = rig.lake.open()?;
    for table in TABLES {
        let source = format!("public.{table}");
        for (origin, condition) in [
            ("copy", "_df_op in ('reset', 'snapshot')"),
            ("stream", "_df_op not in ('reset', 'snapshot')"),
        ] {
            let labels = [
                ("table", source.as_str()),
                ("origin", origin),
                ("feeder", "test"),
            ];
            let counted = scrape.sum("duckfeeder_rows_total", &labels)?;
            let there = db.int(&format!(
                "select count(*) from lake.raw.\"{table}\" where {condition}"
            ))?;
            println!("{source} by {origin}: {counted} counted, {there} in the lake");
            ensure!(
                counted == float(there),
                "{source} by {origin}: {counted} counted, {there} in the lake"
            );
            ensure!(
                before.sum("duckfeeder_rows_total", &labels)? <= counted,
                "a counter fell"
            );
        }
        let bytes = rig.pg.scalar(
            CATALOG,
            &format!(
                "select sum(file_size_bytes)::bigint from ducklake_data_file f join ducklake_table t using (table_id)
                 where t.table_name = '{table}'"
            ),
        )?;
        let bytes: i64 = bytes.context("no files")?.parse()?;
        let counted = scrape.sum("duckfeeder_bytes_total", &[("table", &source)])?;
        ensure!(
            counted == float(bytes),
            "{source}: {counted} bytes counted, {bytes} in the lake"
        );
    }
    let files = rig
        .pg
        .scalar(CATALOG, "select count(*) from ducklake_data_file")?;
    let files: i64 = files.context("no files")?.parse()?;
    ensure!(
        scrape.sum("duckfeeder_file_size_bytes_count", &[])? == float(files),
        "{files} files"
    );
    for stage in ["fill", "encode", "upload", "commit", "acknowledge"] {
        let labels = [("stage", stage)];
        let count = scrape.sum("duckfeeder_epoch_stage_seconds_count", &labels)?;
        let mean = scrape.sum("duckfeeder_epoch_stage_seconds_sum", &labels)? / count;
        println!("{stage}: {count} times, {mean:.4} s on average");
        ensure!(count > 0.0, "{stage} was not measured");
    }
    let epochs = scrape.sum(
        "duckfeeder_epoch_stage_seconds_count",
        &[("stage", "commit")],
    )?;
    ensure!(
        scrape.sum("duckfeeder_freshness_seconds_count", &[])? == epochs,
        "{epochs} epochs"
    );
    ensure!(
        scrape.sum("duckfeeder_snapshots_total", &[("origin", "stream")])? == epochs,
        "{epochs} epochs"
    );
    ensure!(
        scrape.sum("duckfeeder_snapshots_total", &[("origin", "copy")])? == 4.0,
        "four copies"
    );
    ensure!(
        scrape.sum("duckfeeder_tables", &[("state", "streaming")])? == 4.0,
        "four tables"
    );
    ensure!(scrape.sum("duckfeeder_up", &[])? == 1.0, "up");
    ensure!(scrape.sum("duckfeeder_ready", &[])? == 1.0, "ready");
    let status = pages.status()?;
    ensure!(
        status["lag_seconds"] == 0.0 && status["caught_up"] == true,
        "{status}"
    );
    ensure!(status["slot"]["retained_bytes"].is_u64(), "{status}");

    let exposed: BTreeSet<String> = scrape.kinds.keys().cloned().collect();
    let mut documented = documented()?;
    // Per table of an append stream, which the binary has none of.
    ensure!(documented.remove("duckfeeder_append_rows_total"), "lacking");
    ensure!(
        exposed == documented,
        "docs/metrics.md and /metrics differ: {exposed:?}"
    );
    feeder.terminate()
}

#[test]
fn an_outage_of_the_store_shows_in_metrics_and_readiness() -> Result<()> {
    let pages = Pages::new()?;
    let rig = Rig::in_store(
        StoreKind::S3,
        default_major()?,
        &Options::default(),
        |config| pages.serve(config).line("limits", "memory = \"16MiB\""),
    )?;
    rig.source(
        "create table events (id bigint generated always as identity primary key, payload text)",
    )?;
    let load = |rows: u32| {
        rig.source(&format!(
            "insert into events (payload) select repeat(md5(g::text), 4) from generate_series(1, {rows}) g"
        ))
    };
    let mut feeder = rig.stream(&["events"])?;
    load(100)?;
    rig.wait_until_equal(&mut feeder, &["events"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    let before = pages.scrape()?;
    ensure!(
        before.sum("duckfeeder_paused_seconds_total", &[])? == 0.0,
        "paused before"
    );
    ensure!(
        before.sum("duckfeeder_retries_total", &[])? == 0.0,
        "retries before"
    );

    rig.store.proxy()?.set(Fault::Refuse);
    // More than fits into memory.
    for _ in 0..10 {
        load(10_000)?;
    }
    pages.wait_until_ready_is(&mut feeder, 503, "an error is being waited out")?;
    for _ in 0..2 {
        let last = pages.scrape()?;
        feeder.wait_until("paused seconds, retries and the lag grow", PATIENCE, || {
            let now = pages.scrape()?;
            let mut all = now.sum("duckfeeder_ready", &[])? == 0.0;
            for (name, labels) in [
                ("duckfeeder_paused_seconds_total", [("reason", "memory")]),
                ("duckfeeder_paused_seconds_total", [("reason", "error")]),
                ("duckfeeder_retries_total", [("kind", "store")]),
                ("duckfeeder_retries_total", [("kind", "upload")]),
                ("duckfeeder_lag_seconds", [("feeder", "test")]),
            ] {
                all &= now.sum(name, &labels)? > last.sum(name, &labels)?;
            }
            Ok(all.then_some(()))
        })?;
    }
    let during = pages.scrape()?;
    ensure!(
        during.sum("duckfeeder_buffered_bytes", &[])? > 0.0,
        "nothing is buffered"
    );
    let budget = during.sum("duckfeeder_memory_budget_bytes", &[])?;
    ensure!(budget == float(16 << 20), "the budget is {budget}");

    rig.store.proxy()?.clear();
    rig.wait_until_equal(&mut feeder, &["events"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    feeder.wait_until("the lag is 0", PATIENCE, || {
        let scrape = pages.scrape()?;
        Ok((scrape.sum("duckfeeder_lag_seconds", &[])? == 0.0).then_some(()))
    })?;
    feeder.terminate()
}

#[test]
fn wal_that_a_long_transaction_keeps_at_the_source_makes_the_feeder_not_ready() -> Result<()> {
    let pages = Pages::new()?;
    let rig = Rig::with(&Options::default(), |config| {
        pages
            .serve(config)
            .line("limits", "max_lag_bytes = \"24MiB\"")
    })?;
    rig.source(
        "create table fed (id int primary key); create table other (t text); insert into fed values (1)",
    )?;
    rig.setup.configure(
        &rig.store.configure(
            pages.serve(
                Config::new(
                    &rig.pg.url(duckfeeder_tests::postgres::SUPERUSER, SOURCE),
                    Some(&rig.pg.url(duckfeeder_tests::postgres::SUPERUSER, CATALOG)),
                )
                .tables(&["public.fed"])
                .line("limits", "max_lag_bytes = \"24MiB\""),
            ),
        )?,
    )?;
    let mut feeder = rig.stream(&["fed"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;

    let mut client = rig.pg.connect(SOURCE)?;
    let mut open = client.transaction()?;
    open.execute("insert into fed values (2)", &[])?;
    for _ in 0..2 {
        rig.source("insert into other select repeat('x', 1000) from generate_series(1, 30000)")?;
    }
    pages.wait_until_ready_is(
        &mut feeder,
        503,
        "bytes of WAL at the source, more than limits.max_lag_bytes",
    )?;
    feeder.wait_until("the metric follows", PATIENCE, || {
        let retained = pages
            .scrape()?
            .sum("duckfeeder_slot_retained_wal_bytes", &[])?;
        Ok((retained > float(24 << 20)).then_some(()))
    })?;
    rig.setup
        .run(&["status"])?
        .expect_code(1)?
        .expect_message(&["bytes of WAL at the source, more than limits.max_lag_bytes"])?;
    open.commit()?;
    rig.wait_until_equal(&mut feeder, &["fed"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    feeder.terminate()
}

#[test]
fn each_line_of_the_json_log_parses_and_holds_no_secret() -> Result<()> {
    const PASSWORD: &str = "a-password-that-no-log-shows";
    let pages = Pages::new()?;
    let rig = Rig::in_store(
        StoreKind::S3,
        default_major()?,
        &Options::default(),
        |config| config,
    )?;
    rig.source(&format!(
        "create table t (id int primary key, v text); insert into t values (1, 'a value of a row');
         create role feeder superuser login password '{PASSWORD}'"
    ))?;
    let user = format!("feeder:{PASSWORD}");
    let config = Config::new(
        &rig.pg.url(&user, SOURCE),
        Some(&rig.pg.url(&user, CATALOG)),
    );
    rig.setup
        .configure(&rig.store.configure(pages.serve(config))?)?;
    let mut command = rig.setup.command(&["--log", "json", "run"])?;
    command.env("DUCKFEEDER_LOG", "debug,hyper=info,h2=info");
    let mut feeder = rig.setup.spawn_command(command)?;
    rig.wait_for_copies(&mut feeder, &["t"])?;
    rig.store.proxy()?.set(Fault::Refuse);
    rig.source("insert into t values (2, 'a value of a row')")?;
    pages.wait_until_ready_is(&mut feeder, 503, "an error is being waited out")?;
    rig.store.proxy()?.clear();
    rig.source("select pg_terminate_backend(active_pid) from pg_replication_slots")?;
    rig.wait_until_equal(&mut feeder, &["t"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    let shown = format!(
        "{}\n{}\n{}",
        feeder.log(),
        pages.get("/status")?.1,
        pages.get("/metrics")?.1
    );
    for secret in [
        PASSWORD,
        duckfeeder_tests::s3::SECRET_ACCESS_KEY,
        "a value of a row",
    ] {
        ensure!(!shown.contains(secret), "{secret} is shown");
    }
    let log = feeder.log();
    feeder.terminate()?;
    let lines: Vec<&str> = log.lines().collect();
    ensure!(lines.len() > 10, "{} lines", lines.len());
    for line in lines {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        for key in ["timestamp", "level", "target"] {
            ensure!(event[key].is_string(), "no {key}: {line}");
        }
    }
    Ok(())
}

#[test]
fn a_table_in_error_says_what_it_costs() -> Result<()> {
    let pages = Pages::new()?;
    let rig = Rig::with(&Options::default(), |config| {
        pages
            .serve(config)
            .line("policy", "on_schema_change = \"stop\"")
    })?;
    rig.source("create table a (id int primary key); create table b (id int primary key)")?;
    let mut feeder = rig.stream(&["a", "b"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    rig.source("alter table a add column v text; insert into a values (1, 'x')")?;
    pages.wait_until_ready_is(
        &mut feeder,
        503,
        "`duckfeeder resync public.a` copies it again",
    )?;
    let reason = pages.status()?["tables"][0]["error"].clone();
    let reason = reason.as_str().context("no reason")?;
    pages.wait_until_ready_is(&mut feeder, 503, &format!("public.a: {reason}"))?;
    rig.source("insert into a values (2), (3), (4); insert into b values (1)")?;
    rig.wait_until_equal(&mut feeder, &["b"])?;
    feeder.wait_until("the metrics say it", PATIENCE, || {
        let scrape = pages.scrape()?;
        // It is there once something was dropped.
        let Ok(dropped) = scrape.sum(
            "duckfeeder_table_discarded_changes",
            &[("table", "public.a")],
        ) else {
            return Ok(None);
        };
        let in_error = scrape.sum("duckfeeder_tables", &[("state", "error")])?;
        Ok((in_error == 1.0 && dropped >= 3.0).then_some(()))
    })?;
    let said = rig.setup.run(&["status", "--json"])?;
    let said: Value = serde_json::from_str(&said.expect_code(1)?.stdout)?;
    ensure!(said["tables"][0]["discarded"].as_u64() >= Some(3), "{said}");
    ensure!(said["tables"][1]["rows"] == 2, "{said}");
    let told = said["tables"][0]["error"].as_str();
    ensure!(told.is_some_and(|told| told.contains(reason)), "{said}");
    // Whether it holds everything cannot be told from outside, unless the checkpoint is the end of the WAL.
    let behind = said["lag_bytes"] != 0;
    ensure!(said["lag_seconds"].is_null() == behind, "{said}");
    expect_discarded(&rig, &pages, &mut feeder, 3)?;
    // They alone are worth a commit, and a next life counts on.
    rig.source("insert into a values (5), (6)")?;
    expect_discarded(&rig, &pages, &mut feeder, 5)?;
    feeder.terminate()?;
    let mut feeder = rig.setup.spawn()?;
    rig.source("insert into a values (7)")?;
    expect_discarded(&rig, &pages, &mut feeder, 6)?;
    let said = rig.setup.run(&["status"])?;
    said.expect_message(&["changes were dropped since; mend the cause, then"])?;
    println!("{}", said.stdout);
    rig.setup.run(&["resync", "public.a"])?.expect_code(0)?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    rig.wait_until_equal(&mut feeder, &["a", "b"])?;
    feeder.terminate()
}

/// Waits until page and command name this number of dropped changes.
fn expect_discarded(rig: &Rig, pages: &Pages, feeder: &mut Feeder, changes: u64) -> Result<()> {
    let mut last = None;
    let waited = feeder.wait_until("all say what was dropped", PATIENCE, || {
        let said = rig.setup.run(&["status", "--json"])?.stdout;
        let said: Value = serde_json::from_str(&said)?;
        let Ok(page) = pages.status() else {
            return Ok(None);
        };
        let all = [page, said].map(|status| {
            status
                .pointer("/tables/0/discarded")
                .and_then(Value::as_u64)
        });
        last = Some(all);
        Ok((all == [Some(changes); 2]).then_some(()))
    });
    waited.with_context(|| format!("page and command: {last:?}, expected {changes}"))
}

/// Nothing of the lake moves, and that alone is a reason not to be ready.
#[test]
fn a_store_that_is_gone_for_long_makes_the_feeder_stalled() -> Result<()> {
    let pages = Pages::new()?;
    let rig = Rig::in_store(
        StoreKind::S3,
        default_major()?,
        &Options::default(),
        |config| pages.serve(config).line("flush", "interval = \"100ms\""),
    )?;
    rig.source("create table t (id int primary key); insert into t values (1)")?;
    let mut feeder = rig.stream(&["t"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    rig.store.proxy()?.set(Fault::Hang);
    rig.source("insert into t values (2)")?;
    let begun = Instant::now();
    pages.wait_until_ready_is(&mut feeder, 503, "nothing was committed for 1m")?;
    let took = begun.elapsed();
    println!("not ready {took:?} after the last progress");
    ensure!(took > Duration::from_secs(50), "too early: {took:?}");
    rig.store.proxy()?.clear();
    rig.wait_until_equal(&mut feeder, &["t"])?;
    pages.wait_until_ready_is(&mut feeder, 200, "ready")?;
    feeder.terminate()
}

#[test]
fn with_hold_the_status_says_what_the_slot_keeps() -> Result<()> {
    let rig = Rig::with(&Options::default(), |config| {
        config
            .line("policy", "on_table_error = \"hold\"")
            .line("policy", "on_schema_change = \"stop\"")
    })?;
    rig.source("create table a (id int primary key)")?;
    let mut feeder = rig.stream(&["a"])?;
    rig.source("insert into a values (0)")?;
    rig.wait_until_equal(&mut feeder, &["a"])?;
    rig.source("alter table a add column v text; insert into a values (1, 'x')")?;
    let ended = feeder.wait(PATIENCE)?;
    ensure!(ended.code() == Some(3), "{ended}");
    let said = rig.setup.run(&["status"])?;
    said.expect_code(1)?.expect_message(&[
        "no feeder is connected to the slot, which keeps",
        "of WAL at the source",
    ])?;
    println!("{}", said.stdout);
    let said = rig.setup.run(&["status", "--json"])?.stdout;
    let said: Value = serde_json::from_str(&said)?;
    ensure!(said["lag_seconds"].as_f64() > Some(0.0), "{said}");
    Ok(())
}
