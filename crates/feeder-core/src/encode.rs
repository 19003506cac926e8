//! Wire values to lake columns, through a plan that is compiled once per relation version.

use parquet_writer::{ColumnBuilder, RowBatchBuilder};
use pgoutput::Datum;

use crate::config::OnUnrepresentable;
use crate::dead_letters::Letter;
use crate::layout::{BEFORE, META_COLUMNS, SourceColumn};
use crate::types::{self, Reader, Scratch, ValueProblem};

/// What a changelog row says happened; the text of `_df_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
    Snapshot,
    Reset,
}

impl Op {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Snapshot => "snapshot",
            Self::Reset => "reset",
        }
    }
}

/// The metadata of one changelog row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowHead {
    pub(crate) op: Op,
    /// Microseconds since 1970-01-01 UTC.
    pub(crate) timestamp: i64,
    pub(crate) lsn: i64,
    pub(crate) seq: i64,
}

/// Why a row could not be encoded: the column and the problem, never the value (I14).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?}: {problem}")]
pub(crate) struct EncodeError {
    pub(crate) column: String,
    pub(crate) problem: String,
    /// The column whose composite type was altered: its attributes have to be looked up anew.
    pub(crate) altered: Option<String>,
}

/// How rows of a table are encoded, apart from its columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowOptions {
    pub(crate) on_unrepresentable: OnUnrepresentable,
    /// Whether the lake's table has the old values, as a struct after the source columns.
    pub(crate) before_image: bool,
}

/// Appends rows of one relation version to a batch of the table's lake columns.
#[derive(Debug)]
pub(crate) struct RowEncoder {
    /// By position on the wire: where the column goes; `None` for excluded columns.
    plan: Vec<Option<Target>>,
    /// Lake columns that the wire does not have.
    absent: Vec<usize>,
    /// Names of the source columns, by builder index minus [`META_COLUMNS`].
    names: Vec<String>,
    options: RowOptions,
    /// Whether values of altered composite types become NULL.
    forgives_altered: bool,
    unchanged: Vec<usize>,
    letters: Vec<Letter>,
    scratch: Scratch,
}

#[derive(Clone, Debug)]
struct Target {
    /// Position among the source columns of the lake.
    column: usize,
    reader: Reader,
}

