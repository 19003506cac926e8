//! The same pipeline with the lake in each kind of store, and what happens when the store does not answer.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    DuckDb, Feeder, Options, StoreKind,
    bank::{Bank, TABLES},
    feeder::Config,
    process::run,
    proxy::{Fault, Request},
    s3::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    tools::default_major,
};
use serde_json::Value;

use crate::{
    load::expect_consistent_cuts,
    rig::{CATALOG, PATIENCE, Rig, SOURCE, seed, size},
};

fn rig(kind: StoreKind, change: impl FnOnce(Config) -> Config) -> Result<Rig> {
    Rig::in_store(kind, default_major()?, &Options::default(), change)
}

/// Load, a first copy beside it, a kill, a restart, an orderly end, and the comparison.
fn pipeline(kind: StoreKind) -> Result<()> {
    let rig = rig(kind, |config| config)?;
    let bank = Bank::create(&rig.pg, SOURCE, size(1, 10), size(20_000, 100_000))?;
    let clients = bank.start(2, seed()?);
    clients.wait_for_more(20)?;
    let feeder = rig.stream(&TABLES)?;
    clients.wait_for_more(size(100, 2_000))?;
    feeder.kill()?;
    let mut feeder = rig.setup.spawn()?;
    clients.wait_for_more(size(100, 2_000))?;
    feeder.expect_running()?;
    let committed = clients.stop()?;
    feeder.terminate()?;
    rig.catch_up()?;
    let mut oracle = rig.oracle()?;
    oracle.check_all(&TABLES)?;
    expect_consistent_cuts(&mut oracle, 2)?;
    println!(
        "{kind}, Postgres {}: {committed} transactions, equal",
        rig.pg.major()
    );
    Ok(())
}

#[test]
fn a_lake_in_a_directory_equals_its_source() -> Result<()> {
    pipeline(StoreKind::Local)
}

#[test]
fn a_lake_in_s3_equals_its_source() -> Result<()> {
    pipeline(StoreKind::S3)
}

#[test]
fn a_lake_in_gcs_equals_its_source() -> Result<()> {
    pipeline(StoreKind::Gcs)
}

#[test]
fn duckdb_reads_a_bucket_over_http() -> Result<()> {
    let rig = rig(StoreKind::S3, |config| config)?;
    rig.source(
        "create table t (id int primary key, v text);
         insert into t select g, md5(g::text) from generate_series(1, 5000) g",
    )?;
    rig.catch_up()?;
    let path = rig.pg.scalar(
        CATALOG,
        "select value from ducklake_metadata where key = 'data_path'",
    )?;
    ensure!(
        path.as_deref() == Some("s3://test-bucket/some/lake/"),
        "{path:?}"
    );
    let before = rig.store.s3()?.log()?.lines().count();
    let mut db = rig.lake.open()?;
    ensure!(db.int("select count(distinct v) from lake.raw.t where _df_op = 'snapshot'")? == 5_000);
    let log = rig.store.s3()?.log()?;
    let reads: Vec<&str> = log
        .lines()
        .skip(before)
        .filter(|line| line.contains("GET /test-bucket/some/lake/raw/t/duckfeeder-"))
        .collect();
    ensure!(
        !reads.is_empty(),
        "DuckDB asked the server for no file:\n{log}"
    );
    println!("{}", reads.join("\n"));
    Ok(())
}

/// A page of the feeder.
pub(crate) fn page(port: u16, path: &str, limit: Duration) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}

/// How long a feeder that is well may take for a page.
const PAGE: Duration = Duration::from_secs(10);

fn status(port: u16) -> Result<Value> {
    Ok(serde_json::from_str(&page(port, "/status", PAGE)?)?)
}

/// The process of the source that sends to the feeder.
fn walsender(rig: &Rig) -> Result<Option<String>> {
    rig.slot("active_pid")
}

