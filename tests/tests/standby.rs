//! Two processes of one feeder: the second stands by, and takes over when the first is gone or hangs.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use duckfeeder_tests::{
    Feeder,
    bank::{Bank, Clients, TABLES},
    postgres::SUPERUSER,
    process::{Signal, wait_until},
    tcp_proxy::TcpProxy,
};

use crate::rig::{CATALOG, PATIENCE, Rig, SOURCE, seed, wait};

/// How long the lease of a process that hangs lasts.
const LEASE: Duration = Duration::from_secs(10);

/// A bank under load, a feeder that streams it, and another that stands by.
struct Pair {
    rig: Rig,
    clients: Clients,
    first: Feeder,
    second: Feeder,
}

impl Pair {
    fn start() -> Result<Self> {
        let rig = Rig::new()?;
        let bank = Bank::create(&rig.pg, SOURCE, 1, 2_000)?;
        let clients = bank.start(2, seed()?);
        let first = rig.stream(&TABLES)?;
        let second = stand_by(&rig)?;
        clients.wait_for_more(20)?;
        Ok(Self {
            rig,
            clients,
            first,
            second,
        })
    }

    /// Nothing is lost and nothing is there twice.
    fn check(rig: &Rig, clients: Clients, mut active: Feeder) -> Result<()> {
        clients.wait_for_more(20)?;
        clients.stop()?;
        rig.wait_until_equal(&mut active, &TABLES)?;
        active.terminate()
    }
}

/// Starts a feeder beside one that runs.
fn stand_by(rig: &Rig) -> Result<Feeder> {
    let mut feeder = rig.setup.spawn()?;
    wait_for_log(&mut feeder, "standing by")?;
    Ok(feeder)
}

fn wait_for_log(feeder: &mut Feeder, text: &str) -> Result<()> {
    wait_until(&format!("the log says {text:?}"), PATIENCE, || {
        feeder.expect_running()?;
        Ok(feeder.log().contains(text).then_some(()))
    })
    .with_context(|| feeder.log())
}

/// The last snapshot, and whether it or a later one is this process's.
fn last_commit(rig: &Rig) -> Result<(i64, String)> {
    let rows = rig.pg.sql(
        CATALOG,
        "select last_snapshot::text, owner from duckfeeder.feeders where name = 'test'",
    )?;
    let mut row = rows.into_iter().flatten().flatten();
    let snapshot = row.next().context("nothing is committed")?.parse()?;
    Ok((snapshot, row.next().context("nobody feeds")?))
}

fn owned_by(owner: &str, feeder: &Feeder) -> bool {
    owner.ends_with(&format!(":{}", feeder.pid()))
}

/// How long it takes this process to commit something under a load.
fn time_to_first_commit(rig: &Rig, feeder: &mut Feeder) -> Result<Duration> {
    let begun = Instant::now();
    let (before, _) = last_commit(rig)?;
    let pid = feeder.pid();
    feeder.wait_until("it commits", PATIENCE, || {
        let (snapshot, owner) = last_commit(rig)?;
        Ok((snapshot > before && owner.ends_with(&format!(":{pid}"))).then_some(()))
    })?;
    Ok(begun.elapsed())
}

fn generation(rig: &Rig) -> Result<String> {
    rig.pg
        .scalar(CATALOG, "select generation::text from duckfeeder.feeders")?
        .context("no generation")
}

/// The code and the body of a page.
fn page(port: u16, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let code = head.split(' ').nth(1).context("no code")?;
    Ok((code.to_owned(), body.to_owned()))
}

#[test]
fn a_standby_takes_over_at_once_from_a_process_that_is_killed() -> Result<()> {
    let Pair {
        rig,
        clients,
        first,
        mut second,
    } = Pair::start()?;
    first.kill()?;
    let took = time_to_first_commit(&rig, &mut second)?;
    println!("from SIGKILL of the first to the first commit of the second: {took:?}");
    ensure!(took < LEASE, "{took:?} is as long as the lease");
    Pair::check(&rig, clients, second)
}

