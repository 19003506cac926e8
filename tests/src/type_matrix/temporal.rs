//! Dates, times and UUIDs.

use super::Entry;
use super::shape::{leaf, timestamp};

pub(super) fn entries() -> Vec<Entry> {
    let moments = [
        "'infinity'",
        "'-infinity'",
        "'4714-11-24 00:00:00 BC'",
        "'0044-03-15 10:00:00.5 BC'",
        "'0001-12-31 23:59:59.999999 BC'",
        "'0001-01-01 00:00:00'",
        "'1970-01-01 00:00:00'",
        "'1969-12-31 23:59:59.999999'",
        "'2000-01-01 00:00:00.000001'",
        "'2024-02-29 12:34:56.789'",
        "'9999-12-31 23:59:59.999999'",
        "'10000-01-01 00:00:00'",
        "'290000-01-01 00:00:00.000001'",
        "'294246-12-31 23:59:59.999999'",
        "'294247-01-10 04:00:54.775806'",
        "'294247-01-10 04:00:54.775807'",
        "'294276-12-31 23:59:59.999999'",
    ];
    vec![
        Entry::own("date", leaf("date"))
            .edges(&[
                "'infinity'",
                "'-infinity'",
                "'4714-11-24 BC'",
                "'0044-03-15 BC'",
                "'0001-12-31 BC'",
                "'0001-01-01'",
                "'1970-01-01'",
                "'1969-12-31'",
                "'2000-01-01'",
                "'2024-02-29'",
                "'9999-12-31'",
                "'10000-01-01'",
                "'5874897-12-31'",
            ])
            .random("gen.day()"),
        Entry::own("time", leaf("time"))
            .edges(&[
                "'00:00:00'",
                "'24:00:00'",
                "'23:59:59.999999'",
                "'00:00:00.000001'",
                "'12:34:56.7'",
            ])
            .random("time '00:00' + gen.clock()"),
        Entry::new("time", "time(3)", leaf("time"))
            .edges(&["'23:59:59.999'", "'12:34:56.7'"])
            .random("(time '00:00' + gen.clock())::time(3)"),
        Entry::own("timetz", leaf("varchar"))
            .edges(&[
                "'10:00:00+02'",
                "'00:00:00+00'",
                "'24:00:00-15:59:59'",
                "'23:59:59.999999+15:59:59'",
                "'12:34:56.7-03:30'",
                "'00:00:00.000001-00:00:01'",
            ])
            .random("((time '00:00' + gen.clock())::text || gen.pick('{+00,+02,-12:30,+15:59:59,-00:00:01}'::text[]))::timetz"),
        Entry::own("timestamp", timestamp("timestamp"))
            .edges(&moments)
            .random("gen.moment()"),
        Entry::new("timestamp", "timestamp(0)", timestamp("timestamp"))
            .edges(&["'2024-02-29 12:34:56.5'", "'1969-12-31 23:59:59.4'"])
            .random("gen.moment()::timestamp(0)"),
        Entry::own("timestamptz", timestamp("timestamptz"))
            .edges(&moments)
            .edges(&["'2024-02-29 12:34:56.789+05:30'"])
            .random("gen.moment() at time zone 'UTC'"),
        Entry::own("interval", leaf("varchar"))
            .edges(&[
                "'0'",
                "'1 year 2 mons -3 days 04:05:06.789'",
                "'-1 year -2 mons +3 days -04:05:06.789'",
                "'1 day'",
                "'-1 days'",
                "'00:00:00.000001'",
                "'-00:00:00.000001'",
                "'178000000 years'",
                "'-178000000 years'",
                "'2147483647 days'",
                "'-1 mons +1 day'",
                "'-11 months'",
                "'1 mon -1 days -00:00:01'",
                "'100:00:00'",
            ])
            // Postgres 14 takes it and cannot print it.
            .newer(15, &["make_interval(secs => 9223372036854)"])
            .newer(17, &["'infinity'", "'-infinity'"])
            .random("gen.span()"),
        Entry::own("uuid", leaf("uuid"))
            .edges(&[
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
                "'7fffffff-ffff-ffff-ffff-ffffffffffff'",
                "'80000000-0000-0000-0000-000000000000'",
                "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
            ])
            .random("md5(random()::text)::uuid"),
    ]
}
