//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use duckfeeder::Lsn;

use crate::config::Flags;

/// Streams every change of a Postgres database into a DuckLake
#[derive(Debug, Parser)]
#[command(name = "duckfeeder", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a check failed, unhealthy, or waited in vain; 2 usage or \
configuration; 3 permanent error at the source; 4 at the catalog or store.\n\
Configuration: flag, then environment (DUCKFEEDER_...), then file, then default; see docs/configuration.md.";

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: DUCKFEEDER_CONFIG, else duckfeeder.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Form of the log on standard error; DUCKFEEDER_LOG filters it
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
    /// The feeder's name
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// The database whose changes are fed: postgres://user@host/database
    #[arg(long, global = true, value_name = "URL")]
    source: Option<String>,
    /// The database of the lake's metadata [default: the source]
    #[arg(long, global = true, value_name = "URL")]
    catalog: Option<String>,
    /// Where the Parquet files go: file:///srv/lake
    #[arg(long, global = true, value_name = "URL")]
    storage: Option<String>,
    /// Tables as schema.table with globs, with commas or given several times
    #[arg(long, global = true, value_name = "PATTERNS", value_delimiter = ',')]
    tables: Vec<String>,
}

impl Global {
    /// The flags that are configuration.
    pub(crate) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            name: self.name.clone(),
            source: self.source.clone(),
            storage: self.storage.clone(),
            catalog: self.catalog.clone(),
            tables: self.tables.clone(),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented configuration file that lists the source's tables; never overwrites one
    Init,
    /// Check every precondition of source, catalog and store; exit 1 if one fails
    Check {
        /// Print one SQL script with all remedies instead
        #[arg(long)]
        sql: bool,
        /// Print the optional event trigger that tells of DDL exactly where it happens, for a superuser to run at the source
        #[arg(long, conflicts_with = "sql")]
        ddl_trigger: bool,
    },
    /// Copy what is missing, then stream; SIGTERM flushes, commits and exits 0
    Run {
        /// Exit 0 once everything is committed that was in the WAL at the start
        #[arg(long)]
        until_caught_up: bool,
    },
    /// Wait until a running feeder has come so far; exit 1 after the timeout
    Wait(Wait),
    /// Show checkpoint, lag, tables and slot from the databases; exit 1 when unhealthy
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask the feeder that runs on this machine, at server.listen, whether it works; exit 1 if not
    Health,
    /// Print the statements that attach this lake in DuckDB
    AttachSql {
        /// Name of the lake in DuckDB
        #[arg(long, default_value = "lake")]
        alias: String,
    },
    /// Let the feeder copy one table again
    Resync {
        /// The table: schema.table
        table: String,
    },
    /// State a change of a table ahead: what it is, and that it may pass a strict table
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Remove files that no commit named, and files that the lake schedules for deletion, when they are old enough;
    /// exit 1 if some could not be. What the lake names is never touched
    Maintain {
        /// Only list what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make or migrate the control tables in the catalog
    Migrate {
        /// Print the script instead of running it
        #[arg(long)]
        print: bool,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Drop slot and publication after a confirmation; the lake stays
    Teardown {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What to wait for, and how long.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) goal: Goal,
    /// Give up after this long
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// What to wait for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Goal {
    /// Until all tables are streaming
    #[arg(long)]
    pub(crate) streaming: bool,
    /// Until everything that committed before this position is in the lake
    #[arg(long, value_name = "LSN")]
    pub(crate) lsn: Option<Lsn>,
}

/// What is stated, or asked of it.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// A column gets another name, and its history goes on under it
    RenameColumn {
        /// The table: schema.table
        table: String,
        /// Its name now
        column: String,
        /// Its name then
        to: String,
        #[command(flatten)]
        id: DirectiveId,
    },
    /// A column gets another type
    ChangeType {
        /// The table: schema.table
        table: String,
        /// The column
        column: String,
        /// The type, as Postgres knows it: bigint, varchar(20), app.mood
        #[arg(value_name = "TYPE")]
        to: String,
        /// You vouch that the rewritten rows keep their values: no other copy where the column becomes wider
        #[arg(long)]
        values_unchanged: bool,
        #[command(flatten)]
        id: DirectiveId,
    },
    /// A column goes, in the lake too
    DropColumn {
        /// The table: schema.table
        table: String,
        /// The column
        column: String,
        #[command(flatten)]
        id: DirectiveId,
    },
    /// Show what is pending, and what was applied at which LSN
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back what is still pending
    Cancel {
        /// Its id
        id: String,
    },
}

/// What a stated change is called.
#[derive(Debug, Args)]
pub(crate) struct DirectiveId {
    /// What it is called; the same again under the same id is stored once [default: one is made]
    #[arg(long)]
    pub(crate) id: Option<String>,
}

/// What to do with the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the merged configuration with the origin of each value; secrets are hidden
    Show,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_behind_the_command() {
        for line in [
            ["duckfeeder", "--tables", "a.*,b.c", "run", "--name", "x"],
            ["duckfeeder", "run", "--name", "x", "--tables", "a.*,b.c"],
        ] {
            let flags = Cli::try_parse_from(line).unwrap().global.flags();
            assert_eq!(flags.tables, ["a.*", "b.c"]);
            assert_eq!(flags.name.as_deref(), Some("x"));
        }
    }

    #[test]
    fn wait_has_exactly_one_goal() {
        for line in [
            "duckfeeder wait",
            "duckfeeder wait --streaming --lsn 0/1",
            "duckfeeder wait --lsn nowhere",
            "duckfeeder wait --streaming --timeout 5",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        let Command::Wait(wait) = Cli::try_parse_from(["duckfeeder", "wait", "--lsn", "1/2"])
            .unwrap()
            .command
        else {
            panic!("wait was parsed as something else");
        };
        assert_eq!(wait.timeout, Duration::from_secs(30));
        assert_eq!(
            wait.goal.lsn.map(|lsn| lsn.to_string()).as_deref(),
            Some("1/2")
        );
    }
}
