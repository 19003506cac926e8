-- Each line: type, output text, binary send format; for arrays and rows both in hexadecimal.
-- psql -v n=ROWS -v big=BOOL -AtqF $'\t' -f render.sql
SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C';
SELECT setseed(0.42) \g /dev/null
CREATE TEMP TABLE r AS SELECT i, floor(random() * 9007199254740992)::int8 AS m, (random() * 2000 - 1048)::int AS e, random() AS u, random() AS v, random() AS w, CASE WHEN random() < 0.5 THEN -1 ELSE 1 END AS s FROM generate_series(1, :n) i;

SELECT 'bool', CASE WHEN x THEN 't' ELSE 'f' END, encode(boolsend(x), 'hex') FROM unnest(ARRAY[true, false]) x;
SELECT 'int2', x, encode(int2send(x), 'hex') FROM unnest('{0,-1,32767,-32768}'::int2[]) x;
SELECT 'int4', x, encode(int4send(x), 'hex') FROM unnest('{0,-1,2147483647,-2147483648}'::int4[]) x;
SELECT 'int8', x, encode(int8send(x), 'hex') FROM unnest('{0,-1,9223372036854775807,-9223372036854775808}'::int8[]) x;
SELECT 'oid', x, encode(oidsend(x), 'hex') FROM unnest('{0,4294967295}'::oid[]) x;
SELECT 'uint8', x, encode(xid8send(x), 'hex') FROM unnest('{0,1,9223372036854775808,18446744073709551615}'::xid8[]) x;
SELECT 'text', x, encode(textsend(x), 'hex') FROM unnest('{"",plain,"日本 語"}'::text[]) x;
SELECT 'jsonb', x, encode(jsonb_send(x), 'hex') FROM unnest(ARRAY['{ "b": 1.10, "a" : [1, null]}', 'null']::jsonb[]) x;
SELECT 'uuid', x, encode(uuid_send(x), 'hex') FROM unnest('{00000000-0000-0000-0000-000000000000,6f1c6a0e-3a51-4b7e-9a55-0d2a1d3c9b10}'::uuid[]) x;
SELECT 'bytea', x, encode(byteasend(x), 'hex') FROM (VALUES (''::bytea), ('\x00ff5c78')) v(x);
SELECT 'pg_lsn', x, encode(pg_lsn_send(x), 'hex') FROM unnest('{0/0,16/B374D848,0/1,FFFFFFFF/FFFFFFFF}'::pg_lsn[]) x;
SELECT 'pg_lsn', x, encode(pg_lsn_send(x), 'hex') FROM (SELECT '0/0'::pg_lsn + (m * 1000)::numeric FROM r) v(x);

SELECT 'float8', x, encode(float8send(x), 'hex') FROM unnest('{0,-0,NaN,Infinity,-Infinity,1e14,1e15,123456789012345,1234567890123456,0.0001,0.00001,-0.00012345,1e23,9007199254740993,1.7976931348623157e308,2.2250738585072014e-308,5e-324,2251799813685248.25,2251799813685248.75,4503599627370497.5,5e22,6.02e23,-1.5}'::float8[]) x;
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT s * m * power(2::float8, greatest(e, -1000)) * power(2::float8, least(e + 1000, 0)) FROM r WHERE e + 53 < 1024) v(x);
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT (4503599627370496 + m / 2) / power(2::float8, i % 60) FROM r) v(x);
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT (4503599627370496 + m / 2) * power(2::float8, i % 80) FROM r) v(x);
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT round(m * u) / power(10::float8, i % 30) FROM r) v(x);
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT power(2::float8, greatest(k, -1000)) * power(2::float8, least(k + 1000, 0)) FROM generate_series(-1074, 1023) k WHERE :big) v(x);
SELECT 'float8', x, encode(float8send(x), 'hex') FROM (SELECT (d || 'e' || k)::float8 FROM generate_series(-323, 307) k, generate_series(1, 9) d WHERE :big) v(x);
SELECT 'float4', x, encode(float4send(x), 'hex') FROM unnest('{0,-0,NaN,Infinity,-Infinity,100000,999999,1e6,1234567.9,0.0001,0.00001,3.4028235e38,1.17549435e-38,1e-45,16777216,33554432,8388608.5,2097152.25,524288.0625,262144.03125,0.1,-1.5}'::float4[]) x;
SELECT 'float4', x, encode(float4send(x), 'hex') FROM (SELECT ((m % 16777216) * power(2::float8, -149 + i % 253))::float4 FROM r) v(x);
SELECT 'float4', x, encode(float4send(x), 'hex') FROM (SELECT ((8388608 + m % 8388608) / power(2::float8, i % 40 - 10))::float4 FROM r) v(x);
SELECT 'float4', x, encode(float4send(x), 'hex') FROM (SELECT power(2::float8, k)::float4 FROM generate_series(-149, 127) k WHERE :big) v(x);
SELECT 'float4', x, encode(float4send(x), 'hex') FROM (SELECT (d || 'e' || k)::float4 FROM generate_series(-45, 37) k, generate_series(2, 9) d WHERE :big) v(x);
SELECT 'numeric', x, encode(numeric_send(x), 'hex') FROM unnest('{0,0.00,-1.50,12345.678900,1e40,NaN,Infinity,-Infinity}'::numeric[]) x;
SELECT 'numeric', x, encode(numeric_send(x), 'hex') FROM (SELECT round((s * m * 10::numeric ^ (i % 40 - 20)), i % 30) FROM r) v(x);
SELECT 'money', x, encode(cash_send(x), 'hex') FROM unnest(ARRAY['0', '-0.05', '0.99', '999.99', '1000', '-1234.56', '999999', '1000000', '92233720368547758.07', '-92233720368547758.08']::money[]) x;
SELECT 'money', x, encode(cash_send(x), 'hex') FROM (SELECT (s * m / 10 ^ (i % 16))::numeric::money FROM r) v(x);

