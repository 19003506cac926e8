//! Every mistake has its exact message.

use super::*;

/// A mistake in the file: text, message, remedy.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "nam = \"x\"",
        "unknown key `nam` (duckfeeder.toml:1)",
        "did you mean `name`?",
    ),
    (
        "\n\n[flush]\nmax_row = 5",
        "unknown key `flush.max_row` (duckfeeder.toml:4)",
        "did you mean `max_rows`?",
    ),
    (
        "[flsh]\nmax_rows = 5",
        "unknown key `flsh` (duckfeeder.toml:1)",
        "did you mean `flush`?",
    ),
    (
        "[flush]\nfoo = 5",
        "unknown key `flush.foo` (duckfeeder.toml:2)",
        "the keys of [flush] are interval, max_rows, max_bytes",
    ),
    (
        "interval = \"5s\"",
        "unknown key `interval` (duckfeeder.toml:1)",
        "`interval` belongs to [flush]",
    ),
    (
        "[flush]\nname = \"x\"",
        "unknown key `flush.name` (duckfeeder.toml:2)",
        "`name` belongs to the top of the file, above all sections",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\ntarget = \"c\"",
        "unknown key `tables.target` (duckfeeder.toml:3)",
        "the keys of [tables] are source, enabled, target_schema, target_table, exclude_columns, where, backfill, numeric, arrays, before_image, on_schema_change, on_drop_column, on_type_change, on_drop_table, on_drop_partition",
    ),
    (
        "[storage]\nurl = \"file:///lake\"\nregion = \"eu\"",
        "`storage.region` is a setting of S3 (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with s3://",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nanonymous = true",
        "`storage.anonymous` is a setting of Google Cloud Storage (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with gs://",
    ),
    (
        "[storage]\nurl = \"/lake\"\nendpoint = \"http://h\"",
        "`storage.endpoint` is a setting of object stores (duckfeeder.toml:3)",
        "remove it, or let `storage.url` begin with s3:// or gs://",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"",
        "`storage.access_key_id` needs `storage.secret_access_key` (duckfeeder.toml:3)",
        "set `storage.secret_access_key` too, or leave both out to use the credentials that the AWS tools find",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nsession_token = \"t\"",
        "`storage.session_token` needs `storage.access_key_id` (duckfeeder.toml:3)",
        "set `storage.access_key_id` too, or leave both out to use the credentials that the AWS tools find",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"\nsecret_access_key = \"s\"\nsecret_access_key_file = \"/f\"",
        "`storage.secret_access_key` and `storage.secret_access_key_file` are both set (duckfeeder.toml:5)",
        "keep one of the two",
    ),
    (
        "[storage]\nurl = \"s3://b\"\naccess_key_id = \"k\"\nsecret_access_key_file = \"/not/there\"",
        "`storage.secret_access_key_file`: cannot read /not/there: No such file or directory (os error 2) (duckfeeder.toml:4)",
        "name a file with the secret access key that this process may read",
    ),
    (
        "[storage]\nurl = \"gs://b\"\ncredentials_file = \"/k\"\nanonymous = true",
        "`storage.credentials_file` and `storage.anonymous` contradict each other (duckfeeder.toml:3)",
        "keep one of the two",
    ),
    (
        "[storage]\nurl = \"s3://b\"\nendpoint = \"http://key:secret@h/\"",
        "`storage.endpoint`: is no URL of a server (duckfeeder.toml:3)",
        "write http:// or https:// with host and port, such as \"http://127.0.0.1:9000\"",
    ),
    (
        "source = \"postgres://f@h/d\"",
        "`source` is a section, found text (duckfeeder.toml:1)",
        "write [source] and its keys below it: url, tls, tls_ca_file, tls_cert_file, tls_key_file, password, password_file, password_command, slot, publication, manage_publication, keyless, numeric, backfill",
    ),
    (
        "tables = \"public.*\"",
        "`tables` is a list of sections, found text (duckfeeder.toml:1)",
        "write [[tables]] and below it source = \"schema.table\", once for each entry",
    ),
    (
        "tables = [\"public.*\"]",
        "`tables` is a list of sections, found a list (duckfeeder.toml:1)",
        "write [[tables]] and below it source = \"schema.table\", once for each entry",
    ),
    (
        "enabled = \"false\"",
        "`enabled`: expected true or false, found text (duckfeeder.toml:1)",
        "write true or false",
    ),
    (
        "name = 5",
        "`name`: expected text, found a whole number (duckfeeder.toml:1)",
        "write it in quotes",
    ),
    (
        "name = \"Shop!\"",
        "`name`: `Shop!` is not a feeder name (duckfeeder.toml:1)",
        "use 1 to 40 characters of a-z, 0-9 and _",
    ),
    (
        "name = \" \"",
        "`name`: must not be empty (duckfeeder.toml:1)",
        "give it a value, or remove it",
    ),
    (
        "[flush]\nmax_rows = true",
        "`flush.max_rows`: expected a whole number, found a boolean (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = 1.5",
        "`flush.max_rows`: expected a whole number, found a number with a fraction (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = 0",
        "`flush.max_rows`: not a whole number from 1 (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = -5",
        "`flush.max_rows`: not a whole number from 1 (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\nmax_rows = \"5\"",
        "`flush.max_rows`: expected a whole number, found text (duckfeeder.toml:2)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "[flush]\ninterval = 5",
        "`flush.interval`: expected a duration, found a whole number (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[flush]\ninterval = \"5\"",
        "`flush.interval`: `5` is not a duration (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[flush]\ninterval = \"0s\"",
        "`flush.interval`: must be above zero (duckfeeder.toml:2)",
        "write a duration with its unit, such as \"5s\", \"500ms\" or \"2m\"",
    ),
    (
        "[limits]\nmemory = \"lots\"",
        "`limits.memory`: `lots` is not a size (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[limits]\nmemory = 0",
        "`limits.memory`: must be above zero (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[limits]\nmemory = 2024-01-01",
        "`limits.memory`: expected a size, found a date or time (duckfeeder.toml:2)",
        "write a size such as \"256MiB\" or \"1GB\", or a number of bytes",
    ),
    (
        "[maintenance]\ninterval = \"10ms\"",
        "`maintenance.interval`: must not be below 1s (duckfeeder.toml:2)",
        "write \"1s\" or more",
    ),
    (
        "[maintenance]\ngrace = \"59m\"",
        "`maintenance.grace`: must not be below 1h (duckfeeder.toml:2)",
        "write \"1h\" or more",
    ),
    (
        "[limits]\ncopy_workers = 65",
        "`limits.copy_workers`: must not be above 64 (duckfeeder.toml:2)",
        "write a whole number from 1 to 64",
    ),
    (
        "[server]\nlisten = \"9187\"",
        "`server.listen`: `9187` is not an address with a port (duckfeeder.toml:2)",
        "write an IP address and a port, such as \"127.0.0.1:9187\" or \"[::]:9187\"",
    ),
    (
        "[policy]\non_table_error = \"stop\"",
        "`policy.on_table_error`: unknown value `stop` (duckfeeder.toml:2)",
        "write \"isolate\" or \"hold\"",
    ),
    (
        "[[tables]]\nsource = \"orders\"",
        "`tables.source`: `orders` names no schema (duckfeeder.toml:2)",
        "write schema.table, such as \"public.orders\" or \"public.*\"",
    ),
    (
        "\n[[tables]]\nenabled = true",
        "`tables.source` is missing (duckfeeder.toml:2)",
        "write source = \"schema.table\" in this [[tables]] entry",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nexclude_columns = \"c\"",
        "`tables.exclude_columns`: expected a list of texts, found text (duckfeeder.toml:3)",
        "write a list such as [\"a\", \"b\"]",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nexclude_columns = [5]",
        "`tables.exclude_columns`: expected text, found a whole number (duckfeeder.toml:3)",
        "write it in quotes",
    ),
    (
        "[[tables]]\nsource = \"a.b\"\nnumeric = { price = \"decimal(39,9)\" }",
        "`tables.numeric`: column `price`: unknown value `decimal(39,9)` (duckfeeder.toml:3)",
        "write \"varchar\", \"float64\" or \"decimal(p,s)\" with p from 1 to 38 and s from 0 to p",
    ),
    (
        "name = shop",
        "duckfeeder.toml is not TOML: string values must be quoted, expected literal string (duckfeeder.toml:1)",
        "correct the line; text is written in quotes",
    ),
];

