//! Arrays of many element types.

use super::composite::{ITEM, item};
use super::shape::{Shape, decimal, json, leaf, list, timestamp};
use super::{Entry, Needs, array_of};

/// JSON of a value whose elements are numbers, booleans or JSON.
const AS_IT_IS: Shape = Shape::Json {
    text: "pg_catalog.to_json($)",
};
/// JSON of a value whose elements are texts there. The lake writes all control characters by number.
const AS_TEXTS: Shape = Shape::Json {
    text: r"pg_catalog.replace(pg_catalog.replace(pg_catalog.to_json($::pg_catalog.text[])::pg_catalog.text, '\b', '\u0008'), '\f', '\u000c')",
};

pub(super) fn entries() -> Vec<Entry> {
    let listed = |sql, element| Entry::new("integer[]", sql, list(element));
    let nested = |sql, shape| Entry::new("integer[][]", sql, shape);
    vec![
        Entry::own("integer[]", list(leaf("int32")))
            .edges(&[
                "'{}'", "'{1,2,3}'", "'{NULL}'", "'{1,NULL,-2147483648}'", "'{{1,2},{3,4}}'", "'[0:2]={1,2,3}'",
                "'[1:1][2:3]={{1,2}}'", "array_fill(7, array[3000])",
            ])
            .random(&array_of("gen.bits()::bit(32)::int", "int[]")),
        listed("integer[3]", leaf("int32")).edges(&["'{1,2}'", "'{1,2,3,4}'"]),
        listed("boolean[]", leaf("boolean"))
            .edges(&["'{t,f,NULL}'", "'{}'"])
            .random(&array_of("random() < 0.5", "boolean[]")),
        listed("smallint[]", leaf("int16"))
            .edges(&["'{-32768,32767,NULL}'"])
            .random(&array_of("gen.int(-32768, 32767)", "smallint[]")),
        listed("oid[]", leaf("uint32")).edges(&["'{0,4294967295}'"]),
        listed("xid8[]", leaf("uint64")).edges(&["'{0,18446744073709551615}'"]),
        listed("real[]", leaf("float32"))
            .edges(&["'{NaN,Infinity,-Infinity,-0,0.1,NULL}'"])
            .random(&array_of("gen.dbl(30)", "real[]")),
        listed("double precision[]", leaf("float64"))
            .edges(&["'{NaN,Infinity,-Infinity,-0,0.1,5e-324,NULL}'"])
            .random(&array_of("gen.dbl(300)", "double precision[]")),
        listed("numeric(10,2)[]", decimal("decimal(10,2)"))
            .edges(&["'{1.5,NULL,-0.01}'", "'{1,NaN}'", "'{}'"])
            .random(&array_of("gen.int(-99999, 99999) / 100.0", "numeric(10,2)[]")),
        listed("numeric[]", leaf("varchar"))
            .edges(&["'{1.50,NULL,NaN,1e100}'", "'{}'"])
            .random(&array_of("gen.bits() / 1000.0", "numeric[]")),
        listed("money[]", Shape::Leaf {
            lake: "decimal(19,2)",
            text: "pg_catalog.concat($::pg_catalog.numeric)",
            unfit: None,
        })
        .edges(&["'{\"1,234.50\",NULL,-0.01}'"])
        .random(&array_of("(gen.bits()::numeric / 100)::money", "money[]")),
        listed("text[]", leaf("varchar"))
            .edges(&[
                "'{}'", "'{a,NULL,\"NULL\",null,\"\"}'", r#"'{"a \"b\" \\ c","{}"," ","x,y","(1)"}'"#,
                "array[E'new\\nline', E'tab\\t', '😀', '\\']", "'{{a,b},{c,NULL}}'", "'[-1:0]={a,b}'",
                "array[repeat('long', 20000)]",
            ])
            .random(&array_of("gen.txt(8)", "text[]")),
        listed("char(3)[]", leaf("varchar")).edges(&["'{a,\"\",abc,NULL}'"]),
        listed("name[]", leaf("varchar")).edges(&["'{a,\"B c\",NULL}'"]),
        listed("citext[]", leaf("varchar"))
            .needs(Needs::Extension("citext"))
            .edges(&["'{a,\"B c\",NULL}'"])
            .random(&array_of("gen.txt(8)", "citext[]")),
        listed("bytea[]", leaf("blob"))
            .edges(&[r#"'{"\\x","\\x00ff",NULL}'"#])
            .random(&array_of("gen.bytes(10)", "bytea[]")),
        listed("json[]", json())
            .edges(&[
                r#"array['{"a": "b,c"}', 'null', '"\\ "', null]::json[]"#, r#"array['"\ud800"']::json[]"#, "'{}'",
            ])
            .random(&array_of("to_json(gen.txt(8))", "json[]")),
        listed("jsonb[]", leaf("json"))
            .edges(&[r#"array['{"a": "b,c"}', 'null', '"\\ "', null]::jsonb[]"#])
            .random(&array_of("to_jsonb(gen.txt(8))", "jsonb[]")),
        listed("date[]", leaf("date"))
            .edges(&["'{2024-02-29,infinity,-infinity,\"0044-03-15 BC\",NULL}'"])
            .random(&array_of("gen.day()", "date[]")),
        listed("time[]", leaf("time"))
            .edges(&["'{00:00,24:00,NULL}'"])
            .random(&array_of("time '00:00' + gen.clock()", "time[]")),
        listed("timestamp[]", timestamp("timestamp"))
            .edges(&["'{\"2024-02-29 10:00\",infinity,\"0044-03-15 10:00 BC\",NULL}'", "'{294276-12-31}'"])
            .random(&array_of("gen.moment()", "timestamp[]")),
        listed("timestamptz[]", timestamp("timestamptz"))
            .edges(&["'{\"2024-02-29 10:00+02\",-infinity,NULL}'", "'{294276-12-31}'"])
            .random(&array_of("gen.moment() at time zone 'UTC'", "timestamptz[]")),
        listed("timetz[]", leaf("varchar")).edges(&["'{10:00+02,NULL}'"]),
        listed("interval[]", leaf("varchar"))
            .edges(&["'{\"1 year -3 days\",NULL,-00:00:01}'"])
            .random(&array_of("gen.span()", "interval[]")),
        listed("uuid[]", leaf("uuid"))
            .edges(&["'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11,NULL}'"])
            .random(&array_of("md5(random()::text)::uuid", "uuid[]")),
        listed("public.mood[]", leaf("varchar"))
            .edges(&[r#"'{sad,NULL,"very \"happy\"","a,b","","NULL","{}","(\\)"}'"#, "'{}'"])
            .random(&array_of("gen.pick(enum_range(null::public.mood))", "public.mood[]")),
        listed("public.price[]", decimal("decimal(10,2)"))
            .edges(&["'{1.5,NULL}'", "'{NaN}'"])
            .random(&array_of("gen.int(-999, 999) / 100.0", "public.price[]")),
        listed("public.tags[]", list(leaf("varchar")))
            .edges(&[r#"'{"{a,b}","{}",NULL,"{NULL,\"x y\"}"}'"#, r#"'{"{{a},{b}}"}'"#])
            .random(&{
                let tags = array_of("gen.txt(4)", "public.tags");
                format!("array[{tags}, null, {tags}]::public.tags[]")
            }),
        listed("public.item[]", item())
            .edges(&[
                "array[row('a,\"b\"', 1.5, '{1,NULL}')::public.item, null, row(null, null, null)::public.item]",
                "array[row('x', 'NaN', null)::public.item]",
                "array[row('x', 1, '{{1}}')::public.item]",
                "'{}'",
            ])
            .random(&array_of(ITEM, "public.item[]")),
        listed("inet[]", leaf("varchar")).edges(&["'{10.0.0.1,10.0.0.0/8,::1,NULL}'"]),
        listed("macaddr[]", leaf("varchar")).edges(&["'{08:00:2b:01:02:03,NULL}'"]),
        listed("varbit[]", leaf("varchar")).edges(&["'{101,\"\",NULL}'"]),
        listed("pg_lsn[]", leaf("varchar")).edges(&["'{0/0,FFFFFFFF/FFFFFFFF,NULL}'"]),
        listed("box[]", leaf("varchar"))
            .text_only()
            .edges(&["'{(1,2),(3,4);(5,6),(7,8);NULL}'", "'{}'"])
            .random(&array_of("box(gen.spot(), gen.spot())", "box[]")),
        listed("point[]", leaf("varchar"))
            .text_only()
            .edges(&["'{\"(1,2)\",NULL}'"])
            .random(&array_of("gen.spot()", "point[]")),
        listed("int4range[]", leaf("varchar"))
            .text_only()
            .edges(&["'{\"[1,10)\",empty,NULL}'"]),
        listed("xml[]", leaf("varchar"))
            .text_only()
            .needs(Needs::Xml)
            .edges(&["array['<a b=\"1\"/>'::xml, null]"]),
        listed("\"char\"[]", leaf("varchar"))
            .text_only()
            .edges(&[r#"'{a,"",NULL,"\"","\\"}'"#]),
        listed("hstore[]", leaf("varchar"))
            .text_only()
            .needs(Needs::Extension("hstore"))
            .edges(&[r#"array['a=>1'::hstore, null, '"x,y"=>"\"z\""']"#]),
        Entry::own("integer[][]", AS_IT_IS)
            .edges(&[
                "'{{1,2},{3,NULL}}'", "'{}'", "'{1,2}'", "'{{{1},{2}},{{3},{4}}}'", "'[0:1]={1,2}'", "'[1:1][2:3]={{1,2}}'",
            ])
            .random("array[[gen.bits()::bit(32)::int, null], [gen.int(0, 9)::int, 7]]"),
        nested("boolean[][]", AS_IT_IS).edges(&["'{{t,f},{NULL,t}}'"]),
        nested("double precision[][]", AS_IT_IS)
            .edges(&["'{{1.5,NaN},{Infinity,-0}}'", "'{{5e-324,1e300}}'"])
            .random("array[[gen.dbl(300)], [gen.dbl(10)]]"),
        nested("numeric[][]", AS_IT_IS)
            .edges(&["'{{1.50,NaN},{1e30,NULL}}'"])
            .random("array[[gen.bits() / 1000.0], [null::numeric]]"),
        nested("text[][]", AS_TEXTS)
            .edges(&[
                r#"'{{"a \"b\" \\ c",NULL},{"NULL",""}}'"#, "array[[E'new\\nline\\b\\f', E'\\x01\\x7f', '😀']]", "'{}'",
            ])
            .random("array[[gen.txt(5), null], ['', gen.txt(5)]]"),
        nested("jsonb[][]", AS_IT_IS)
            .edges(&[r#"array[['{"a": [1]}', 'null'], ['"x"', null]]::jsonb[]"#]),
        nested("timestamptz[][]", AS_TEXTS)
            .edges(&["'{{\"2024-02-29 10:00+02\",infinity},{NULL,294276-12-31}}'"]),
        nested("bytea[][]", AS_TEXTS).edges(&[r#"'{{"\\x00ff"},{NULL}}'"#]),
        nested("public.mood[][]", AS_TEXTS).edges(&["'{{sad,\"a,b\"},{\"\",NULL}}'"]),
        nested("box[][]", AS_TEXTS)
            .text_only()
            .edges(&["'{{(1,2),(3,4);NULL}}'"]),
    ]
}
