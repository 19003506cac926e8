//! Google Cloud Storage on loopback: the emulator from PyPI, behind a front that adds what it lacks.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    postgres::free_port,
    process::{Signal, Supervised, service_port, tail, wait_until},
    tools::Tools,
};

/// What the emulator lacks, and why, is said there.
const FRONT: &str = include_str!("gcs_front.py");

/// How long it may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running emulator. Its objects are gone with it.
#[derive(Debug)]
pub struct GcsEmulator {
    port: u16,
    /// `None` for one that somebody else runs.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    server: Supervised,
    /// Declared last: the folder goes after the server that runs in it.
    _home: TempDir,
}

/// Names the loopback port of an emulator with its front that somebody else runs, to be used in place of our own.
pub const SERVICE: &str = "DUCKFEEDER_TEST_GCS_SERVICE";

impl GcsEmulator {
    /// Starts an emulator without buckets on a free loopback port.
    ///
    /// # Errors
    /// When the emulator cannot be had or does not start.
    pub fn start() -> Result<Self> {
        if let Some(port) = service_port(SERVICE)? {
            return Ok(Self { port, own: None });
        }
        let packages = Tools::locate()?.gcs_emulator()?;
        let home = tempfile::Builder::new().prefix("df-gcs-").tempdir()?;
        std::fs::write(home.path().join("front.py"), FRONT)?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match launch(&packages, home.path(), port) {
                Ok(server) => {
                    return Ok(Self {
                        port,
                        own: Some(Own {
                            server,
                            _home: home,
                        }),
                    });
                }
                // Somebody took the port between our look and the server's.
                Err(error) if attempt < 5 && format!("{error:#}").contains("in use") => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Where clients find it, as `http://127.0.0.1:12345`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The same without the scheme, as DuckDB wants it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a bucket, in which what is deleted is gone at once.
    ///
    /// # Errors
    /// When it is not made.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let body = format!(r#"{{"name": "{name}"}}"#);
        self.request("POST", "/storage/v1/b?project=test", &body)
            .map(drop)
            .with_context(|| format!("cannot make the bucket {name}"))
    }

    /// How many resumable uploads into a bucket have been begun, and neither completed nor cancelled.
    ///
    /// # Errors
    /// When the emulator does not tell.
    pub fn open_uploads(&self, bucket: &str) -> Result<u64> {
        let answer: serde_json::Value = serde_json::from_str(&self.request(
            "GET",
            &format!("/_test/sessions/{bucket}"),
            "",
        )?)?;
        answer
            .get("open")
            .and_then(serde_json::Value::as_u64)
            .context("no number of uploads")
    }

    /// Sends a signal to the process: [`Signal::Stop`] makes a store that does not answer.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, which: Signal) -> Result<()> {
        let own = self.own.as_mut();
        let own = own.context("signals go to an emulator of our own")?;
        own.server.signal(which)
    }

    /// One request on a connection of its own; the body of the answer.
    fn request(&self, method: &str, path: &str, body: &str) -> Result<String> {
        request(&self.address(), method, path, body)
    }
}

fn launch(packages: &Path, home: &Path, port: u16) -> Result<Supervised> {
    let log = home.join("log");
    let output = File::create(&log)?;
    let mut command = Command::new("python3");
    command
        .arg(home.join("front.py"))
        .arg(port.to_string())
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut server = Supervised::spawn(&mut command, Signal::Kill, Some(home))?;
    let address = format!("127.0.0.1:{port}");
    wait_until("the emulator answers", PATIENCE, || {
        if let Some(status) = server.try_wait()? {
            bail!("the emulator ended with {status}");
        }
        Ok(request(&address, "GET", "/", "").ok())
    })
    .with_context(|| tail(&std::fs::read_to_string(&log).unwrap_or_default(), 30))?;
    Ok(server)
}

fn request(address: &str, method: &str, path: &str, body: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{status}: {body}");
    Ok(body.to_owned())
}