impl RowEncoder {
    /// Plans rows that carry `wire` columns, in that order, for a table with the source columns `lake`.
    pub(crate) fn new(lake: &[SourceColumn], wire: &[&str], options: RowOptions) -> Self {
        let plan = wire
            .iter()
            .map(|name| {
                let column = lake.iter().position(|column| column.name == *name)?;
                let reader = lake.get(column)?.reader.clone();
                Some(Target { column, reader })
            })
            .collect();
        let absent = lake
            .iter()
            .enumerate()
            .filter(|(_, column)| !wire.contains(&column.name.as_str()))
            .map(|(index, _)| index)
            .collect();
        Self {
            plan,
            absent,
            names: lake.iter().map(|column| column.name.clone()).collect(),
            options,
            forgives_altered: false,
            unchanged: Vec::new(),
            letters: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Whether values of composite types that have other attributes than those known become NULL and dead letters, rather
    /// than an [error that says so](EncodeError::altered).
    pub(crate) fn forgive_altered(&mut self, forgives: bool) {
        self.forgives_altered = forgives;
    }

    /// How many values a row of this relation has on the wire.
    pub(crate) fn wire_columns(&self) -> usize {
        self.plan.len()
    }

    /// Appends one row. `old` fills values that the server did not send again because they are unchanged, and
    /// `before` is what `_df_before` shows.
    ///
    /// After an error the row is half appended: the caller must abandon it.
    pub(crate) fn append<'a, Old: Iterator<Item = Datum<'a>>>(
        &mut self,
        batch: &mut RowBatchBuilder,
        head: RowHead,
        values: impl Iterator<Item = Datum<'a>>,
        old: Option<Old>,
        before: Option<impl Iterator<Item = Datum<'a>>>,
    ) -> Result<(), EncodeError> {
        let columns = batch.columns_mut();
        self.unchanged.clear();
        self.letters.clear();
        let mut old = old;
        for (target, datum) in self.plan.iter().zip(values) {
            let old = old.as_mut().and_then(Iterator::next);
            let Some(target) = target else { continue };
            let datum = match (datum, old) {
                // A null there only says that the old row came without the column: null is never toasted.
                (Datum::UnchangedToast, Some(old)) if old != Datum::Null => old,
                (datum, _) => datum,
            };
            if datum == Datum::UnchangedToast {
                self.unchanged.push(target.column);
            }
            let column = builder(columns, META_COLUMNS + target.column)?;
            let appended = types::append(column, &target.reader, datum, &mut self.scratch);
            if let Err(problem) = appended {
                let source_name = name(&self.names, target.column);
                let letter = self.refused(problem, source_name, source_name, target, datum)?;
                discarded(column).map_err(internal)?;
                self.letters.push(letter);
            }
        }
        for index in &self.absent {
            written(builder(columns, META_COLUMNS + index)?.append_null()).map_err(internal)?;
        }
        if self.options.before_image {
            self.append_before(columns, before)?;
        }
        let names = &self.names;
        let unchanged = self
            .unchanged
            .iter()
            .filter_map(|index| names.get(*index).map(String::as_str));
        let unrepresentable = self.letters.iter().map(|letter| letter.column.as_str());
        append_head(
            columns,
            head,
            (!self.unchanged.is_empty()).then_some(unchanged),
            (!self.letters.is_empty()).then_some(unrepresentable),
        )?;
        batch.end_row().map_err(|error| internal(error.to_string()))
    }

    /// The old values that the server sent, null where it sent none.
    fn append_before<'a>(
        &mut self,
        columns: &mut [ColumnBuilder],
        before: Option<impl Iterator<Item = Datum<'a>>>,
    ) -> Result<(), EncodeError> {
        let column = builder(columns, META_COLUMNS + self.names.len())?;
        let Some(before) = before else {
            return written(column.append_null()).map_err(internal);
        };
        let fields = column
            .fields_mut()
            .map_err(|error| internal(error.to_string()))?;
        for (target, datum) in self.plan.iter().zip(before) {
            let Some(target) = target else { continue };
            let field = builder(fields, target.column)?;
            let appended = types::append(field, &target.reader, datum, &mut self.scratch);
            if let Err(problem) = appended {
                let source_name = name(&self.names, target.column);
                let lake_name = format!("{BEFORE}.{source_name}");
                let letter = self.refused(problem, source_name, &lake_name, target, datum)?;
                discarded(field).map_err(internal)?;
                self.letters.push(letter);
            }
        }
        for index in &self.absent {
            written(builder(fields, *index)?.append_null()).map_err(internal)?;
        }
        written(column.append_struct()).map_err(internal)
    }

    /// The letter for a value that becomes NULL; an error for one that may not.
    fn refused(
        &self,
        problem: ValueProblem,
        source_name: &str,
        lake_name: &str,
        target: &Target,
        datum: Datum<'_>,
    ) -> Result<Letter, EncodeError> {
        let altered = problem == ValueProblem::Altered;
        if altered && !self.forgives_altered {
            return Err(EncodeError {
                column: lake_name.to_owned(),
                problem: problem.to_string(),
                altered: Some(source_name.to_owned()),
            });
        }
        refuse(problem, self.options.on_unrepresentable)
            .and_then(|reason| {
                if altered {
                    Ok(Letter::unread(lake_name, &reason, datum))
                } else {
                    Letter::new(lake_name, reason, &target.reader, datum)
                }
            })
            .map_err(|problem| EncodeError {
                column: lake_name.to_owned(),
                problem,
                altered: None,
            })
    }

    /// What the row that was appended last could not hold.
    pub(crate) fn letters(&self) -> &[Letter] {
        &self.letters
    }

    /// A row's values at some positions of the wire, by column name, as a JSON object of texts.
    pub(crate) fn key_text<'a>(
        &self,
        positions: &[usize],
        values: impl Iterator<Item = Datum<'a>>,
    ) -> Option<String> {
        let mut text = String::new();
        for (position, datum) in values.enumerate() {
            let Some(Some(target)) = self.plan.get(position) else {
                continue;
            };
            if !positions.contains(&position) {
                continue;
            }
            text.push(if text.is_empty() { '{' } else { ',' });
            types::append_json_string(name(&self.names, target.column), &mut text);
            text.push(':');
            match types::output_text(&target.reader, datum) {
                Ok(Some(value)) => types::append_json_string(&value, &mut text),
                _ => text.push_str("null"),
            }
        }
        (!text.is_empty()).then(|| text + "}")
    }

