-- Changes of fed tables that an operator stated ahead.
create table duckfeeder.directives (
    feeder text not null,
    id text not null,
    source_oid bigint not null,
    kind text not null check (kind in ('rename-column', 'change-type', 'drop-column')),
    column_name text not null,
    -- The column's next name.
    new_name text,
    -- Its next type, as the source knows it (pg_type.oid and a modifier) and prints it.
    type_oid bigint,
    type_modifier integer,
    type_name text,
    -- Somebody vouches that rows which are rewritten for it keep their values.
    values_unchanged boolean not null default false,
    stated_at timestamptz not null default clock_timestamp(),
    -- Where the change was in the stream; written with the commit that followed it.
    applied_lsn pg_lsn,
    applied_at timestamptz,
    primary key (feeder, id),
    -- A table that was dropped and made again gets another oid.
    foreign key (feeder, source_oid) references duckfeeder.tables (feeder, source_oid)
        on update cascade on delete cascade,
    check ((kind = 'rename-column') = (new_name is not null)),
    check ((kind = 'change-type') = (type_oid is not null)
        and (kind = 'change-type') = (type_modifier is not null)
        and (kind = 'change-type') = (type_name is not null)),
    check ((applied_lsn is null) = (applied_at is null))
);
