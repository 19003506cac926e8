//! The pipeline: from the replication stream of a Postgres database to one DuckLake commit per epoch.
#![forbid(unsafe_code)]

pub mod config;
pub mod control;
pub mod current_view;
mod error;
mod status;

pub use error::{FeederError, FeederErrorKind};
pub use status::{FeederStatus, Phase, TableState, TableStatus};
