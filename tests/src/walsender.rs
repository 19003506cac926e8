//! Somebody else who streams from a slot, as another replication tool would.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail};

use crate::postgres::SUPERUSER;

/// A session that holds a logical slot, until it is dropped or the server ends it for want of answers.
#[derive(Debug)]
pub struct Walsender {
    stream: TcpStream,
}

impl Walsender {
    /// Streams from a slot, through a publication, as superuser and without a password.
    ///
    /// # Errors
    /// What the server says against it, as far as it can be read.
    pub fn start(port: u16, database: &str, slot: &str, publication: &str) -> Result<Self> {
        let mut session = Self {
            stream: TcpStream::connect(("127.0.0.1", port))?,
        };
        let mut startup = 196_608_u32.to_be_bytes().to_vec();
        for text in [
            "user",
            SUPERUSER,
            "database",
            database,
            "replication",
            "database",
            "application_name",
            "intruder",
            "",
        ] {
            startup.extend(text.as_bytes());
            startup.push(0);
        }
        session.send(&startup)?;
        session.wait_for(b'Z')?;
        let command = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL 0/0 (proto_version '1', publication_names '\"{publication}\"')\0"
        );
        session.stream.write_all(b"Q")?;
        session.send(command.as_bytes())?;
        session.wait_for(b'W')?;
        Ok(session)
    }

    fn send(&mut self, body: &[u8]) -> Result<()> {
        let length = u32::try_from(body.len() + 4)?;
        self.stream.write_all(&length.to_be_bytes())?;
        Ok(self.stream.write_all(body)?)
    }

    /// Reads messages up to one of this kind.
    fn wait_for(&mut self, kind: u8) -> Result<()> {
        loop {
            let mut header = [0; 5];
            self.stream.read_exact(&mut header)?;
            let [found, length @ ..] = header;
            let length = u32::from_be_bytes(length)
                .checked_sub(4)
                .context("a message without a length")?;
            let mut body = vec![0; usize::try_from(length)?];
            self.stream.read_exact(&mut body)?;
            if found == kind {
                return Ok(());
            }
            if found == b'E' {
                bail!("{}", String::from_utf8_lossy(&body).replace('\0', " "));
            }
        }
    }
}
