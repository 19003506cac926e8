//! Copies of a cluster: backups and standbys.

use std::{fs, process::Command};

use anyhow::{Result, ensure};

use super::{Options, PATIENCE, Postgres, SUPERUSER, run_base};
use crate::{
    process::{Signal, run, wait_until},
    tools::Tools,
};

impl Postgres {
    /// Stops the server, copies its data into a cluster of its own as a base backup does (without slots), and starts
    /// the server again. The copy does not run yet: [`Postgres::start_again`].
    ///
    /// # Errors
    /// When the server does not stop or start, or the copy fails.
    pub fn copy(&mut self, options: &Options) -> Result<Self> {
        self.stop(Signal::Int)?;
        let own = tempfile::Builder::new()
            .prefix("df-pg-")
            .tempdir_in(run_base()?)?;
        let home = own.path().to_path_buf();
        run(Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(self.data_dir())
            .arg(home.join("data")))?;
        for slot in fs::read_dir(home.join("data/pg_replslot"))? {
            fs::remove_dir_all(slot?.path())?;
        }
        self.start_again()?;
        let mut copy = Self::prepare(&Tools::locate()?, self.major(), &home, options)?;
        copy.own = Some(own);
        Ok(copy)
    }

    /// A running standby, that replicates through a slot of its own and keeps failover slots in step (Postgres 17).
    ///
    /// # Errors
    /// As [`Postgres::copy`], or when the standby does not start.
    pub fn standby(&mut self) -> Result<Self> {
        self.sql(
            "postgres",
            "select pg_create_physical_replication_slot('standby')",
        )?;
        let connection = format!(
            "host=127.0.0.1 port={} user={SUPERUSER} dbname=postgres",
            self.port
        );
        let mut options = Options::default()
            .setting("primary_conninfo", &connection)
            .setting("primary_slot_name", "standby")
            .setting("hot_standby_feedback", "on");
        if self.major() >= 17 {
            options = options.setting("sync_replication_slots", "on");
        }
        let mut standby = self.copy(&options)?;
        standby.write_file("standby.signal", b"")?;
        standby.start_again()?;
        Ok(standby)
    }

    /// Waits until a standby has replayed everything that this server has.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_standby(&self, standby: &Self) -> Result<()> {
        let Some(end) = self.scalar("postgres", "select pg_current_wal_lsn()::text")? else {
            return Ok(());
        };
        let sql = format!("select pg_last_wal_replay_lsn() >= '{end}'");
        wait_until("the standby has everything", PATIENCE, || {
            let there = standby.scalar("postgres", &sql)?;
            Ok((there.as_deref() == Some("t")).then_some(()))
        })
    }

    /// Makes a standby a primary, on a timeline of its own.
    ///
    /// # Errors
    /// When it is none.
    pub fn promote(&self) -> Result<()> {
        let promoted = self.scalar("postgres", "select pg_promote()")?;
        ensure!(promoted.as_deref() == Some("t"), "it was not promoted");
        Ok(())
    }
}
