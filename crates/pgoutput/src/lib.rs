//! Decodes and encodes the messages of Postgres logical replication (pgoutput)
