//! An S3 server that belongs to one test and ends with it: moto, in memory.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{
    postgres::free_port,
    process::{Signal, Supervised, service_port, tail, wait_until},
    tools::Tools,
};

/// Why there is one, is said there.
const FRONT: &str = include_str!("moto_front.py");

/// How long the server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The access key that tests use; the server takes any.
pub const ACCESS_KEY_ID: &str = "AKIATESTACCESSKEY";

/// Its secret, of a form that is easily searched for.
pub const SECRET_ACCESS_KEY: &str = "test-secret-access-key-that-no-log-shows";

/// A running server.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    /// `None` for a server that somebody else runs.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    log: PathBuf,
    _process: Supervised,
    _home: TempDir,
}

/// Names the loopback port of a server that somebody else runs, to be used in place of servers of our own.
pub const SERVICE: &str = "DUCKFEEDER_TEST_S3_SERVICE";

impl S3Server {
    /// Starts a server without buckets.
    ///
    /// # Errors
    /// When it cannot be had or does not start.
    pub fn start() -> Result<Self> {
        if let Some(port) = service_port(SERVICE)? {
            return Ok(Self { port, own: None });
        }
        let packages = Tools::locate()?.moto()?;
        let home = tempfile::Builder::new().prefix("df-s3-").tempdir()?;
        let log = home.path().join("log");
        let front = home.path().join("moto_front.py");
        std::fs::write(&front, FRONT)?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            let file = File::create(&log)?;
            let mut command = Command::new("python3");
            command
                .arg(&front)
                .arg(port.to_string())
                .env("PYTHONPATH", &packages)
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .current_dir(home.path())
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file);
            let mut process = Supervised::spawn(&mut command, Signal::Kill, None)?;
            let started = wait_until("the S3 server answers", PATIENCE, || {
                if let Some(status) = process.try_wait()? {
                    bail!("the S3 server ended with {status}");
                }
                Ok(request(port, "GET", "/").ok())
            });
            match started {
                Ok(_) => {
                    return Ok(Self {
                        port,
                        own: Some(Own {
                            log,
                            _process: process,
                            _home: home,
                        }),
                    });
                }
                // Somebody took the port between our look and the server's.
                Err(_) if attempt < 5 && read_lossy(&log).contains("in use") => attempt += 1,
                Err(error) => return Err(error.context(tail(&read_lossy(&log), 20))),
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

    /// Makes a bucket.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        request(self.port, "PUT", &format!("/{name}")).map(drop)
    }

    /// The keys of all objects of a bucket, in order.
    ///
    /// # Errors
    /// When there is no such bucket, or more than one page of them.
    pub fn keys(&self, bucket: &str) -> Result<Vec<String>> {
        let answer = request(self.port, "GET", &format!("/{bucket}?list-type=2"))?;
        if answer.contains("<IsTruncated>true") {
            bail!("more objects than one page holds");
        }
        Ok(elements(&answer, "Key"))
    }

    /// The keys of all open multipart uploads of a bucket.
    ///
    /// # Errors
    /// When there is no such bucket.
    pub fn uploads(&self, bucket: &str) -> Result<Vec<String>> {
        Ok(elements(
            &request(self.port, "GET", &format!("/{bucket}?uploads"))?,
            "Key",
        ))
    }

    /// One line for each request so far: method, path and status among other things.
    ///
    /// # Errors
    /// When somebody else runs the server.
    pub fn log(&self) -> Result<String> {
        let own = self.own.as_ref();
        let own = own.context("the log of a server that somebody else runs")?;
        Ok(read_lossy(&own.log))
    }
}

fn read_lossy(path: &std::path::Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// The texts of all elements of a name. The names of tests need no unescaping.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split(&close).next())
        .map(str::to_owned)
        .collect()
}

/// Sends a request without a body and returns the body of the answer, which must be a success.
fn request(port: u16, method: &str, target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        bail!("{method} {target}: {status}\n{body}");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_buckets() -> Result<()> {
        let server = S3Server::start()?;
        server.create_bucket("lake")?;
        assert_eq!(server.keys("lake")?, [""; 0]);
        assert_eq!(server.uploads("lake")?, [""; 0]);
        assert!(server.keys("nothing").is_err());
        let log = server.log()?;
        assert!(log.contains("PUT /lake"), "{log}");
        Ok(())
    }
}
