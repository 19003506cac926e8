//! Postgres clusters that belong to one test and end with it.
//!
//! `initdb` runs once per version; a cluster is a copy of that template, made in well under a second. It
//! listens on a loopback port of its own and on a Unix socket with a short path. As root the server runs
//! as `postgres` or `nobody`, since it refuses to run as root.

mod small_disk;
mod standby;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use postgres::{Client, NoTls, SimpleQueryMessage};
use tempfile::TempDir;

use crate::{
    process::{Signal, Supervised, run, service_port, tail, wait_until},
    tools::{Tools, default_major, is_root, readable_by_others, server_version},
};

/// How long a server may take to start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The kernel takes 107 bytes for a socket's path, which ends in `/.s.PGSQL.<port>`.
const MAX_SOCKET_FOLDER: usize = 90;

/// Names the loopback port of a server that somebody else runs, to be used in place of clusters of our own.
pub const SERVICE: &str = "DUCKFEEDER_TEST_PG_SERVICE";

/// The superuser of every cluster; it connects without a password.
pub const SUPERUSER: &str = "postgres";

/// How a cluster differs from the ordinary one.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines of `pg_hba.conf` for everyone but the superuser, who is always trusted. Without any,
    /// everyone on loopback and the socket is.
    pub hba: Vec<String>,
    /// Server settings, as name and value; they win over the ordinary ones.
    pub settings: Vec<(String, String)>,
    /// More files in the data directory (certificates, say), as name and content, of mode 0600.
    pub files: Vec<(String, Vec<u8>)>,
    /// The loopback port; any free one when absent.
    pub port: Option<u16>,
    /// The size of a disk (`16m`, as for tmpfs) that this server alone sees, see [`Postgres::fill_small_disk`]. It goes
    /// with the server.
    pub small_disk: Option<String>,
}

impl Options {
    fn is_ordinary(&self) -> bool {
        self.hba.is_empty()
            && self.settings.is_empty()
            && self.files.is_empty()
            && self.port.is_none()
            && self.small_disk.is_none()
    }

    /// The same options with one setting more.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same options with one line of `pg_hba.conf` more.
    #[must_use]
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    version: String,
    home: PathBuf,
    port: u16,
    options: Options,
    account: Option<Account>,
    server: Option<Supervised>,
    /// Declared last: the folder goes after the server that runs in it.
    own: Option<TempDir>,
}

/// Who a server runs as when we are root.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None` when we are not root and the server can run as ourselves.
    fn for_server() -> Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")?;
        let find = |name: &str| {
            users.lines().find_map(|line| {
                let mut fields = line.split(':');
                if fields.next() != Some(name) {
                    return None;
                }
                let uid = fields.nth(1)?.parse().ok()?;
                let gid = fields.next()?.parse().ok()?;
                Some(Self { uid, gid })
            })
        };
        let account = find("postgres").or_else(|| find("nobody"));
        account
            .map(Some)
            .context("Postgres does not run as root, and there is no user `nobody`")
    }

    fn apply(account: Option<Self>, command: &mut Command) -> &mut Command {
        if let Some(Self { uid, gid }) = account {
            command.gid(gid).uid(uid).env("HOME", "/");
        }
        command
    }
}

impl Postgres {
    /// Starts a cluster of the default version with the ordinary settings.
    ///
    /// # Errors
    /// When Postgres cannot be had or does not start.
    pub fn start_default() -> Result<Self> {
        Self::start(default_major()?, &Options::default())
    }

    /// Starts a cluster of a given major version, in a temporary folder.
    ///
    /// # Errors
    /// When Postgres cannot be had or does not start.
    pub fn start(major: u32, options: &Options) -> Result<Self> {
        if let Some(port) = service_port(SERVICE)? {
            return Self::service(port, major, options);
        }
        let tools = Tools::locate()?;
        let own = tempfile::Builder::new()
            .prefix("df-pg-")
            .tempdir_in(run_base()?)?;
        let home = own.path().to_path_buf();
        let mut cluster = Self::prepare(&tools, major, &home, options)?;
        cluster.own = Some(own);
        cluster.launch()?;
        Ok(cluster)
    }

