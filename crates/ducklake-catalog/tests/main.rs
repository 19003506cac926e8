//! Tests against a real Postgres, and real DuckDB as the reader and as another writer.
//!
//! `DUCKFEEDER_TEST_PG_URL` is a superuser's URL of a scratch server in which databases may be made;
//! `DUCKFEEDER_TEST_DUCKDB` is the DuckDB command line program, `DUCKFEEDER_TEST_DUCKDB_EXTENSIONS`
//! the folder with `ducklake.duckdb_extension` and `postgres_scanner.duckdb_extension`. Without them
//! the tests skip, loudly; with `REQUIRE_SERVICES=1` they fail instead.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "helpers of tests may fail as tests do"
)]

mod it {
    pub(crate) mod support;

    mod bootstrap;
    mod commit;
    mod concurrency;
    mod connections;
    mod ddl;
    mod ddl_random;
    mod differential;
    mod evolution;
    mod example;
    mod files;
    mod reading;
    mod retype;
    mod statistics;
}
