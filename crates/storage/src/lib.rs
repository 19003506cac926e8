//! Object storage for immutable files: create-only puts, multipart uploads, one conformance suite
