//! Network addresses, bit strings and WAL positions.

use super::Entry;
use super::shape::leaf;

pub(super) fn entries() -> Vec<Entry> {
    let own = |sql| Entry::own(sql, leaf("varchar"));
    let address = "gen.int(0, 255) || '.' || gen.int(0, 255) || '.' || gen.int(0, 255) || '.' || gen.int(0, 255)";
    vec![
        own("inet")
            .edges(&[
                "'0.0.0.0'",
                "'255.255.255.255'",
                "'10.1.2.3/8'",
                "'10.1.2.3/32'",
                "'::'",
                "'::1'",
                "'2001:db8::1:0:0:1'",
                "'2001:db8::/32'",
                "'::ffff:1.2.3.4'",
                "'::1.2.3.4/96'",
                "'1:0:0:2:0:0:0:3'",
                "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/0'",
            ])
            .random(&format!(
                "case when random() < 0.5 then ({address} || '/' || gen.int(0, 32))::inet \
                 else (regexp_replace(regexp_replace(md5(random()::text), '(....)', '\\1:', 'g'), ':$', ''))::inet end"
            )),
        own("cidr")
            .edges(&["'0.0.0.0/0'", "'10.0.0.0/8'", "'1.2.3.4'", "'::/0'", "'2001:db8::/32'", "'::1'"])
            .random(&format!("network(({address} || '/' || gen.int(0, 32))::inet)")),
        own("macaddr")
            .edges(&["'00:00:00:00:00:00'", "'ff:ff:ff:ff:ff:ff'", "'08:00:2b:01:02:03'"])
            .random("substr(md5(random()::text), 1, 12)::macaddr"),
        own("macaddr8")
            .edges(&["'00:00:00:00:00:00:00:00'", "'ff:ff:ff:ff:ff:ff:ff:ff'", "'08:00:2b:01:02:03'"])
            .random("substr(md5(random()::text), 1, 16)::macaddr8"),
        Entry::new("bit", "bit", leaf("varchar")).edges(&["'0'", "'1'"]),
        Entry::new("bit", "bit(9)", leaf("varchar"))
            .edges(&["'010101011'", "'000000000'", "'111111111'"])
            .random("gen.bits()::bit(9)"),
        own("varbit")
            .edges(&["''", "'1'", "'0000000001'", "repeat('10', 500)::varbit"])
            .random("substring(gen.bits()::bit(64) from 1 for gen.int(0, 64)::int)::varbit"),
        own("pg_lsn")
            .edges(&["'0/0'", "'FFFFFFFF/FFFFFFFF'", "'16/B374D848'"])
            .random("('0/0'::pg_lsn + gen.int(0, 9007199254740991)::numeric)"),
    ]
}
