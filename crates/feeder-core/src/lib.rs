//! The pipeline: from the replication stream to one catalog commit per epoch
