//! Copy sessions: COPY of tables under an exported snapshot, in ranges of pages.

use std::num::NonZeroU32;

use pgoutput::Oid;

use crate::connection::{Connection, CopyOut};
use crate::error::{SourceError, SourceErrorKind};
use crate::shape::{self, TableShape};
use crate::sql::{qualified, quote_literal};

/// A range of pages of one relation. The first page is included; the end is not, and the last
/// range has none, since a relation grows while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CtidRange {
    /// The first page.
    pub first_page: u32,
    /// The page after the last; `None` for all that follow.
    pub end_page: Option<u32>,
}

/// Cuts a relation of `pages` pages into ranges of `pages_per_range`. There is always one, and the
/// last is open-ended.
pub fn ctid_ranges(pages: u32, pages_per_range: NonZeroU32) -> Vec<CtidRange> {
    let mut ranges = Vec::new();
    let mut first_page = 0;
    while let Some(end_page) =
        u32::checked_add(first_page, pages_per_range.get()).filter(|end| *end < pages)
    {
        ranges.push(CtidRange {
            first_page,
            end_page: Some(end_page),
        });
        first_page = end_page;
    }
    ranges.push(CtidRange {
        first_page,
        end_page: None,
    });
    ranges
}

/// Renders the COPY of a range of one relation (a table without partitions, or a leaf) in binary
/// format. `expressions` are SQL: quoted columns, casts to text. `filter` is an SQL condition, taken
/// as it is. Without a range the whole relation is read, which also works where there are no pages.
pub fn render_copy(
    schema: &str,
    name: &str,
    expressions: &[String],
    range: Option<CtidRange>,
    filter: Option<&str>,
) -> String {
    let mut conditions = Vec::new();
    if let Some(range) = range {
        if range.first_page > 0 {
            conditions.push(format!("ctid >= '({},0)'", range.first_page));
        }
        if let Some(end) = range.end_page {
            conditions.push(format!("ctid < '({end},0)'"));
        }
    }
    if let Some(filter) = filter {
        // The line break ends a comment at the end of the condition.
        conditions.push(format!("({filter}\n)"));
    }
    let conditions = if conditions.is_empty() {
        String::new()
    } else {
        format!(" where {}", conditions.join(" and "))
    };
    format!(
        "copy (select {} from only {}{conditions}) to stdout (format binary)",
        expressions.join(", "),
        qualified(schema, name)
    )
}

/// A read-only transaction under an exported snapshot. Row-level security that would hide rows is
/// an error in it.
#[derive(Debug)]
pub struct CopySession {
    connection: Connection,
}

impl CopySession {
    /// Begins the transaction and takes over the snapshot.
    ///
    /// # Errors
    /// [`SourceErrorKind::SnapshotGone`] when the session that exported it is gone.
    pub async fn begin(mut connection: Connection, snapshot: &str) -> Result<Self, SourceError> {
        // Before the transaction: inside it the snapshot has to come first.
        connection.execute("set row_security = off").await?;
        connection
            .execute("begin isolation level repeatable read read only")
            .await?;
        connection
            .execute(&format!(
                "set transaction snapshot {}",
                quote_literal(snapshot)
            ))
            .await
            .map_err(|error| match error.sqlstate() {
                // A malformed or unknown name; "snapshot does not exist" since Postgres 18.
                Some("22023" | "42704") => error
                    .with_kind(SourceErrorKind::SnapshotGone, false)
                    .about(format!("snapshot \"{snapshot}\"")),
                _ => error.about(format!("snapshot \"{snapshot}\"")),
            })?;
        Ok(Self { connection })
    }

    /// `LOCK TABLE ... IN ACCESS SHARE MODE`, partitions included: no DDL until the transaction
    /// ends. Waits for DDL that is running.
    ///
    /// # Errors
    /// The table does not exist any more, or the role may not read it. The transaction has failed
    /// then.
    pub async fn lock_table(&mut self, schema: &str, name: &str) -> Result<(), SourceError> {
        let table = qualified(schema, name);
        self.connection
            .execute(&format!("lock table {table} in access share mode"))
            .await
            .map_err(|error| error.about(format!("table {table}")))
    }

