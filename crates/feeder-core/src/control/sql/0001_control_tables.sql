create table duckfeeder.feeders (
    name text primary key,
    -- The metadata schema of the lake that the checkpoint speaks of.
    lake text not null,
    -- IDENTIFY_SYSTEM of the source, compared at every connect.
    system_identifier text not null,
    timeline bigint not null,
    slot text not null,
    publication text not null,
    -- Publications as last seen: oids and flags.
    publication_state jsonb,
    -- Raised by every process that takes over; every writing transaction compares it.
    generation bigint not null default 0,
    owner text,
    -- Slot and publication were dropped on purpose: the next start begins anew.
    torn_down boolean not null default false,
    -- Exclusive end: every commit below it is in the lake.
    checkpoint pg_lsn not null,
    -- Somebody waits for the checkpoint to reach this position.
    wanted pg_lsn,
    -- The last commit, to resolve a lost answer to COMMIT.
    attempt uuid,
    last_snapshot bigint,
    -- Commit time of the last transaction in the lake, at the source.
    commit_timestamp timestamptz,
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table duckfeeder.tables (
    feeder text not null references duckfeeder.feeders (name) on delete cascade,
    source_oid bigint not null,
    lake text not null,
    source_schema text not null,
    source_table text not null,
    target_schema text not null,
    target_table text not null,
    lake_table_id bigint,
    state text not null default 'pending'
        check (state in ('pending', 'copying', 'streaming', 'paused', 'error')),
    -- Consistent point of the copy that the lake holds.
    copy_point pg_lsn,
    -- Columns, key and identity at the source, as last known.
    shape jsonb not null,
    -- pg_publication_rel.oid, row filter and column list, as last seen.
    publication jsonb,
    -- The first change that is not in the lake.
    error_lsn pg_lsn,
    error_seq bigint,
    error_reason text,
    -- Changes that were not recorded since.
    discarded bigint not null default 0,
    resync_requested boolean not null default false,
    copied_rows bigint not null default 0,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (feeder, source_oid),
    check (state <> 'error' or error_reason is not null),
    check ((error_reason is null) = (error_lsn is null) and (error_reason is null) = (error_seq is null))
);

-- Two tables of one lake, of whichever feeders, never share a target. Readers of a lake ignore the case of
-- ASCII letters, and the collation "C" folds just these in every database.
create unique index tables_target_key on duckfeeder.tables
    (lake, lower(target_schema collate "C"), lower(target_table collate "C"));

-- Files that are, or soon will be, in the object store and that no snapshot names yet.
create table duckfeeder.pending_files (
    path text primary key,
    feeder text not null,
    lake_table_id bigint not null,
    created_at timestamptz not null default clock_timestamp()
);
