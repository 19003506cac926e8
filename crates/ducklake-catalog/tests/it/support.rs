//! Databases of their own, a DuckDB to run statements in, and small Parquet files.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use ducklake_catalog::sqlx::postgres::{PgConnectOptions, PgConnection};
use ducklake_catalog::sqlx::{self, Connection, Row};
use ducklake_catalog::{
    Catalog, CatalogOptions, ColumnId, DataFile, FileColumnStats, StatBounds, attach_sql,
};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// A database of its own on the scratch server, and a folder for the files of its lake.
pub(crate) struct TestDb {
    pub(crate) options: PgConnectOptions,
    pub(crate) folder: tempfile::TempDir,
    server: PgConnectOptions,
    name: String,
    duckdb: PathBuf,
    extensions: PathBuf,
}

impl TestDb {
    /// Makes a database, or says that the test is skipped.
    pub(crate) async fn create() -> Option<Self> {
        let url = variable("DUCKFEEDER_TEST_PG_URL")?;
        let duckdb = variable("DUCKFEEDER_TEST_DUCKDB")?.into();
        let extensions = variable("DUCKFEEDER_TEST_DUCKDB_EXTENSIONS")?.into();
        let server: PgConnectOptions = url.parse().expect("DUCKFEEDER_TEST_PG_URL is a URL");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = format!("ducklake_catalog_{}", uuid());
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("the server");
        execute(&mut connection, &format!("create database {name}")).await;
        connection.close().await.expect("closed");
        let options = server.clone().database(&name);
        Some(Self {
            options,
            folder,
            server,
            name,
            duckdb,
            extensions,
        })
    }

    /// The data path of the lake.
    pub(crate) fn data_path(&self) -> String {
        format!("{}/lake/", self.folder.path().display())
    }

    pub(crate) fn catalog_options(&self) -> CatalogOptions {
        CatalogOptions::new(self.options.clone())
    }

    pub(crate) async fn catalog(&self) -> Catalog {
        Catalog::connect(self.catalog_options())
            .await
            .expect("connected")
    }

    /// A catalog with a fresh lake made by us.
    pub(crate) async fn lake(&self) -> Catalog {
        let catalog = self.catalog().await;
        catalog
            .bootstrap(&self.data_path())
            .await
            .expect("bootstrapped");
        catalog
    }

    /// A connection of the test's own.
    pub(crate) async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.options)
            .await
            .expect("connected")
    }

    /// `ATTACH` for this database, as the crate renders it.
    pub(crate) fn attach(&self) -> String {
        self.attach_schema("public")
    }

    pub(crate) fn attach_schema(&self, schema: &str) -> String {
        let port = self.options.get_port().to_string();
        let host = match self.options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => self.options.get_host().to_owned(),
        };
        attach_sql(
            "lake",
            &[
                ("host", &host),
                ("port", &port),
                ("user", self.options.get_username()),
                ("dbname", self.options.get_database().expect("a database")),
            ],
            schema,
        )
    }

    /// Runs statements in a DuckDB that has attached the lake and uses it; returns what they print,
    /// one line per row, values separated by `|`.
    pub(crate) fn duck(&self, sql: &str) -> String {
        self.try_duck(sql)
            .unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    pub(crate) fn try_duck(&self, sql: &str) -> Result<String, String> {
        self.duck_raw(&format!("{} USE lake; {sql}", self.attach()))
    }

    /// A DuckDB that has attached the lake and stays so.
    pub(crate) fn session(&self) -> Session {
        // Errors go where the answers go, so that none is missed.
        let mut child = Command::new("/bin/sh")
            .args([
                "-c",
                "exec \"$0\" -unsigned -noheader -list -nullvalue NULL 2>&1",
            ])
            .arg(&self.duckdb)
            .env("HOME", self.folder.path())
            .env_remove("TZ")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("DuckDB starts");
        let answers = std::io::BufReader::new(child.stdout.take().expect("stdout"));
        let mut session = Session {
            child,
            answers,
            marks: 0,
        };
        let opened = session.run(&format!(
            "LOAD '{0}/ducklake.duckdb_extension'; LOAD '{0}/postgres_scanner.duckdb_extension'; \
             SET TimeZone = 'UTC'; {1} USE lake;",
            self.extensions.display(),
            self.attach()
        ));
        assert!(opened.is_empty(), "{opened:?}");
        session
    }

    /// Runs statements in a DuckDB that has attached nothing.
    pub(crate) fn duck_raw(&self, sql: &str) -> Result<String, String> {
        let mut child = Command::new(&self.duckdb)
            .args([
                "-unsigned",
                "-bail",
                "-noheader",
                "-list",
                "-nullvalue",
                "NULL",
            ])
            .env("HOME", self.folder.path())
            .env_remove("TZ")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("DuckDB starts");
        let extension = |name: &str| {
            format!(
                "LOAD '{}/{name}.duckdb_extension';",
                self.extensions.display()
            )
        };
        let script = format!(
            "{}{}SET TimeZone = 'UTC';\n{sql}\n",
            extension("ducklake"),
            extension("postgres_scanner")
        );
        let mut stdin = child.stdin.take().expect("stdin");
        let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
        let output = child.wait_with_output().expect("DuckDB ends");
        // A DuckDB that stops early closes its input; its own message says why.
        let _ = writer.join().expect("the writer ends");
        let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if !output.status.success() || !errors.is_empty() {
            return Err(errors);
        }
        Ok(String::from_utf8(output.stdout)
            .expect("UTF-8")
            .trim_end()
            .to_owned())
    }
}

