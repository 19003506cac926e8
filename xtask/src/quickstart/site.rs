//! The folder of the quickstart: the lake's files, the configuration, the logs, and Postgres' own data.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use duckfeeder_tests::{
    Lake, Options, Postgres,
    duckdb::literal,
    feeder::{Config, Setup},
    postgres::SUPERUSER,
    tools::{DuckDbTool, NEWEST_MAJOR, is_root, readable_by_others, workspace_root},
};

use crate::repo::say;

/// The database of the shop.
pub(super) const SHOP: &str = "shop";

/// The database of the lake's metadata.
pub(super) const LAKE: &str = "lake";

/// Where a quickstart lives.
#[derive(Debug)]
pub(super) struct Site {
    home: PathBuf,
}

impl Site {
    /// `duckfeeder-quickstart` in the workspace.
    pub(super) fn locate() -> Result<Self> {
        Ok(Self {
            home: workspace_root()?.join("duckfeeder-quickstart"),
        })
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn exists(&self) -> bool {
        self.postgres_home().is_dir()
    }

    /// As root Postgres runs as someone else; where that user cannot look into our folder, this is a link.
    fn postgres_home(&self) -> PathBuf {
        self.home.join("postgres")
    }

    /// Starts the Postgres that lives here, on the port that it had the last time.
    pub(super) fn start_postgres(&self) -> Result<Postgres> {
        fs::create_dir_all(&self.home)?;
        let home = self.postgres_home();
        if fs::symlink_metadata(&home).is_err() && is_root() && !readable_by_others(&home) {
            let mut hasher = DefaultHasher::new();
            self.home.hash(&mut hasher);
            let elsewhere = PathBuf::from(format!(
                "/var/tmp/duckfeeder-quickstart-{:016x}",
                hasher.finish()
            ));
            // Not an existing one: that might be somebody else's.
            fs::create_dir(&elsewhere)
                .with_context(|| format!("cannot make {}: remove it", elsewhere.display()))?;
            symlink(&elsewhere, &home)?;
            say(&format!(
                "     (its data in {}, which the user `postgres` can read)",
                elsewhere.display()
            ));
        }
        let port_file = self.home.join("port");
        let port = fs::read_to_string(&port_file)
            .ok()
            .and_then(|port| port.trim().parse().ok());
        let options = Options {
            port,
            ..Options::default()
        }
        .setting("fsync", "on");
        let start = |options: &Options| Postgres::start_at(&home, NEWEST_MAJOR, options);
        let server = match start(&options) {
            // Another program has the port by now.
            Err(error) if port.is_some() && format!("{error:#}").contains("could not bind") => {
                start(&Options {
                    port: None,
                    ..options
                })
            }
            other => other,
        };
        let server = server.with_context(|| {
            format!(
                "cannot start the Postgres in {}; `cargo xtask quickstart --clean` removes it",
                home.display()
            )
        })?;
        fs::write(port_file, server.port().to_string())?;
        Ok(server)
    }

    /// Makes the databases; false when they were there.
    pub(super) fn ensure_databases(pg: &Postgres) -> Result<bool> {
        let mut fresh = false;
        // The shop last: when it is there, everything is.
        for database in [LAKE, SHOP] {
            let found = pg.sql(
                "postgres",
                &format!("select 1 from pg_database where datname = '{database}'"),
            )?;
            if found.is_empty() {
                pg.create_database(database)?;
                fresh = true;
            }
        }
        let tables = pg.sql(SHOP, "select 1 from pg_tables where schemaname = 'public'")?;
        Ok(fresh || tables.is_empty())
    }

    /// Writes the statements that attach the lake in DuckDB to a file and returns its path.
    pub(super) fn write_attach_file(&self, pg: &Postgres, duckdb: &DuckDbTool) -> Result<PathBuf> {
        let load = |extension: &str| {
            let file = duckdb
                .extensions
                .join(format!("{extension}.duckdb_extension"));
            format!("load {};", literal(&file.display().to_string()))
        };
        let target = format!("ducklake:postgres:{}", Lake::new(pg, LAKE).libpq);
        let lines = [
            "-- duckdb -init FILE, while the quickstart's Postgres runs".to_owned(),
            load("postgres_scanner"),
            load("ducklake"),
            format!("attach {} as lake;", literal(&target)),
            "use lake.raw;".to_owned(),
            String::new(),
        ];
        let file = self.home.join("attach.sql");
        fs::write(&file, lines.join("\n"))?;
        Ok(file)
    }

    /// The feeder of the shop, whose configuration is as short as one can be: `Setup` adds the storage.
    pub(super) fn setup(&self, pg: &Postgres) -> Result<Setup> {
        let config = Config {
            name: "shop".to_owned(),
            source: pg.url(SUPERUSER, SHOP),
            catalog: Some(pg.url(SUPERUSER, LAKE)),
            tables: vec!["public.*".to_owned()],
            lines: vec![("flush".to_owned(), "interval = \"1s\"".to_owned())],
        };
        Setup::at(&self.home, &config)
    }

    /// Removes everything.
    pub(super) fn clean(&self) -> Result<()> {
        if let Ok(elsewhere) = fs::read_link(self.postgres_home()) {
            remove(&elsewhere)?;
        }
        remove(&self.home)?;
        say(&format!("removed {}", self.home.display()));
        Ok(())
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
