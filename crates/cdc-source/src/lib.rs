//! The source Postgres: connection, slot, publication, COPY and the change stream