    /// A cluster that somebody else runs, emptied of what tests left in it. It is shared, so one test at a time.
    fn service(port: u16, major: u32, options: &Options) -> Result<Self> {
        ensure!(
            options.is_ordinary(),
            "the server of {SERVICE} has settings of its own, which this test needs to be others"
        );
        let mut cluster = Self {
            bin: PathBuf::new(),
            version: String::new(),
            home: PathBuf::new(),
            port,
            options: options.clone(),
            account: None,
            server: None,
            own: None,
        };
        let version = cluster.scalar("postgres", "select current_setting('server_version')")?;
        cluster.version = version.unwrap_or_default();
        ensure!(
            cluster.major() == major,
            "the server of {SERVICE} is Postgres {}, not {major}",
            cluster.version
        );
        wait_until("no slot is in use any more", PATIENCE, || {
            let active = cluster.sql(
                "postgres",
                "select 1 from pg_replication_slots where active",
            )?;
            Ok(active.is_empty().then_some(()))
        })?;
        cluster.sql(
            "postgres",
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots",
        )?;
        let old = cluster.sql(
            "postgres",
            "select datname::text from pg_database where not datistemplate and datname <> 'postgres'",
        )?;
        for name in old.into_iter().flatten().flatten() {
            cluster.sql(
                "postgres",
                &format!("drop database \"{name}\" with (force)"),
            )?;
        }
        Ok(cluster)
    }

    /// Starts the cluster in a given folder, which outlives this value; makes it if it is not there yet.
    ///
    /// The folder must be readable by the user the server runs as, see [`readable_by_others`].
    ///
    /// # Errors
    /// When Postgres cannot be had or does not start.
    pub fn start_at(home: &Path, major: u32, options: &Options) -> Result<Self> {
        let tools = Tools::locate()?;
        fs::create_dir_all(home)?;
        let home = fs::canonicalize(home)?;
        let mut cluster = Self::prepare(&tools, major, &home, options)?;
        cluster.launch()?;
        Ok(cluster)
    }

    fn prepare(tools: &Tools, major: u32, home: &Path, options: &Options) -> Result<Self> {
        let bin = tools.postgres(major)?;
        let account = Account::for_server()?;
        let version = server_version(&bin)?;
        if let Some(Account { uid, gid }) = account {
            chown(home, Some(uid), Some(gid))?;
        }
        let data = home.join("data");
        if !data.is_dir() {
            let template = template(tools, &bin, &version, account)?;
            run(Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(&template)
                .arg(&data))?;
        }
        let cluster = Self {
            bin,
            version,
            home: home.to_path_buf(),
            port: options.port.unwrap_or_default(),
            options: options.clone(),
            account,
            server: None,
            own: None,
        };
        cluster.write_hba()?;
        for (name, content) in &options.files {
            cluster.write_file(name, content)?;
        }
        Ok(cluster)
    }

