//! The pipeline: from the replication stream of a Postgres database to one DuckLake commit per epoch.
//!
//! ```text
//!   run (one task) --parts--> committer (one task) --> object store, catalog
//!    |  intake: messages -> buffered rows              ^
//!    |  coordinator: when to seal, pause, acknowledge  |
//!   backfill (a round of copies) --finished copies-----+
//! ```
//!
//! [`Feeder`] is the door. `setup` checks and prepares, `run` is the async shell around the pure `coordinator` and
//! `intake`, `committer` is the only writer of the lake. The invariants I1 to I15 that comments name are in
//! ARCHITECTURE.md.
#![forbid(unsafe_code)]

pub mod append;
pub mod attach;
mod backfill;
pub mod check;
mod clock;
mod committer;
pub mod config;
pub mod control;
mod coordinator;
mod copy_round;
pub mod current_view;
pub mod ddl_trigger;
mod dead_letters;
mod encode;
mod endpoint;
mod epoch;
mod error;
mod evolution;
#[doc(hidden)]
pub mod failpoint;
mod feeder;
mod file;
mod intake;
pub mod janitor;
pub mod jsonl;
mod lake_tables;
mod layout;
mod lineage;
pub mod meters;
pub mod operations;
#[doc(hidden)]
pub mod own;
mod partitions;
mod plan;
mod publish;
mod registration;
pub mod report;
mod retry;
mod run;
pub mod schema;
mod select;
mod setup;
mod slot;
mod source_watch;
mod standby;
mod stats;
mod status;
mod stream;
mod table_look;
#[cfg(test)]
mod testing;
mod types;
mod version;

pub use error::{FeederError, FeederErrorKind};
pub use feeder::{Feeder, Outcome, RunMode};
pub use janitor::Janitor;
pub use pgoutput::Lsn;
pub use status::{FeederStatus, Phase, SlotStatus, TableState, TableStatus};
