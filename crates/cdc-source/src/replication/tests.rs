use bytes::Bytes;
use pgoutput::{PrimaryKeepalive, XLogData};

use super::*;
use crate::connection::SessionKind;
use crate::scripted::{self, Server, complete, error, message, ready, rows};

fn slot() -> SlotName {
    SlotName::parse("feeder").unwrap()
}

fn options(binary: bool, messages: bool) -> StreamOptions {
    StreamOptions {
        binary,
        messages,
        protocol: ProtocolVersion::V1,
    }
}

async fn stream<F, R>(size: usize, script: F) -> ReplicationStream
where
    F: FnOnce(Server) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let connection = scripted::session(size, SessionKind::Replication, async |mut server| {
        assert!(
            server
                .query()
                .await
                .starts_with("START_REPLICATION SLOT \"feeder\" LOGICAL 0/10 (")
        );
        server.send(&message(b'W', &[0, 0, 0])).await;
        script(server).await;
    })
    .await;
    let publications = [PublicationName::parse("feeder").unwrap()];
    connection
        .start_replication(&slot(), Lsn::new(16), &publications, options(true, false))
        .await
        .unwrap()
}

fn frame(number: u64) -> ReplicationFrame {
    if number.is_multiple_of(5) {
        ReplicationFrame::PrimaryKeepalive(PrimaryKeepalive {
            wal_end: Lsn::new(number),
            server_time: PgTimestamp::from_pg_micros(0),
            reply_requested: false,
        })
    } else {
        let length = usize::try_from(number % 97).unwrap();
        ReplicationFrame::XLogData(XLogData {
            wal_start: Lsn::new(number),
            wal_end: Lsn::new(number),
            server_time: PgTimestamp::from_pg_micros(0),
            payload: Bytes::from(vec![b'x'; length]),
        })
    }
}

fn encoded(frame: &ReplicationFrame) -> BytesMut {
    let mut data = BytesMut::new();
    frame.encode(&mut data);
    message(b'd', &data)
}