    /// Writes a file into the data directory, for the server alone to read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.data_dir().join(name);
        let mut file = File::create(&path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        if let Some(Account { uid, gid }) = self.account {
            chown(&path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn write_hba(&self) -> Result<()> {
        let mut lines = vec![
            format!("local all {SUPERUSER} trust"),
            format!("local replication {SUPERUSER} trust"),
            format!("host all {SUPERUSER} 127.0.0.1/32 trust"),
            format!("host replication {SUPERUSER} 127.0.0.1/32 trust"),
        ];
        if self.options.hba.is_empty() {
            for database in ["all", "replication"] {
                lines.push(format!("local {database} all trust"));
                lines.push(format!("host {database} all 127.0.0.1/32 trust"));
            }
        } else {
            lines.extend(self.options.hba.iter().cloned());
        }
        lines.push(String::new());
        self.write_file("pg_hba.conf", lines.join("\n").as_bytes())
    }

    /// Starts the server process and waits until it answers. The port stays the same once chosen.
    fn launch(&mut self) -> Result<()> {
        if self.port != 0 {
            return self.launch_once();
        }
        let mut attempt = 1;
        loop {
            self.port = free_port()?;
            match self.launch_once() {
                Ok(()) => return Ok(()),
                // Somebody took the port between our look and the server's.
                Err(_) if attempt < 5 && self.log_tail(20).contains("could not bind") => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn launch_once(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.join("log"))?;
        let mut command = self.server_command();
        command.arg("-D").arg(self.data_dir());
        let socket = if self.home.as_os_str().len() < MAX_SOCKET_FOLDER {
            self.home.display().to_string()
        } else {
            // Too long a path for a socket: TCP alone.
            String::new()
        };
        let ordinary = [
            ("port", self.port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", socket),
            ("wal_level", "logical".to_owned()),
            ("max_wal_senders", "20".to_owned()),
            ("max_replication_slots", "20".to_owned()),
            ("fsync", "off".to_owned()),
            ("log_line_prefix", "%m [%p] %u@%d %a ".to_owned()),
            ("timezone", "UTC".to_owned()),
        ];
        let settings = ordinary.iter().map(|(name, value)| (*name, value.as_str()));
        let extra = self
            .options
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in settings.chain(extra) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .current_dir(&self.home)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let remove = self.own.as_ref().map(TempDir::path);
        let mut server = Supervised::spawn(&mut command, Signal::Quit, remove)?;
        let ready = wait_until("the server answers", PATIENCE, || {
            if let Some(status) = server.try_wait()? {
                bail!("the server ended with {status}");
            }
            Ok(self.connect("postgres").ok())
        });
        ready.with_context(|| self.log_tail(30))?;
        self.server = Some(server);
        Ok(())
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or_default()
    }

    /// The loopback port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    /// A connection URL over loopback TCP.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection URL over the Unix socket.
    pub fn socket_url(&self, user: &str, database: &str) -> String {
        let folder = self.home.display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{folder}:{}/{database}", self.port)
    }

    /// The parameters of a connection as libpq writes them, which is what DuckDB understands.
    pub fn libpq(&self, user: &str, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={user} dbname={database}",
            self.port
        )
    }

    /// A connection as superuser.
    ///
    /// # Errors
    /// When the server or the database is not there.
    pub fn connect(&self, database: &str) -> Result<Client> {
        connect(&self.url(SUPERUSER, database))
    }

    /// Runs SQL as superuser and returns the rows of all its statements, as text.
    ///
    /// # Errors
    /// When the server refuses a statement; the error names it.
    pub fn sql(&self, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        query(&mut self.connect(database)?, sql)
    }

    /// Runs SQL as superuser and returns its first value; `None` when that is NULL.
    ///
    /// # Errors
    /// When the server refuses it or there is no row.
    pub fn scalar(&self, database: &str, sql: &str) -> Result<Option<String>> {
        let row = self.sql(database, sql)?.into_iter().next();
        row.and_then(|row| row.into_iter().next())
            .with_context(|| format!("no row from: {sql}"))
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When it exists.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("create database \"{name}\""))
            .map(drop)
    }

    /// Stops the server: `Int` is the fast shutdown, which waits for walsenders to send everything;
    /// `Quit` the immediate one, which is a crash in all but name.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, how: Signal) -> Result<()> {
        if let Some(mut server) = self.server.take() {
            server.signal(how)?;
            server.wait(PATIENCE).with_context(|| self.log_tail(30))?;
        }
        Ok(())
    }

    /// Starts the server again on the same port and data.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()
    }

    /// Fast shutdown and start.
    ///
    /// # Errors
    /// When the server does not stop or start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop(Signal::Int)?;
        self.launch()
    }

    /// Crashes the server and starts it again: it recovers from its WAL, clients lose their connection.
    ///
    /// # Errors
    /// When the server does not start.
    pub fn crash(&mut self) -> Result<()> {
        self.stop(Signal::Quit)?;
        self.launch()
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = fs::read(self.home.join("log")).unwrap_or_default();
        format!(
            "the end of the server's log:\n{}",
            tail(&String::from_utf8_lossy(&log), lines)
        )
    }
}

/// A connection without TLS.
///
/// # Errors
/// When there is none to be had.
pub fn connect(url: &str) -> Result<Client> {
    Client::connect(url, NoTls).with_context(|| format!("cannot connect to {url}"))
}

/// Runs SQL and returns the rows of all its statements, as text.
///
/// # Errors
/// When the server refuses a statement; the error names it.
pub fn query(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let messages = client
        .simple_query(sql)
        .with_context(|| format!("in: {sql}"))?;
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push(
                (0..row.len())
                    .map(|i| row.get(i).map(str::to_owned))
                    .collect(),
            );
        }
    }
    Ok(rows)
}

