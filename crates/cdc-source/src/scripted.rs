//! A scripted server on an in-memory pipe, for tests.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::connection::{Connection, SessionKind};
use crate::dial::Dialled;
use crate::endpoint::{Endpoint, Host};
use crate::error::SourceError;

/// The server's end of the pipe.
pub(crate) struct Server {
    pub(crate) io: DuplexStream,
}

pub(crate) fn endpoint(url: &str) -> (Endpoint, Host) {
    let endpoint = Endpoint::parse(url).unwrap();
    let host = endpoint.hosts[0].clone();
    (endpoint, host)
}

/// A pipe that holds at most `size` bytes in each direction: with 1, every read and write is cut
/// at every byte.
pub(crate) fn pipe(size: usize, channel_binding: Option<Vec<u8>>) -> (Dialled, Server) {
    let (client, server) = tokio::io::duplex(size);
    let encrypted = channel_binding.is_some();
    (
        Dialled {
            io: Box::new(client),
            channel_binding,
            encrypted,
        },
        Server { io: server },
    )
}

/// A session with a server that trusts us and then does what `script` says.
pub(crate) async fn session<F, R>(size: usize, kind: SessionKind, script: F) -> Connection
where
    F: FnOnce(Server) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (dialled, mut server) = pipe(size, None);
    tokio::spawn(async move {
        server.startup().await;
        server.send(&auth(0, b"")).await;
        server.welcome().await;
        script(server).await;
    });
    open("postgres://feeder:secret@db/shop", dialled, kind)
        .await
        .unwrap()
}

pub(crate) async fn open(
    url: &str,
    dialled: Dialled,
    kind: SessionKind,
) -> Result<Connection, SourceError> {
    let (endpoint, host) = endpoint(url);
    Connection::on(dialled, &endpoint, &host, kind).await
}

impl Server {
    /// Reads the startup message.
    pub(crate) async fn startup(&mut self) -> BTreeMap<String, String> {
        let length = usize::try_from(self.io.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        self.io.read_exact(&mut body).await.unwrap();
        assert_eq!(body[..4], [0, 3, 0, 0]);
        let mut texts = body[4..]
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8(text.into()).unwrap());
        let mut parameters = BTreeMap::new();
        while let Some(name) = texts.next().filter(|name| !name.is_empty()) {
            parameters.insert(name, texts.next().unwrap());
        }
        parameters
    }

    /// What follows AuthenticationOk, up to and including the queries that pin the session.
    pub(crate) async fn welcome(&mut self) {
        self.send(&parameter("server_encoding", "UTF8")).await;
        self.send(&message(b'K', &[0, 0, 0, 7, 0, 0, 0, 8])).await;
        self.send(&ready(b'I')).await;
        assert!(self.query().await.contains("set_config"));
        let pinned: Vec<_> = (0..9).map(|_| vec![Some("x"), Some("y")]).collect();
        self.send(&rows(&["name", "set_config"], &pinned)).await;
        assert!(self.query().await.contains("server_version_num"));
        self.send(&rows(&["version"], &[vec![Some("150018")]]))
            .await;
    }

    /// Reads one message and expects it to be a query.
    pub(crate) async fn query(&mut self) -> String {
        let (tag, body) = self.receive().await;
        assert_eq!(tag, b'Q');
        let text = body.strip_suffix(&[0]).unwrap();
        String::from_utf8(text.into()).unwrap()
    }

    pub(crate) async fn receive(&mut self) -> (u8, Vec<u8>) {
        let tag = self.io.read_u8().await.unwrap();
        let length = usize::try_from(self.io.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        self.io.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }
}

pub(crate) fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len() + 4).unwrap());
    out.put_slice(body);
    out
}

pub(crate) fn auth(code: u32, data: &[u8]) -> BytesMut {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

pub(crate) fn parameter(name: &str, value: &str) -> BytesMut {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

pub(crate) fn ready(status: u8) -> BytesMut {
    message(b'Z', &[status])
}

pub(crate) fn complete() -> BytesMut {
    message(b'C', b"SELECT 1\0")
}

pub(crate) fn error(sqlstate: &str, text: &str) -> BytesMut {
    message(
        b'E',
        format!("SERROR\0C{sqlstate}\0M{text}\0DKey (card)=(4711) is secret.\0\0").as_bytes(),
    )
}

/// A whole answer to a query, ready included.
pub(crate) fn rows(columns: &[&str], rows: &[Vec<Option<&str>>]) -> BytesMut {
    let count = u16::try_from(columns.len()).unwrap();
    let mut body = BytesMut::new();
    body.put_u16(count);
    for column in columns {
        body.put_slice(column.as_bytes());
        body.put_u8(0);
        body.put_slice(&[0; 18]);
    }
    let mut out = message(b'T', &body);
    for row in rows {
        let mut body = BytesMut::new();
        body.put_u16(count);
        for value in row {
            match value {
                Some(value) => {
                    body.put_u32(u32::try_from(value.len()).unwrap());
                    body.put_slice(value.as_bytes());
                }
                None => body.put_i32(-1),
            }
        }
        out.extend_from_slice(&message(b'D', &body));
    }
    out.extend_from_slice(&complete());
    out.extend_from_slice(&ready(b'I'));
    out
}
