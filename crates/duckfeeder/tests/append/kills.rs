//! Producers that number their rows, in a process that is killed again and again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use duckfeeder::append::AppendStream;
use duckfeeder_tests::process::{Signal, Supervised};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::rig::{PATIENCE, Rig, with_rig};

const PRODUCERS: i64 = 8;
const CHILD: &str = "DUCKFEEDER_TEST_APPEND_CHILD";
/// What a producer sends again after a restart, beyond what it must.
const OVERLAP: i64 = 300;

struct Plan {
    events: i64,
    kills: u32,
    /// Rows of one producer between two pauses of 20 ms: a life must not be long enough for all.
    burst: i64,
}

fn plan() -> Plan {
    if env::var_os("DUCKFEEDER_TEST_LONG").is_some() {
        Plan {
            events: 1_000_000,
            kills: 100,
            burst: 20,
        }
    } else {
        Plan {
            events: 50_000,
            kills: 8,
            burst: 12,
        }
    }
}

/// Shows 2.
#[test]
fn every_event_is_there_once_however_often_the_process_is_killed() {
    with_rig(async |rig| {
        let Plan { events, kills, .. } = plan();
        let seed = env::var("DUCKFEEDER_TEST_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| rand::random::<u64>() >> 16);
        println!("DUCKFEEDER_TEST_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let began = Instant::now();
        let mut killed = 0;
        while killed < kills {
            let mut child = spawn(rig);
            let life = Duration::from_millis(random.random_range(150..1_200));
            if child.wait(life).is_ok() {
                break;
            }
            child.signal(Signal::Kill).unwrap();
            child.wait(PATIENCE).unwrap();
            killed += 1;
            expect_acknowledged(rig);
        }
        assert_eq!(killed, kills, "the events were all sent before");
        let status = spawn(rig).wait(Duration::from_mins(10)).unwrap();
        assert!(status.success(), "{status}");
        expect_acknowledged(rig);
        let each = events / PRODUCERS;
        let repeated = rig.scalar("select count(*) from (select producer, n from lake.raw.events group by all having count(*) > 1)");
        println!(
            "{events} events from {PRODUCERS} producers, {killed} kills, {repeated} repeated, {:.1?}",
            began.elapsed()
        );
        assert_eq!(
            rig.rows("select count(*), count(distinct (producer, n)), min(n), max(n), bool_and(n = _df_seq) from lake.raw.events"),
            [[
                events.to_string(),
                events.to_string(),
                "0".to_owned(),
                (each - 1).to_string(),
                "true".to_owned(),
            ]]
        );
        // The lives did overlap in what they sent, or the numbers proved nothing.
        let sent: i64 = (0..PRODUCERS)
            .map(|id| read(&rig.home.path().join(format!("sent-{id}"))))
            .sum();
        println!("{sent} rows were sent");
        assert!(sent > events, "{sent}");
    });
}

/// Every durable step of an appended row: the process dies there, and the next life goes on.
#[test]
fn every_event_is_there_once_wherever_the_process_dies() {
    with_rig(async |rig| {
        for (number, point) in [
            "migration-before-commit",
            "feeder-registered",
            "lake-made",
            "feeder-fenced",
            "lake-tables-made",
            "file-declared",
            "encode-after",
            "file-encoded",
            "put-before",
            "put-after:2",
            "commit-before-lock",
            "commit-before-commit",
            "commit-after",
            "commit-after:2",
        ]
        .into_iter()
        .enumerate()
        {
            // Each life has something to send.
            let events = 2_000 * (i64::try_from(number).unwrap() + 1);
            let status = spawn_with(rig, events, Some(point)).wait(PATIENCE).unwrap();
            assert!(!status.success(), "{point} was not reached");
            expect_acknowledged(rig);
        }
        // Does not die: the answer to COMMIT is lost.
        let point = Some("commit-answer-lost");
        let status = spawn_with(rig, 30_000, point).wait(PATIENCE).unwrap();
        assert!(status.success(), "{status}");
        assert_eq!(
            rig.rows("select count(*), count(distinct (producer, n)) from lake.raw.events"),
            [["30000", "30000"]]
        );
    });
}

/// What was acknowledged is in the lake.
fn expect_acknowledged(rig: &Rig) {
    let acknowledged: Vec<i64> = (0..PRODUCERS)
        .map(|id| read(&rig.home.path().join(format!("acknowledged-{id}"))))
        .collect();
    if acknowledged.iter().all(|count| *count == 0) {
        return;
    }
    let rows =
        rig.rows("select producer, max(n) + 1, count(*) from lake.raw.events group by producer");
    for (id, acknowledged) in acknowledged.into_iter().enumerate() {
        let found = rows.iter().find(|row| row[0] == id.to_string());
        let (upto, count) = found.map_or((0, 0), |row| {
            (row[1].parse().unwrap(), row[2].parse().unwrap())
        });
        assert!(
            upto >= acknowledged,
            "producer {id}: {upto} < {acknowledged}"
        );
        assert_eq!(upto, count, "producer {id}: a gap or a repetition");
    }
}

fn read(path: &Path) -> i64 {
    // A kill may have come between truncating and writing, so each number is a line of its own.
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_suffix(';'));
    if path.to_string_lossy().contains("sent-") {
        lines.map(|line| line.parse::<i64>().unwrap()).sum()
    } else {
        lines.next_back().map_or(0, |line| line.parse().unwrap())
    }
}

fn spawn(rig: &Rig) -> Supervised {
    spawn_with(rig, plan().events, None)
}

fn spawn_with(rig: &Rig, events: i64, failpoint: Option<&str>) -> Supervised {
    let log = fs::File::create(rig.home.path().join("child.log")).unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "kills::the_process_of_the_producers",
            "--nocapture",
        ])
        .env(CHILD, rig.home.path())
        .env("DUCKFEEDER_TEST_APPEND_EVENTS", events.to_string())
        .env(
            "DUCKFEEDER_TEST_APPEND_FAILPOINT",
            failpoint.unwrap_or_default(),
        )
        .env("DUCKFEEDER_TEST_APPEND_CATALOG", rig.catalog())
        .env("DUCKFEEDER_TEST_APPEND_STORAGE", rig.storage())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Supervised::spawn(&mut command, Signal::Kill, None).unwrap()
}