#[test]
fn a_standby_takes_over_from_a_process_that_stands_still_and_fences_it_off() -> Result<()> {
    let Pair {
        rig,
        clients,
        mut first,
        mut second,
    } = Pair::start()?;
    first.signal(Signal::Stop)?;
    let took = time_to_first_commit(&rig, &mut second)?;
    println!("from SIGSTOP of the first to the first commit of the second: {took:?}");
    ensure!(took < 2 * LEASE, "{took:?} is far longer than the lease");
    let raised = generation(&rig)?;

    // It goes on where it stood, with a full buffer and perhaps in the middle of a commit, and is the standby from now on.
    first.signal(Signal::Cont)?;
    wait_for_log(&mut first, "standing by")?;
    clients.wait_for_more(50)?;
    ensure!(generation(&rig)? == raised, "the first took it back");
    ensure!(owned_by(&last_commit(&rig)?.1, &second), "the first feeds");

    // A pair is still a pair.
    second.kill()?;
    let took = time_to_first_commit(&rig, &mut first)?;
    println!("and back, after SIGKILL of the second: {took:?}");
    Pair::check(&rig, clients, first)
}

#[test]
fn an_orderly_stop_hands_over_at_once() -> Result<()> {
    let Pair {
        rig,
        clients,
        first,
        mut second,
    } = Pair::start()?;
    first.terminate()?;
    let took = time_to_first_commit(&rig, &mut second)?;
    println!("from the end of the first to the first commit of the second: {took:?}");
    ensure!(took < LEASE, "{took:?} is as long as the lease");
    Pair::check(&rig, clients, second)
}

#[test]
fn of_two_standbys_one_takes_over() -> Result<()> {
    for how in [Signal::Kill, Signal::Stop] {
        let Pair {
            rig,
            clients,
            mut first,
            mut second,
        } = Pair::start()?;
        let mut third = stand_by(&rig)?;
        let before: i64 = generation(&rig)?.parse()?;
        first.signal(how)?;
        let (died, _) = last_commit(&rig)?;
        let owner = wait("one of them commits", || {
            let (snapshot, owner) = last_commit(&rig)?;
            Ok((snapshot > died + 5 && !owned_by(&owner, &first)).then_some(owner))
        })?;
        second.expect_running()?;
        third.expect_running()?;
        let raised = generation(&rig)?.parse::<i64>()? - before;
        // From one that hangs it is raised before its session at the source is ended, and at the start.
        ensure!(
            raised == if how == Signal::Kill { 1 } else { 2 },
            "{how:?}: raised by {raised}"
        );
        let (active, idle) = if owned_by(&owner, &second) {
            (second, third)
        } else {
            (third, second)
        };
        idle.terminate()?;
        drop(first);
        Pair::check(&rig, clients, active)?;
    }
    Ok(())
}

#[test]
fn a_standby_is_alive_and_not_ready_and_disturbs_no_command() -> Result<()> {
    let rig = Rig::new()?;
    rig.source("create table t (id int primary key); insert into t values (1)")?;
    let mut first = rig.stream(&["t"])?;
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut command = rig.setup.command(&["run"])?;
    command.env("DUCKFEEDER_SERVER__LISTEN", format!("127.0.0.1:{port}"));
    let mut second = rig.setup.spawn_command(command)?;
    wait_for_log(&mut second, "standing by")?;
    ensure!(page(port, "/healthz")?.0 == "200", "not alive");
    let (code, body) = page(port, "/readyz")?;
    ensure!(code == "503", "ready: {code}");
    ensure!(
        body.starts_with("standby: ")
            && body
                .trim()
                .ends_with(&format!(":{} is active", first.pid())),
        "{body}"
    );
    ensure!(
        page(port, "/status")?.1.contains("\"phase\":\"standby\""),
        "status"
    );

    rig.setup.run(&["status"])?.expect_code(0)?;
    rig.setup.run(&["check"])?.expect_code(0)?;
    rig.setup.run(&["maintain"])?.expect_code(0)?;
    for command in [&["run", "--until-caught-up"][..], &["teardown", "--yes"]] {
        rig.setup
            .run(command)?
            .expect_code(4)?
            .expect_message(&["is running already", &format!(":{}", first.pid())])?;
    }
    rig.setup.run(&["resync", "public.t"])?.expect_code(0)?;
    rig.wait_for(
        &mut first,
        "(select count(*) = 2 from lake.raw.t where _df_op = 'reset')",
    )?;
    first.expect_running()?;
    second.terminate()?;
    first.terminate()
}