SELECT 'date', x, encode(date_send(x), 'hex') FROM unnest(ARRAY['2000-01-01','2024-02-29','0001-01-01','0001-12-31 BC','4714-11-24 BC','5874897-12-31','9999-12-31','10000-01-01','infinity','-infinity']::date[]) x;
SELECT 'date', x, encode(date_send(x), 'hex') FROM (SELECT '2000-01-01'::date + (s * u * 700000)::int FROM r UNION ALL SELECT '2000-01-01'::date + (u * 2145031948)::int FROM r) v(x);
SELECT 'time', x, encode(time_send(x), 'hex') FROM unnest('{00:00:00,23:59:59.999999,24:00:00,12:34:56.7,12:34:56.000001}'::time[]) x;
SELECT 'time', x, encode(time_send(x), 'hex') FROM (SELECT '00:00'::time + (u * 86399999999)::int8 * '1 microsecond'::interval FROM r) v(x);
SELECT 'timetz', x, encode(timetz_send(x), 'hex') FROM unnest('{00:00:00+00,10:00:00.5+02,24:00:00-15:59:59,12:34:56+05:30,12:34:56-00:00:01,00:00:00+15:59,12:00:00+00:19:32}'::timetz[]) x;
SELECT 'timetz', x, encode(timetz_send(x), 'hex') FROM (SELECT (('00:00'::time + (u * 86399)::int * '1 second'::interval)::text || CASE WHEN s > 0 THEN '+' ELSE '-' END || ('00:00'::time + (v * 57599)::int * CASE WHEN w < 0.3 THEN '1 second'::interval ELSE '0'::interval END + (v * 959)::int * '1 minute'::interval * (w > 0.3)::int)::text)::timetz FROM r WHERE v < 0.9) v(x);
SELECT 'timestamp', x, encode(timestamp_send(x), 'hex') FROM unnest(ARRAY['2000-01-01','1969-12-31 23:59:59.999999','2024-02-29 12:34:56.789','0001-12-31 23:59:59.999999 BC','4714-11-24 00:00:00 BC','294247-01-10 04:00:54.775807','294276-12-31 23:59:59.999999','infinity','-infinity']::timestamp[]) x;
SELECT 'timestamp', x, encode(timestamp_send(x), 'hex') FROM (SELECT '2000-01-01'::timestamp + (s * u * 2000000 * (1 + 50 * (s > 0)::int))::int * '1 day'::interval + (v * 1e11)::int8 / 10 ^ (i % 7) * '1 microsecond'::interval FROM r WHERE s > 0 OR u < 0.9) v(x);
SELECT 'timestamptz', x, encode(timestamptz_send(x), 'hex') FROM unnest(ARRAY['2024-01-01 00:00:00+00','0044-03-15 BC','294276-12-31 23:59:59.999999','infinity','-infinity']::timestamptz[]) x;
SELECT 'interval', x, encode(interval_send(x), 'hex') FROM unnest('{00:00:00,1 year 2 mons -3 days +04:05:06.789,-1 year -1 mon -1 day -00:00:01,1 day -00:00:00.000001,-1 mon +1 day,1 mon,100:00:00,-100:00:00.5,-1 year +11 mons,178956970 years 7 mons,-178956970 years -8 mons}'::interval[]) x;
SELECT 'interval', x, encode(interval_send(x), 'hex') FROM (SELECT make_interval(months => ((v - 0.5) * 40)::int * (i % 3), days => ((w - 0.5) * 60)::int * (i / 2 % 2)) + (s * (m / power(10::float8, i % 17)))::int8 * '1 microsecond'::interval * (i / 5 % 3) FROM r) v(x);

SELECT 'interval', x, encode(interval_send(x), 'hex') FROM (VALUES (interval '178956970 years 7 mons' + interval '-2147483648 days' + interval '-2562047788:00:54.775807' - interval '00:00:00.000001'), (interval '-178956970 years -8 mons' + interval '2147483647 days' + interval '2562047788:00:54.775807')) v(x);

