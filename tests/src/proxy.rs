//! A proxy in front of an HTTP/1.1 server that makes faults which the server itself cannot be made to have.
//!
//! It hands on requests and answers byte for byte, the `Host` header included, so that signatures stay valid, and
//! bodies as they come, without holding them. What happens to a request is decided when its head has arrived, by the
//! first rule that matches it, so a fault can be switched on and off at any time:
//!
//! ```no_run
//! use duckfeeder_tests::proxy::{Fault, FaultProxy};
//! # fn main() -> anyhow::Result<()> {
//! let proxy = FaultProxy::start("127.0.0.1:9000")?;
//! proxy.next(2, |request| request.method == "PUT", Fault::status(503, "SlowDown"));
//! proxy.always(|request| request.target.starts_with("/slow/"), Fault::Throttle { bytes_per_second: 1 << 20 });
//! // ... use proxy.url() as the endpoint ...
//! assert_eq!(proxy.count(|request| request.method == "PUT"), 3);
//! proxy.clear();
//! # Ok(())
//! # }
//! ```

mod exchange;
mod http;

use std::{
    collections::HashMap,
    fmt,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};

/// What a request is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// The method, in upper case.
    pub method: String,
    /// Path and query, percent-encoded as on the wire.
    pub target: String,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is handed on, and so is its answer.
    Pass,
    /// Its body is read, the server is not asked, and this is the answer.
    Status {
        /// Status code.
        code: u16,
        /// Contents of the answer; left out for `HEAD`.
        body: String,
        /// Headers beside `Content-Length`, such as `Retry-After`.
        headers: Vec<(String, String)>,
    },
    /// Both connections are closed when this many bytes of its body have been handed on, and at the latest when it
    /// has arrived, before there is an answer.
    Cut {
        /// Bytes on the wire.
        after_body_bytes: u64,
    },
    /// Both connections are closed when this many bytes of the body of the answer have been handed on.
    CutAnswer {
        /// Bytes on the wire.
        after_body_bytes: u64,
    },
    /// Bodies in both directions are handed on at this speed.
    Throttle {
        /// Bytes on the wire; at least 1.
        bytes_per_second: u64,
    },
    /// The connection is closed before anything of the body is read. As the fault of all requests
    /// ([`FaultProxy::set`]) connections are closed as soon as they are made.
    Refuse,
    /// One byte of its body is flipped; the server gets, and answers, the rest as it is.
    Corrupt {
        /// Which byte, counted from 0 on the wire.
        offset: u64,
    },
    /// Nothing of its body is read and nothing is answered, until the rules change; then the connection is closed.
    Hang,
    /// The server does its work, and this is handed back in place of its answer.
    ReplaceAnswer {
        /// Status code.
        code: u16,
        /// Contents of the answer.
        body: String,
    },
}

