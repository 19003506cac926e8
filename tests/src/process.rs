//! Child processes that never outlive the test that started them, and waiting with a deadline.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not succeed; the error carries its output.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{shown} ended with {}\n{}{}",
            output.status,
            tail(&stderr, 40),
            tail(&stdout, 20)
        );
    }
    Ok(stdout)
}

/// The command line of a command, for messages.
pub fn describe(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let _ = write!(shown, " {}", arg.to_string_lossy());
    }
    shown
}

/// The last `lines` lines of a text, each ended by a line feed.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let mut last = String::new();
    for line in all.iter().skip(all.len().saturating_sub(lines)) {
        last.push_str(line);
        last.push('\n');
    }
    last
}

/// The loopback port of a server that somebody else runs, if this variable names one.
///
/// # Errors
/// When it is no port.
pub fn service_port(variable: &str) -> Result<Option<u16>> {
    let Some(port) = std::env::var_os(variable) else {
        return Ok(None);
    };
    let port = port.to_string_lossy();
    let parsed = port.parse();
    parsed
        .map(Some)
        .with_context(|| format!("{variable} is {port:?}, not a port"))
}

/// Whether a program of this name is on the `PATH`.
pub fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// The first file of this name on the `PATH`.
pub fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Waits until `condition` yields a value, looking at it again and again.
///
/// # Errors
/// When the deadline passes, or as soon as the condition itself fails. `what` names the condition.
pub fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain until {what}");
        }
        thread::sleep(POLL);
    }
}

/// A signal that a test sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`: for Postgres a fast shutdown.
    Int,
    /// `SIGTERM`: a polite end.
    Term,
    /// `SIGQUIT`: for Postgres an immediate shutdown, from which it recovers like from a crash.
    Quit,
    /// `SIGKILL`: an end at whatever instruction comes next.
    Kill,
    /// `SIGSTOP`: the process stands still until [`Signal::Cont`].
    Stop,
    /// `SIGCONT`: a stopped process goes on.
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// When there is no such process or it belongs to someone else.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    run(Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{} {pid}", signal.name())))
    .map(drop)
}

/// A child process with a watchdog beside it: when this process ends in whatever way, `SIGKILL`
/// included, the child is sent its last signal and its folder is removed.
///
/// The watchdog is a shell that waits for the end of a pipe which only this process holds open.
#[derive(Debug)]
pub struct Supervised {
    child: Child,
    watchdog: Child,
    last: Signal,
    status: Option<ExitStatus>,
}

impl Supervised {
    /// Starts a command in a process group of its own, so that a Ctrl-C meant for us does not reach it.
    ///
    /// `last` is sent to it when we end or drop this value; `remove` is a folder to remove with it when
    /// we end without having dropped it.
    ///
    /// # Errors
    /// When the command or its watchdog cannot be started.
    pub fn spawn(command: &mut Command, last: Signal, remove: Option<&Path>) -> Result<Self> {
        let shown = describe(command);
        let mut child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let script = "read -r _; kill -\"$1\" \"$2\" 2>/dev/null; [ -z \"$3\" ] || { sleep 1; rm -rf \"$3\"; }";
        let watchdog = Command::new("sh")
            .args([
                "-c",
                script,
                "watchdog",
                last.name(),
                &child.id().to_string(),
            ])
            .arg(remove.map_or(OsStr::new(""), Path::as_os_str))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self {
                child,
                watchdog,
                last,
                status: None,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(anyhow!(error).context("cannot start the watchdog shell"))
            }
        }
    }

    /// The process id of the child.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child, to take its pipes from.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the child, if it still runs.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, which: Signal) -> Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        if which == Signal::Kill {
            return Ok(self.child.kill()?);
        }
        signal(self.child.id(), which)
    }

    /// The exit status, if the child has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits for the end of the child.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_until("the process ends", limit, || Ok(self.try_wait()?))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Ok(None) = self.try_wait() {
            let _ = self.signal(self.last);
            if self.wait(Duration::from_secs(20)).is_err() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        // Only now: the watchdog must not outlive the process id that it guards.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

/// An exit status in words: the code, or the signal that ended the process.
pub fn describe_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// The greatest resident memory that a running process has had so far, in bytes (`VmHWM`).
///
/// # Errors
/// When the process is gone.
pub fn peak_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmHWM line")?;
    Ok(kib.parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_reports_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]))
            .expect_err("the command fails");
        let text = format!("{error:#}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.contains("out") && text.contains("err"), "{text}");
    }

    #[test]
    fn waiting_stops_at_the_deadline() {
        let error = wait_until::<()>("pigs fly", Duration::from_millis(50), || Ok(None))
            .expect_err("nothing to wait for");
        assert!(error.to_string().contains("pigs fly"));
    }

    #[test]
    fn the_watchdog_ends_a_child_whose_parent_was_killed() {
        // A shell stands for us: it holds the write end of the watchdog's pipe and is killed.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Supervised::spawn(
            Command::new("sleep").arg("600"),
            Signal::Kill,
            Some(folder.path()),
        )
        .expect("sleep starts");
        drop(child.watchdog.stdin.take());
        let status = child
            .wait(Duration::from_secs(10))
            .expect("the watchdog ends it");
        assert_eq!(status.signal(), Some(9));
        wait_until("its folder is gone", Duration::from_secs(10), || {
            Ok((!folder.path().exists()).then_some(()))
        })
        .expect("the watchdog removes the folder");
    }

    #[test]
    fn dropping_ends_the_child() {
        let child = Supervised::spawn(Command::new("sleep").arg("600"), Signal::Term, None)
            .expect("sleep starts");
        let proc = format!("/proc/{}", child.id());
        assert!(Path::new(&proc).exists());
        drop(child);
        assert!(!Path::new(&proc).exists());
    }
}
