use std::time::{Duration, Instant};

use cdc_source::{
    Connection, Endpoint, Host, PasswordSource, SessionKind, SourceErrorKind, TargetSession,
};

use crate::cluster::{Cluster, servers};

async fn refused(endpoint: &Endpoint) -> cdc_source::SourceError {
    Connection::connect(endpoint, SessionKind::Sql)
        .await
        .unwrap_err()
}

#[tokio::test]
async fn every_method_takes_the_right_password_only() {
    for (major, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        for user in ["trusting", "cleartext", "md5er", "scrammer"] {
            for kind in [SessionKind::Sql, SessionKind::Replication] {
                let endpoint = cluster.tcp(&format!("{user}:right"), "sslmode=disable");
                let mut connection = Connection::connect(&endpoint, kind).await.unwrap();
                assert_eq!(connection.server_version().major(), major);
                assert!(!connection.is_encrypted());
                let rows = connection.query("select current_user").await.unwrap();
                assert_eq!(rows[0].get(0), Some(user));
                connection.close().await;
            }
            if user == "trusting" {
                continue;
            }
            let error = refused(&cluster.tcp(&format!("{user}:wrong"), "sslmode=disable")).await;
            assert_eq!(error.kind(), SourceErrorKind::Auth, "{user}: {error}");
            assert!(!error.is_transient());
            let text = error.to_string();
            for part in [user, "127.0.0.1", "\"postgres\""] {
                assert!(text.contains(part), "{text}");
            }
            assert!(!format!("{error:?}").contains("wrong"));
            let mut endpoint = cluster.tcp(user, "sslmode=disable");
            endpoint.password = PasswordSource::None;
            let error = refused(&endpoint).await;
            assert_eq!(error.kind(), SourceErrorKind::Auth, "{user}: {error}");
            endpoint.password = PasswordSource::Command("echo ri''ght".into());
            Connection::connect(&endpoint, SessionKind::Sql)
                .await
                .unwrap();
        }

        let mut endpoint = cluster.socket("postgres");
        endpoint.database = "nothing".into();
        let error = refused(&endpoint).await;
        assert_eq!(error.kind(), SourceErrorKind::DatabaseMissing);
        assert!(!error.is_transient());
        let error = refused(&cluster.socket("nobody_at_all")).await;
        assert_eq!(error.kind(), SourceErrorKind::Auth);
    }
}

#[tokio::test]
async fn sessions_are_pinned_whatever_the_role_says() {
    let wanted = [
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "3"),
        ("bytea_output", "hex"),
        ("lc_monetary", "C"),
        ("search_path", ""),
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("transaction_timeout", "0"),
    ];
    for (major, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let mut admin = cluster.sql().await;
        for setting in [
            "client_encoding = 'LATIN1'",
            "DateStyle = 'German, MDY'",
            "IntervalStyle = 'iso_8601'",
            "TimeZone = 'Asia/Tokyo'",
            "extra_float_digits = '-5'",
            "bytea_output = 'escape'",
            "search_path = 'public'",
            "statement_timeout = '1h'",
            "lock_timeout = '1h'",
            "idle_in_transaction_session_timeout = '1h'",
            "idle_session_timeout = '1h'",
        ] {
            admin
                .execute(&format!("alter role scrammer set {setting}"))
                .await
                .unwrap();
        }
        if major >= 17 {
            admin
                .execute("alter role scrammer set transaction_timeout = '1h'")
                .await
                .unwrap();
        }
        for kind in [SessionKind::Sql, SessionKind::Replication] {
            let mut connection = cluster.connect("scrammer", kind).await;
            for (name, value) in wanted {
                if name == "transaction_timeout" && major < 17 {
                    continue;
                }
                let rows = connection
                    .query(&format!("select current_setting('{name}')"))
                    .await
                    .unwrap();
                assert_eq!(rows[0].get(0), Some(value), "{name} in {kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn hosts_are_tried_in_order() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        let live = Host::Tcp {
            host: "127.0.0.1".into(),
            port: cluster.port,
        };
        let dead = Host::Tcp {
            host: "127.0.0.1".into(),
            port: 1,
        };
        let mut endpoint = cluster.tcp("scrammer:right", "target_session_attrs=read-write");
        endpoint.hosts = vec![dead.clone(), live.clone()];
        Connection::connect(&endpoint, SessionKind::Sql)
            .await
            .unwrap();

        endpoint.hosts = vec![dead.clone()];
        let error = refused(&endpoint).await;
        assert_eq!(error.kind(), SourceErrorKind::Connect);
        assert!(error.is_transient());

        // A refusal of our credentials ends the search.
        let mut endpoint = cluster.tcp("scrammer:wrong", "");
        endpoint.hosts = vec![live.clone(), dead.clone()];
        assert_eq!(refused(&endpoint).await.kind(), SourceErrorKind::Auth);

        let mut admin = cluster.sql().await;
        admin
            .execute("alter role trusting set default_transaction_read_only = on")
            .await
            .unwrap();
        let mut endpoint = cluster.tcp("trusting", "");
        for (target, fits) in [
            (TargetSession::Any, true),
            (TargetSession::Primary, true),
            (TargetSession::ReadWrite, false),
        ] {
            endpoint.target_session = target;
            let result = Connection::connect(&endpoint, SessionKind::Sql).await;
            assert_eq!(result.is_ok(), fits, "{target:?}");
        }
    }
}

/// Needs no server: a listener that never answers.
#[tokio::test]
async fn a_silent_host_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for parameters in ["sslmode=disable", "sslmode=require"] {
        let url = format!("postgres://u@127.0.0.1:{port}/d?connect_timeout=1&{parameters}");
        let started = Instant::now();
        let error = refused(&Endpoint::parse(&url).unwrap()).await;
        assert_eq!(error.kind(), SourceErrorKind::Timeout);
        assert!(error.is_transient());
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
