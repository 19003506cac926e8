//! Creates and commits to a DuckLake whose catalog is in Postgres, without DuckDB
