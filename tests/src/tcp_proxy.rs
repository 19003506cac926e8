//! A proxy for any protocol over TCP, whose connections can be made to fail as networks do.
//!
//! Connections that hang stay open and swallow everything: neither end is told, which no server can be made to do.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Result;

/// What a client sends with the simple protocol to end a transaction.
const COMMIT: &[u8] = b"COMMIT\0";

/// The proxy. Dropping it closes all connections.
#[derive(Debug)]
pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    target: u16,
    closed: bool,
    links: Vec<Arc<Link>>,
    /// Whether new connections hang from their beginning.
    silent: bool,
    /// The answer to a COMMIT gets lost after so many that do not; `None` when none is to be.
    lose_commit_after: Option<u32>,
}

/// One connection of a client and ours to the server.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    hangs: AtomicBool,
    loses_answer: AtomicBool,
}

impl Link {
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer to what a client sends here is to be lost.
    fn loses(&self, sent: &[u8]) -> bool {
        if !sent.windows(COMMIT.len()).any(|window| window == COMMIT) {
            return false;
        }
        let left = &mut self.state().lose_commit_after;
        match *left {
            Some(0) => {
                *left = None;
                true
            }
            Some(more) => {
                *left = Some(more - 1);
                false
            }
            None => false,
        }
    }
}

impl TcpProxy {
    /// Listens on a free loopback port and hands on to another.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        shared.state().target = target;
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.state().closed {
                    return;
                }
                // A server that is down refuses; the client sees its connection closed.
                let Ok(client) = client else { continue };
                let _ = accept(&accepting, client);
            }
        });
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection URL of Postgres, through the proxy.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// Hands new connections on to another port, and closes the old ones: an address that moves.
    pub fn move_to(&self, target: u16) {
        self.shared.state().target = target;
        self.cut();
    }

    /// Closes all connections; new ones are handed on.
    pub fn cut(&self) {
        for link in self.shared.state().links.drain(..) {
            link.close();
        }
    }

    /// All connections stay open but carry nothing any more; new ones are handed on.
    pub fn hang(&self) {
        for link in &self.shared.state().links {
            link.hangs.store(true, Ordering::SeqCst);
        }
    }

    /// All connections hang, new ones too.
    pub fn silence(&self) {
        self.shared.state().silent = true;
        self.hang();
    }

    /// New connections are handed on again; what hangs stays so.
    pub fn speak(&self) {
        self.shared.state().silent = false;
    }

    /// The server learns that the clients of connections which hang are gone, as by its keepalive; the clients learn nothing.
    pub fn let_server_notice(&self) {
        for link in &self.shared.state().links {
            if link.hangs.load(Ordering::SeqCst) {
                let _ = link.server.shutdown(Shutdown::Both);
            }
        }
    }

    /// After `more` that are answered, a COMMIT reaches the server and its connection is closed in place of the answer.
    pub fn lose_commit_after(&self, more: u32) {
        self.shared.state().lose_commit_after = Some(more);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.cut();
        // Wakes the listener up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn accept(shared: &Arc<Shared>, client: TcpStream) -> Result<()> {
    let (target, silent) = {
        let state = shared.state();
        (state.target, state.silent)
    };
    let server = TcpStream::connect(("127.0.0.1", target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let link = Arc::new(Link {
        client,
        server,
        hangs: AtomicBool::new(silent),
        loses_answer: AtomicBool::new(false),
    });
    shared.state().links.push(Arc::clone(&link));
    let (shared, upwards) = (Arc::clone(shared), Arc::clone(&link));
    thread::spawn(move || {
        copy(&upwards, &upwards.client, &upwards.server, |sent| {
            if shared.loses(sent) {
                upwards.loses_answer.store(true, Ordering::SeqCst);
            }
            true
        });
    });
    thread::spawn(move || {
        copy(&link, &link.server, &link.client, |_answer| {
            !link.loses_answer.load(Ordering::SeqCst)
        });
    });
    Ok(())
}

/// Hands bytes on until one end closes or `may_pass` says no; then both ends are closed.
fn copy(
    link: &Link,
    mut from: &TcpStream,
    mut to: &TcpStream,
    mut may_pass: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or_default();
        if link.hangs.load(Ordering::SeqCst) {
            if length == 0 {
                return;
            }
            continue;
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() || !may_pass(bytes) || to.write_all(bytes).is_err() {
            link.close();
            return;
        }
    }
}