    /// The shape of a table as the snapshot shows it; `None` when the snapshot has no such table.
    /// Lock it first, then compare with [`shape::read`] on a session of its own.
    pub async fn shape(&mut self, oid: Oid) -> Result<Option<TableShape>, SourceError> {
        Ok(shape::read(&mut self.connection, &[oid])
            .await?
            .remove(&oid))
    }

    /// Exports the snapshot again, so that it lives as long as this session, and the one that made
    /// the slot may go on.
    pub async fn export_snapshot(&mut self) -> Result<String, SourceError> {
        let row = self
            .connection
            .query_one("select pg_catalog.pg_export_snapshot() as snapshot")
            .await?;
        Ok(row.text("snapshot")?.to_owned())
    }

    /// The pages of a relation now, for [`ctid_ranges`].
    pub async fn pages(&mut self, relation: Oid) -> Result<u32, SourceError> {
        let row = self
            .connection
            .query_one(&format!(
                "select coalesce(pg_catalog.pg_relation_size({relation}) \
                 / pg_catalog.current_setting('block_size')::pg_catalog.int8, 0) as pages"
            ))
            .await?;
        row.parse("pages")
    }

    /// Starts a COPY, see [`render_copy`].
    ///
    /// # Errors
    /// [`SourceErrorKind::Privilege`] also when row-level security would hide rows. The transaction
    /// has failed after any error.
    pub async fn copy(&mut self, sql: &str) -> Result<CopyOut<'_>, SourceError> {
        self.connection.copy_out(sql).await
    }

    /// The session, for looking around under the snapshot.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Ends the transaction and gives the connection back.
    pub async fn end(mut self) -> Result<Connection, SourceError> {
        self.connection.execute("rollback").await?;
        self.connection.execute("reset row_security").await?;
        Ok(self.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pages: u32, per_range: u32) -> Vec<CtidRange> {
        ctid_ranges(pages, NonZeroU32::new(per_range).unwrap())
    }

    /// Every page in exactly one range, in order, and no end to the last.
    #[test]
    fn ranges_cover_every_page_once() {
        for pages in (0..70).chain([1_000, u32::MAX - 1, u32::MAX]) {
            for per_range in (1..9).chain([64, 131_072, u32::MAX]) {
                if u64::from(pages) / u64::from(per_range) > 100_000 {
                    continue;
                }
                let ranges = cut(pages, per_range);
                let mut next = 0;
                for (index, range) in ranges.iter().enumerate() {
                    assert_eq!(range.first_page, next, "{pages}/{per_range}");
                    match range.end_page {
                        Some(end) => {
                            assert!(end > range.first_page && end < pages);
                            assert_eq!(end - range.first_page, per_range);
                            next = end;
                        }
                        None => assert_eq!(index, ranges.len() - 1, "only the last is open"),
                    }
                }
                assert_eq!(ranges.last().unwrap().end_page, None);
                assert!(
                    pages.saturating_sub(next) <= per_range,
                    "the last is not too long"
                );
            }
        }
    }

    #[test]
    fn copies_are_rendered() {
        let expressions = ["\"id\"".to_owned(), "\"x\"::text".to_owned()];
        let ranges = cut(3, 1);
        assert_eq!(
            render_copy("public", "t", &expressions, Some(ranges[0]), None),
            "copy (select \"id\", \"x\"::text from only \"public\".\"t\" where ctid < '(1,0)') \
             to stdout (format binary)"
        );
        assert_eq!(
            render_copy(
                "public",
                "t",
                &expressions[..1],
                Some(ranges[1]),
                Some("a or b -- c")
            ),
            "copy (select \"id\" from only \"public\".\"t\" where ctid >= '(1,0)' and \
             ctid < '(2,0)' and (a or b -- c\n)) to stdout (format binary)"
        );
        assert_eq!(
            render_copy("public", "t", &expressions[..1], Some(ranges[2]), None),
            "copy (select \"id\" from only \"public\".\"t\" where ctid >= '(2,0)') \
             to stdout (format binary)"
        );
        assert_eq!(
            render_copy("public", "t", &expressions[..1], None, None),
            "copy (select \"id\" from only \"public\".\"t\") to stdout (format binary)"
        );
    }
}
