//! The statement that attaches a lake in DuckDB.

use crate::changes_made::quote;

/// Renders the `ATTACH` statement of DuckDB (1.5.2 or later) for a catalog.
///
/// `libpq` are keywords and values of a libpq connection string, such as `("host", "db.example")`.
/// Keywords that hold secrets (`password`, `sslpassword`) are left out: let DuckDB's process have
/// `PGPASSWORD` or a password file. The metadata schema is named unless it is `public`, which also
/// keeps DuckDB from reading the definitions of all other schemas of the database.
///
/// ```
/// use ducklake_catalog::attach_sql;
///
/// let sql = attach_sql("lake", &[("host", "db"), ("dbname", "shop")], "lake_meta");
/// assert_eq!(
///     sql,
///     "ATTACH 'ducklake:postgres:host=db dbname=shop' AS \"lake\" \
///      (METADATA_SCHEMA 'lake_meta', META_SCHEMA 'lake_meta');"
/// );
/// ```
pub fn attach_sql(alias: &str, libpq: &[(&str, &str)], metadata_schema: &str) -> String {
    let connection = libpq
        .iter()
        .filter(|(key, _)| !matches!(*key, "password" | "sslpassword"))
        .map(|(key, value)| format!("{key}={}", libpq_value(value)))
        .collect::<Vec<_>>()
        .join(" ");
    let target = literal(&format!("ducklake:postgres:{connection}"));
    let alias = quote(alias);
    if metadata_schema == "public" {
        return format!("ATTACH {target} AS {alias};");
    }
    let schema = literal(metadata_schema);
    format!("ATTACH {target} AS {alias} (METADATA_SCHEMA {schema}, META_SCHEMA {schema});")
}

/// A value of a libpq connection string (Postgres documentation, 34.1.1.1).
fn libpq_value(value: &str) -> String {
    let plain = !value.is_empty()
        && !value
            .chars()
            .any(|c| c.is_whitespace() || c == '\'' || c == '\\');
    if plain {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_twice_and_secrets_left_out() {
        let sql = attach_sql(
            "my \"lake\"",
            &[
                ("host", "/var/run/pg sql"),
                ("user", "o'neil"),
                ("password", "x"),
                ("dbname", "a\\b"),
            ],
            "public",
        );
        assert_eq!(
            sql,
            "ATTACH 'ducklake:postgres:host=''/var/run/pg sql'' user=''o\\''neil'' \
             dbname=''a\\\\b''' AS \"my \"\"lake\"\"\";"
        );
    }
}
