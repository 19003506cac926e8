//! Booleans and numbers.

use super::shape::{Shape, decimal, leaf};
use super::{Entry, array_of};

pub(super) fn entries() -> Vec<Entry> {
    let integer = |sql, lake, low: &str, high: &str| {
        Entry::own(sql, leaf(lake))
            .edges(&[low, high, "0", "1"])
            .random(&format!(
                "(gen.bits()::numeric % (({high})::numeric + 1))::{sql}"
            ))
    };
    let unsigned = |sql, lake, high: &str| {
        Entry::own(sql, leaf(lake))
            .edges(&["'0'", "'1'", high])
            .random(&format!("(gen.int(0, 4294967295)::text)::{sql}"))
    };
    vec![
        Entry::own("boolean", leaf("boolean"))
            .edges(&["true", "false"])
            .random("random() < 0.5"),
        integer("smallint", "int16", "-32768", "32767").edges(&["-1"]),
        integer("integer", "int32", "-2147483648", "2147483647").edges(&["-1"]),
        integer(
            "bigint",
            "int64",
            "-9223372036854775808",
            "9223372036854775807",
        )
        .edges(&["-1", "9007199254740993"]),
        unsigned("oid", "uint32", "'4294967295'").edges(&["'2147483648'"]),
        unsigned("xid", "uint32", "'4294967295'").edges(&["'2147483648'"]),
        unsigned("cid", "uint32", "'4294967295'").edges(&["'2147483648'"]),
        unsigned("xid8", "uint64", "'18446744073709551615'")
            .edges(&["'9223372036854775807'", "'9223372036854775808'"]),
        Entry::own("real", leaf("float32"))
            .edges(&[
                "'NaN'", "'Infinity'", "'-Infinity'", "'0'", "'-0'", "'1e-45'", "'-1e-45'",
                "'3.4028235e+38'", "'-3.4028235e+38'", "'1.17549435e-38'", "0.1", "16777217", "-1.5",
            ])
            .random("gen.dbl(37)::real"),
        Entry::own("double precision", leaf("float64"))
            .edges(&[
                "'NaN'", "'Infinity'", "'-Infinity'", "'0'", "'-0'", "'5e-324'", "'-5e-324'",
                "'1.7976931348623157e+308'", "'-1.7976931348623157e+308'",
                "'2.2250738585072014e-308'", "0.1", "'9007199254740993'", "-1.5", "'0.30000000000000004'",
            ])
            .random("gen.dbl(300)"),
        Entry::own("numeric(10,2)", decimal("decimal(10,2)"))
            .edges(&[
                "0", "'NaN'", "99999999.99", "-99999999.99", "0.01", "-0.01", "1", "-1.50", "12345.678",
            ])
            .random("(gen.int(-9999999999, 9999999999) / 100.0)::numeric(10,2)"),
        Entry::new("numeric(10,2)", "numeric(38,10)", decimal("decimal(38,10)"))
            .edges(&[
                "9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999",
                "0.0000000001", "-0.0000000001", "0", "'NaN'", "123456789012345678.9",
            ])
            .random("(gen.bits()::numeric * gen.int(-1000000000, 1000000000) / 10000000000)::numeric(38,10)"),
        Entry::new("numeric(10,2)", "numeric(18)", decimal("decimal(18,0)"))
            .edges(&["999999999999999999", "-999999999999999999", "0", "'NaN'"])
            .random("(gen.bits() / 10)::numeric(18)"),
        Entry::new("numeric(10,2)", "numeric(19,19)", decimal("decimal(19,19)"))
            .edges(&["0.9999999999999999999", "-0.9999999999999999999", "0", "1e-19", "'NaN'"])
            .random("(gen.bits() / 10000000000000000000.0)::numeric(19,19)"),
        Entry::new("numeric(10,2)", "numeric(38)", decimal("decimal(38,0)"))
            .edges(&[
                "99999999999999999999999999999999999999", "-99999999999999999999999999999999999999", "0", "'NaN'",
            ])
            .random("(gen.bits()::numeric * gen.bits() / 10)::numeric(38)"),
        Entry::own("numeric(5,-2)", decimal("decimal(7,0)"))
            .since(15)
            .edges(&["9999900", "-9999900", "149", "150", "0", "'NaN'"])
            .random("gen.int(-9999900, 9999900)::numeric(5,-2)"),
        Entry::own("numeric(3,5)", decimal("decimal(5,5)"))
            .since(15)
            .edges(&["0.00999", "-0.00999", "0.00001", "0", "'NaN'"])
            .random("(gen.int(-999, 999) / 100000.0)::numeric(3,5)"),
        Entry::own("numeric(50,2)", leaf("varchar"))
            .edges(&[
                "123456789012345678901234567890123456789012345678.12", "-0.01", "0", "'NaN'", "10", "9",
            ])
            .random("(gen.bits()::numeric * gen.bits() / 100)::numeric(50,2)"),
        Entry::own("numeric", leaf("varchar"))
            .edges(&[
                "'NaN'", "'Infinity'", "'-Infinity'", "0", "0.0", "'0.00000'", "-1", "1.10", "1e130", "-1e130", "1e-130",
                "10000", "9999", "0.0001", "0.00001", "100000000", "'1' || repeat('0', 1000)", "('0.' || repeat('0', 1000) || '1')",
                "('-' || repeat('9', 131072))",
            ].map(numeric_text).each_ref().map(String::as_str))
            .random("(gen.bits()::numeric * gen.bits() / power(10::numeric, gen.int(0, 30)))"),
        Entry::own("money", Shape::Leaf {
            lake: "decimal(19,2)",
            text: "pg_catalog.concat($::pg_catalog.numeric)",
            unfit: None,
        })
        .edges(&[
            "'92233720368547758.07'", "'-92233720368547758.08'", "'0'", "'0.01'", "'-0.01'", "'1234.50'", "'-1'",
        ])
        .random("(gen.bits()::text::numeric / 100)::money"),
        Entry::new("integer[]", "bigint[]", super::shape::list(leaf("int64")))
            .edges(&["'{}'", "'{1,NULL,-9223372036854775808}'"])
            .random(&array_of("gen.bits()", "bigint[]")),
    ]
}

/// An expression of a number, or of the text of one.
fn numeric_text(expression: &str) -> String {
    format!("({expression})::numeric")
}