/// Not a test: what the test above starts.
#[test]
fn the_process_of_the_producers() {
    let Some(home) = env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let Plan { burst, .. } = plan();
    let events: i64 = env::var("DUCKFEEDER_TEST_APPEND_EVENTS")
        .unwrap()
        .parse()
        .unwrap();
    let failpoint = env::var("DUCKFEEDER_TEST_APPEND_FAILPOINT").unwrap();
    if !failpoint.is_empty() {
        feeder_core::failpoint::arm(&failpoint).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = AppendStream::builder()
            .catalog(env::var("DUCKFEEDER_TEST_APPEND_CATALOG").unwrap())
            .storage(env::var("DUCKFEEDER_TEST_APPEND_STORAGE").unwrap())
            .flush_interval(Duration::from_millis(100))
            .spawn()
            .unwrap();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|id| {
                tokio::spawn(produce(
                    stream.clone(),
                    home.clone(),
                    id,
                    events / PRODUCERS,
                    burst,
                ))
            })
            .collect();
        for producer in producers {
            producer.await.unwrap();
        }
        stream.shutdown().await.unwrap();
    });
}

async fn produce(stream: AppendStream, home: PathBuf, id: i64, events: i64, burst: i64) {
    let mut producer = stream.producer(id.to_string());
    let position = producer.position("events").await.unwrap();
    let begin = position.map_or(0, |position| (position + 1 - OVERLAP).max(0));
    let mut acknowledged = None;
    let mut unwritten = 0;
    for n in begin..events {
        let event = json!({"producer": id, "n": n, "text": "something happened"});
        let receipt = producer.append("events", n, &event).await.unwrap();
        unwritten += 1;
        if n % burst == 0 || n + 1 == events {
            line(&home.join(format!("sent-{id}")), unwritten);
            unwritten = 0;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if n % (burst * 8) == 0 || n + 1 == events {
            let file = home.join(format!("acknowledged-{id}"));
            // One at a time, so that the numbers come in order.
            let before: Option<tokio::task::JoinHandle<()>> = acknowledged.take();
            acknowledged = Some(tokio::spawn(async move {
                if let Some(before) = before {
                    before.await.unwrap();
                }
                receipt.durable().await.unwrap();
                line(&file, n + 1);
            }));
        }
    }
    if let Some(acknowledged) = acknowledged {
        acknowledged.await.unwrap();
    }
}

fn line(path: &Path, number: i64) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    file.write_all(format!("{number};\n").as_bytes()).unwrap();
}
