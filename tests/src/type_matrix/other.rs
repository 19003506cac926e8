//! Ranges, shapes, text search, names of objects and what else the lake keeps as printed.

use super::shape::leaf;
use super::{Entry, Needs};

pub(super) fn entries() -> Vec<Entry> {
    let documented = |docs, sql: &str| Entry::new(docs, sql, leaf("varchar")).text_only();
    let own = |sql| Entry::own(sql, leaf("varchar")).text_only();
    let range = |sql| documented("int4range", sql);
    let kin = |sql| documented("regtype", sql);
    let extension = |sql, name| {
        Entry::new("hstore", sql, leaf("varchar"))
            .text_only()
            .needs(Needs::Extension(name))
    };
    vec![
        own("int4range")
            .edges(&["'[1,10)'", "'empty'", "'(,)'", "'[1,]'", "'(,5)'"])
            .random("int4range(gen.int(-99, 0)::int, gen.int(0, 99)::int, gen.pick('{[],[),(],()}'::text[]))"),
        range("int8range").edges(&["'[-9223372036854775808,9223372036854775807)'", "'empty'"]),
        range("numrange").edges(&["'(1.50,2.5]'", "'[NaN,NaN]'"]),
        range("daterange").edges(&["'[2024-02-29,2024-03-01)'", "'[-infinity,infinity]'"]),
        range("tsrange").edges(&["'[2024-02-29 10:00:00,infinity)'"]),
        range("tstzrange").edges(&["'[2024-02-29 10:00:00+02,)'"]),
        range("public.spell").edges(&["'[10:00,12:00)'"]),
        range("int4multirange").edges(&["'{[1,3),[5,7)}'", "'{}'"]),
        range("datemultirange").edges(&["'{[2024-01-01,2024-02-01),[2024-03-01,)}'"]),
        own("point")
            .edges(&["'(1,2)'", "'(-0,NaN)'", "'(Infinity,5e-324)'", "'(0.1,1e300)'"])
            .random("gen.spot()"),
        own("line").edges(&["'{1,2,3}'", "'{0,-1,0.5}'"]),
        own("lseg")
            .edges(&["'[(1,2),(3,4)]'"])
            .random("lseg(gen.spot(), gen.spot())"),
        own("box")
            .edges(&["'(3,4),(1,2)'"])
            .random("box(gen.spot(), gen.spot())"),
        own("path").edges(&["'((1,2),(3,4))'", "'[(1,2),(3,4),(5,6)]'"]),
        own("polygon").edges(&["'((0,0),(1,0),(1,1))'"]),
        own("circle")
            .edges(&["'<(1,2),3>'"])
            .random("circle(gen.spot(), abs(gen.dbl(10)))"),
        own("tsvector")
            .edges(&["''", r"'''it''''s'':1A,2B cat:3 ''a b'''", "to_tsvector('simple', repeat('many words é ', 50))"])
            .random("to_tsvector('simple', gen.txt(30))"),
        own("tsquery")
            .edges(&["''", "'a & (b | !c) <2> d:*A'", "'''x y'''"])
            .random("plainto_tsquery('simple', gen.txt(20))"),
        own("regclass").edges(&["'pg_class'", "'public.types'", "'-'", "987654"]),
        own("regtype").edges(&["'integer'", "'public.mood'", "'timestamptz[]'", "'-'", "987654"]),
        kin("regproc").edges(&["'pg_catalog.now'", "'gen.bits'", "'-'"]),
        kin("regprocedure").edges(&["'gen.int(bigint,bigint)'", "'-'"]),
        kin("regoper").edges(&["'pg_catalog.||/'", "'0'"]),
        kin("regoperator").edges(&["'+(integer,integer)'", "'0'"]),
        kin("regconfig").edges(&["'english'"]),
        kin("regdictionary").edges(&["'simple'"]),
        kin("regrole").edges(&["'postgres'", "'-'"]),
        kin("regnamespace").edges(&["'public'", "'pg_catalog'"]),
        kin("regcollation").edges(&["'\"C\"'"]),
        own("int2vector").edges(&["'1 2 -3'", "''"]),
        own("oidvector").edges(&["'1 2 4294967295'", "''"]),
        own("pg_snapshot").edges(&["'10:20:10,14,15'", "'1:1:'"]),
        own("aclitem").edges(&["'postgres=arwdDxt/postgres'", "'=r/postgres'"]),
        documented("hstore", "tid").edges(&["'(0,1)'", "'(4294967295,65535)'"]),
        Entry::own("hstore", leaf("varchar"))
            .text_only()
            .needs(Needs::Extension("hstore"))
            .edges(&["''", r#"'a=>1, "b c"=>NULL, "d\"e"=>"NULL"'"#])
            .random("hstore(gen.txt(5), gen.txt(5))"),
        extension("ltree", "ltree")
            .edges(&["''", "'a.b_1.C'"])
            .random("('a' || gen.int(0, 9) || '.b')::ltree"),
        extension("cube", "cube")
            .edges(&["'(1,2),(3,4.5)'"])
            .random("cube(gen.dbl(5), gen.dbl(5))"),
    ]
}
