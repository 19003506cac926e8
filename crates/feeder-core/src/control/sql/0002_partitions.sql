alter table duckfeeder.tables
    -- The partitions at every level, as of the copy or a later look that found nothing missing.
    add column partitions jsonb,
    -- The last transaction in the lake that truncated the table.
    add column truncated_by bigint;
