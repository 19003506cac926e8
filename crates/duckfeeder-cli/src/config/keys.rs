//! Every key there is: name, type, default, meaning. The file, the environment, `config show`,
//! `init` and the page docs/configuration.md all come from this one list.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use duckfeeder::config::{
    ArrayMapping, BackfillMode, FeederName, KeylessPolicy, NumericMapping, OnDropColumn,
    OnDropPartition, OnDropTable, OnSchemaChange, OnTableError, OnTypeChange, OnUnrepresentable,
};
use duckfeeder::config::{PublicationName, SlotName, TlsMode};
use duckfeeder::storage::CreateOnly;

use super::parse::{self, Problem};
use super::raw::Raw;

/// What the name of every environment variable begins with.
pub(crate) const PREFIX: &str = "DUCKFEEDER_";

/// What holds when a key is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// This value, written as in the environment.
    Value(&'static str),
    /// Something that depends on other keys, in words.
    Derived(&'static str),
    /// The key has to be given.
    Required,
    /// Nothing.
    Absent,
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Secrecy {
    /// Anybody may see it.
    Open,
    /// A URL that may hold a password.
    Url,
    /// Nobody may see it.
    Secret,
}

/// What is known of a key without knowing its type.
#[derive(Debug)]
pub(crate) struct Spec {
    /// `section.key`.
    pub(crate) path: &'static str,
    /// Its type, in words.
    pub(crate) kind: &'static str,
    /// Its default.
    pub(crate) default: Fallback,
    /// Whether it may be shown.
    pub(crate) secrecy: Secrecy,
    /// What it means.
    pub(crate) meaning: &'static str,
}

impl Spec {
    /// The section, or `""` at the top.
    pub(crate) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside its section.
    pub(crate) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// The environment variable, if the key has one: keys of `[[tables]]` have none.
    pub(crate) fn environment(&self) -> Option<String> {
        (self.section() != "tables").then(|| environment_name(self.path))
    }
}

/// The environment variable of a key: its path in capitals, `__` for the dot.
pub(crate) fn environment_name(path: &str) -> String {
    format!("{PREFIX}{}", path.to_ascii_uppercase().replace('.', "__"))
}

/// A key and the type of its value.
pub(crate) struct Key<T> {
    /// What it is called and what it means.
    pub(crate) spec: Spec,
    /// Reads a value.
    pub(crate) parse: fn(&Raw) -> Result<T, Problem>,
}

macro_rules! keys {
    ($($constant:ident: $type:ty = $path:literal, $kind:literal, $default:expr, $secrecy:expr, $parse:expr, $meaning:literal;)*) => {
        $(
            #[doc = $meaning]
            pub(crate) static $constant: Key<$type> = Key {
                spec: Spec {
                    path: $path,
                    kind: $kind,
                    default: $default,
                    secrecy: $secrecy,
                    meaning: $meaning,
                },
                parse: $parse,
            };
        )*
        /// All keys, in the order in which they are shown.
        pub(crate) static ALL: &[&Spec] = &[$(&$constant.spec),*];
    };
}

use Fallback::{Absent, Derived, Required, Value};
use Secrecy::{Open, Secret, Url};

keys! {
    NAME: FeederName = "name", "name", Value("default"), Open, parse::feeder_name,
        "The feeder's name: 1 to 40 of a-z, 0-9 and _. Its row in the control tables, and the default of slot and publication. Give every feeder of one Postgres cluster or of one lake its own";
    ENABLED: bool = "enabled", "boolean", Value("true"), Open, parse::boolean,
        "False: `run` starts, says so and does nothing until it is stopped";

    SOURCE_URL: String = "source.url", "URL", Required, Url, parse::text,
        "The database whose changes are fed, in libpq's form: several hosts, sslmode, sslrootcert and Unix sockets included. Direct, not through a transaction pooler";
    SOURCE_TLS: TlsMode = "source.tls", "choice", Derived("the URL's sslmode; else verify-full, and prefer on loopback and Unix sockets"), Open, parse::tls,
        "disable, prefer, require, verify-ca or verify-full";
    SOURCE_TLS_CA_FILE: PathBuf = "source.tls_ca_file", "path", Derived("the system's certificates"), Open, parse::path,
        "Certificates (PEM) that may sign the server's";
    SOURCE_TLS_CERT_FILE: PathBuf = "source.tls_cert_file", "path", Absent, Open, parse::path,
        "Client certificate (PEM); needs tls_key_file";
    SOURCE_TLS_KEY_FILE: PathBuf = "source.tls_key_file", "path", Absent, Open, parse::path,
        "Key (PEM) of the client certificate";
    SOURCE_PASSWORD: String = "source.password", "text", Derived("the URL's, else ~/.pgpass"), Secret, parse::text,
        "The password; better kept in a file or in the environment";
    SOURCE_PASSWORD_FILE: PathBuf = "source.password_file", "path", Absent, Open, parse::path,
        "A file with the password, read for every connection";
    SOURCE_PASSWORD_COMMAND: String = "source.password_command", "text", Absent, Secret, parse::text,
        "A shell command that prints the password, run for every connection: for tokens that expire";
    SOURCE_SLOT: SlotName = "source.slot", "name", Derived("duckfeeder_<name>"), Open, parse::slot,
        "The replication slot; made when it is missing";
    SOURCE_PUBLICATION: PublicationName = "source.publication", "name", Derived("duckfeeder_<name>"), Open, parse::publication,
        "The publication. Tables without a replica identity go into a second one with `_ins` appended";
    SOURCE_MANAGE_PUBLICATION: bool = "source.manage_publication", "boolean", Value("true"), Open, parse::boolean,
        "False: the publication is made by somebody else; it is compared with the tables, and what is missing is said";
    SOURCE_KEYLESS: KeylessPolicy = "source.keyless", "choice", Value("auto"), Open, parse::keyless,
        "Tables without a replica identity. auto: published for inserts and truncates while they see no update or delete; refuse: an error; inserts: published for inserts and truncates whatever happens";
    SOURCE_NUMERIC: NumericMapping = "source.numeric", "choice", Value("varchar"), Open, parse::numeric,
        "How numeric without a precision is stored: varchar, decimal(p,s) or float64";
    SOURCE_BACKFILL: BackfillMode = "source.backfill", "choice", Value("initial"), Open, parse::backfill,
        "Existing rows. initial: copied once, before a table counts as streaming; never: not copied";

    TABLES_SOURCE: String = "tables.source", "pattern", Required, Open, parse::table_pattern,
        "`schema.table`, with the globs * and ?. An exact name beats a glob, a later entry beats an earlier one";
    TABLES_ENABLED: bool = "tables.enabled", "boolean", Value("true"), Open, parse::boolean,
        "False: matching tables are left out";
    TABLES_TARGET_SCHEMA: String = "tables.target_schema", "text", Value("raw"), Open, parse::text,
        "Schema in the lake";
    TABLES_TARGET_TABLE: String = "tables.target_table", "text", Derived("the source table's name"), Open, parse::text,
        "Table in the lake";
    TABLES_EXCLUDE_COLUMNS: Vec<String> = "tables.exclude_columns", "list", Absent, Open, parse::list,
        "Columns kept out of publication (Postgres 15+), copy and lake";
    TABLES_WHERE: String = "tables.where", "text", Absent, Open, parse::text,
        "Row filter, in publication (Postgres 15+) and copy";
    TABLES_BACKFILL: BackfillMode = "tables.backfill", "choice", Derived("source.backfill"), Open, parse::backfill,
        "As source.backfill, for these tables";
    TABLES_NUMERIC: BTreeMap<String, NumericMapping> = "tables.numeric", "table", Absent, Open, parse::numeric_columns,
        "As source.numeric, per column: { price = \"decimal(38,9)\" }";
    TABLES_ARRAYS: BTreeMap<String, ArrayMapping> = "tables.arrays", "table", Absent, Open, parse::array_columns,
        "How array columns are stored: { matrix = \"json\" }, or \"list\"; json by itself where several dimensions are declared";
    TABLES_BEFORE_IMAGE: bool = "tables.before_image", "boolean", Value("false"), Open, parse::boolean,
        "True: updates and deletes carry the old values that the server sends, in `_df_before`";
    TABLES_ON_SCHEMA_CHANGE: OnSchemaChange = "tables.on_schema_change", "choice", Derived("policy.on_schema_change"), Open, parse::on_schema_change,
        "As policy.on_schema_change, for these tables";
    TABLES_ON_DROP_COLUMN: OnDropColumn = "tables.on_drop_column", "choice", Derived("policy.on_drop_column"), Open, parse::on_drop_column,
        "As policy.on_drop_column, for these tables";
    TABLES_ON_TYPE_CHANGE: OnTypeChange = "tables.on_type_change", "choice", Derived("policy.on_type_change"), Open, parse::on_type_change,
        "As policy.on_type_change, for these tables";
    TABLES_ON_DROP_TABLE: OnDropTable = "tables.on_drop_table", "choice", Derived("policy.on_drop_table"), Open, parse::on_drop_table,
        "As policy.on_drop_table, for these tables";
    TABLES_ON_DROP_PARTITION: OnDropPartition = "tables.on_drop_partition", "choice", Derived("policy.on_drop_partition"), Open, parse::on_drop_partition,
        "As policy.on_drop_partition, for these tables";

    CATALOG_URL: String = "catalog.url", "URL", Derived("the source's, with its other keys"), Url, parse::text,
        "The Postgres database that holds the lake's metadata";
    CATALOG_TLS: TlsMode = "catalog.tls", "choice", Derived("as in [source]"), Open, parse::tls,
        "disable, prefer, require, verify-ca or verify-full";
    CATALOG_TLS_CA_FILE: PathBuf = "catalog.tls_ca_file", "path", Derived("the system's certificates"), Open, parse::path,
        "Certificates (PEM) that may sign the server's";
    CATALOG_TLS_CERT_FILE: PathBuf = "catalog.tls_cert_file", "path", Absent, Open, parse::path,
        "Client certificate (PEM); needs tls_key_file";
    CATALOG_TLS_KEY_FILE: PathBuf = "catalog.tls_key_file", "path", Absent, Open, parse::path,
        "Key (PEM) of the client certificate";
    CATALOG_PASSWORD: String = "catalog.password", "text", Derived("the URL's, else ~/.pgpass"), Secret, parse::text,
        "The password; better kept in a file or in the environment";
    CATALOG_PASSWORD_FILE: PathBuf = "catalog.password_file", "path", Absent, Open, parse::path,
        "A file with the password, read for every connection";
    CATALOG_PASSWORD_COMMAND: String = "catalog.password_command", "text", Absent, Secret, parse::text,
        "A shell command that prints the password, run for every connection: for tokens that expire";
    CATALOG_METADATA_SCHEMA: String = "catalog.metadata_schema", "text", Value("public"), Open, parse::text,
        "Schema of the `ducklake_*` tables";
    CATALOG_MIGRATE: bool = "catalog.migrate", "boolean", Value("true"), Open, parse::boolean,
        "False: the control tables are not made at start; `duckfeeder migrate`, or what its --print prints, makes them";

    STORAGE_URL: String = "storage.url", "URL", Required, Url, parse::text,
        "Where the Parquet files go: s3://bucket/prefix, gs://bucket/prefix, or file:///absolute/path";
    STORAGE_ENDPOINT: String = "storage.endpoint", "URL", Derived("the vendor's"), Open, parse::endpoint,
        "S3 and GCS: http:// or https:// URL of another store that speaks the protocol, or of a private endpoint";
    STORAGE_REGION: String = "storage.region", "text", Derived("the environment's or the profile's; us-east-1 with an endpoint"), Open, parse::text,
        "S3: region of the bucket";
    STORAGE_PATH_STYLE: bool = "storage.path_style", "boolean", Derived("true with an endpoint, else false"), Open, parse::boolean,
        "S3: whether the bucket stands in the path of a request, not in the host name";
    STORAGE_PROFILE: String = "storage.profile", "text", Derived("AWS_PROFILE, else default"), Open, parse::text,
        "S3: profile of the shared configuration files";
    STORAGE_ACCESS_KEY_ID: String = "storage.access_key_id", "text", Derived("the credential chain of the AWS tools: environment, profile, web identity, container, instance"), Open, parse::text,
        "S3: access key; needs a secret access key";
    STORAGE_SECRET_ACCESS_KEY: String = "storage.secret_access_key", "text", Absent, Secret, parse::text,
        "S3: secret of the access key; better kept in a file or in the environment";
    STORAGE_SECRET_ACCESS_KEY_FILE: PathBuf = "storage.secret_access_key_file", "path", Absent, Open, parse::path,
        "S3: a file with that secret, read at the start";
    STORAGE_SESSION_TOKEN: String = "storage.session_token", "text", Absent, Secret, parse::text,
        "S3: token of a temporary access key. It is not renewed: prefer what the credential chain finds";
    STORAGE_CREATE_ONLY: CreateOnly = "storage.create_only", "choice", Value("conditional"), Open, parse::create_only,
        "S3: how an object is kept from being replaced. conditional: by If-None-Match; head: by looking first, for stores that lack that";
    STORAGE_CREDENTIALS_FILE: PathBuf = "storage.credentials_file", "path", Derived("the application default credentials"), Open, parse::path,
        "GCS: key of a service account, or configuration of a workload identity";
    STORAGE_ANONYMOUS: bool = "storage.anonymous", "boolean", Value("false"), Open, parse::boolean,
        "GCS: no credentials at all, for emulators";

    POLICY_ON_TABLE_ERROR: OnTableError = "policy.on_table_error", "choice", Value("isolate"), Open, parse::on_table_error,
        "An error that only one table has. isolate: it goes to state `error` and the others go on, `resync` is the way out; hold: everything waits";
    POLICY_ON_UNREPRESENTABLE: OnUnrepresentable = "policy.on_unrepresentable", "choice", Value("null"), Open, parse::on_unrepresentable,
        "A value that the lake's type cannot hold. null: the cell becomes NULL, and the exact text goes to `_df_dead_letters`; stop: an error of its table";
    POLICY_ON_SCHEMA_CHANGE: OnSchemaChange = "policy.on_schema_change", "choice", Value("follow"), Open, parse::on_schema_change,
        "DDL at the source. follow: the lake follows; additive_only: new columns are followed, anything else is an error of its table; stop: any change is";
    POLICY_ON_DROP_COLUMN: OnDropColumn = "policy.on_drop_column", "choice", Value("keep"), Open, parse::on_drop_column,
        "A column that was dropped at the source. keep: it stays in the lake, NULL in new rows; drop: it is dropped, and earlier snapshots still have it";
    POLICY_ON_TYPE_CHANGE: OnTypeChange = "policy.on_type_change", "choice", Value("new_column"), Open, parse::on_type_change,
        "A column's new type that its lake column cannot become. new_column: the old one is kept under another name, a new one begins and the table is copied again; stop: an error of its table";
    POLICY_ON_DROP_TABLE: OnDropTable = "policy.on_drop_table", "choice", Value("keep"), Open, parse::on_drop_table,
        "A table that was dropped at the source. keep: its lake table stays with all its history; drop: it is dropped, and earlier snapshots still have it";
    POLICY_ON_DROP_PARTITION: OnDropPartition = "policy.on_drop_partition", "choice", Value("stop"), Open, parse::on_drop_partition,
        "A partition that was detached or dropped at the source. stop: an error of its table; keep: the lake keeps its rows as they were, until the table is copied again for another reason; resync: the table is copied again";

    FLUSH_INTERVAL: Duration = "flush.interval", "duration", Value("5s"), Open, parse::duration,
        "A commit at the latest this long after the first row that waits for it";
    FLUSH_MAX_ROWS: u64 = "flush.max_rows", "count", Value("1_000_000"), Open, parse::count,
        "A commit at the latest after this many rows, all tables together";
    FLUSH_MAX_BYTES: u64 = "flush.max_bytes", "size", Value("256MiB"), Open, parse::size,
        "A commit at the latest after this many bytes of rows, all tables together";

    LIMITS_MEMORY: u64 = "limits.memory", "size", Value("512MiB"), Open, parse::size,
        "Budget for rows that are buffered or being encoded; above it the feeder reads no further";
    LIMITS_MAX_LAG_BYTES: u64 = "limits.max_lag_bytes", "size", Value("10GiB"), Open, parse::size,
        "With more WAL than this waiting, the feeder calls itself unhealthy";
    LIMITS_SHUTDOWN_TIMEOUT: Duration = "limits.shutdown_timeout", "duration", Value("30s"), Open, parse::duration,
        "How long a stop waits for the last commit; nothing is lost when it takes longer";
    LIMITS_COPY_WORKERS: usize = "limits.copy_workers", "count", Value("2"), Open, parse::workers,
        "Parallel connections of a first copy, 1 to 64";

    MAINTENANCE_INTERVAL: Option<Duration> = "maintenance.interval", "duration", Value("1h"), Open, parse::interval,
        "How often `run` removes what was left behind: files that no commit named, and what the lake schedules for deletion. off: never; `duckfeeder maintain` does it by hand";
    MAINTENANCE_GRACE: Duration = "maintenance.grace", "duration", Value("1d"), Open, parse::grace,
        "How old something must be that nothing names before it is removed; at least 1h, and longer than the longest commit";

    SERVER_LISTEN: SocketAddr = "server.listen", "address", Absent, Open, parse::address,
        "Address of /healthz, /readyz, /status and /metrics; off when absent";
}

/// The key of a path.
pub(crate) fn find(path: &str) -> Option<&'static Spec> {
    ALL.iter().copied().find(|spec| spec.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_and_both_spellings_of_the_environment_are_unique() {
        let paths: BTreeSet<_> = ALL.iter().map(|spec| spec.path).collect();
        assert_eq!(paths.len(), ALL.len());
        let short: BTreeSet<_> = ALL
            .iter()
            .filter_map(|spec| spec.environment())
            .map(|name| name.replace("__", "_"))
            .collect();
        let long = ALL
            .iter()
            .filter(|spec| spec.environment().is_some())
            .count();
        assert_eq!(short.len(), long);
        assert!(!short.contains("DUCKFEEDER_TABLES"));
    }
}
