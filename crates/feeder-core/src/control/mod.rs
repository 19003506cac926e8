//! The control tables.
