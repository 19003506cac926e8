//! `duckfeeder health`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::config::Merged;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// How long the whole conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// More of an answer than this is not read, in bytes.
const MAX_ANSWER: u64 = 16 * 1024;

/// Asks the running feeder whether it does its work. Needs no other key than `server.listen`, so that a
/// container's probe is not kept from its answer by what only `run` was given.
pub(super) async fn health(merged: &Merged, console: &Console) -> Result {
    let Some(listen) = merged.listen()? else {
        return Err(Failure::usage(
            "`server.listen` is missing: there is nobody to ask",
            "set `server.listen` in the configuration file, or the environment variable \
             DUCKFEEDER_SERVER__LISTEN, for this command and for `run`",
        ));
    };
    let address = reachable(listen);
    let complaint = match tokio::time::timeout(PATIENCE, ask(address)).await {
        Ok(Ok(answer)) => match complaint(&answer) {
            None => {
                console.print("healthy")?;
                return Ok(Exit::Done);
            }
            Some(complaint) => complaint,
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {}", humantime::format_duration(PATIENCE)),
    };
    console.error(&format!(
        "error: http://{address}/healthz: {complaint}\n\
         remedy: look at the log of `duckfeeder run`, and whether it has the same `server.listen`\n"
    ));
    Ok(Exit::Unhealthy)
}

/// Where a server that listens at `listen` is found from the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match listen.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    SocketAddr::new(loopback, listen.port())
}

/// The beginning of the answer to one request. HTTP/1.0: the server closes, and sends no chunks.
async fn ask(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// What is wrong with the answer; `None` when it is a 200.
fn complaint(answer: &[u8]) -> Option<String> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let mut words = head.split_ascii_whitespace();
    let speaks_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    match words.next() {
        Some("200") if speaks_http => None,
        Some(code) if speaks_http => {
            let reason = body.lines().next().unwrap_or_default();
            Some(format!("{code} {reason}").trim_end().to_owned())
        }
        _ => Some("what answers there is no HTTP server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9187", "127.0.0.1:9187"),
            ("[::]:9187", "[::1]:9187"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn only_a_200_is_healthy() {
        assert_eq!(complaint(b"HTTP/1.1 200 OK\r\n\r\nok\n"), None);
        assert_eq!(
            complaint(b"HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nthe feeder has ended\n")
                .as_deref(),
            Some("503 the feeder has ended")
        );
        for other in [&b"SSH-2.0-x 200"[..], b"", b"HTTP/1.1", b"\xff\xff 200"] {
            assert_eq!(
                complaint(other).as_deref(),
                Some("what answers there is no HTTP server"),
                "{other:?}"
            );
        }
    }
}
