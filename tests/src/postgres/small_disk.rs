//! A file system of limited size that one server alone sees, for tablespaces whose disk gets full.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result};

use super::{Account, Postgres};
use crate::process::run;

/// Mounts at `$2`, `$1` large, and becomes the rest of the command line.
const MOUNT: &str = "mkdir -p \"$2\" && mount -t tmpfs -o size=\"$1\",mode=0777 tmpfs \"$2\" && shift 2 && exec \"$@\"";

/// What stands before the mounting shell: root needs no namespace of users for it.
fn namespace(account: Option<Account>) -> Command {
    let mut command = Command::new("unshare");
    if account.is_none() {
        command.arg("--map-root-user");
    }
    command.arg("--mount");
    command
}

impl Postgres {
    /// Why this machine cannot give a server a disk of its own, if it cannot.
    ///
    /// # Errors
    /// When the user that a server runs as cannot be found.
    pub fn without_small_disk() -> Result<Option<String>> {
        let account = Account::for_server()?;
        let tried =
            run(namespace(account).args(["sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]));
        Ok(tried.err().map(|error| format!("{error:#}")))
    }

    /// The command that runs the server, with the disk that its options ask for.
    pub(super) fn server_command(&self) -> Command {
        let server = self.bin.join("postgres");
        let Some(size) = &self.options.small_disk else {
            let mut command = Command::new(server);
            Account::apply(self.account, &mut command);
            return command;
        };
        let mut command = namespace(self.account);
        command.args(["sh", "-c", MOUNT, "sh", size]);
        command.arg(self.home.join("small"));
        if let Some(Account { uid, gid }) = self.account {
            command.args(["setpriv", "--clear-groups"]);
            command.arg(format!("--reuid={uid}"));
            command.arg(format!("--regid={gid}"));
        } else {
            // Inside of the namespace we are root, which a server refuses to be.
            command.args(["unshare", "--user", "--map-user=1000", "--map-group=1000"]);
        }
        command.arg(server).env("HOME", "/");
        command
    }

    /// Makes a tablespace on the small disk, and an empty database in it.
    ///
    /// # Errors
    /// When the server was not started with one, or refuses.
    pub fn create_database_on_small_disk(&self, name: &str) -> Result<()> {
        let folder = self.home.join("small/space");
        run(self.inside()?.arg("mkdir").arg(&folder))?;
        run(self.inside()?.args(["chmod", "777"]).arg(&folder))?;
        if let Some(Account { uid, gid }) = self.account {
            run(self
                .inside()?
                .args(["chown", &format!("{uid}:{gid}")])
                .arg(&folder))?;
        }
        self.sql(
            "postgres",
            &format!("create tablespace small location '{}'", folder.display()),
        )?;
        self.sql(
            "postgres",
            &format!("create database \"{name}\" tablespace small"),
        )
        .map(drop)
    }

    /// Fills the small disk to the last block.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub fn fill_small_disk(&self) -> Result<()> {
        let mut file = File::create(self.ballast()?)?;
        for size in [1 << 16, 1 << 12] {
            let block = vec![0; size];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not full.
    pub fn free_small_disk(&self) -> Result<()> {
        Ok(fs::remove_file(self.ballast()?)?)
    }

    fn ballast(&self) -> Result<PathBuf> {
        let inside = format!("/proc/{}/root", self.pid()?);
        let path = self.home.join("small/ballast");
        Ok(PathBuf::from(inside).join(path.strip_prefix("/")?))
    }

    /// What comes after it is run where the server's disk is seen.
    fn inside(&self) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.pid()?.to_string()]);
        if self.account.is_none() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg(OsStr::new("--"));
        Ok(command)
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.server.as_ref().context("the server is stopped")?.id())
    }
}
