-- Tells duckfeeder of every change of a table's definition at the very place in the WAL where it happens. Optional: without
-- it changes are seen with the next row, or within ten seconds. To be run by a superuser (or the service's own
-- administrator role) in the source database. It writes a message to the WAL, never to a table, and a failure of it never
-- fails the DDL. To take it away: drop function duckfeeder_ddl() cascade; drop function duckfeeder_rewrite() cascade;
create or replace function duckfeeder_rewrite() returns event_trigger language plpgsql
    set search_path = pg_catalog, pg_temp as $body$
begin
    -- Told with the command that rewrites, when it is through.
    perform set_config('duckfeeder.rewritten', concat(current_setting('duckfeeder.rewritten', true),
        pg_event_trigger_table_rewrite_oid()::text, ','), true);
exception when others then
    raise warning 'duckfeeder_rewrite: %', sqlerrm;
end
$body$;
create or replace function duckfeeder_ddl() returns event_trigger language plpgsql
    set search_path = pg_catalog, pg_temp as $body$
declare
    changed oid;
    told jsonb;
begin
    for changed in
        with commands as (
            select distinct classid, objid from pg_event_trigger_ddl_commands()
        )
        select c.oid from commands join pg_class c on c.oid = commands.objid
        where commands.classid = 'pg_class'::regclass
        union
        -- Tables with a column of a composite type that was changed.
        select c.oid from commands
        join pg_type t on t.oid = commands.objid or t.typrelid = commands.objid
        join pg_attribute a on a.atttypid in (t.oid, t.typarray) and a.attnum > 0 and not a.attisdropped
        join pg_class c on c.oid = a.attrelid
        where commands.classid in ('pg_type'::regclass, 'pg_class'::regclass)
    loop
        select jsonb_build_object(
            'oid', c.oid::int8, 'schema', n.nspname, 'table', c.relname, 'kind', c.relkind,
            'identity', c.relreplident,
            'rewritten', exists (
                select from unnest(string_to_array(current_setting('duckfeeder.rewritten', true), ',')) r
                where r = c.oid::text or c.relkind = 'p' and r in (
                    select relid::oid::text from pg_partition_tree(c.oid))),
            'comment', obj_description(c.oid, 'pg_class'),
            'files', (
                select coalesce(jsonb_agg(jsonb_build_array(f.oid::int8, f.relfilenode::int8)), '[]')
                from pg_class f
                where f.relkind <> 'p' and (f.oid = c.oid or c.relkind = 'p' and f.oid in (
                    select relid from pg_partition_tree(c.oid)))),
            'keys', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'primary', i.indisprimary, 'identity', i.indisreplident, 'deferrable', not i.indimmediate,
                    'columns', (
                        select jsonb_agg(a.attname order by k.place)
                        from unnest(i.indkey::int2[]) with ordinality k (attnum, place)
                        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                        where k.place <= i.indnkeyatts))), '[]')
                from pg_index i
                where i.indrelid = c.oid and (i.indisprimary or i.indisreplident)),
            'columns', (
                select coalesce(jsonb_agg(jsonb_build_object(
                    'attnum', a.attnum, 'name', a.attname, 'type', a.atttypid::int8,
                    'modifier', a.atttypmod, 'dimensions', a.attndims, 'not_null', a.attnotnull,
                    'default', a.atthasdef, 'generated', a.attgenerated,
                    'missing', case when a.atthasmissing then (a.attmissingval::text::text[])[1] end,
                    'comment', col_description(c.oid, a.attnum)) order by a.attnum), '[]')
                from pg_attribute a
                where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))
        into told
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = changed and c.relkind in ('r', 'p') and c.relpersistence <> 't';
        if told is not null then
            perform pg_logical_emit_message(true, 'duckfeeder.ddl', told::text);
        end if;
    end loop;
    perform set_config('duckfeeder.rewritten', '', true);
exception when others then
    raise warning 'duckfeeder_ddl: %', sqlerrm;
end
$body$;
drop event trigger if exists duckfeeder_ddl;
create event trigger duckfeeder_ddl on ddl_command_end
    when tag in ('ALTER TABLE', 'ALTER TYPE', 'COMMENT', 'CREATE INDEX', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    execute function duckfeeder_ddl();
alter event trigger duckfeeder_ddl enable always;
drop event trigger if exists duckfeeder_rewrite;
create event trigger duckfeeder_rewrite on table_rewrite execute function duckfeeder_rewrite();
alter event trigger duckfeeder_rewrite enable always;
