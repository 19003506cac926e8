//! One connection of a client: its requests, one after the other, each with its fault.

use std::{
    io::{self, BufReader, ErrorKind, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use super::{
    Fault, Request, Shared,
    http::{self, Framing, Head, Piece},
};

/// A server that is silent for so long has failed the test.
const BACKEND_SILENCE: Duration = Duration::from_mins(2);

/// Serves `client` until either side closes or a fault does.
pub(super) fn serve(shared: &Shared, client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client);
    while let Some(head) = Head::read(&mut requests)? {
        let part = |at: usize| head.start.get(at).cloned().unwrap_or_default();
        let request = Request {
            method: part(0).to_ascii_uppercase(),
            target: part(1),
        };
        let (fault, version) = shared.decide(&request);
        let open = match fault {
            Fault::Refuse => return Ok(()),
            Fault::Hang => {
                shared.wait_for_change(version);
                return Ok(());
            }
            Fault::Status {
                code,
                body,
                headers,
            } => {
                promise(&head, client)?;
                http::body(&mut requests, head.of_request(), &mut |_| Ok(()))?;
                answer(client, &request.method, code, &body, &headers)?;
                true
            }
            fault => forward(shared, client, &mut requests, &head, &request, &fault)?,
        };
        if !open || !head.keeps_alive() {
            break;
        }
    }
    Ok(())
}

/// Tells a client that waits for it to send its body.
fn promise(head: &Head, mut client: &TcpStream) -> io::Result<()> {
    match head.header("expect") {
        Some(_) => client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n"),
        None => Ok(()),
    }
}

fn answer(
    mut client: &TcpStream,
    method: &str,
    code: u16,
    body: &str,
    headers: &[(String, String)],
) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {code} Fault\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    if method != "HEAD" {
        text.push_str(body);
    }
    client.write_all(text.as_bytes())
}

/// Hands a request on and its answer back. False when the connection of the client cannot go on.
fn forward(
    shared: &Shared,
    client: &TcpStream,
    requests: &mut BufReader<&TcpStream>,
    head: &Head,
    request: &Request,
    fault: &Fault,
) -> io::Result<bool> {
    let backend = TcpStream::connect(shared.backend)?;
    backend.set_nodelay(true)?;
    backend.set_read_timeout(Some(BACKEND_SILENCE))?;
    let mut to_backend = &backend;
    to_backend.write_all(&head.raw)?;
    promise(head, client)?;
    let mut flow = Flow::new(&backend, fault);
    if let Fault::Cut { after_body_bytes } = fault {
        flow.limit = Some(*after_body_bytes);
    }
    if let Fault::Corrupt { offset } = fault {
        flow.flip = Some(*offset);
    }
    http::body(requests, head.of_request(), &mut |piece| {
        flow.hand_on(piece)
    })?;
    if flow.limit.is_some() {
        return Ok(false);
    }

    let mut answers = BufReader::new(&backend);
    let answer_head = loop {
        let head = Head::read(&mut answers)?.ok_or(ErrorKind::UnexpectedEof)?;
        // The client has been told to go on already.
        if head.status() >= 200 {
            break head;
        }
    };
    let framing = answer_head.of_answer(&request.method);
    if let Fault::ReplaceAnswer { code, body } = fault {
        http::body(&mut answers, framing, &mut |_| Ok(()))?;
        answer(client, &request.method, *code, body, &[])?;
        return Ok(true);
    }
    let mut to_client = client;
    to_client.write_all(&answer_head.raw)?;
    let mut flow = Flow::new(client, fault);
    if let Fault::CutAnswer { after_body_bytes } = fault {
        flow.limit = Some(*after_body_bytes);
    }
    http::body(&mut answers, framing, &mut |piece| flow.hand_on(piece))?;
    Ok(flow.limit.is_none() && framing != Framing::UntilClose && answer_head.keeps_alive())
}

/// A body on its way, with what happens to it.
struct Flow<'a> {
    to: &'a TcpStream,
    began: Instant,
    /// Bytes of the body that were handed on.
    done: u64,
    speed: Option<u64>,
    /// Where it breaks off.
    limit: Option<u64>,
    /// Which byte is flipped.
    flip: Option<u64>,
}

impl<'a> Flow<'a> {
    fn new(to: &'a TcpStream, fault: &Fault) -> Self {
        Self {
            to,
            began: Instant::now(),
            done: 0,
            speed: match fault {
                Fault::Throttle { bytes_per_second } => Some((*bytes_per_second).max(1)),
                _ => None,
            },
            limit: None,
            flip: None,
        }
    }

    fn hand_on(&mut self, piece: Piece<'_>) -> io::Result<()> {
        let bytes = match piece {
            Piece::Frame(bytes) => return self.to.write_all(bytes),
            Piece::Body(bytes) => bytes,
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let within = |offset: u64| {
            let inside = offset.checked_sub(self.done)?;
            usize::try_from(inside).ok().filter(|at| *at < bytes.len())
        };
        if let Some(end) = self.limit.and_then(within) {
            self.to.write_all(bytes.get(..end).unwrap_or_default())?;
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if let Some(byte) = self.flip.and_then(within).and_then(|at| bytes.get_mut(at)) {
            *byte ^= 0x01;
        }
        self.to.write_all(bytes)?;
        self.done += length;
        if let Some(speed) = self.speed {
            let due = Duration::from_micros(self.done.saturating_mul(1_000_000) / speed);
            thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        Ok(())
    }
}
