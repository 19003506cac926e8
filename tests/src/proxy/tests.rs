use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{Fault, FaultProxy, http};

/// A server that answers each request with its own body, `chunked` or with a length, and reports what it got.
fn echo() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let send = send.clone();
            thread::spawn(move || {
                let mut reader = std::io::BufReader::new(client.try_clone().unwrap());
                while let Ok(Some(head)) = http::Head::read(&mut reader) {
                    let mut got = Vec::new();
                    let whole = http::body(&mut reader, head.of_request(), &mut |piece| {
                        if let http::Piece::Body(bytes) = piece {
                            got.extend_from_slice(bytes);
                        }
                        Ok(())
                    });
                    send.send(got.clone()).unwrap();
                    if whole.is_err() {
                        return;
                    }
                    let length = got.len();
                    write!(
                        client,
                        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
                    )
                    .unwrap();
                    client.write_all(&got).unwrap();
                }
            });
        }
    });
    (address, receive)
}

fn send(proxy: &FaultProxy, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // What is refused may be closed before all of it is sent.
    let _ = client.write_all(request.as_bytes());
    client
}

/// Sends a request on a connection of its own and returns all that comes back.
fn ask(proxy: &FaultProxy, request: &str) -> String {
    let mut client = send(proxy, request);
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // A connection that is reset has no answer.
    let _ = client.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

const HELLO: &str = "PUT /a?x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "PUT /a?x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nt: 1\r\n\r\n";

#[test]
fn requests_and_answers_are_handed_on_and_counted() {
    let (backend, got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    for request in [HELLO, CHUNKED, &format!("{HELLO}{CHUNKED}")] {
        let answer = ask(&proxy, request);
        let answers = answer.matches("HTTP/1.1 200 OK").count();
        assert_eq!(answers, request.matches("PUT").count(), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    assert!(got.try_iter().all(|body| body == b"hello"));
    assert_eq!(proxy.count(|request| request.target == "/a?x"), 4);
    assert_eq!(proxy.count(|request| request.method == "GET"), 0);
}

#[test]
fn a_client_that_waits_is_told_to_send() {
    let (backend, _got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    let request = HELLO.replace("Host: h", "Host: h\r\nExpect: 100-continue");
    for fault in [Fault::Pass, Fault::status(503, "busy")] {
        proxy.set(fault);
        let answer = ask(&proxy, &request);
        assert!(
            answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "),
            "{answer}"
        );
    }
}

#[test]
fn an_answer_of_ours_asks_nobody() {
    let (backend, got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    proxy.next(
        1,
        |request| request.method == "PUT",
        Fault::retry_after(503, 7),
    );
    let answer = ask(&proxy, HELLO);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 7\r\n"), "{answer}");
    assert_eq!(got.try_iter().count(), 0);
    assert!(ask(&proxy, HELLO).ends_with("hello"));
}

#[test]
fn bodies_are_cut_and_corrupted_where_asked() {
    let (backend, got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    for request in [HELLO, CHUNKED] {
        proxy.set(Fault::Cut {
            after_body_bytes: 3,
        });
        assert_eq!(ask(&proxy, request), "");
        let wait = Duration::from_secs(20);
        assert_eq!(got.recv_timeout(wait).unwrap(), b"hel");
        proxy.set(Fault::Corrupt { offset: 4 });
        assert!(ask(&proxy, request).ends_with("helln"));
        assert_eq!(got.recv_timeout(wait).unwrap(), b"helln");
    }
    proxy.set(Fault::CutAnswer {
        after_body_bytes: 2,
    });
    assert!(ask(&proxy, HELLO).ends_with("\r\n\r\nhe"));
}

#[test]
fn the_server_works_and_its_answer_is_replaced() {
    let (backend, got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    proxy.set(Fault::ReplaceAnswer {
        code: 200,
        body: "<Error/>".to_owned(),
    });
    assert!(ask(&proxy, HELLO).ends_with("<Error/>"));
    assert_eq!(got.try_iter().count(), 1);
}

#[test]
fn nobody_is_served_while_it_refuses_or_hangs() {
    let (backend, got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    proxy.set(Fault::Refuse);
    assert_eq!(ask(&proxy, HELLO), "");
    proxy.set(Fault::Hang);
    let mut hanging = send(&proxy, HELLO);
    crate::process::wait_until("it hangs", Duration::from_secs(20), || {
        Ok((proxy.count(|_| true) > 0).then_some(()))
    })
    .unwrap();
    hanging.set_nonblocking(true).unwrap();
    let mut nothing = [0];
    let error = hanging.read(&mut nothing).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    proxy.clear();
    hanging.set_nonblocking(false).unwrap();
    assert_eq!(hanging.read(&mut nothing).unwrap_or_default(), 0);
    assert!(ask(&proxy, HELLO).ends_with("hello"));
    assert_eq!(got.try_iter().count(), 1);
}

#[test]
fn a_throttled_body_takes_its_time() {
    let (backend, _got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    proxy.set(Fault::Throttle {
        bytes_per_second: 20,
    });
    let began = Instant::now();
    assert!(ask(&proxy, HELLO).ends_with("hello"));
    // Five bytes there and five back.
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[test]
fn the_end_of_the_proxy_closes_its_connections() {
    let (backend, _got) = echo();
    let proxy = FaultProxy::start(&backend).unwrap();
    let mut idle = send(&proxy, HELLO);
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut byte = [0];
        idle.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    drop(proxy);
    assert_eq!(idle.read(&mut [0]).unwrap_or_default(), 0);
}
