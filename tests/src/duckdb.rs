//! DuckDB as a reader of the lake: one process of its command line, kept open and fed through pipes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{Signal, Supervised},
    tools::{DuckDbTool, Tools},
};

/// How long one statement may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// Stands for NULL in the output; no test writes it as a value.
const NULL: &str = "\u{1}NULL\u{1}";

/// One value as text; `None` is NULL.
pub type Value = Option<String>;

/// What a query returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The values as DuckDB prints them.
    pub rows: Vec<Vec<Value>>,
}

/// A DuckDB session with the ducklake and Postgres extensions loaded, in UTC.
#[derive(Debug)]
pub struct DuckDb {
    stdin: ChildStdin,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    process: Supervised,
    statements: u64,
    extensions: PathBuf,
}

impl DuckDb {
    /// Starts a session with an empty database in memory.
    ///
    /// # Errors
    /// When DuckDB cannot be had or its extensions do not load.
    pub fn open() -> Result<Self> {
        Self::open_with(&Tools::locate()?.duckdb()?)
    }

    /// Starts a session of a given DuckDB.
    ///
    /// # Errors
    /// When its extensions do not load.
    pub fn open_with(tool: &DuckDbTool) -> Result<Self> {
        let mut command = Command::new(&tool.cli);
        command
            .args(["-no-init", "-csv", "-header", "-nullvalue", NULL])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Supervised::spawn(&mut command, Signal::Kill, None)?;
        let child = process.child_mut();
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = lines(child.stdout.take().context("no standard output")?);
        let stderr = lines(child.stderr.take().context("no standard error")?);
        let mut session = Self {
            stdin,
            stdout,
            stderr,
            process,
            statements: 0,
            extensions: tool.extensions.clone(),
        };
        for extension in ["postgres_scanner", "ducklake"] {
            session.load(extension)?;
        }
        session.execute("set TimeZone = 'UTC'")?;
        Ok(session)
    }

    /// Loads an extension beside those that every session has.
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn load(&mut self, extension: &str) -> Result<()> {
        let file = self
            .extensions
            .join(format!("{extension}.duckdb_extension"));
        self.execute(&format!("load {}", literal(&file.display().to_string())))
    }

    /// Runs one statement for its effect.
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).map(drop)
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn query(&mut self, sql: &str) -> Result<Rows> {
        parse_csv(&self.raw(sql)?).with_context(|| format!("in: {sql}"))
    }

    /// Runs one statement and returns its first value.
    ///
    /// # Errors
    /// What DuckDB says about it, or when there is no row.
    pub fn scalar(&mut self, sql: &str) -> Result<Value> {
        let row = self.query(sql)?.rows.into_iter().next();
        row.and_then(|row| row.into_iter().next())
            .with_context(|| format!("no row from: {sql}"))
    }

    /// Runs one statement and returns its first value, which must be a whole number.
    ///
    /// # Errors
    /// What DuckDB says about it, or when the value is something else.
    pub fn int(&mut self, sql: &str) -> Result<i64> {
        let value = self
            .scalar(sql)?
            .with_context(|| format!("NULL from: {sql}"))?;
        value
            .parse()
            .with_context(|| format!("{value:?} from: {sql}"))
    }

    /// Runs one statement and returns its result drawn as a table, for people.
    ///
    /// # Errors
    /// What DuckDB says about it.
    pub fn draw(&mut self, sql: &str) -> Result<String> {
        writeln!(self.stdin, ".mode duckbox\n.nullvalue NULL\n.maxrows 40")?;
        let drawn = self.raw(sql);
        writeln!(self.stdin, ".mode csv\n.nullvalue {NULL}")?;
        drawn
    }

    /// Sends a statement and reads what it prints. Both streams are followed up to a mark of ours, so
    /// that neither can run ahead of the other.
    fn raw(&mut self, sql: &str) -> Result<String> {
        self.statements += 1;
        let mark = format!("=== end of statement {} ===", self.statements);
        // A line comment at the end of the statement must not swallow the semicolon.
        let sent = writeln!(
            self.stdin,
            "{sql}\n;\n.print {mark:?}\nselect error({});",
            literal(&mark)
        )
        .and_then(|()| self.stdin.flush());
        if sent.is_err() {
            bail!(
                "DuckDB has ended\n{}",
                self.stderr.try_iter().collect::<String>()
            );
        }
        let deadline = Instant::now() + PATIENCE;
        let output = until(&self.stdout, &mark, deadline)?;
        let mut errors = until(&self.stderr, &mark, deadline)?;
        if let Some((before, _)) = errors.rsplit_once("Invalid Input Error") {
            errors.truncate(before.len());
        }
        if errors.trim().is_empty() {
            Ok(output)
        } else {
            bail!("{}\nin: {sql}", errors.trim())
        }
    }

    /// The process id, to measure or stop it.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// Reads lines in a thread, so that neither stream can fill its pipe while the other is waited for.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            if sender
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                break;
            }
            line.clear();
        }
    });
    receiver
}

