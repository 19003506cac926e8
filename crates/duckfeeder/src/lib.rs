//! Streams every change of a Postgres database into a DuckLake
