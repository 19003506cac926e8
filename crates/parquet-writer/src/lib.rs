//! Typed columns to Parquet bytes, with exact statistics per column