/// Everything up to the line with the mark.
fn until(stream: &Receiver<String>, mark: &str, deadline: Instant) -> Result<String> {
    let mut text = String::new();
    loop {
        match stream.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(mark) => {
                // What stands before the mark in its line belongs to the statement.
                if let Some((before, _)) = line.split_once(mark) {
                    text.push_str(before);
                }
                return Ok(text);
            }
            Ok(line) => text.push_str(&line),
            Err(RecvTimeoutError::Timeout) => bail!("DuckDB took longer than {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("DuckDB has ended\n{text}"),
        }
    }
}

/// A text as an SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
pub fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Reads comma-separated values with quotes as DuckDB writes them; the first line names the columns.
fn parse_csv(text: &str) -> Result<Rows> {
    let mut records: Vec<Vec<Value>> = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        let mut record = Vec::new();
        loop {
            let mut field = String::new();
            if chars.next_if_eq(&'"').is_some() {
                loop {
                    match chars.next() {
                        Some('"') if chars.next_if_eq(&'"').is_some() => field.push('"'),
                        Some('"') => break,
                        Some(other) => field.push(other),
                        None => bail!("a quote is not closed"),
                    }
                }
            } else {
                while let Some(other) = chars.next_if(|c| !matches!(c, ',' | '\n' | '\r')) {
                    field.push(other);
                }
            }
            record.push((field != NULL).then_some(field));
            match chars.next() {
                Some(',') => {}
                Some('\n') | None => break,
                Some('\r') => {
                    chars.next_if_eq(&'\n');
                    break;
                }
                Some(other) => bail!("{other:?} after a closed quote"),
            }
        }
        records.push(record);
    }
    let mut records = records.into_iter();
    let columns = records
        .next()
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    Ok(Rows {
        columns,
        rows: records.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_are() -> Result<()> {
        let mut db = DuckDb::open()?;
        let rows = db.query("select 1 as a, NULL as b, '' as c, 'x,\"y\"\nz' as d -- a comment")?;
        assert_eq!(rows.columns, ["a", "b", "c", "d"]);
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(rows.rows, [[text("1"), None, text(""), text("x,\"y\"\nz")]]);
        assert_eq!(db.query("select 1 where false")?.rows.len(), 0);
        Ok(())
    }

    #[test]
    fn a_session_goes_on_after_an_error() -> Result<()> {
        let mut db = DuckDb::open()?;
        let error = db.execute("select nothing").expect_err("no such column");
        assert!(error.to_string().contains("Binder Error"), "{error}");
        db.execute("create table t as select 41 as i")?;
        assert_eq!(db.int("select i + 1 from t")?, 42);
        let error = db
            .execute("select error('mine')")
            .expect_err("an error on purpose");
        assert!(error.to_string().contains("mine"), "{error}");
        assert!(db.draw("select 42 as answer")?.contains("answer"));
        assert_eq!(db.int("select 43")?, 43);
        Ok(())
    }

    #[test]
    fn it_makes_and_reads_a_lake_in_postgres() -> Result<()> {
        let pg = crate::Postgres::start_default()?;
        pg.create_database("meta")?;
        let data = tempfile::tempdir()?;
        let mut db = DuckDb::open()?;
        db.execute(&format!(
            "attach 'ducklake:postgres:{}' as lake (data_path {})",
            pg.libpq("postgres", "meta"),
            literal(&format!("{}/", data.path().display()))
        ))?;
        db.execute("create table lake.t as select 7 as i")?;
        assert_eq!(db.int("select i from lake.t")?, 7);
        Ok(())
    }
}