#[test]
fn a_commit_that_a_frozen_process_attempts_after_the_takeover_is_refused_by_its_generation()
-> Result<()> {
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 2_000)?;
    let mut command = rig.setup.command(&["run"])?;
    command.env("DUCKFEEDER_TEST_FAILPOINT", "commit-overslept");
    let mut first = rig.setup.spawn_command(command)?;
    rig.wait_for_copies(&mut first, &TABLES)?;
    let mut second = stand_by(&rig)?;
    let held = generation(&rig)?;

    // Its first epoch is uploaded and about to be committed when it stands still.
    let clients = bank.start(2, seed()?);
    wait_for_log(&mut first, "failpoint=\"commit-overslept\"")?;
    first.signal(Signal::Stop)?;
    let took = time_to_first_commit(&rig, &mut second)?;
    println!("from SIGSTOP before a commit to the first commit of the second: {took:?}");
    let raised = generation(&rig)?;
    let refused = format!("generation {raised} replaced {held}");
    ensure!(!first.log().contains(&refused), "it did not stand still");

    first.signal(Signal::Cont)?;
    wait_for_log(&mut first, "continued after a standstill")?;
    wait_for_log(&mut first, &refused)?;
    let log = first.log();
    let line = log.lines().find(|line| line.contains(&refused));
    println!("{}", line.unwrap_or_default());
    wait_for_log(&mut first, "standing by")?;
    ensure!(owned_by(&last_commit(&rig)?.1, &second), "the first feeds");
    ensure!(generation(&rig)? == raised, "the first took it back");
    first.terminate()?;
    Pair::check(&rig, clients, second)
}

#[test]
fn a_process_that_alone_loses_the_catalog_leaves_the_slot_to_the_standby() -> Result<()> {
    let rig = Rig::new()?;
    let bank = Bank::create(&rig.pg, SOURCE, 1, 2_000)?;
    let proxy = TcpProxy::start(rig.pg.port())?;
    let mut command = rig.setup.command(&["run"])?;
    command.env("DUCKFEEDER_CATALOG__URL", proxy.url(SUPERUSER, CATALOG));
    let mut first = rig.setup.spawn_command(command)?;
    rig.wait_for_copies(&mut first, &TABLES)?;
    let mut second = stand_by(&rig)?;

    proxy.silence();
    let lost = Instant::now();
    wait_for_log(&mut second, "from=")?;
    println!(
        "from the loss of the catalog to the stream of the second: {:?}",
        lost.elapsed()
    );
    // It has nothing to commit, can reach the source, and would stream again.
    let walsender = rig.slot("active_pid")?;
    wait_for_log(&mut first, "the lease was not renewed for")?;
    let clients = bank.start(2, seed()?);
    clients.wait_for_more(50)?;
    let now = rig.slot("active_pid")?;
    ensure!(
        walsender.is_some() && walsender == now,
        "the slot went from {walsender:?} to {now:?}"
    );

    proxy.speak();
    wait_for_log(&mut first, "standing by")?;
    ensure!(owned_by(&last_commit(&rig)?.1, &second), "the first feeds");
    first.terminate()?;
    Pair::check(&rig, clients, second)
}
