//! The binary as its users run it, without any server: what it prints, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing listens there.
const NOWHERE: &str = "postgres://feeder@127.0.0.1:1/shop";

/// The binary in a folder of its own, without the environment of the test.
fn duckfeeder(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_duckfeeder"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    duckfeeder(directory, arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The command ends with this code and prints this to standard error.
fn fails(
    directory: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    code: i32,
    stderr: &str,
) {
    let output = run(directory, arguments, environment);
    assert_eq!(text(&output.stderr), stderr, "{arguments:?}");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn configuration_errors_are_code_2_with_key_place_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fails(
        at,
        &["run"],
        &[],
        2,
        "error: `source.url` is missing\n\
         remedy: set `source.url` in the configuration file or the environment variable DUCKFEEDER_SOURCE__URL, or give --source\n",
    );
    fails(
        at,
        &["run", "--source", NOWHERE],
        &[],
        2,
        "error: `tables` is missing: no table is asked for\n\
         remedy: write [[tables]] and below it source = \"public.*\", set DUCKFEEDER_TABLES=public.*, or give --tables 'public.*'\n",
    );
    fails(
        at,
        &["run", "--source", NOWHERE, "--tables", "public.*"],
        &[],
        2,
        "error: `storage.url` is missing\n\
         remedy: set `storage.url` in the configuration file or the environment variable DUCKFEEDER_STORAGE__URL, or give --storage\n",
    );
    fails(
        at,
        &["status"],
        &[("DUCKFEEDER_SOURCE_ULR", NOWHERE)],
        2,
        "error: unknown environment variable DUCKFEEDER_SOURCE_ULR\nremedy: did you mean DUCKFEEDER_SOURCE__URL?\n",
    );
    fails(
        at,
        &["status", "--config", "missing.toml"],
        &[],
        2,
        "error: the configuration file missing.toml cannot be read\n  because: No such file or directory (os error 2)\n\
         remedy: check that it exists, that it can be read and that it is UTF-8; `duckfeeder init` writes one\n",
    );
    fails(
        at,
        &["status"],
        &[("DUCKFEEDER_LOG", "no=such=filter")],
        2,
        "error: the environment variable DUCKFEEDER_LOG is not a log filter\n  because: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5\n\
         remedy: write a level such as info or debug, or levels by target such as info,feeder_core=debug\n",
    );
    std::fs::write(at.join("duckfeeder.toml"), "[source]\nurl = 5\n").unwrap();
    fails(
        at,
        &["status"],
        &[],
        2,
        "error: `source.url`: expected text, found a whole number (duckfeeder.toml:2)\nremedy: write it in quotes\n",
    );
}

#[test]
fn stores_that_cannot_be_are_refused_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    for (url, code) in [
        ("ftp://host/lake", 2),
        ("s3://bucket/lake?region=eu", 2),
        ("lake", 2),
        ("file:///proc/lake", 4),
    ] {
        let output = run(
            directory.path(),
            &[
                "run",
                "--source",
                NOWHERE,
                "--tables",
                "public.*",
                "--storage",
                url,
            ],
            &[],
        );
        assert_eq!(
            output.status.code(),
            Some(code),
            "{url}: {}",
            text(&output.stderr)
        );
        assert!(
            text(&output.stderr).contains("error: storage: "),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn usage_errors_are_code_2() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["fly"],
        &["run", "--fast"],
        &["wait"],
        &["status", "--log", "xml"],
    ] {
        let output = run(directory.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["help", "run"]] {
        assert_eq!(
            run(directory.path(), arguments, &[]).status.code(),
            Some(0),
            "{arguments:?}"
        );
    }
}

#[test]
fn show_prints_origins_and_no_secrets_even_when_something_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[source]\nurl = \"postgres://f:hunter2@h/d\"\n[flush]\ninterval = \"5\"\n";
    std::fs::write(directory.path().join("duckfeeder.toml"), file).unwrap();
    let environment = [("DUCKFEEDER_SOURCE_PASSWORD", "hunter2")];
    let output = run(
        directory.path(),
        &["config", "show", "--name", "shop"],
        &environment,
    );
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    assert!(
        !shown.contains("hunter2") && !told.contains("hunter2"),
        "{shown}{told}"
    );
    let line = |start: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default()
    };
    assert!(
        line("name = \"shop\"").ends_with("# flag --name"),
        "{shown}"
    );
    assert!(
        line("url = \"postgres://f:***@h/d\"").ends_with("# duckfeeder.toml:2"),
        "{shown}"
    );
    assert!(
        line("password = \"***\"").ends_with("# environment variable DUCKFEEDER_SOURCE_PASSWORD")
    );
    assert!(
        told.starts_with("error: `flush.interval`: `5` is not a duration (duckfeeder.toml:4)\n"),
        "{told}"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn init_writes_a_file_that_works_and_never_overwrites_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let output = run(at, &["init", "--storage", "file:///srv/lake"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = std::fs::read_to_string(at.join("duckfeeder.toml")).unwrap();
    assert!(written.contains("url = \"file:///srv/lake\""), "{written}");
    let output = run(
        at,
        &["config", "show"],
        &[("DUCKFEEDER_SOURCE_URL", NOWHERE)],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    fails(
        at,
        &["init"],
        &[],
        2,
        "error: duckfeeder.toml exists already, and is left alone\nremedy: remove it, or name another file with --config\n",
    );
    assert_eq!(
        std::fs::read_to_string(at.join("duckfeeder.toml")).unwrap(),
        written
    );
    assert_eq!(
        run(at, &["init", "--config", "other.toml"], &[])
            .status
            .code(),
        Some(0)
    );
    assert!(at.join("other.toml").is_file());
}

#[test]
fn migrate_prints_its_script_without_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["migrate", "--print"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout)
            .to_lowercase()
            .contains("create schema")
    );
}

#[test]
fn teardown_needs_a_confirmation() {
    let directory = tempfile::tempdir().unwrap();
    fails(
        directory.path(),
        &["teardown", "--source", NOWHERE, "--name", "shop"],
        &[],
        2,
        "error: nothing was dropped: there was no confirmation\nremedy: type shop when asked, or give --yes\n",
    );
}

#[test]
fn waiting_in_vain_is_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(
        directory.path(),
        &[
            "wait",
            "--streaming",
            "--timeout",
            "1s",
            "--source",
            NOWHERE,
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).starts_with("error: waited 1s in vain: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn health_is_code_1_where_no_feeder_answers_and_2_without_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let listen = |address| [("DUCKFEEDER_SERVER__LISTEN", address)];
    fails(
        at,
        &["health"],
        &listen("0.0.0.0:1"),
        1,
        "error: http://127.0.0.1:1/healthz: Connection refused (os error 111)\n\
         remedy: look at the log of `duckfeeder run`, and whether it has the same `server.listen`\n",
    );
    fails(
        at,
        &["health"],
        &[],
        2,
        "error: `server.listen` is missing: there is nobody to ask\n\
         remedy: set `server.listen` in the configuration file, or the environment variable \
         DUCKFEEDER_SERVER__LISTEN, for this command and for `run`\n",
    );
    let output = run(at, &["health"], &listen("here"));
    assert_eq!(output.status.code(), Some(2));
    // Somebody else who says nothing sensible and hangs up.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stranger = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"220 mail.example ESMTP\r\n").unwrap();
        // Takes the request in, so that closing does not reset the connection.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let output = run(at, &["health"], &listen(&address));
    stranger.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no HTTP server"));
}

/// A `run` in the background.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(directory: &Path, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let storage = format!("file://{}/lake", directory.display());
        let base = [
            "run",
            "--log",
            "json",
            "--source",
            NOWHERE,
            "--tables",
            "public.*",
            "--storage",
            &storage,
        ];
        let arguments: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        let mut child = duckfeeder(directory, &arguments)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads log lines, JSON all of them, until one contains `wanted`.
    fn until(&mut self, wanted: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.log.read_line(&mut line).unwrap() > 0,
                "the log ended without {wanted}"
            );
            let parsed: serde_json::Value =
                serde_json::from_str(&line).expect("JSON on every line");
            assert!(parsed["level"].is_string(), "{line}");
            if line.contains(wanted) {
                return line;
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    fn code(mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().unwrap();
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        panic!("still running:\n{rest}");
    }
}

#[test]
fn signals_stop_a_feeder_that_waits_for_its_source() {
    for name in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::start(directory.path(), &[], &[]);
        running.until("WARN");
        running.signal(name);
        running.until("\"stopped\"");
        assert_eq!(running.code(), Some(0), "{name}");
    }
}

#[test]
fn a_disabled_feeder_says_so_waits_and_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let environment = [
        ("DUCKFEEDER_ENABLED", "false"),
        ("DUCKFEEDER_SERVER__LISTEN", address.as_str()),
    ];
    let mut running = Running::start(directory.path(), &[], &environment);
    running.until("`enabled` is false");
    running.until("/readyz");
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The probe of a container: it knows the environment, not the flags that `run` was given.
    let output = run(directory.path(), &["health"], &environment);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "healthy\n");
    running.signal("TERM");
    assert_eq!(running.code(), Some(0));
    assert!(!directory.path().join("lake").is_dir());
}
