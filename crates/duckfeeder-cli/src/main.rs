//! The duckfeeder binary.
fn main() {}
