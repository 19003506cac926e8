use cdc_source::{Connection, Endpoint, SessionKind, SourceError, SourceErrorKind};

use crate::cluster::{Cluster, servers};

fn file(name: &str) -> String {
    format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Whether the session is encrypted.
async fn connect(endpoint: &Endpoint) -> Result<bool, SourceError> {
    let mut connection = Connection::connect(endpoint, SessionKind::Sql).await?;
    let rows = connection
        .query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        .await
        .unwrap();
    assert_eq!(rows[0].flag("ssl").unwrap(), connection.is_encrypted());
    Ok(connection.is_encrypted())
}

#[tokio::test]
async fn modes_mean_what_they_say() {
    use SourceErrorKind::{Auth, Config, Tls};
    let ca = format!("&sslrootcert={}", file("ca.pem"));
    let other = format!("&sslrootcert={}", file("other-ca.pem"));
    let table: &[(&str, &str, &str, Result<bool, SourceErrorKind>)] = &[
        ("scrammer", "127.0.0.1", "sslmode=disable", Ok(false)),
        ("scrammer", "127.0.0.1", "sslmode=prefer", Ok(true)),
        ("scrammer", "127.0.0.1", "", Ok(true)),
        ("scrammer", "127.0.0.1", "sslmode=require", Ok(true)),
        (
            "scrammer",
            "127.0.0.1",
            &format!("sslmode=require{ca}"),
            Ok(true),
        ),
        (
            "scrammer",
            "127.0.0.1",
            &format!("sslmode=require{other}"),
            Err(Tls),
        ),
        (
            "scrammer",
            "127.0.0.1",
            &format!("sslmode=verify-ca{ca}"),
            Ok(true),
        ),
        (
            "scrammer",
            "127.0.0.1",
            &format!("sslmode=verify-ca{other}"),
            Err(Tls),
        ),
        (
            "scrammer",
            "localhost",
            &format!("sslmode=verify-full{ca}"),
            Ok(true),
        ),
        (
            "scrammer",
            "localhost",
            &format!("sslmode=verify-full{other}"),
            Err(Tls),
        ),
        // The certificate is for localhost only.
        (
            "scrammer",
            "127.0.0.1",
            &format!("sslmode=verify-full{ca}"),
            Err(Tls),
        ),
        // The system trusts our CA no more than anybody else's.
        ("scrammer", "localhost", "sslmode=verify-full", Err(Tls)),
        (
            "scrammer",
            "localhost",
            "sslmode=verify-full&sslrootcert=/none.pem",
            Err(Config),
        ),
        ("tlsonly", "127.0.0.1", "sslmode=disable", Err(Auth)),
        ("tlsonly", "127.0.0.1", "sslmode=require", Ok(true)),
        ("plainonly", "127.0.0.1", "sslmode=require", Err(Auth)),
        ("plainonly", "127.0.0.1", "sslmode=prefer", Ok(false)),
        // The real hash of the real certificate, checked by the real server.
        (
            "scrammer",
            "127.0.0.1",
            "sslmode=require&channel_binding=require",
            Ok(true),
        ),
        (
            "scrammer",
            "127.0.0.1",
            "sslmode=require&channel_binding=disable",
            Ok(true),
        ),
        (
            "scrammer",
            "127.0.0.1",
            "sslmode=disable&channel_binding=require",
            Err(Auth),
        ),
        (
            "md5er",
            "127.0.0.1",
            "sslmode=require&channel_binding=require",
            Err(Auth),
        ),
        ("certer", "127.0.0.1", "sslmode=require", Err(Auth)),
    ];
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &[]).await;
        for (user, host, parameters, expected) in table {
            let url = format!(
                "postgres://{user}:right@{host}:{}/postgres?{parameters}",
                cluster.port
            );
            let result = connect(&Cluster::endpoint(&url)).await;
            if let Err(error) = &result {
                assert!(
                    !error.is_transient(),
                    "{user} {host} {parameters}: {error:?}"
                );
            }
            let result = result.map_err(|error| error.kind());
            assert_eq!(&result, expected, "{user} {host} {parameters}");
        }

        let certified = format!("sslmode=require&sslcert={}", file("client.pem"));
        let endpoint = cluster.tcp(
            "certer",
            &format!("{certified}&sslkey={}", file("client.key")),
        );
        assert!(connect(&endpoint).await.unwrap());
        for (endpoint, what) in [
            (cluster.tcp("certer", &certified), "sslkey"),
            (
                cluster.tcp(
                    "certer",
                    &format!("{certified}&sslkey={}", file("server.key")),
                ),
                "together",
            ),
        ] {
            let error = connect(&endpoint).await.unwrap_err();
            assert_eq!(error.kind(), Config);
            assert!(error.to_string().contains(what), "{error}");
        }
        // A socket needs no TLS, whatever the mode, as with libpq.
        let mut endpoint = cluster.socket("scrammer");
        endpoint.tls.mode = cdc_source::TlsMode::VerifyFull;
        assert!(!connect(&endpoint).await.unwrap());
    }
}

#[tokio::test]
async fn a_server_without_tls_is_never_quietly_accepted() {
    for (_, bin) in servers() {
        let cluster = Cluster::start(&bin, &["ssl=off"]).await;
        for mode in ["require", "verify-ca", "verify-full"] {
            let endpoint = cluster.tcp("scrammer:right", &format!("sslmode={mode}"));
            let error = connect(&endpoint).await.unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Tls);
            assert!(!error.is_transient());
            assert!(error.to_string().contains(mode), "{error}");
            assert!(error.remedy().is_some());
        }
        assert!(
            !connect(&cluster.tcp("scrammer:right", "sslmode=prefer"))
                .await
                .unwrap()
        );
    }
}
