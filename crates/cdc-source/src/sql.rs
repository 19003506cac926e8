//! Quoting of identifiers and literals.

/// Quotes an identifier: `order` becomes `"order"`.
pub fn quote_ident(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}

/// Quotes a literal for SQL; a backslash yields the `E'...'` form, which means the same under
/// every `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> String {
    postgres_protocol::escape::escape_literal(text)
}

/// Quotes a literal for a replication command, whose grammar knows no `E'...'` and gives
/// backslashes no meaning (Postgres source, `repl_scanner.l`).
pub(crate) fn quote_replication_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `"schema"."name"`.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\b"), r" E'a\\b'");
        assert_eq!(quote_replication_literal(r"it's a\b"), r"'it''s a\b'");
        assert_eq!(qualified("public", "order"), r#""public"."order""#);
    }
}