/// A mistake in `[source]`, below what is minimal.
const SOURCE_MISTAKES: &[(&str, &str, &str)] = &[
    (
        "keyless = \"skip\"",
        "`source.keyless`: unknown value `skip` (duckfeeder.toml:3)",
        "write \"auto\", \"refuse\" or \"inserts\"",
    ),
    (
        "numeric = \"decimal(5,6)\"",
        "`source.numeric`: unknown value `decimal(5,6)` (duckfeeder.toml:3)",
        "write \"varchar\", \"float64\" or \"decimal(p,s)\" with p from 1 to 38 and s from 0 to p",
    ),
    (
        "slot = \"Shop\"",
        "`source.slot`: `Shop` is not a slot name (duckfeeder.toml:3)",
        "use 1 to 63 characters of a-z, 0-9 and _",
    ),
    (
        "tls_key_file = \"/k\"",
        "`source.tls_key_file` needs `source.tls_cert_file` (duckfeeder.toml:3)",
        "set `source.tls_cert_file` too",
    ),
    (
        "password = \"a\"\npassword_file = \"/b\"",
        "`source.password_file` and `source.password` are both set (duckfeeder.toml:4)",
        "keep one of the two",
    ),
    (
        "slto = \"shop\"",
        "unknown key `source.slto` (duckfeeder.toml:3)",
        "did you mean `slot`?",
    ),
];