/// The store is out of order for a while in the middle of a load. The feeder says what it waits for, keeps within its
/// memory and its connection to the source, and goes on by itself.
fn outage(fault: Fault, reason: &str, lasts: Duration) -> Result<()> {
    const BUDGET: u64 = 64;
    // What a process of ours needs beside the budget: code, runtime, Parquet encoders, the allocator's slack.
    const CONSTANT: u64 = 192;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let options = Options::default().setting("wal_sender_timeout", "3s");
    let rig = Rig::in_store(StoreKind::S3, default_major()?, &options, |config| {
        config
            .line("limits", &format!("memory = \"{BUDGET}MiB\""))
            .line("server", &format!("listen = \"127.0.0.1:{port}\""))
    })?;
    rig.source("create table events (id bigint primary key, payload text)")?;
    let mut feeder = rig.stream(&["events"])?;
    let load = |rows: u64| {
        rig.source(&format!(
            "insert into events select g, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text)
             from (select coalesce(max(id), 0) as last from events) e, generate_series(last + 1, last + {rows}) g"
        ))
    };
    load(1_000)?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 1000 from lake.raw.events where _df_op = 'insert')",
    )?;
    let sender = walsender(&rig)?;
    ensure!(sender.is_some(), "no walsender");

    rig.store.proxy()?.set(fault);
    let began = Instant::now();
    // More than fits into memory.
    for _ in 0..14 {
        load(50_000)?;
    }
    let paused = feeder.wait_until("the status says why the feeder is paused", PATIENCE, || {
        let status = status(port)?;
        let error = status.get("last_error").and_then(Value::as_str);
        let full = status.get("paused") == Some(&Value::Bool(true));
        let said = error.is_some_and(|error| error.contains(reason));
        Ok((full && said).then_some(status))
    })?;
    for key in ["phase", "paused", "last_error"] {
        println!("/status: {key} {}", paused.get(key).unwrap_or(&Value::Null));
    }
    while began.elapsed() < lasts {
        load(1_000)?;
        feeder.expect_running()?;
        ensure!(
            page(port, "/healthz", PAGE)? == "ok\n",
            "the feeder is not alive"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    let said = rig.setup.run(&["status"])?;
    said.expect_code(1)?
        .expect_message(&["paused since", reason])?;
    println!("{}", said.stdout);
    ensure!(walsender(&rig)? == sender, "the source gave the feeder up");

    rig.store.proxy()?.clear();
    rig.wait_until_equal(&mut feeder, &["events"])?;
    println!(
        "equal {:?} after the outage of {lasts:?}",
        began.elapsed().saturating_sub(lasts)
    );
    ensure!(walsender(&rig)? == sender, "the source gave the feeder up");
    rig.setup.run(&["status"])?.expect_code(0)?;
    let peak = feeder.peak_memory()? / (1 << 20);
    println!("peak memory {peak} MiB of a budget of {BUDGET} MiB and a constant of {CONSTANT} MiB");
    ensure!(peak <= BUDGET + CONSTANT, "peak memory {peak} MiB");
    feeder.terminate()?;
    rig.oracle()?.check_all(&["events"])
}

#[test]
fn a_store_that_is_gone_for_a_while_pauses_the_feeder() -> Result<()> {
    outage(
        Fault::Refuse,
        "unavailable",
        Duration::from_secs(size(10, 120)),
    )
}

#[test]
fn a_store_that_is_overloaded_for_a_while_pauses_the_feeder() -> Result<()> {
    let body =
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    outage(
        Fault::status(503, body),
        "SlowDown",
        Duration::from_secs(size(10, 600)),
    )
}

/// Waits until a request that matches has reached the proxy.
fn wait_for_request(
    rig: &Rig,
    feeder: &mut Feeder,
    matches: impl Fn(&Request) -> bool,
) -> Result<()> {
    feeder.wait_until("the feeder sends a certain request", PATIENCE, || {
        Ok((rig.store.proxy()?.count(&matches) > 0).then_some(()))
    })
}

fn is_part(request: &Request, number: u32) -> bool {
    let wanted = format!("partNumber={number}");
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    request.method == "PUT" && query.split('&').any(|parameter| parameter == wanted)
}

/// The objects that the catalog names, below the lake's path.
fn named(rig: &Rig) -> Result<Vec<String>> {
    let rows = rig.pg.sql(
        CATALOG,
        "select 'raw/' || t.path || f.path from ducklake_data_file f join ducklake_table t using (table_id)
         where t.end_snapshot is null order by 1",
    )?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

#[test]
fn a_kill_in_a_multipart_upload_leaves_nothing_behind_after_maintenance() -> Result<()> {
    let rig = rig(StoreKind::S3, |config| {
        config.line("limits", "memory = \"64MiB\"")
    })?;
    rig.source(
        "create table small (id int primary key); insert into small select generate_series(1, 100);
         create table large (id int primary key, v text);
         insert into large select g, (select string_agg(md5((g * 100 + n)::text), '') from generate_series(1, 20) n)
           from generate_series(1, 60000) g",
    )?;
    rig.store
        .proxy()?
        .always(|request| is_part(request, 2), Fault::Hang);
    let mut feeder = rig.setup.spawn()?;
    wait_for_request(&rig, &mut feeder, |request| is_part(request, 2))?;
    rig.wait_for(
        &mut feeder,
        "exists (from lake.raw.small where _df_op = 'reset')",
    )?;
    feeder.kill()?;
    let left = rig.store.uploads()?;
    ensure!(!left.is_empty(), "no upload was open at the kill");
    rig.store.proxy()?.clear();
    rig.catch_up()?;
    let before = rig.store.objects()?;
    let live = named(&rig)?;
    // The server tells a date of long ago for every open upload, the declarations have to be made old.
    rig.pg.sql(
        CATALOG,
        "update duckfeeder.pending_files set created_at = created_at - interval '2 days'",
    )?;
    let report = rig.setup.run(&["maintain"])?;
    report.expect_code(0)?;
    println!("{}", report.stdout);
    ensure!(rig.store.uploads()?.is_empty(), "uploads are left");
    ensure!(named(&rig)? == live, "the catalog was changed");
    ensure!(
        rig.store.objects()? == live,
        "{:?} are left, {live:?} are named",
        rig.store.objects()?
    );
    println!(
        "after the kill: {} open uploads; before maintenance {} objects, afterwards {}, all named by the catalog",
        left.len(),
        before.len(),
        rig.store.objects()?.len()
    );
    rig.oracle()?.check_all(&["small", "large"])
}

#[test]
fn secrets_of_the_store_are_shown_nowhere() -> Result<()> {
    const TOKEN: &str = "test-session-token-that-no-log-shows";
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let rig = rig(StoreKind::S3, |config| {
        config
            .line("storage", &format!("session_token = \"{TOKEN}\""))
            .line("server", &format!("listen = \"127.0.0.1:{port}\""))
    })?;
    rig.source("create table t (id int primary key); insert into t values (1)")?;
    let mut shown = String::new();
    let mut note = |text: &str| shown.push_str(text);

    let mut command = rig.setup.command(&["run"])?;
    command.env("DUCKFEEDER_LOG", "trace");
    let mut feeder = rig.setup.spawn_command(command)?;
    rig.wait_for_copies(&mut feeder, &["t"])?;
    // Failures are where secrets like to come out.
    let denied = "<Error><Code>InternalError</Code><Message>no</Message></Error>";
    rig.store.proxy()?.next(
        3,
        |request| request.method == "PUT",
        Fault::status(503, denied),
    );
    rig.source("insert into t values (2)")?;
    rig.wait_for(
        &mut feeder,
        "(select count(*) = 1 from lake.raw.t where _df_op = 'insert')",
    )?;
    note(&page(port, "/status", PAGE)?);
    note(&feeder.log());
    ensure!(
        feeder.log().contains("aws"),
        "the client of the store logs nothing at trace level"
    );
    feeder.terminate()?;
    for args in [
        &["check"][..],
        &["status", "--json"],
        &["config", "show"],
        &["attach-sql"],
        &["maintain", "--dry-run"],
    ] {
        let mut command = rig.setup.command(args)?;
        command.env("DUCKFEEDER_LOG", "trace");
        let ended = rig.setup.run_command(command, PATIENCE)?;
        note(&ended.stdout);
        note(&ended.stderr);
    }
    let denied = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    rig.store.proxy()?.set(Fault::status(403, denied));
    for args in [&["run"][..], &["check"]] {
        let mut command = rig.setup.command(args)?;
        command.env("DUCKFEEDER_LOG", "trace");
        let ended = rig.setup.run_command(command, PATIENCE)?;
        ensure!(ended.code != Some(0));
        note(&ended.stdout);
        note(&ended.stderr);
    }
    let tables = ["feeders", "tables", "pending_files"];
    for table in tables {
        let rows = rig.pg.sql(
            CATALOG,
            &format!("select t::text from duckfeeder.{table} t"),
        )?;
        note(&format!("{rows:?}"));
    }
    for secret in [SECRET_ACCESS_KEY, TOKEN] {
        if let Some(at) = shown.find(secret) {
            let line = shown.get(..at).unwrap_or_default().lines().count();
            let line = shown
                .lines()
                .nth(line.saturating_sub(1))
                .unwrap_or_default();
            anyhow::bail!("a secret is shown: {line}");
        }
    }
    println!(
        "{} bytes of output and logs, no secret in them",
        shown.len()
    );
    Ok(())
}

type Denied = fn(&Request) -> bool;

#[test]
fn check_names_the_permission_that_is_missing() -> Result<()> {
    let rig = rig(StoreKind::S3, |config| config)?;
    rig.source("create table t (id int primary key)")?;
    let works = rig.setup.run(&["check"])?;
    works.expect_code(0)?;
    works.expect_message(&["create-only write, read, list and delete work"])?;
    let cases: [(&str, Denied, &[&str]); 5] = [
        (
            "write",
            |request| request.method == "PUT",
            &["cannot create an object", "s3:PutObject"],
        ),
        (
            "read",
            |request| {
                request.method == "GET"
                    && request.target.contains("duckfeeder-probe/")
                    && !request.target.contains("list-type")
            },
            &["cannot read an object", "s3:GetObject"],
        ),
        (
            "list",
            |request| request.target.contains("list-type=2"),
            &["cannot list objects", "s3:ListBucket"],
        ),
        (
            "delete",
            |request| request.method == "DELETE",
            &["cannot delete an object", "s3:DeleteObject"],
        ),
        (
            "uploads",
            |request| request.target.contains("?uploads"),
            &["cannot list open uploads", "s3:ListBucketMultipartUploads"],
        ),
    ];
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    for (name, matches, said) in cases {
        rig.store.proxy()?.clear();
        rig.store
            .proxy()?
            .always(matches, Fault::status(403, denied));
        let found = rig.setup.run(&["check"])?;
        // Without the right to list open uploads all but the clean-up works.
        found.expect_code(i32::from(name != "uploads"))?;
        found.expect_message(said)?;
        for line in found.stdout.lines().filter(|line| line.contains("storage")) {
            println!("{name}: {line}");
        }
    }
    Ok(())
}

#[test]
fn what_is_permanently_wrong_with_a_store_stops_with_the_remedy() -> Result<()> {
    let rig = rig(StoreKind::S3, |config| config)?;
    rig.source("create table t (id int primary key); insert into t values (1)")?;
    let error = |code: &str| {
        format!("<Error><Code>{code}</Code><Message>said by the store</Message></Error>")
    };
    for (name, status, code, said) in [
        (
            "bucket missing",
            404,
            "NoSuchBucket",
            &["bucket", "storage.url"][..],
        ),
        (
            "access denied",
            403,
            "AccessDenied",
            &["permission denied", "s3:PutObject"],
        ),
        (
            "wrong region",
            301,
            "PermanentRedirect",
            &["storage.region"],
        ),
    ] {
        rig.store.proxy()?.clear();
        rig.store.proxy()?.set(Fault::status(status, error(code)));
        let ended = rig.setup.run(&["run"])?;
        ended.expect_code(4)?.expect_message(said)?;
        println!(
            "{name}: {}",
            ended.stderr.lines().last().unwrap_or_default()
        );
        rig.expect_nothing_created().context(name)?;
    }
    // In the middle of the work too.
    rig.store.proxy()?.clear();
    let mut feeder = rig.stream(&["t"])?;
    rig.store
        .proxy()?
        .set(Fault::status(403, error("AccessDenied")));
    rig.source("insert into t values (2)")?;
    let status = feeder.wait(PATIENCE)?;
    ensure!(status.code() == Some(4), "{status}\n{}", feeder.log());
    ensure!(feeder.log().contains("s3:PutObject"), "{}", feeder.log());
    rig.store.proxy()?.clear();
    rig.catch_up()?;
    rig.oracle()?.check_all(&["t"])
}

#[test]
fn attach_sql_attaches_a_bucket_as_printed() -> Result<()> {
    let rig = rig(StoreKind::S3, |config| config)?;
    rig.source("create table t (id int primary key); insert into t values (7)")?;
    rig.catch_up()?;
    let printed = rig.setup.run(&["attach-sql"])?;
    printed.expect_code(0)?;
    println!("{}", printed.stdout);
    let filled = printed
        .stdout
        .replace("<access key id>", ACCESS_KEY_ID)
        .replace("<secret access key>", SECRET_ACCESS_KEY);
    let mut db = DuckDb::open()?;
    db.load("httpfs")?;
    // Loaded already, and tests install nothing from DuckDB's own repository.
    let statements: Vec<&str> = filled
        .lines()
        .filter(|line| !line.starts_with("--") && !line.starts_with("INSTALL"))
        .collect();
    for statement in statements
        .join(
            "
",
        )
        .split(';')
        .filter(|text| !text.trim().is_empty())
    {
        db.execute(statement)?;
    }
    ensure!(db.int("select id from lake.raw.t_current")? == 7);
    Ok(())
}

/// The lake is on a file system of its own that only the feeder sees, and that grows when a file appears.
#[test]
fn a_full_disk_pauses_the_feeder_until_there_is_space() -> Result<()> {
    let namespaces = run(Command::new("unshare").args(["--map-root-user", "--mount", "true"]));
    if let Err(error) = namespaces {
        println!("SKIPPED: this machine allows no mount in a namespace of its own: {error:#}");
        return Ok(());
    }
    let rig = rig(StoreKind::Local, |config| config)?;
    rig.source("create table events (id bigint primary key, payload text)")?;
    let lake = rig.setup.lake_dir();
    let grow = lake.with_file_name("grow");
    let script = "mount -t tmpfs -o size=3m tmpfs \"$1\" || exit; \
                  (until [ -e \"$2\" ]; do sleep 0.1; done; mount -o remount,size=64m \"$1\") & \
                  shift 2; exec \"$@\"";
    let (lake_text, grow_text) = (lake.display().to_string(), grow.display().to_string());
    let words = [
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        &lake_text,
        &grow_text,
    ];
    let mut feeder =
        rig.setup
            .spawn_command(rig.setup.command_under("unshare", &words, &["run"])?)?;
    feeder.wait_until("the table streams", PATIENCE, || {
        let state = "select 1 from duckfeeder.tables where state = 'streaming'";
        Ok(rig
            .pg
            .sql(CATALOG, state)
            .ok()
            .filter(|rows| !rows.is_empty()))
    })?;
    for _ in 0..10 {
        rig.source(
            "insert into events select g, md5(g::text) || md5((g + 1)::text) || md5((g + 2)::text)
             from (select coalesce(max(id), 0) as last from events) e, generate_series(last + 1, last + 20000) g",
        )?;
    }
    let end = rig
        .pg
        .scalar(SOURCE, "select pg_current_wal_lsn()::text")?
        .context("no WAL")?;
    feeder.wait_until("the feeder says that the disk is full", PATIENCE, || {
        let said = rig.setup.run(&["status"])?.stdout;
        Ok(said.contains("no space left in the store").then_some(()))
    })?;
    println!("{}", rig.setup.run(&["status"])?.stdout);
    File::create(&grow)?;
    feeder.wait_until("everything is in the lake", PATIENCE, || {
        Ok((rig
            .slot(&format!("(confirmed_flush_lsn >= '{end}')"))?
            .as_deref()
            == Some("true"))
        .then_some(()))
    })?;
    // DuckDB sees only what is outside of the feeder's namespace.
    run(Command::new("cp").arg("-a").args([
        format!("/proc/{}/root{lake_text}/.", feeder.pid()),
        lake_text,
    ]))?;
    feeder.terminate()?;
    let hidden = run(Command::new("find").arg(&lake).args(["-name", ".*.tmp"]))?;
    ensure!(hidden.is_empty(), "left behind: {hidden}");
    rig.oracle()?.check_all(&["events"])
}
