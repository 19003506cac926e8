//! The service under load: rows in DuckDB equal the requests made.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test may stop at the first surprise"
)]

use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use duckfeeder_tests::postgres::SUPERUSER;
use duckfeeder_tests::process::{Signal, Supervised};
use duckfeeder_tests::{Lake, Postgres};

const CLIENTS: usize = 8;
const EVENTS: usize = 500;
const PAYMENTS: usize = 5;

/// One request on a connection that stays open; the status of its answer.
fn post(connection: &mut BufReader<TcpStream>, path: &str, body: &str) -> u16 {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: service\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut status = 0;
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "closed");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.split(' ').next().unwrap().parse().unwrap();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    connection.read_exact(&mut answer).unwrap();
    status
}

/// Shows 1.
#[test]
fn rows_in_the_lake_equal_the_requests_made() {
    if env::var_os("DUCKFEEDER_TEST_DUCKDB").is_none() {
        assert!(env::var_os("REQUIRE_SERVICES").is_none(), "no DuckDB");
        eprintln!("SKIPPED: DUCKFEEDER_TEST_DUCKDB is not set");
        return;
    }
    let pg = Postgres::start_default().unwrap();
    pg.create_database("shop").unwrap();
    pg.sql("shop", "create table orders (id int primary key)")
        .unwrap();
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("service.log");
    let storage = format!("file://{}", home.path().join("lake").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-example"));
    command
        .args([&pg.url(SUPERUSER, "shop"), &storage, "127.0.0.1:0"])
        // The finest level for all but what is asserted row by row.
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap());
    let mut service = Supervised::spawn(&mut command, Signal::Kill, None).unwrap();
    let mut greeting = String::new();
    let stdout = service.child_mut().stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut greeting).unwrap();
    let address = greeting.trim().strip_prefix("listening on ").unwrap();

    let began = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let pg = &pg;
            scope.spawn(move || {
                let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
                for n in 0..EVENTS {
                    let event = format!(
                        r#"{{"client": {client}, "n": {n}, "at": "2024-02-29T12:00:00.{n:03}Z"}}"#
                    );
                    assert_eq!(post(&mut connection, "/events", &event), 202);
                    if n % (EVENTS / PAYMENTS) == 0 {
                        let payment = format!(r#"{{"account": "{client}", "cents": {n}}}"#);
                        assert_eq!(post(&mut connection, "/payments", &payment), 201);
                        let id = client * EVENTS + n;
                        pg.sql("shop", &format!("insert into orders values ({id})"))
                            .unwrap();
                    }
                }
                // What does not fit is told, and is no row.
                let bad = r#"{"at": "yesterday"}"#;
                assert_eq!(post(&mut connection, "/events", bad), 422);
            });
        }
    });
    println!(
        "{} requests in {:.1?}",
        CLIENTS * (EVENTS + PAYMENTS + 1),
        began.elapsed()
    );
    service.signal(Signal::Term).unwrap();
    let status = service.wait(Duration::from_mins(1)).unwrap();
    assert!(
        status.success(),
        "{status}: {}",
        std::fs::read_to_string(&log).unwrap()
    );

    let mut db = Lake::new(&pg, "shop").open().unwrap();
    let mut count = |sql: &str| usize::try_from(db.int(sql).unwrap()).unwrap();
    let events = CLIENTS * EVENTS;
    let payments = CLIENTS * PAYMENTS;
    assert_eq!(count("select count(*) from lake.raw.events"), events);
    assert_eq!(
        count("select count(distinct (client, n)) from lake.raw.events"),
        events
    );
    assert_eq!(count("select count(*) from lake.raw.payments"), payments);
    assert_eq!(
        count(
            "select count(*) from lake.raw.orders where _df_op = 'insert' or _df_op = 'snapshot'"
        ),
        payments
    );
    // One span for each request, with its status and its event inside.
    for (path, status, requests) in [
        ("/events", 202, events),
        ("/payments", 201, payments),
        ("/events", 422, CLIENTS),
    ] {
        let spans = format!(
            "select count(*) from lake.raw.traces where kind = 'span' and name = 'request'
             and (fields->>'path') = '{path}' and (fields->>'status')::int = {status}"
        );
        assert_eq!(count(&spans), requests, "{path} {status}");
    }
    let answered = "select count(*) from lake.raw.traces e join lake.raw.traces s
        on s.kind = 'span' and s.span_id = e.span_id
        where e.kind = 'event' and e.message = 'answered' and (s.fields->>'status') = (e.fields->>'status')";
    assert_eq!(count(answered), events + payments + CLIENTS);
    // Nothing of duckfeeder's own, at the finest level.
    assert_eq!(
        count(
            "select count(*) from lake.raw.traces where kind <> 'metrics' and (target like 'feeder_core%' or target like 'duckfeeder%' or target like 'sqlx%' or target like 'cdc_source%' or target like 'ducklake_catalog%')"
        ),
        0
    );
}
