//! The conformance suite ([`conformance`](conformance::conformance)), and a store that fails on demand
//! ([`FaultStorage`]).

pub mod conformance;
mod fault;

pub use self::conformance::{Capabilities, conformance};
pub use self::fault::{Fault, FaultStorage, Hold, Moment};
