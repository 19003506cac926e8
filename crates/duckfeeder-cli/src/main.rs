//! The duckfeeder binary.
mod config;
fn main() {}