/// A port on loopback that nobody listened on a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Where temporary clusters go: short, for the sake of socket paths, and open to the server's user.
fn run_base() -> Result<PathBuf> {
    let fits = |folder: &PathBuf| {
        folder.is_dir()
            && folder.as_os_str().len() < 60
            && (!is_root() || readable_by_others(folder))
    };
    let candidates = [
        env::temp_dir(),
        PathBuf::from("/tmp"),
        PathBuf::from("/var/tmp"),
    ];
    candidates
        .into_iter()
        .find(fits)
        .context("no temporary folder is open to other users")
}

/// The data directory that clusters of this version are copies of.
fn template(tools: &Tools, bin: &Path, version: &str, account: Option<Account>) -> Result<PathBuf> {
    let owner = account.map_or_else(|| "own".to_owned(), |account| account.uid.to_string());
    let templates = tools.root().join("templates");
    fs::create_dir_all(&templates)?;
    let home = templates.join(format!("{version}-{owner}"));
    tools.install(&home, |folder| {
        if let Some(Account { uid, gid }) = account {
            chown(folder, Some(uid), Some(gid))?;
        }
        let mut initdb = Command::new(bin.join("initdb"));
        let args = [
            "-U",
            SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ];
        initdb
            .args(args.map(OsString::from))
            .arg(folder)
            .current_dir("/")
            .env("LC_ALL", "C");
        run(Account::apply(account, &mut initdb)).map(drop)
    })?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_survives_crash_and_restart_on_its_port() -> Result<()> {
        let mut pg = Postgres::start_default()?;
        pg.create_database("shop")?;
        pg.sql(
            "shop",
            "create table t (i int primary key); insert into t values (1)",
        )?;
        let port = pg.port();
        pg.crash()?;
        assert_eq!(pg.port(), port);
        pg.sql("shop", "insert into t values (2)")?;
        pg.restart()?;
        assert_eq!(
            pg.scalar("shop", "select sum(i) from t")?.as_deref(),
            Some("3")
        );
        assert_eq!(
            pg.scalar("shop", "show wal_level")?.as_deref(),
            Some("logical")
        );
        assert_eq!(
            query(&mut connect(&pg.socket_url(SUPERUSER, "shop"))?, "select 1")?.len(),
            1
        );
        Ok(())
    }

    #[test]
    fn passwords_are_asked_for_when_the_options_say_so() -> Result<()> {
        let options = Options::default().hba("host all all 127.0.0.1/32 scram-sha-256");
        let pg = Postgres::start(default_major()?, &options)?;
        pg.sql("postgres", "create role feeder login password 'right'")?;
        assert!(connect(&pg.url("feeder", "postgres")).is_err());
        connect(&pg.url("feeder:right", "postgres"))?;
        Ok(())
    }

    #[test]
    fn nothing_is_left_of_a_dropped_cluster() -> Result<()> {
        let pg = Postgres::start_default()?;
        let (home, url) = (pg.socket_dir().to_path_buf(), pg.url(SUPERUSER, "postgres"));
        drop(pg);
        assert!(!home.exists());
        assert!(connect(&url).is_err());
        Ok(())
    }
}
