//! The `duckfeeder` binary under test, run as its users run it.

use std::{
    env,
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    process::{Signal, Supervised, describe_status, peak_memory, tail, wait_until},
    tools::target_dir,
};

/// How long a command that does not stream may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// The binary: `DUCKFEEDER_TEST_BIN`, else the debug build in the target folder.
///
/// # Errors
/// When it has not been built.
pub fn binary() -> Result<PathBuf> {
    let path = match env::var_os("DUCKFEEDER_TEST_BIN") {
        Some(path) => PathBuf::from(path),
        None => target_dir()?.join("debug/duckfeeder"),
    };
    ensure!(
        path.is_file(),
        "there is no {}: build it with `cargo build -p duckfeeder-cli`",
        path.display()
    );
    Ok(path)
}

/// One feeder's configuration, its lake's data path and its logs, in a folder.
#[derive(Debug)]
pub struct Setup {
    home: PathBuf,
    runs: AtomicU32,
    /// Removes the folder, unless it is to be kept.
    temporary: Option<TempDir>,
}

/// What a configuration file says, beside `[storage]`, which [`Setup`] adds.
#[derive(Debug, Clone)]
pub struct Config {
    /// The feeder's name.
    pub name: String,
    /// URL of the source.
    pub source: String,
    /// URL of the catalog; the source when absent.
    pub catalog: Option<String>,
    /// Patterns of tables.
    pub tables: Vec<String>,
    /// More lines of the top level and of sections, as `(section, line)`; the top level is `""`.
    pub lines: Vec<(String, String)>,
}

impl Config {
    /// A feeder `test` of all tables in `public`, which flushes often.
    pub fn new(source: &str, catalog: Option<&str>) -> Self {
        Self {
            name: "test".to_owned(),
            source: source.to_owned(),
            catalog: catalog.map(str::to_owned),
            tables: vec!["public.*".to_owned()],
            lines: vec![("flush".to_owned(), "interval = \"250ms\"".to_owned())],
        }
    }

    /// The same with other tables.
    #[must_use]
    pub fn tables(mut self, patterns: &[&str]) -> Self {
        self.tables = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        self
    }

    /// The same with one line more in a section (`""` is the top level).
    #[must_use]
    pub fn line(mut self, section: &str, line: &str) -> Self {
        self.lines.push((section.to_owned(), line.to_owned()));
        self
    }

    /// The file, for a lake at `storage`.
    fn render(&self, storage: &str) -> Result<String> {
        let mut sections: Vec<(&str, Vec<String>)> = vec![
            ("", vec![format!("name = {:?}", self.name)]),
            ("source", vec![format!("url = {:?}", self.source)]),
            ("storage", vec![format!("url = {storage:?}")]),
        ];
        if let Some(catalog) = &self.catalog {
            sections.push(("catalog", vec![format!("url = {catalog:?}")]));
        }
        for (section, line) in &self.lines {
            match sections.iter_mut().find(|(name, _)| name == section) {
                // A line for a key that is there already takes its place.
                Some((_, lines)) => {
                    let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
                    lines.retain(|there| key(there) != key(line));
                    lines.push(line.clone());
                }
                None => sections.push((section, vec![line.clone()])),
            }
        }
        let mut text = String::new();
        for (section, lines) in sections {
            if !section.is_empty() {
                writeln!(text, "[{section}]")?;
            }
            for line in lines {
                writeln!(text, "{line}")?;
            }
        }
        for table in &self.tables {
            writeln!(text, "[[tables]]\nsource = {table:?}")?;
        }
        Ok(text)
    }
}

/// What a command that has ended printed.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// The command ended with this code.
    ///
    /// # Errors
    /// When it did not; shows what it printed.
    pub fn expect_code(&self, code: i32) -> Result<&Self> {
        ensure!(
            self.code == Some(code),
            "expected exit code {code}, got {:?}\n{}{}",
            self.code,
            tail(&self.stdout, 20),
            tail(&self.stderr, 40)
        );
        Ok(self)
    }

    /// What was printed names all of these, whatever their case.
    ///
    /// # Errors
    /// Names the first that is lacking.
    pub fn expect_message(&self, parts: &[&str]) -> Result<&Self> {
        let printed = format!("{}{}", self.stdout, self.stderr);
        let lower = printed.to_lowercase();
        for part in parts {
            ensure!(
                lower.contains(&part.to_lowercase()),
                "the message does not say {part:?}:\n{printed}"
            );
        }
        Ok(self)
    }
}