impl Fault {
    /// A [`Fault::Status`] without headers.
    pub fn status(code: u16, body: impl Into<String>) -> Self {
        Self::Status {
            code,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    /// A [`Fault::Status`] that asks for a wait of so many seconds.
    pub fn retry_after(code: u16, seconds: u32) -> Self {
        Self::Status {
            code,
            body: String::new(),
            headers: vec![("Retry-After".to_owned(), seconds.to_string())],
        }
    }
}

type Matcher = Box<dyn Fn(&Request) -> bool + Send>;

struct Rule {
    matches: Matcher,
    /// How many requests it is still for; `None` for all.
    left: Option<u64>,
    fault: Fault,
}

struct Rules {
    list: Vec<Rule>,
    otherwise: Fault,
    /// Grows with each change, for those that wait for one.
    version: u64,
    seen: HashMap<Request, u64>,
    /// Connections to close at the end.
    open: HashMap<u64, TcpStream>,
    connections: u64,
    stopped: bool,
}

struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
    backend: SocketAddr,
}

/// The proxy. It stops, and closes all connections, when dropped.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// Listens on a free port of the loopback address, in front of `backend`, which is `host:port` of a server
    /// without TLS. It hands everything on at first.
    ///
    /// # Errors
    /// When `backend` has no address or no port can be had. The server itself is not asked.
    pub fn start(backend: &str) -> Result<Self> {
        let backend = backend
            .to_socket_addrs()
            .with_context(|| format!("{backend} is no host:port"))?
            .next()
            .with_context(|| format!("{backend} has no address"))?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            rules: Mutex::new(Rules {
                list: Vec::new(),
                otherwise: Fault::Pass,
                version: 0,
                seen: HashMap::new(),
                open: HashMap::new(),
                connections: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
            backend,
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("fault proxy".to_owned())
            .spawn(move || accept(&for_acceptor, &listener))?;
        Ok(Self {
            shared,
            address,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and the address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `fault` happens to all requests that no rule of [`next`](Self::next) or [`always`](Self::always)
    /// matches.
    pub fn set(&self, fault: Fault) {
        self.shared.change(|rules| rules.otherwise = fault);
    }

    /// `fault` happens to all requests that match, from now on. Rules are tried in the order in which they were made.
    pub fn always(&self, matches: impl Fn(&Request) -> bool + Send + 'static, fault: Fault) {
        self.rule(Box::new(matches), None, fault);
    }

    /// `fault` happens to the next `times` requests that match.
    pub fn next(
        &self,
        times: u64,
        matches: impl Fn(&Request) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.rule(Box::new(matches), Some(times), fault);
    }

    /// Forgets all rules; everything is handed on. What goes on already, goes on.
    pub fn clear(&self) {
        self.shared.change(|rules| {
            rules.list.clear();
            rules.otherwise = Fault::Pass;
        });
    }

    /// How many requests that match have arrived so far, whatever happened to them.
    pub fn count(&self, matches: impl Fn(&Request) -> bool) -> u64 {
        let rules = self.shared.rules();
        let seen = rules.seen.iter();
        seen.filter(|(request, _)| matches(request))
            .map(|(_, times)| times)
            .sum()
    }

    fn rule(&self, matches: Matcher, left: Option<u64>, fault: Fault) {
        self.shared.change(|rules| {
            rules.list.push(Rule {
                matches,
                left,
                fault,
            });
        });
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .field("backend", &self.shared.backend)
            .finish_non_exhaustive()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.change(|rules| {
            rules.stopped = true;
            for connection in rules.open.values() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
        // Wakes the acceptor up, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules();
        change(&mut rules);
        rules.version += 1;
        self.changed.notify_all();
    }

    /// Counts a request and says what happens to it, by which version of the rules.
    fn decide(&self, request: &Request) -> (Fault, u64) {
        let mut rules = self.rules();
        let version = rules.version;
        *rules.seen.entry(request.clone()).or_default() += 1;
        for rule in &mut rules.list {
            if rule.left == Some(0) || !(rule.matches)(request) {
                continue;
            }
            if let Some(left) = &mut rule.left {
                *left -= 1;
            }
            return (rule.fault.clone(), version);
        }
        (rules.otherwise.clone(), version)
    }

    /// Returns when the rules are of another version.
    fn wait_for_change(&self, version: u64) {
        let rules = self.rules();
        let unchanged = |rules: &mut Rules| rules.version == version && !rules.stopped;
        drop(self.changed.wait_while(rules, unchanged));
    }

    /// Keeps a handle of a connection, to close it at the end; `None` if this is the end.
    fn enter(&self, connection: &TcpStream) -> Option<u64> {
        let handle = connection.try_clone().ok()?;
        let mut rules = self.rules();
        if rules.stopped {
            return None;
        }
        rules.connections += 1;
        let id = rules.connections;
        rules.open.insert(id, handle);
        Some(id)
    }

    fn leave(&self, id: u64) {
        self.rules().open.remove(&id);
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for client in listener.incoming() {
        {
            let rules = shared.rules();
            if rules.stopped {
                return;
            }
            if rules.otherwise == Fault::Refuse && rules.list.is_empty() {
                continue;
            }
        }
        let Ok(client) = client else { continue };
        let shared = Arc::clone(shared);
        let connection = thread::Builder::new().name("fault proxy connection".to_owned());
        // Without a thread the connection is closed, which a test notices.
        let _ = connection.spawn(move || {
            if let Some(id) = shared.enter(&client) {
                // The end of a connection, however it comes, is what the peers see.
                let _ = exchange::serve(&shared, &client);
                let _ = client.shutdown(Shutdown::Both);
                shared.leave(id);
            }
        });
    }
}

#[cfg(test)]
mod tests;
