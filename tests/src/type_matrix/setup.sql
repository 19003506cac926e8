-- Types of users, and functions that make random values; setseed() makes these play again.
create schema stash;
create schema gen;

create type mood as enum ('sad', 'ok', 'very "happy"', 'a,b', '', 'é', 'NULL', '{}', '(\)');
create domain price as numeric(10,2) check (value is null or value < 1000000 or value = 'NaN');
create domain net_price as price check (value is null or value > -1000000 or value = 'NaN');
create domain tag as text check (length(value) < 100);
create domain tags as text[] check (cardinality(value) < 1000);
create domain prices as price[];
create type item as (name text, price price, sizes int[]);
create type basket as (owner text, first item, items item[], moods mood[], "Odd ""Name""" timestamptz);
create type clash as (a int, "A" text);
create type addressed as (host inet, label text);
create type flagged as (note text, kind "char");
create domain home as item;
create type spell as range (subtype = time);

-- An integer of an interval, ends included.
create function gen.int(lo bigint, hi bigint) returns bigint language sql volatile
  as $$ select lo + floor(random() * (hi - lo + 1))::bigint $$;

-- Any 64 bits.
create function gen.bits() returns bigint language sql volatile
  as $$ select ('x' || md5(random()::text))::bit(64)::bigint $$;

-- One of several.
create function gen.pick(choices anyarray) returns anyelement language sql volatile
  as $$ select choices[gen.int(1, cardinality(choices))] $$;

-- Text with what other formats stumble over.
create function gen.txt(longest int) returns text language plpgsql volatile as $$
declare
  alphabet constant text[] := array['a', 'Z', '0', '"', '\', '''', '{', '}', '[', ']', '(', ')', ',', ';', ':', '=>', ' ',
    E'\t', E'\n', E'\r', E'\x01', E'\x7f', 'NULL', 'null', '\N', '""', '\\', '$', '%', '&', '<', 'é', 'ß', 'Ω', '日本', '😀', U&'\FEFF', U&'\0301'];
  made text := '';
begin
  for _ in 1 .. gen.int(0, longest) loop
    made := made || gen.pick(alphabet);
  end loop;
  return made;
end $$;

create function gen.bytes(longest int) returns bytea language plpgsql volatile as $$
declare
  made bytea := '';
begin
  for _ in 1 .. gen.int(0, longest) loop
    made := made || decode(substr(md5(random()::text), 1, 2), 'hex');
  end loop;
  return made;
end $$;

-- A double of any size.
create function gen.dbl(digits int) returns float8 language sql volatile
  as $$ select (random() - 0.5) * power(10::float8, gen.int(-digits, digits)) $$;

-- A date from the whole calendar, or from the years around now.
create function gen.day() returns date language sql volatile
  as $$ select date '2000-01-01' + (case when random() < 0.3 then gen.int(-2451545, 2145031948) else gen.int(-20000, 20000) end)::int $$;

-- A time of day.
create function gen.clock() returns interval language sql volatile
  as $$ select gen.int(0, 86399999999) * interval '1 microsecond' $$;

-- A timestamp from the whole calendar that the lake has, or from the years around now.
create function gen.moment() returns timestamp language sql volatile
  as $$ select timestamp '2000-01-01' + (case when random() < 0.3 then gen.int(-2451545, 106741034) else gen.int(-20000, 20000) end) * interval '1 day' + gen.clock() $$;

create function gen.span() returns interval language sql volatile
  as $$ select gen.int(-100000, 100000) * interval '1 month' + gen.int(-100000, 100000) * interval '1 day'
    + gen.int(-1000000000000000, 1000000000000000) * interval '1 microsecond' $$;

create function gen.spot() returns point language sql volatile
  as $$ select point(gen.dbl(20), gen.dbl(20)) $$;
