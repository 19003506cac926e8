//! Makes the byte stream to a host: TCP or Unix socket, plain or TLS.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::endpoint::{Host, TlsMode, TlsOptions};
use crate::error::{SourceError, SourceErrorKind};
use crate::tls;
use crate::wire::Transport;

/// A peer that vanished is noticed after about a minute, whether we listen or send.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_mins(1);

/// A byte stream to a server, and the data that binds SCRAM to its TLS channel.
pub(crate) struct Dialled {
    pub(crate) io: Box<dyn Transport>,
    pub(crate) channel_binding: Option<Vec<u8>>,
    pub(crate) encrypted: bool,
}

/// Whether TLS may be tried; `prefer` makes its second attempt without.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encryption {
    AsConfigured,
    Off,
}

pub(crate) async fn dial(
    host: &Host,
    tls: &TlsOptions,
    encryption: Encryption,
) -> Result<Dialled, SourceError> {
    match host {
        Host::Unix { dir, port } => {
            let path = dir.join(format!(".s.PGSQL.{port}"));
            let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
            Ok(Dialled {
                io: Box::new(stream),
                channel_binding: None,
                encrypted: false,
            })
        }
        Host::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(unreachable)?;
            tune(&stream).map_err(unreachable)?;
            if encryption == Encryption::Off || tls.mode == TlsMode::Disable {
                return Ok(plain(stream));
            }
            upgrade(stream, host, tls).await
        }
    }
}

/// Asks for TLS and reads the one-byte answer (Postgres documentation, "SSL Session Encryption").
/// Nothing more than that byte is read before the handshake, so nobody can slip plain text in.
async fn upgrade(
    mut stream: TcpStream,
    host: &str,
    tls: &TlsOptions,
) -> Result<Dialled, SourceError> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream
        .write_all(&request)
        .await
        .map_err(SourceError::connection_lost)?;
    match stream
        .read_u8()
        .await
        .map_err(SourceError::connection_lost)?
    {
        b'S' => {
            let session = tls::handshake(stream, host, tls).await?;
            Ok(Dialled {
                io: Box::new(session.stream),
                channel_binding: session.channel_binding,
                encrypted: true,
            })
        }
        b'N' if tls.mode == TlsMode::Prefer => Ok(plain(stream)),
        b'N' => Err(SourceError::permanent(
            SourceErrorKind::Tls,
            format!(
                "the server does not offer TLS, and {} asks for it",
                tls.mode
            ),
        )
        .with_remedy("turn ssl on at the server, or allow plain text with sslmode=disable")),
        _ => Err(SourceError::protocol(
            "the answer to the request for TLS makes no sense",
        )),
    }
}

fn plain(stream: TcpStream) -> Dialled {
    Dialled {
        io: Box::new(stream),
        channel_binding: None,
        encrypted: false,
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

fn unreachable(cause: io::Error) -> SourceError {
    SourceError::new(
        SourceErrorKind::Connect,
        format!("the server cannot be reached: {cause}"),
    )
    .caused_by(cause)
    .with_remedy("check host and port, and that the server runs and listens there")
}
