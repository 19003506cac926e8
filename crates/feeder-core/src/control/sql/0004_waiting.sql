alter table duckfeeder.feeders
    add column waiting_for text,
    add column waiting_since timestamptz,
    add check ((waiting_for is null) = (waiting_since is null));
