//! Tests over the whole way from values to a file and back.

mod columns;
mod encoding;
mod model;
mod nested;
mod properties;
mod rows;
mod schemas;
mod statistics;
