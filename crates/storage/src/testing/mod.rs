//! The conformance suite ([`conformance`]), and a store that fails on demand ([`FaultStorage`]).

mod fault;

pub use self::fault::{Fault, FaultStorage, Hold, Moment};