/// A DuckDB that stays attached to the lake, statement after statement.
pub(crate) struct Session {
    child: std::process::Child,
    answers: std::io::BufReader<std::process::ChildStdout>,
    marks: u32,
}

impl Session {
    /// What the statements print, one line per row; their errors come as lines too.
    pub(crate) fn run(&mut self, sql: &str) -> Vec<String> {
        self.marks += 1;
        let mark = format!("mark {}", self.marks);
        let stdin = self.child.stdin.as_mut().expect("stdin");
        writeln!(stdin, "{sql}\n.print {mark}").expect("DuckDB reads");
        stdin.flush().expect("DuckDB reads");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).expect("DuckDB answers");
            assert!(read > 0, "DuckDB ended at {sql}: {lines:?}");
            let line = line.trim_end_matches('\n');
            if line == mark {
                return lines;
            }
            lines.push(line.to_owned());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The scratch server is shared: what a test leaves there adds up.
impl Drop for TestDb {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime is busy ending the test.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let mut connection = PgConnection::connect_with(&server).await?;
                let statement = format!("drop database {name} with (force)");
                sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
                    .execute(&mut connection)
                    .await?;
                connection.close().await
            })
        });
        if let Ok(Err(error)) = dropped.join() {
            eprintln!("the test's database stays: {error}");
        }
    }
}

fn variable(name: &str) -> Option<String> {
    if let Ok(value) = std::env::var(name) {
        return Some(value);
    }
    assert!(
        std::env::var("REQUIRE_SERVICES").as_deref() != Ok("1"),
        "{name} is not set, and REQUIRE_SERVICES=1"
    );
    eprintln!("SKIPPED: {name} is not set");
    None
}

fn uuid() -> String {
    let mut name = format!(
        "{:?}{:?}",
        std::time::SystemTime::now(),
        std::thread::current().id()
    );
    name.retain(|c| c.is_ascii_digit());
    format!("{}_{name}", std::process::id())
}

/// Runs a statement of the test's own.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The rows of a query, every value as text.
pub(crate) async fn rows(connection: &mut PgConnection, sql: &str) -> Vec<Vec<Option<String>>> {
    let wrapped = format!(
        "select array(select value from jsonb_each_text(to_jsonb(q)) \
         with ordinality o order by key) from ({sql}) q"
    );
    sqlx::query(sqlx::AssertSqlSafe(wrapped))
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// The one text column of a query.
pub(crate) async fn list(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// One value of a query, as text.
pub(crate) async fn text(connection: &mut PgConnection, sql: &str) -> String {
    let wrapped = format!("select coalesce((select t.v::text from ({sql}) t (v)), 'NULL')");
    sqlx::query_scalar(sqlx::AssertSqlSafe(wrapped))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// A column of a small Parquet file.
pub(crate) struct FileColumn {
    pub(crate) name: &'static str,
    pub(crate) id: i64,
    pub(crate) array: ArrayRef,
    pub(crate) bounds: StatBounds,
    pub(crate) contains_nan: Option<bool>,
}

impl FileColumn {
    pub(crate) fn new(name: &'static str, id: i64, array: ArrayRef, bounds: StatBounds) -> Self {
        Self {
            name,
            id,
            array,
            bounds,
            contains_nan: None,
        }
    }
}

/// Writes a Parquet file with field ids into a table's directory, and describes it.
pub(crate) fn write_file(directory: &str, name: &str, columns: &[FileColumn]) -> DataFile {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| with_id(column.name, column.array.data_type().clone(), column.id))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns
        .iter()
        .map(|column| Arc::clone(&column.array))
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("a batch");
    std::fs::create_dir_all(directory).expect("the table's directory");
    let path = Path::new(directory).join(name);
    let file = std::fs::File::create_new(&path).expect("a new file");
    // DuckDB would skip row groups with NaN by bounds that leave it out.
    let mut properties = WriterProperties::builder();
    for column in columns
        .iter()
        .filter(|column| column.contains_nan == Some(true))
    {
        properties =
            properties.set_column_statistics_enabled(column.name.into(), EnabledStatistics::None);
    }
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties.build())).expect("writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    let bytes = std::fs::read(&path).expect("read back");
    let length = bytes.len();
    let footer: [u8; 4] = bytes[length - 8..length - 4]
        .try_into()
        .expect("four bytes");
    DataFile {
        path: name.to_owned(),
        record_count: batch.num_rows() as u64,
        file_size_bytes: length as u64,
        footer_size: u64::from(u32::from_le_bytes(footer)),
        columns: columns
            .iter()
            .map(|column| FileColumnStats {
                column: ColumnId::new(column.id),
                column_size_bytes: 0,
                value_count: (column.array.len() - column.array.null_count()) as u64,
                null_count: column.array.null_count() as u64,
                contains_nan: column.contains_nan,
                bounds: column.bounds.clone(),
            })
            .collect(),
    }
}

/// A nullable Arrow field with its Parquet field id.
pub(crate) fn with_id(name: &str, ty: DataType, id: i64) -> Field {
    Field::new(name, ty, true).with_metadata([("PARQUET:field_id".to_owned(), id.to_string())])
}
