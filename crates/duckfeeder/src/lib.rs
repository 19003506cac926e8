//! Streams every change of a Postgres database into a DuckLake
#![forbid(unsafe_code)]
/// The configuration as plain data, for hosts that build it without a [`Builder`].
pub mod config {
    pub use cdc_source::{
        Endpoint, PasswordProvider, PasswordSource, PublicationName, SlotName, TlsMode,
    };
    pub use feeder_core::config::*;
}