    /// Appends a row without values: `truncate` and `reset`.
    pub(crate) fn append_marker(
        batch: &mut RowBatchBuilder,
        head: RowHead,
    ) -> Result<(), EncodeError> {
        let columns = batch.columns_mut();
        for column in columns.iter_mut().skip(META_COLUMNS) {
            written(column.append_null()).map_err(internal)?;
        }
        let none = || None::<std::iter::Empty<&str>>;
        append_head(columns, head, none(), none())?;
        batch.end_row().map_err(|error| internal(error.to_string()))
    }
}

/// What is said of a value that the policy lets become NULL; an error for any other.
fn refuse(problem: ValueProblem, policy: OnUnrepresentable) -> Result<String, String> {
    let reason = problem.to_string();
    match (problem, policy) {
        (ValueProblem::Malformed(_), _) => Err(reason),
        (_, OnUnrepresentable::Null) => Ok(reason),
        (_, OnUnrepresentable::Stop) => Err(format!(
            "{reason}, and on_unrepresentable is \"stop\"; with \"null\" the cell becomes NULL and the value goes to the dead letters"
        )),
    }
}

/// Puts a null in the place of a value that was half appended.
fn discarded(column: &mut ColumnBuilder) -> Result<(), String> {
    column.discard();
    written(column.append_null())
}

fn name(names: &[String], column: usize) -> &str {
    names.get(column).map_or("", String::as_str)
}

fn append_head<'a, 'b>(
    columns: &mut [ColumnBuilder],
    head: RowHead,
    unchanged: Option<impl Iterator<Item = &'a str>>,
    unrepresentable: Option<impl Iterator<Item = &'b str>>,
) -> Result<(), EncodeError> {
    let [
        op,
        timestamp,
        lsn,
        seq,
        unchanged_list,
        unrepresentable_list,
        ..,
    ] = columns
    else {
        return Err(internal("the batch lacks the metadata columns".to_owned()));
    };
    written(op.append_str(head.op.as_str()))
        .and_then(|()| written(timestamp.append_timestamp(head.timestamp)))
        .and_then(|()| written(lsn.append_i64(head.lsn)))
        .and_then(|()| written(seq.append_i64(head.seq)))
        .and_then(|()| append_names(unchanged_list, unchanged))
        .and_then(|()| append_names(unrepresentable_list, unrepresentable))
        .map_err(internal)
}

fn append_names<'a>(
    list: &mut ColumnBuilder,
    names: Option<impl Iterator<Item = &'a str>>,
) -> Result<(), String> {
    written(match names {
        Some(names) => list.append_str_list(names),
        None => list.append_null(),
    })
}

fn builder(columns: &mut [ColumnBuilder], index: usize) -> Result<&mut ColumnBuilder, EncodeError> {
    columns
        .get_mut(index)
        .ok_or_else(|| internal("the batch has fewer columns than the plan".to_owned()))
}

fn internal(problem: String) -> EncodeError {
    EncodeError {
        column: String::new(),
        problem,
        altered: None,
    }
}

fn written<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