#[test]
fn mistakes_in_the_file_are_named_with_place_and_remedy() {
    let source = [("DUCKFEEDER_SOURCE_URL", "postgres://feeder@localhost/shop")];
    let check = |text: &str, message: &str, remedy: &str| {
        let error = settings(text, &source)
            .err()
            .unwrap_or_else(|| panic!("no error: {text}"));
        assert_eq!(
            (error.to_string().as_str(), error.remedy()),
            (message, remedy),
            "{text}"
        );
    };
    for (text, message, remedy) in MISTAKES {
        check(text, message, remedy);
    }
    for (text, message, remedy) in SOURCE_MISTAKES {
        check(&format!("{MINIMAL}{text}\n"), message, remedy);
    }
}

/// A mistake in the environment: name, value, message, remedy.
const VARIABLE_MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "DUCKFEEDER_SOURCE_ULR",
        "x",
        "unknown environment variable DUCKFEEDER_SOURCE_ULR",
        "did you mean DUCKFEEDER_SOURCE__URL?",
    ),
    (
        "DUCKFEEDER_STORAGE",
        "x",
        "unknown environment variable DUCKFEEDER_STORAGE",
        "did you mean DUCKFEEDER_STORAGE__URL?",
    ),
    (
        "DUCKFEEDER_FLUSH__MAXROWS",
        "5",
        "unknown environment variable DUCKFEEDER_FLUSH__MAXROWS",
        "did you mean DUCKFEEDER_FLUSH__MAX_ROWS?",
    ),
    (
        "DUCKFEEDER_TABLE",
        "a.b",
        "unknown environment variable DUCKFEEDER_TABLE",
        "did you mean DUCKFEEDER_TABLES?",
    ),
    (
        "DUCKFEEDER_COLOUR",
        "x",
        "unknown environment variable DUCKFEEDER_COLOUR",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
    (
        "DUCKFEEDER_COLOUR",
        "",
        "unknown environment variable DUCKFEEDER_COLOUR",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
    (
        "DUCKFEEDER_FLUSH__MAX_ROWS",
        "many",
        "`flush.max_rows`: not a whole number from 1 (environment variable DUCKFEEDER_FLUSH__MAX_ROWS)",
        "write a whole number from 1, such as 1_000_000",
    ),
    (
        "DUCKFEEDER_ENABLED",
        "yes",
        "`enabled`: `yes` is neither true nor false (environment variable DUCKFEEDER_ENABLED)",
        "write true or false",
    ),
    (
        "DUCKFEEDER_TABLES",
        "orders",
        "`tables.source`: `orders` names no schema (environment variable DUCKFEEDER_TABLES)",
        "write schema.table, such as \"public.orders\" or \"public.*\"",
    ),
    (
        "DUCKFEEDER_SOURCE_URL",
        "mysql://f:hunter2@h/d",
        "`source.url`: connection url must begin with postgres:// or postgresql:// (environment variable DUCKFEEDER_SOURCE_URL)",
        "write postgres://user@host:5432/database?sslmode=verify-full, with what is special in a URL percent-encoded",
    ),
    (
        "DUCKFEEDER_SOURCE_URL_FILE",
        "/nonexistent/url",
        "`source.url`: the file /nonexistent/url cannot be read (environment variable DUCKFEEDER_SOURCE_URL_FILE)",
        "let DUCKFEEDER_SOURCE_URL_FILE name a readable file that holds the value",
    ),
    (
        "DUCKFEEDER_FLUSH__INTERVAL_FILE",
        "/x",
        "unknown environment variable DUCKFEEDER_FLUSH__INTERVAL_FILE",
        "unset it; the variables are DUCKFEEDER_<SECTION>__<KEY>, such as DUCKFEEDER_SOURCE__URL",
    ),
];

#[test]
fn mistakes_in_the_environment_are_named_with_remedy() {
    for (name, value, message, remedy) in VARIABLE_MISTAKES {
        let error = settings(MINIMAL, &[(name, value)]).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.remedy()),
            (*message, *remedy),
            "{name}"
        );
    }
    let twice = [
        ("DUCKFEEDER_SOURCE_URL", "a"),
        ("DUCKFEEDER_SOURCE__URL", "b"),
    ];
    assert_eq!(
        settings("", &twice).unwrap_err().to_string(),
        "`source.url` is set twice, the other time by environment variable DUCKFEEDER_SOURCE_URL \
         (environment variable DUCKFEEDER_SOURCE__URL)"
    );
}

#[test]
fn what_is_missing_is_named_with_every_way_to_give_it() {
    let error = settings("", &[]).unwrap_err();
    assert_eq!(error.to_string(), "`source.url` is missing");
    assert_eq!(
        error.remedy(),
        "set `source.url` in the configuration file or the environment variable DUCKFEEDER_SOURCE__URL, or give --source"
    );
}