/// Pseudo-random, but the same in every run.
fn next_random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[tokio::test]
async fn dropped_futures_lose_no_frame() {
    const FRAMES: u64 = 500;
    for size in [1, 3, 64, 1000] {
        let mut stream = stream(size, async |mut server| {
            for number in 0..FRAMES {
                server.send(&encoded(&frame(number))).await;
            }
            server.send(&complete()).await;
        })
        .await;
        let mut random = 42;
        let mut dropped = 0;
        let mut received = Vec::new();
        loop {
            if next_random(&mut random).is_multiple_of(3) {
                received.extend(stream.try_next_frame().unwrap());
            }
            let patience = next_random(&mut random) % 3;
            let wait = async {
                for _ in 0..patience {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                frame = stream.next_frame() => match frame.unwrap() {
                    Some(frame) => received.push(frame),
                    None => break,
                },
                () = wait => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(dropped > 0, "no future was dropped");
        assert_eq!(
            received,
            (0..FRAMES).map(frame).collect::<Vec<_>>(),
            "pipe of {size} bytes"
        );
        assert_eq!(stream.try_next_frame().unwrap(), None);
        assert_eq!(stream.next_frame().await.unwrap(), None);
    }
}

#[tokio::test]
async fn draining_never_waits() {
    let mut stream = stream(4096, async |mut server| {
        let mut both = encoded(&frame(1));
        both.extend_from_slice(&encoded(&frame(2)));
        let third = encoded(&frame(3));
        both.extend_from_slice(&third[..third.len() - 1]);
        server.send(&both).await;
        server.receive().await;
        server.send(&third[third.len() - 1..]).await;
        server.receive().await;
    })
    .await;
    assert_eq!(stream.next_frame().await.unwrap(), Some(frame(1)));
    assert_eq!(stream.try_next_frame().unwrap(), Some(frame(2)));
    assert_eq!(
        stream.try_next_frame().unwrap(),
        None,
        "the third is not complete"
    );
    stream.send_status(Lsn::new(1), false).await.unwrap();
    assert_eq!(stream.next_frame().await.unwrap(), Some(frame(3)));
}

#[tokio::test]
async fn a_status_update_says_one_position_three_times() {
    let (sender, received) = tokio::sync::oneshot::channel();
    let mut stream = stream(1, async |mut server| {
        sender.send(server.receive().await).unwrap();
        server.receive().await;
    })
    .await;
    stream
        .send_status(Lsn::new(0x0102_0304_0506_0708), true)
        .await
        .unwrap();
    let (tag, body) = received.await.unwrap();
    assert_eq!((tag, body.len()), (b'd', 34));
    let position = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(body[0], b'r');
    for field in 0..3 {
        assert_eq!(body[1 + 8 * field..9 + 8 * field], position);
    }
    assert!(
        i64::from_be_bytes(body[25..33].try_into().unwrap()) > 0,
        "the time is after 2000"
    );
    assert_eq!(body[33], 1);
}

#[tokio::test]
async fn a_status_update_that_was_cut_off_is_finished_by_the_next() {
    let (sender, received) = tokio::sync::oneshot::channel();
    let mut stream = stream(8, async |mut server| {
        // Nothing is read until the client has given up on the first.
        server.send(&encoded(&frame(1))).await;
        let first = server.receive().await;
        let second = server.receive().await;
        sender.send((first, second)).unwrap();
        server.receive().await;
    })
    .await;
    tokio::select! {
        biased;
        _ = stream.send_status(Lsn::new(1), false) => panic!("the pipe is too small for it"),
        () = std::future::ready(()) => {}
    }
    let second = async {
        assert_eq!(stream.next_frame().await.unwrap(), Some(frame(1)));
        stream.send_status(Lsn::new(2), false).await.unwrap();
    };
    second.await;
    let ((_, first), (_, second)) = received.await.unwrap();
    assert_eq!((first[8], second[8]), (1, 2));
}

#[tokio::test]
async fn an_error_ends_the_stream_for_good() {
    let mut stream = stream(64, async |mut server| {
        server.send(&encoded(&frame(1))).await;
        server
            .send(&error("42704", "publication \"feeder\" does not exist"))
            .await;
        server.receive().await;
    })
    .await;
    assert_eq!(stream.next_frame().await.unwrap(), Some(frame(1)));
    let error = stream.next_frame().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ObjectMissing);
    assert_eq!(error.object(), Some("slot \"feeder\""));
    for error in [
        stream.next_frame().await.unwrap_err(),
        stream.try_next_frame().unwrap_err(),
    ] {
        assert_eq!(
            error.kind(),
            SourceErrorKind::Unusable,
            "an error is no end in good order"
        );
    }
}

#[tokio::test]
async fn a_broken_frame_or_connection_is_an_error() {
    for bytes in [
        message(b'd', b"w"),
        message(b'd', b""),
        message(b'd', b"?abc"),
    ] {
        let mut stream = stream(64, async move |mut server| {
            server.send(&bytes).await;
            server.receive().await;
        })
        .await;
        assert_eq!(
            stream.next_frame().await.unwrap_err().kind(),
            SourceErrorKind::Protocol
        );
    }
    let mut cut = stream(64, async |mut server| server.send(b"d\0\0").await).await;
    let error = cut.next_frame().await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ConnectionLost);
    assert!(error.is_transient());
}

#[tokio::test]
async fn stopping_gives_the_connection_back() {
    let stream = stream(8, async |mut server| {
        server.send(&encoded(&frame(1))).await;
        assert_eq!(server.receive().await.0, b'c');
        server.send(&encoded(&frame(2))).await;
        server.send(&message(b'c', b"")).await;
        server.send(&complete()).await;
        server.send(&complete()).await;
        server.send(&ready(b'I')).await;
        server.query().await;
        server.send(&rows(&["a"], &[])).await;
    })
    .await;
    let mut connection = stream.stop().await.unwrap();
    assert!(connection.query("select 1").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_start_names_the_slot() {
    let connection = scripted::session(64, SessionKind::Replication, async |mut server| {
        server.query().await;
        server
            .send(&error(
                "55006",
                "replication slot \"feeder\" is active for PID 9",
            ))
            .await;
        server.send(&ready(b'I')).await;
    })
    .await;
    let error = connection
        .start_replication(&slot(), Lsn::ZERO, &[], options(false, false))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::SlotInUse);
    assert!(error.is_transient());
    assert_eq!(error.object(), Some("slot \"feeder\""));
}

#[test]
fn names_are_quoted_twice() {
    let publications =
        ["plain", "o'clock", "a\"b,c"].map(|name| PublicationName::parse(name).unwrap());
    assert_eq!(
        start_command(
            &slot(),
            Lsn::new(0x1_0000_0002),
            &publications,
            options(true, true)
        ),
        "START_REPLICATION SLOT \"feeder\" LOGICAL 1/2 (proto_version '1', publication_names \
         '\"plain\",\"o''clock\",\"a\"\"b,c\"', binary 'true', messages 'true')"
    );
    assert_eq!(
        start_command(
            &slot(),
            Lsn::ZERO,
            &publications[..1],
            options(false, false)
        ),
        "START_REPLICATION SLOT \"feeder\" LOGICAL 0/0 (proto_version '1', publication_names \
         '\"plain\"')"
    );
}

#[test]
fn timeline_histories_are_read() {
    let history = "1\t0/3000160\tno recovery target specified\n\n# note\n 2\t1/A0\tbefore x\n";
    assert_eq!(
        parse_timeline_history(history).unwrap(),
        [
            TimelineSwitch {
                timeline: 1,
                end: Lsn::new(0x0300_0160)
            },
            TimelineSwitch {
                timeline: 2,
                end: Lsn::new(0x1_0000_00A0)
            },
        ]
    );
    assert!(parse_timeline_history("x\t0/1\n").is_err());
    assert!(parse_timeline_history("1\n").is_err());
}
