//! A Postgres cluster of its own for a test, in a temporary folder.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cdc_source::{Connection, Endpoint, SessionKind};

const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;
const HBA: &str = "\
local all all trust
host all trusting 127.0.0.1/32 trust
host all cleartext 127.0.0.1/32 password
host all md5er 127.0.0.1/32 md5
host all scrammer 127.0.0.1/32 scram-sha-256
hostssl all tlsonly 127.0.0.1/32 trust
hostnossl all plainonly 127.0.0.1/32 trust
hostssl all certer 127.0.0.1/32 cert
";

/// The servers to test against, from `DUCKFEEDER_TEST_PG_BIN_<major>`. None is a loud skip, or a
/// failure with `REQUIRE_SERVICES=1`.
pub(crate) fn servers() -> Vec<(u32, PathBuf)> {
    let servers: Vec<_> = MAJORS
        .filter_map(|major| {
            let bin = std::env::var_os(format!("DUCKFEEDER_TEST_PG_BIN_{major}"))?;
            Some((major, PathBuf::from(bin)))
        })
        .collect();
    if servers.is_empty() {
        assert!(
            std::env::var("REQUIRE_SERVICES").as_deref() != Ok("1"),
            "no DUCKFEEDER_TEST_PG_BIN_<major> is set"
        );
        // Past the test harness, which hides what passing tests print.
        let text = b"SKIPPED: no DUCKFEEDER_TEST_PG_BIN_<major> is set
";
        std::io::stderr().write_all(text).unwrap();
    }
    servers
}

pub(crate) struct Cluster {
    root: PathBuf,
    server: Child,
    pub(crate) port: u16,
}

impl Cluster {
    /// Starts a cluster with TLS and the roles of the access rules above, each with the password
    /// "right".
    pub(crate) async fn start(bin: &Path, settings: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short, because the path of a socket may have 107 bytes.
        let root = PathBuf::from(format!("/tmp/cdc{}-{number}", std::process::id()));
        fs::create_dir(&root).unwrap();
        let owner = unprivileged();
        if let Some((uid, gid)) = owner {
            chown(&root, Some(uid), Some(gid)).unwrap();
        }
        let data = root.join("data");
        let initialised = command(bin, "initdb", owner)
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(initialised.success(), "initdb failed");
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
        for name in ["ca.pem", "server.pem", "server.key"] {
            let copy = data.join(name);
            fs::copy(tls.join(name), &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = owner {
                chown(&copy, Some(uid), Some(gid)).unwrap();
            }
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = command(bin, "postgres", owner);
        server.arg("-D").arg(&data).arg("-k").arg(&root);
        let port_setting = format!("port={port}");
        let base = [
            "listen_addresses=127.0.0.1",
            "wal_level=logical",
            "fsync=off",
            "ssl=on",
            "ssl_cert_file=server.pem",
            "ssl_key_file=server.key",
            "ssl_ca_file=ca.pem",
            "max_slot_wal_keep_size=1GB",
            &port_setting,
        ];
        for setting in base.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        let log = fs::File::create(root.join("log")).unwrap();
        let server = server
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut cluster = Self { root, server, port };
        cluster.wait().await;
        let mut connection = cluster.sql().await;
        for role in [
            "trusting",
            "cleartext",
            "md5er",
            "scrammer",
            "tlsonly",
            "plainonly",
            "certer",
        ] {
            let encryption = if role == "md5er" {
                "md5"
            } else {
                "scram-sha-256"
            };
            connection
                .execute(&format!("set password_encryption = '{encryption}'"))
                .await
                .unwrap();
            connection
                .execute(&format!(
                    "create role {role} login replication password 'right'"
                ))
                .await
                .unwrap();
        }
        cluster
    }

    /// A session of the superuser over the socket.
    pub(crate) async fn sql(&self) -> Connection {
        self.connect("postgres", SessionKind::Sql).await
    }

    /// A session of a role over the socket.
    pub(crate) async fn connect(&self, user: &str, kind: SessionKind) -> Connection {
        Connection::connect(&self.socket(user), kind).await.unwrap()
    }

    pub(crate) fn socket(&self, user: &str) -> Endpoint {
        Self::endpoint(&format!(
            "postgres://{user}@/postgres?host={}&port={}",
            self.root.display(),
            self.port
        ))
    }

    /// `postgres://{login}@127.0.0.1:{port}/postgres?{parameters}`
    pub(crate) fn tcp(&self, login: &str, parameters: &str) -> Endpoint {
        Self::endpoint(&format!(
            "postgres://{login}@127.0.0.1:{}/postgres?{parameters}",
            self.port
        ))
    }

    pub(crate) fn endpoint(url: &str) -> Endpoint {
        Endpoint::parse(url).unwrap()
    }

    /// Stops the server the way an administrator does: sessions end, walsenders finish sending.
    pub(crate) fn stop_fast(&self) {
        self.signal("INT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.server.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let result = Connection::connect(&self.socket("postgres"), SessionKind::Sql).await;
            let Err(error) = result else {
                return;
            };
            assert!(error.is_transient(), "{error}");
            let ended = self.server.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "no server: {error}\n{}",
                fs::read_to_string(self.root.join("log")).unwrap()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Immediate shutdown: the server ends its processes and gives its memory back.
        self.signal("QUIT");
        let deadline = Instant::now() + Duration::from_secs(20);
        while matches!(self.server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(self.server.kill());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(fs::remove_dir_all(&self.root));
    }
}

fn command(bin: &Path, program: &str, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(bin.join(program));
    command.current_dir("/").env("LC_ALL", "C");
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

/// Postgres refuses to run as root: `postgres` or `nobody` runs it then.
fn unprivileged() -> Option<(u32, u32)> {
    let own = fs::metadata("/proc/self").unwrap();
    if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some((fields.next()?, fields.next()?))
    });
    Some(ids.expect("root needs a user postgres or nobody"))
}