SELECT 'inet', x, encode(inet_send(x), 'hex') FROM unnest('{127.0.0.1,10.1.2.3/8,0.0.0.0/0,::,::1,::/0,::ffff:1.2.3.4,::ffff:1.2.3.4/96,::1.2.3.4,::2,2001:db8::1/64,1:0:0:2:0:0:0:3,1:0:0:2:3:0:0:4,fe80::,0:0:1::,1:0:2:0:3:0:4:0,::1:0:0,::ffff:0:1}'::inet[]) x;
SELECT 'cidr', x, encode(cidr_send(x), 'hex') FROM unnest('{127.0.0.1,10.0.0.0/8,0.0.0.0/0,::/0,::1,::ffff:1.2.3.4,2001:db8::/32}'::cidr[]) x;
CREATE TEMP TABLE net AS SELECT set_masklen('0.0.0.0'::inet + (u * 4294967295)::int8, (v * 32)::int) AS a FROM r UNION ALL SELECT set_masklen((SELECT string_agg(CASE WHEN random() < 0.5 OR r.i < 0 THEN '0' WHEN random() < 0.2 THEN 'ffff' ELSE to_hex((random() * 65535 / 16 ^ (k % 4))::int) END, ':') FROM generate_series(1, 8) k)::inet, CASE WHEN u < 0.5 THEN 128 ELSE (v * 128)::int END) FROM r;
SELECT 'inet', x, encode(inet_send(x), 'hex') FROM (SELECT a FROM net) v(x);
SELECT 'cidr', x, encode(cidr_send(x), 'hex') FROM (SELECT network(a)::cidr FROM net) v(x);
SELECT 'macaddr', x, encode(macaddr_send(x), 'hex') FROM unnest('{08:00:2b:01:02:03,ff:ff:ff:ff:ff:ff}'::macaddr[]) x;
SELECT 'macaddr8', x, encode(macaddr8_send(x), 'hex') FROM unnest('{08:00:2b:01:02:03:04:05,00:00:00:00:00:00:00:00}'::macaddr8[]) x;
SELECT 'bit', x, encode(bit_send(x), 'hex') FROM unnest('{101}'::bit(3)[]) x;
SELECT 'bit', x, encode(bit_send(x), 'hex') FROM unnest('{10100000}'::bit(8)[]) x;
SELECT 'varbit', x, encode(varbit_send(x), 'hex') FROM unnest('{"",1,0101,111100001,0000000000000001}'::varbit[]) x;
SELECT 'varbit', x, encode(varbit_send(x), 'hex') FROM (SELECT (SELECT string_agg((random() + k * 0 > 0.5)::int::text, '') FROM generate_series(1, 1 + r.i % 40) k)::varbit FROM r) v(x);

CREATE TEMP TABLE word AS SELECT i, CASE WHEN v < 0.05 THEN NULL WHEN v < 0.1 THEN 'nUll' ELSE (SELECT coalesce(string_agg(substr(E'abé",\\{}(); \t\n\r\fNUL\'' || chr(11), 1 + (random() * 19)::int, 1), ''), '') FROM generate_series(1, (r.u * 6)::int + r.i * 0)) END AS t FROM r;
SELECT 'array', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(array_send(x), 'hex') FROM (SELECT array_agg(t) FROM word GROUP BY i / 3 UNION ALL SELECT ARRAY[array_agg(t), array_agg(t || '"')] FROM word GROUP BY i / 4) v(x);
SELECT 'array', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(array_send(x), 'hex') FROM (VALUES ('{}'::int4[]), ('{1,2,NULL}'), ('[0:1]={1,2}'), ('[-2:-1][5:5]={{1},{2}}'), ('{{{{{{1,2}}}}}}'), ('{{1,2},{3,4},{5,6}}'), ('[1:1][2:3]={{7,8}}'), ('[2147483645:2147483646]={1,2}'), ('[-2147483648:-2147483647]={1,2}')) v(x);
SELECT 'array', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(array_send(x), 'hex') FROM (VALUES ('{1.5,1e15,NaN}'::float8[])) v(x);
SELECT 'box', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(array_send(x), 'hex') FROM (VALUES ('{(1,1),(0,0);(2,2),(1,1)}'::box[]), ('{}'), ('{NULL}')) v(x);
CREATE TYPE pg_temp.pair AS (a text, b int4);
CREATE TYPE pg_temp.outer_pair AS (a text, p pg_temp.pair, c text);
CREATE TYPE pg_temp.nothing AS ();
SELECT 'record', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(record_send(x), 'hex') FROM (SELECT ROW(t, CASE WHEN i % 3 > 0 THEN i END)::pg_temp.pair FROM word) v(x);
SELECT 'record', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(record_send(x), 'hex') FROM (SELECT ROW(t, CASE WHEN i % 3 > 0 THEN ROW(t, i)::pg_temp.pair END, t || ' ')::pg_temp.outer_pair FROM word) v(x);
SELECT 'record', encode(convert_to(x::text, 'UTF8'), 'hex'), encode(record_send(x), 'hex') FROM (VALUES (ROW()::pg_temp.nothing)) v(x);
-- From 17 on.
SELECT 'interval', x, encode(interval_send(x), 'hex') FROM unnest('{infinity,-infinity}'::interval[]) x;
