//! What a lake says about itself, without changing anything.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::{PgConnection, Row};

use crate::{Catalog, CatalogError, CatalogErrorKind};

/// The global entries of `ducklake_metadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LakeInfo {
    /// Format version of the catalog.
    pub version: String,
    /// Where the files are, as stored.
    pub data_path: String,
    /// Whether files are encrypted.
    pub encrypted: bool,
    /// All other global entries: `created_by` and the options set with `set_option`, such as
    /// `delete_older_than`.
    pub options: BTreeMap<String, String>,
}

impl LakeInfo {
    /// How old a file that no snapshot names must be before DuckDB's `CHECKPOINT` deletes it: the
    /// option `delete_older_than`. Zero, the careful answer, when the option cannot be understood.
    pub fn file_deletion_grace(&self) -> Duration {
        file_deletion_grace(self.options.get(DELETE_OLDER_THAN).map(String::as_str))
    }

    /// How long a file stays after it was scheduled for deletion: the option `delete_older_than`, two days without
    /// one. `None`, so that nobody deletes too early, when it cannot be understood.
    pub fn delete_older_than(&self) -> Option<Duration> {
        match self.options.get(DELETE_OLDER_THAN) {
            None => Some(DEFAULT_GRACE),
            Some(text) => parse_interval(text),
        }
    }
}

pub(crate) const DELETE_OLDER_THAN: &str = "delete_older_than";

impl Catalog {
    /// Describes the lake in the metadata schema, or `None` when there is none. Creates nothing.
    pub async fn inspect(&self) -> Result<Option<LakeInfo>, CatalogError> {
        let mut connection = self.acquire().await?;
        read(&mut connection, self.metadata_schema()).await
    }

    /// See [`LakeInfo::file_deletion_grace`]; the default of the format is two days.
    ///
    /// # Errors
    /// [`CatalogErrorKind::NoLake`] when there is no lake.
    pub async fn file_deletion_grace(&self) -> Result<Duration, CatalogError> {
        match self.inspect().await? {
            Some(info) => Ok(info.file_deletion_grace()),
            None => Err(CatalogError::new(CatalogErrorKind::NoLake, self.object())),
        }
    }

    /// Rows of each table by its id, as the catalog counts them; tables that never got a file may be missing.
    ///
    /// # Errors
    /// Errors of the database, also when there is no lake.
    pub async fn row_counts(&self) -> Result<BTreeMap<i64, u64>, CatalogError> {
        let failed = |error| CatalogError::from_sqlx(error, "the statistics of the tables");
        let mut connection = self.acquire().await?;
        let rows = sqlx::query("select table_id, record_count from ducklake_table_stats")
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let mut counts = BTreeMap::new();
        for row in rows {
            let table: i64 = row.try_get(0).map_err(failed)?;
            let rows: Option<i64> = row.try_get(1).map_err(failed)?;
            counts.insert(
                table,
                rows.and_then(|rows| u64::try_from(rows).ok())
                    .unwrap_or_default(),
            );
        }
        Ok(counts)
    }
}

pub(crate) async fn read(
    connection: &mut PgConnection,
    metadata_schema: &str,
) -> Result<Option<LakeInfo>, CatalogError> {
    let object = format!("schema {metadata_schema} of the catalog");
    let failed = |error| CatalogError::from_sqlx(error, object.clone());
    // Both ends of a lake: one without the other is no lake of ours to create or to use.
    let row = sqlx::query(
        "select count(*) filter (where relname = 'ducklake_metadata'), count(*) \
           from pg_class c join pg_namespace n on n.oid = c.relnamespace \
          where n.nspname = $1 and c.relname in ('ducklake_metadata', 'ducklake_snapshot')",
    )
    .bind(metadata_schema)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    let metadata: i64 = row.try_get(0).map_err(failed)?;
    let tables: i64 = row.try_get(1).map_err(failed)?;
    if tables == 0 {
        return Ok(None);
    }
    let invalid = |detail: &str| {
        CatalogError::new(CatalogErrorKind::InvalidCatalog, object.clone()).with_detail(detail)
    };
    if metadata == 0 || tables != 2 {
        return Err(invalid("it has some tables of a lake, but not all"));
    }
    let rows = sqlx::query("select key, value from ducklake_metadata where scope is null")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let mut entries = BTreeMap::new();
    for row in rows {
        let key: String = row.try_get(0).map_err(failed)?;
        let value: String = row.try_get(1).map_err(failed)?;
        entries.insert(key, value);
    }
    let version = entries
        .remove("version")
        .ok_or_else(|| invalid("it names no version"))?;
    let data_path = entries
        .remove("data_path")
        .ok_or_else(|| invalid("it names no data path"))?;
    let encrypted = entries
        .remove("encrypted")
        .is_some_and(|value| value != "false");
    Ok(Some(LakeInfo {
        version,
        data_path,
        encrypted,
        options: entries,
    }))
}

const DAY: u64 = 24 * 60 * 60;
const DEFAULT_GRACE: Duration = Duration::from_secs(2 * DAY);

/// Reads the option, given its stored text.
pub(crate) fn file_deletion_grace(stored: Option<&str>) -> Duration {
    match stored {
        None => DEFAULT_GRACE,
        Some(text) => parse_interval(text).unwrap_or(Duration::ZERO),
    }
}

/// Parses what DuckDB users write for an interval: `2 days`, `1 week 3 hours`, `12:30:00`. The text
/// is stored as it was given. Months count 30 days.
fn parse_interval(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.'))
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(end)?;
        if number.contains(':') {
            total = total.checked_add(parse_clock(number)?)?;
            rest = tail.trim_start();
            continue;
        }
        let tail = tail.trim_start();
        let end = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        total = total.checked_add(unit_of(unit)?.checked_mul(number.parse().ok()?)?)?;
        rest = tail.trim_start();
    }
    Some(total)
}

fn parse_clock(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    // A fraction of a second makes no difference here.
    let seconds: u64 = match parts.next() {
        Some(seconds) => seconds.split('.').next()?.parse().ok()?,
        None => 0,
    };
    if parts.next().is_some() || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = hours
        .checked_mul(3600)?
        .checked_add(minutes * 60 + seconds)?;
    Some(Duration::from_secs(seconds))
}

fn unit_of(name: &str) -> Option<Duration> {
    let seconds = match name.to_ascii_lowercase().as_str() {
        "us" | "microsecond" | "microseconds" => return Some(Duration::from_micros(1)),
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => {
            return Some(Duration::from_millis(1));
        }
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "mon" | "mons" | "month" | "months" => 30 * DAY,
        "y" | "yr" | "yrs" | "year" | "years" => 365 * DAY,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_as_users_write_them() {
        for (text, seconds) in [
            ("2 days", 2 * DAY),
            ("1 second", 1),
            ("3 weeks", 21 * DAY),
            ("1 week 3 hours", 7 * DAY + 3 * 3600),
            ("12:30:00", 12 * 3600 + 1800),
            ("1 day 00:00:01", DAY + 1),
            ("  7 DAYS ", 7 * DAY),
            ("90m", 5400),
            ("2 months", 60 * DAY),
            ("00:00:00.5", 0),
        ] {
            assert_eq!(
                parse_interval(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "days",
            "2",
            "2 moons",
            "-2 days",
            "1:99",
            "1:2:3:4",
            "99999999999999999999 days",
        ] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }

    #[test]
    fn an_unreadable_grace_is_taken_for_none() {
        assert_eq!(file_deletion_grace(None), DEFAULT_GRACE);
        assert_eq!(file_deletion_grace(Some("soon")), Duration::ZERO);
    }
}