impl Setup {
    /// Writes a configuration with a lake on the local disk, in a temporary folder.
    ///
    /// # Errors
    /// When a temporary folder cannot be made.
    pub fn new(config: &Config) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("df-feeder-").tempdir()?;
        let mut setup = Self::at(temporary.path(), config)?;
        setup.temporary = Some(temporary);
        Ok(setup)
    }

    /// Writes a configuration with a lake on the local disk, in a folder that is kept.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn at(home: &Path, config: &Config) -> Result<Self> {
        fs::create_dir_all(home.join("lake"))?;
        let home = fs::canonicalize(home)?;
        let setup = Self {
            home,
            runs: AtomicU32::new(0),
            temporary: None,
        };
        setup.configure(config)?;
        Ok(setup)
    }

    /// Replaces the configuration; the lake stays where it is.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, config: &Config) -> Result<()> {
        let storage = format!("file://{}", self.lake_dir().display());
        Ok(fs::write(self.config_file(), config.render(&storage)?)?)
    }

    /// The folder of the lake's files.
    pub fn lake_dir(&self) -> PathBuf {
        self.home.join("lake")
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.home.join("duckfeeder.toml")
    }

    /// A command of the binary that reads this configuration and nothing else from its surroundings.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        Ok(self.prepare(Command::new(binary()?), args))
    }

    /// The same, run by another program, whose command line begins with these words.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn command_under(&self, program: &str, words: &[&str], args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program);
        command.args(words).arg(binary()?);
        Ok(self.prepare(command, args))
    }

    fn prepare(&self, mut command: Command, args: &[&str]) -> Command {
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("DUCKFEEDER_") || text.starts_with("PG") {
                command.env_remove(&name);
            }
        }
        command
            .args(args)
            .current_dir(&self.home)
            .env("DUCKFEEDER_CONFIG", self.config_file())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it takes longer than two minutes.
    pub fn run(&self, args: &[&str]) -> Result<Ended> {
        self.run_command(self.command(args)?, PATIENCE)
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// When it takes longer than `limit`.
    pub fn run_command(&self, mut command: Command, limit: Duration) -> Result<Ended> {
        let (out, err) = (self.log_file("out"), self.log_file("err"));
        command
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        let mut process = Supervised::spawn(&mut command, Signal::Kill, None)?;
        let status = process.wait(limit);
        let ended = Ended {
            code: status.as_ref().ok().and_then(ExitStatus::code),
            stdout: read_lossy(&out),
            stderr: read_lossy(&err),
        };
        status.with_context(|| tail(&ended.stderr, 40))?;
        Ok(ended)
    }

    /// Feeds until everything that the source has now is in the lake.
    ///
    /// # Errors
    /// When that fails or takes longer than `limit`.
    pub fn catch_up(&self, limit: Duration) -> Result<Ended> {
        let ended = self.run_command(self.command(&["run", "--until-caught-up"])?, limit)?;
        ended.expect_code(0)?;
        Ok(ended)
    }

    /// Starts `duckfeeder run`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self) -> Result<Feeder> {
        self.spawn_with(&["run"])
    }

    /// Starts a command that streams.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_with(&self, args: &[&str]) -> Result<Feeder> {
        self.spawn_command(self.command(args)?)
    }

    /// Starts a command of [`Setup::command`] that streams.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_command(&self, mut command: Command) -> Result<Feeder> {
        let log = self.log_file("log");
        let file = File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let process = Supervised::spawn(&mut command, Signal::Kill, None)?;
        Ok(Feeder { process, log })
    }

    fn log_file(&self, kind: &str) -> PathBuf {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        self.home.join(format!("run-{run}.{kind}"))
    }
}

/// A feeder that streams. Dropping it kills it.
#[derive(Debug)]
pub struct Feeder {
    process: Supervised,
    log: PathBuf,
}

impl Feeder {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When it has ended; shows the end of its log.
    pub fn expect_running(&mut self) -> Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!(
                "the feeder ended with {}\n{}",
                describe_status(status),
                tail(&self.log(), 40)
            );
        }
        Ok(())
    }

    /// Waits for a condition while the feeder runs.
    ///
    /// # Errors
    /// When the feeder ends, the condition fails or `limit` passes; shows the end of the log.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let waited = wait_until(what, limit, || {
            self.expect_running()?;
            condition()
        });
        waited.with_context(|| format!("the feeder's log ends:\n{}", tail(&self.log(), 40)))
    }

    /// `SIGKILL`, and waits for the end.
    ///
    /// # Errors
    /// When it had ended by itself before.
    pub fn kill(mut self) -> Result<()> {
        self.expect_running()?;
        self.process.signal(Signal::Kill)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }

    /// `SIGTERM`, and waits for the end, which must be in order.
    ///
    /// # Errors
    /// When the exit code is not 0; shows the end of the log.
    pub fn terminate(mut self) -> Result<()> {
        self.expect_running()?;
        self.process.signal(Signal::Term)?;
        let status = self.process.wait(PATIENCE)?;
        ensure!(
            status.code() == Some(0),
            "after SIGTERM: {}\n{}",
            describe_status(status),
            tail(&self.log(), 40)
        );
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process
            .wait(limit)
            .with_context(|| tail(&self.log(), 40))
    }

    /// Sends any signal.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn signal(&mut self, which: Signal) -> Result<()> {
        self.process.signal(which)
    }

    /// The greatest resident memory so far, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        peak_memory(self.pid())
    }
}

fn read_lossy(path: &Path) -> String {
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}
