use tokio::io::AsyncWriteExt;

use super::*;
use crate::scripted::{self, complete, error, message, parameter, ready, rows};

#[tokio::test]
async fn a_session_survives_cuts_at_every_byte() {
    for size in [1, 2, 3, 7, 4096] {
        let mut connection = scripted::session(size, SessionKind::Sql, async |mut server| {
            assert_eq!(server.query().await, "select a, b");
            server.send(&parameter("application_name", "x")).await;
            let values = [vec![Some("1"), None], vec![Some("ü"), Some("")]];
            server.send(&rows(&["a", "b"], &values)).await;
        })
        .await;
        assert_eq!(connection.server_version().to_string(), "15.18");
        assert_eq!(connection.parameter("server_encoding"), Some("UTF8"));
        assert_eq!(connection.backend_pid(), 7);
        let rows = connection.query("select a, b").await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].get(0), rows[0].get(1)), (Some("1"), None));
        assert_eq!(rows[0].parse::<u8>("a").unwrap(), 1);
        assert_eq!(rows[0].opt("b").unwrap(), None);
        assert!(rows[0].text("b").is_err());
        assert!(rows[0].opt("c").is_err());
        assert_eq!(rows[1].text("a").unwrap(), "ü");
        assert_eq!(rows[1].get(2), None);
        assert!(
            rows[1]
                .parse::<u8>("a")
                .unwrap_err()
                .to_string()
                .contains("\"a\"")
        );
        assert!(!format!("{rows:?}").contains('ü'));
        assert_eq!(connection.parameter("application_name"), Some("x"));
    }
}

#[tokio::test]
async fn the_startup_message_pins_what_poolers_know() {
    for (kind, replication) in [
        (SessionKind::Sql, None),
        (SessionKind::Replication, Some("database")),
    ] {
        let (dialled, mut server) = scripted::pipe(4096, None);
        let client = tokio::spawn(async move {
            scripted::open(
                "postgres://feeder@db/shop?options=-cgeqo%3Doff",
                dialled,
                kind,
            )
            .await
        });
        let parameters = server.startup().await;
        let get = |name: &str| parameters.get(name).map(String::as_str);
        assert_eq!(get("user"), Some("feeder"));
        assert_eq!(get("database"), Some("shop"));
        assert_eq!(get("client_encoding"), Some("UTF8"));
        assert_eq!(get("DateStyle"), Some("ISO"));
        assert_eq!(get("TimeZone"), Some("UTC"));
        assert_eq!(get("options"), Some("-cgeqo=off"));
        assert_eq!(get("replication"), replication);
        server.send(&scripted::auth(0, b"")).await;
        server.welcome().await;
        assert_eq!(client.await.unwrap().unwrap().kind(), kind);
    }
}

#[tokio::test]
async fn after_the_servers_error_the_session_goes_on() {
    let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
        server.query().await;
        server
            .send(&error("42P01", "relation \"x\" does not exist"))
            .await;
        server.send(&ready(b'E')).await;
        server.query().await;
        server.send(&rows(&["a"], &[vec![Some("1")]])).await;
    })
    .await;
    let error = connection.query("select x").await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ObjectMissing);
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert!(!error.is_transient());
    assert!(
        !format!("{error} {error:?}").contains("4711"),
        "the detail may hold row values"
    );
    assert!(connection.in_transaction());
    assert_eq!(connection.query("select 1").await.unwrap().len(), 1);
    assert!(!connection.in_transaction());
}

#[tokio::test]
async fn an_abandoned_query_makes_the_session_unusable() {
    let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
        server.query().await;
        server.query().await;
    })
    .await;
    tokio::select! {
        biased;
        _ = connection.query("select 1") => panic!("nobody answered"),
        () = tokio::task::yield_now() => {}
    }
    let error = connection.query("select 2").await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unusable);
}

