//! Enums, domains and composites, whose types are made by `setup.sql`.

use super::shape::{Shape, decimal, leaf, list, timestamp};
use super::{Entry, array_of};

/// The composite `item`.
pub(super) fn item() -> Shape {
    Shape::Struct(vec![
        ("name", leaf("varchar")),
        ("price", decimal("decimal(10,2)")),
        ("sizes", list(leaf("int32"))),
    ])
}

/// A random `item`.
pub(super) const ITEM: &str = "row(gen.txt(5), gen.int(-99999, 99999) / 100.0, array[gen.int(0, 9), null]::int[])::public.item";

const ITEMS: [&str; 8] = [
    "row('plain', 1.50, '{1,2}')::public.item",
    "row(null, null, null)::public.item",
    "row('', 0, '{}')::public.item",
    "row('a \"quoted\", (round) \\ text', -1, '{NULL}')::public.item",
    "row('does not fit', 'NaN', '{1}')::public.item",
    "row('nor does', 2, '[0:1]={1,2}')::public.item",
    "row('nor do', 'NaN', '{{1},{2}}')::public.item",
    "row(E'new\\nline', 99.99, null)::public.item",
];

pub(super) fn entries() -> Vec<Entry> {
    let basket = Shape::Struct(vec![
        ("owner", leaf("varchar")),
        ("first", item()),
        ("items", list(item())),
        ("moods", list(leaf("varchar"))),
        ("Odd \"Name\"", timestamp("timestamptz")),
    ]);
    vec![
        Entry::new("an enum", "public.mood", leaf("varchar"))
            .edges(&[
                "'sad'",
                "'ok'",
                "'very \"happy\"'",
                "'a,b'",
                "''",
                "'é'",
                "'NULL'",
                "'{}'",
                r"'(\)'",
            ])
            .random("gen.pick(enum_range(null::public.mood))"),
        Entry::new("a domain", "public.price", decimal("decimal(10,2)"))
            .like("numeric(10,2)")
            .edges(&["1.50", "-999999.99", "0", "'NaN'"])
            .random("(gen.int(-9999999, 9999999) / 100.0)::public.price"),
        Entry::new("a domain", "public.net_price", decimal("decimal(10,2)"))
            .like("numeric(10,2)")
            .edges(&["1.50", "-999999.99", "0", "'NaN'"])
            .random("(gen.int(-9999999, 9999999) / 100.0)::public.net_price"),
        Entry::new("a domain", "public.tag", leaf("varchar"))
            .like("text")
            .edges(&["''", "'a b'", "'{x,\"y\"}'"])
            .random("gen.txt(10)::public.tag"),
        Entry::new("a domain", "public.tags", list(leaf("varchar")))
            .like("text[]")
            .edges(&["'{}'", "'{a,NULL,\"NULL\",\"\"}'", "'{{a},{b}}'", "'[2:3]={a,b}'"])
            .random(&array_of("gen.txt(5)", "public.tags")),
        Entry::new("a domain", "public.prices", list(decimal("decimal(10,2)")))
            .edges(&["'{}'", "'{1.5,NULL,-2}'", "'{1,NaN}'"])
            .random(&array_of("gen.int(-999, 999) / 100.0", "public.prices")),
        Entry::new("a domain", "public.home", item())
            .edges(&ITEMS)
            .random(&format!("({ITEM})::public.home")),
        Entry::new("a composite type", "public.item", item())
            .edges(&ITEMS)
            .random(ITEM),
        Entry::new("a composite type", "public.basket", basket)
            .edges(&[
                "row(null, null, null, null, null)",
                "row('a', row('b', 1, '{1}'), array[row('c', 2, '{}')::public.item, null, row(null, null, null)::public.item], \
                 '{sad,\"a,b\",NULL}', '2024-02-29 10:00:00+02')",
                "row('', null, '{}', '{}', '-infinity')",
                "row('half', row('b', 'NaN', null), null, null, 'infinity')",
                "row('list', null, array[row('c', 'NaN', null)::public.item], null, null)",
                "row('shape', null, null, '{{sad}}', null)",
                "row('far', null, null, null, '294276-12-31')",
                "row('bc', row('x', -0.01, '{-1}'), null, null, '0044-03-15 10:00:00+00 BC')",
            ])
            .random(&format!(
                "row(gen.txt(5), {ITEM}, {}, array[gen.pick(enum_range(null::public.mood))], gen.moment() at time zone 'UTC')::public.basket",
                array_of(ITEM, "public.item[]")
            )),
        // Attributes that differ in case only are no struct in the lake.
        Entry::new("a composite type", "public.clash", leaf("varchar"))
            .text_only()
            .noted()
            .edges(&["row(1, 'b')", "row(null, null)", "row(-1, 'a \"b\" \\')"]),
        Entry::new(
            "a composite type",
            "public.addressed",
            Shape::Struct(vec![("host", leaf("varchar")), ("label", leaf("varchar"))]),
        )
        .edges(&["row('10.0.0.0/8', 'net')", "row('::1', '')"]),
        Entry::new(
            "a composite type",
            "public.flagged",
            Shape::Struct(vec![("note", leaf("varchar")), ("kind", leaf("varchar"))]),
        )
        .text_only()
        .edges(&["row('a,\"b\"', 'x')", "row(null, '')", "row('', '\"')"]),
    ]
}
