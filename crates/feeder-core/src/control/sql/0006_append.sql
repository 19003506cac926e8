-- Lake tables that append streams made: any stream of the lake may append to them.
create table duckfeeder.append_tables (
    lake text not null,
    target_schema text not null,
    target_table text not null,
    lake_table_id bigint not null,
    primary key (lake, lake_table_id)
);

-- How far each producer is in the lake; written with the snapshot that holds its rows.
create table duckfeeder.append_positions (
    feeder text not null references duckfeeder.feeders (name) on delete cascade,
    target_schema text not null,
    target_table text not null,
    -- Empty for rows without a producer of their own.
    producer text not null,
    -- The greatest sequence number in the lake.
    position bigint not null,
    snapshot_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (feeder, target_schema, target_table, producer)
) with (fillfactor = 50);
