//! Text, bytes, JSON and what is carried as text.

use super::shape::{json, leaf};
use super::{Entry, Needs};

/// Texts that other formats stumble over.
const TEXTS: [&str; 17] = [
    "''",
    "' '",
    "'plain'",
    "'it''s \"quoted\"'",
    r"'back\slash \N \\'",
    "E'tab\\tnew\\nline\\rreturn'",
    "'NULL'",
    "'null'",
    "'{a,b}'",
    "'(1,2)'",
    "'{\"a\": 1}'",
    "E'\\x01\\x7f'",
    "U&'\\FEFF\\200B\\0301'",
    "'é ß Ω 日本 😀 👩‍👩‍👧'",
    "U&'\\+10FFFF'",
    "repeat('long é ', 20000)",
    "repeat(chr(1114111), 300)",
];

pub(super) fn entries() -> Vec<Entry> {
    let text = |sql| Entry::own(sql, leaf("varchar")).edges(&TEXTS);
    vec![
        text("text").random("gen.txt(20)"),
        text("varchar").random("gen.txt(20)::varchar"),
        Entry::new("varchar", "varchar(5)", leaf("varchar"))
            .edges(&["''", "'12345'", "'日本日本日'"])
            .random("gen.txt(5)::varchar(5)"),
        Entry::own("name", leaf("varchar"))
            .edges(&[
                "''",
                "'plain'",
                "'Mixed \"Case\"'",
                "repeat('x', 63)",
                "repeat('é', 31)",
                r"'a\b'",
            ])
            .random("gen.txt(8)::name"),
        text("citext")
            .needs(Needs::Extension("citext"))
            .edges(&["'MiXeD'"])
            .random("gen.txt(20)::citext"),
        Entry::own("char(10)", leaf("varchar"))
            .edges(&[
                "''",
                "'a'",
                "'0123456789'",
                "'日本'",
                "'  lead'",
                "'trail  '",
                "'NULL'",
            ])
            .random("substr(gen.txt(10), 1, 10)::char(10)"),
        Entry::own("\"char\"", leaf("varchar"))
            .text_only()
            .edges(&["'a'", "''", "' '", "'\"'", r"'\'", "chr(127)", "chr(1)"])
            .newer(16, &[r"'\377'", r"'\200'"])
            .random("chr(gen.int(1, 127)::int)::\"char\""),
        Entry::own("bytea", leaf("blob"))
            .edges(&[
                r"'\x'",
                r"'\x00'",
                r"'\xff'",
                r"'\x00ff00'",
                r"'\x5c785c'",
                "decode('c3a9', 'hex')",
                "decode(repeat('00ff', 50000), 'hex')",
            ])
            .random("gen.bytes(40)"),
        Entry::own("json", json())
            .edges(&[
                r#"'{"b": 1,  "a":[null,true,1.50,"x"]}'"#,
                "'null'",
                "'1e400'",
                "'123456789012345678901234567890.123456789'",
                "'\"\"'",
                "'[]'",
                "'{}'",
                "' 1 '",
                r#"'{"a": 1, "a": 2}'"#,
                r#"'"\ud83d\ude00 \\ud800 \u00e9 \n \" \/"'"#,
                r#"'"\ud800"'"#,
                r#"'["\udc00\ud800", 1]'"#,
                r#"'{"\uDBFF": 1}'"#,
                "('[\"' || repeat('long', 10000) || '\"]')::json",
                "(repeat('[', 100) || repeat(']', 100))::json",
            ])
            .random("json_build_object(gen.txt(5), gen.txt(5), 'n', gen.bits(), 'a', json_build_array(gen.dbl(30), null, random() < 0.5))"),
        Entry::own("jsonb", leaf("json"))
            .edges(&[
                r#"'{"b": 1,  "a":[null,true,1.50,"x"]}'"#,
                "'null'",
                "'1e400'",
                "'-0.00'",
                "'123456789012345678901234567890.123456789'",
                "'\"\"'",
                "'[]'",
                "'{}'",
                r#"'{"a": 1, "a": 2, "": {"é": "😀"}}'"#,
                r#"'"\ud83d\ude00 \\ud800 \u00e9 \n \" \/ \u0001"'"#,
                "to_jsonb(repeat('long', 10000))",
            ])
            .random("jsonb_build_object(gen.txt(5), gen.txt(5), 'n', gen.bits(), 'a', jsonb_build_array(gen.dbl(30), null, random() < 0.5))"),
        Entry::own("jsonpath", leaf("varchar"))
            .text_only()
            .edges(&["'$'", "'$.a[*] ? (@.\"b c\" > 1)'", "'strict $.x'", r#"'$."é\n"'"#]),
        Entry::own("xml", leaf("varchar"))
            .text_only()
            .needs(Needs::Xml)
            .edges(&["'<a b=\"1\">é &amp; <![CDATA[<]]></a>'", "'<?xml version=\"1.0\"?><a/>'", "''", "'text only'"]),
    ]
}