#[tokio::test]
async fn copy_out_loses_nothing_when_futures_are_dropped() {
    const MESSAGES: u32 = 300;
    for size in [1, 5, 64] {
        let mut connection = scripted::session(size, SessionKind::Sql, async |mut server| {
            server.query().await;
            server.send(&message(b'H', &[1, 0, 0])).await;
            for number in 0..MESSAGES {
                server.send(&message(b'd', &number.to_be_bytes())).await;
                server.send(&parameter("x", "y")).await;
            }
            server.send(&message(b'c', &[])).await;
            server.send(&complete()).await;
            server.send(&ready(b'T')).await;
            server.query().await;
            server.send(&rows(&["a"], &[])).await;
        })
        .await;
        let mut copy = connection.copy_out("copy t to stdout").await.unwrap();
        let mut received = Vec::new();
        let mut dropped = 0;
        loop {
            tokio::select! {
                biased;
                data = copy.next() => match data.unwrap() {
                    Some(data) => received.push(u32::from_be_bytes(data[..].try_into().unwrap())),
                    None => break,
                },
                () = std::future::ready(()) => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(copy.next().await.unwrap().is_none());
        assert!(dropped > 0, "no future was dropped");
        assert_eq!(received, (0..MESSAGES).collect::<Vec<_>>());
        assert!(connection.in_transaction());
        assert!(connection.query("select 1").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_error_in_a_copy_is_kept_when_the_future_is_dropped() {
    let mut connection = scripted::session(1, SessionKind::Sql, async |mut server| {
        server.query().await;
        server.send(&message(b'H', &[1, 0, 0])).await;
        server.send(&message(b'd', b"x")).await;
        server
            .send(&error(
                "42883",
                "no binary output function available for type aclitem",
            ))
            .await;
        server.send(&ready(b'E')).await;
        server.query().await;
        server.send(&rows(&["a"], &[])).await;
    })
    .await;
    let mut copy = connection.copy_out("copy t to stdout").await.unwrap();
    assert_eq!(copy.next().await.unwrap().as_deref(), Some(&b"x"[..]));
    let error = loop {
        tokio::select! {
            biased;
            data = copy.next() => break data.unwrap_err(),
            () = std::future::ready(()) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::NoBinaryOutput);
    assert!(connection.query("rollback").await.is_ok());
}

#[tokio::test]
async fn an_unfinished_copy_makes_the_session_unusable() {
    let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
        server.query().await;
        server.send(&message(b'H', &[1, 0, 0])).await;
        server.send(&message(b'd', b"x")).await;
        server.query().await;
    })
    .await;
    let mut copy = connection.copy_out("copy t to stdout").await.unwrap();
    copy.next().await.unwrap();
    assert_eq!(
        connection.query("select 1").await.unwrap_err().kind(),
        SourceErrorKind::Unusable
    );
}

#[tokio::test]
async fn announced_lengths_are_refused_not_allocated() {
    for (header, session_up) in [
        (&[b'D', 0x7f, 0xff, 0xff, 0xff][..], true),
        (&[b'd', 0x40, 0x02, 0x00, 0x00][..], true),
        (&[b'd', 0x80, 0x00, 0x00, 0x00][..], true),
        (&[b'd', 0x00, 0x00, 0x00, 0x03][..], true),
        // "HTTP/": what a server of another kind may say.
        (&b"HTTP/"[..], false),
    ] {
        let error = if session_up {
            let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
                server.query().await;
                server.send(header).await;
                server.query().await;
            })
            .await;
            connection.query("select 1").await.unwrap_err()
        } else {
            let (dialled, mut server) = scripted::pipe(4096, None);
            tokio::spawn(async move {
                server.startup().await;
                server.send(header).await;
                server.query().await;
            });
            scripted::open("postgres://feeder@db/shop", dialled, SessionKind::Sql)
                .await
                .unwrap_err()
        };
        assert_eq!(error.kind(), SourceErrorKind::Protocol, "{header:?}");
    }
}

#[tokio::test]
async fn a_closed_connection_is_transient() {
    let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
        server.query().await;
        server.send(b"D").await;
        server.io.shutdown().await.unwrap();
    })
    .await;
    let error = connection.query("select 1").await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::ConnectionLost);
    assert!(error.is_transient());
    assert!(
        error.to_string().contains("database \"shop\" at db:5432"),
        "{error}"
    );
}

#[tokio::test]
async fn the_servers_last_words_are_the_error() {
    let mut connection = scripted::session(64, SessionKind::Sql, async |mut server| {
        server.query().await;
        server.send(&error("57P01", "terminating connection")).await;
    })
    .await;
    let error = connection.query("select 1").await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Unavailable);
    assert_eq!(error.sqlstate(), Some("57P01"));
}

#[tokio::test]
async fn malformed_rows_are_errors() {
    let description = |columns: &[&str]| {
        let all = rows(columns, &[]);
        let length = u32::from_be_bytes(all[1..5].try_into().unwrap());
        all[..=usize::try_from(length).unwrap()].to_vec()
    };
    for answer in [
        // A row before its description, a row of another length, one that is cut, no UTF-8.
        message(b'D', &[0, 0]).to_vec(),
        [description(&["a"]), message(b'D', &[0, 0]).to_vec()].concat(),
        [
            description(&["a"]),
            message(b'D', &[0, 1, 0, 0, 0, 9, b'x']).to_vec(),
        ]
        .concat(),
        [
            description(&["a"]),
            message(b'D', &[0, 1, 0, 0, 0, 1, 0xff]).to_vec(),
        ]
        .concat(),
        message(b'T', &[0, 1, b'a']).to_vec(),
        message(b'!', &[]).to_vec(),
    ] {
        let mut connection = scripted::session(64, SessionKind::Sql, async move |mut server| {
            server.query().await;
            server.send(&answer).await;
            server.query().await;
        })
        .await;
        let error = connection.query("select 1").await.unwrap_err();
        assert_eq!(error.kind(), SourceErrorKind::Protocol);
    }
}
