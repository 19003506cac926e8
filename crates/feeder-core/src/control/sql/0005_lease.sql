-- Which process may feed. Beside the feeder's row, so that a commit that holds that row does not keep the renewal waiting.
create table duckfeeder.leases (
    feeder text primary key,
    -- One run of a process; a run that comes back after another took over is not it any more.
    holder uuid not null,
    owner text not null,
    -- By this server's clock, like everything that is compared with it.
    expires_at timestamptz not null
) with (fillfactor = 50);
