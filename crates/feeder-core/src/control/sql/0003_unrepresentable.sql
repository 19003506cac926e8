alter table duckfeeder.tables add column unrepresentable bigint not null default 0;
