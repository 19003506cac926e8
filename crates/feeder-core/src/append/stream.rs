//! What producers hold.

use std::sync::Arc;

use arrow_array::RecordBatch;
use serde::Serialize;

use super::buffers::{Buffers, Pushed, Refused, Stamp};
use super::chunk::Chunk;
use super::column::AppendTable;
use super::given::{One, Rows};
use super::options::{AppendOptions, Overflow};
use super::table::AppendCounts;
use crate::error::{FeederError, FeederErrorKind};

/// Takes rows for append tables. Clones share one buffer.
#[derive(Clone, Debug)]
pub struct AppendStream(pub(crate) Arc<Buffers>);

/// Tells what became of rows that were appended.
#[derive(Clone, Debug)]
pub struct Receipt(Place);

#[derive(Clone, Debug)]
enum Place {
    Buffered(Arc<Chunk>),
    Known(i64),
    Nowhere,
}

/// What [`AppendStream::append_all`] did.
#[derive(Debug)]
pub struct Appended {
    /// Of the last row that was appended.
    pub receipt: Receipt,
    /// The rows that were not, by their place, with the reason.
    pub refused: Vec<(usize, Arc<FeederError>)>,
}

impl Receipt {
    /// Waits until the rows are in the lake; the snapshot that holds them, or for a replay a later one.
    ///
    /// # Errors
    /// They will not be: they made room for others, their table cannot be written, or the stream ended.
    pub async fn durable(self) -> Result<i64, Arc<FeederError>> {
        match self.0 {
            Place::Buffered(chunk) => chunk.fate().await,
            Place::Known(snapshot) => Ok(snapshot),
            Place::Nowhere => Err(Arc::new(
                FeederError::permanent(
                    FeederErrorKind::Config,
                    "the append stream is disabled, nothing reaches the lake",
                )
                .with_remedy("ask is_enabled() first"),
            )),
        }
    }
}

impl From<Pushed> for Receipt {
    fn from(pushed: Pushed) -> Self {
        Self(match pushed {
            Pushed::Buffered(chunk) => Place::Buffered(chunk),
            Pushed::Known { snapshot } => Place::Known(snapshot),
            Pushed::Ignored => Place::Nowhere,
        })
    }
}

impl AppendStream {
    /// Takes rows and forgets them.
    pub fn disabled() -> Self {
        let options = AppendOptions {
            disabled: true,
            ..AppendOptions::default()
        };
        Self(Arc::new(Buffers::empty(options)))
    }

    /// Whether this is a stream at all, and not one that takes rows and forgets them.
    pub fn is_enabled(&self) -> bool {
        !self.0.options().disabled
    }

    /// Declares a table, unless one of its name is there.
    ///
    /// # Errors
    /// Of kind `Config` when it cannot be.
    pub fn declare(&self, table: AppendTable) -> Result<(), FeederError> {
        self.0.declare(table)
    }

    /// Appends a row; returns when it is buffered.
    ///
    /// # Errors
    /// The row does not fit the table, the buffer is full (unless rows wait for room), or the stream has ended.
    pub async fn append<T: Serialize + Sync + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<Receipt, Arc<FeederError>> {
        self.push(table, None, &One(row), false).await
    }

    /// Appends a row; returns when it is in the lake, with the snapshot that holds it.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`Receipt::durable`].
    pub async fn append_durable<T: Serialize + Sync + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<i64, Arc<FeederError>> {
        self.push(table, None, &One(row), true)
            .await?
            .durable()
            .await
    }

    /// Appends rows. The columns of a new table are inferred from all of them.
    ///
    /// # Errors
    /// The buffer is full, or the stream has ended: nothing after the rows so far was appended. A row that does not fit
    /// is no error of the others.
    pub async fn append_all<T: Serialize + Sync>(
        &self,
        table: &str,
        rows: &[T],
    ) -> Result<Appended, Arc<FeederError>> {
        let mut appended = Appended {
            receipt: Receipt(Place::Nowhere),
            refused: Vec::new(),
        };
        self.ready().await?;
        self.0.learn_all(table, rows)?;
        for (index, row) in rows.iter().enumerate() {
            match self.append(table, row).await {
                Ok(receipt) => appended.receipt = receipt,
                Err(error) if error.kind() == FeederErrorKind::Data => {
                    appended.refused.push((index, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(appended)
    }

    /// Appends an Arrow batch, whole or not at all.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_batch(
        &self,
        table: &str,
        batch: &RecordBatch,
    ) -> Result<Receipt, Arc<FeederError>> {
        self.push(table, None, batch, false).await
    }

    /// Appends a row without waiting for anything, from wherever.
    ///
    /// # Errors
    /// As [`append`](Self::append); one of kind `Overflow` also where rows otherwise wait for room, or for the tables of
    /// the lake to be known: a declared table whose row has declared fields only need not wait for those.
    pub fn try_append<T: Serialize + ?Sized>(
        &self,
        table: &str,
        row: &T,
    ) -> Result<Receipt, Arc<FeederError>> {
        // Waiting is somebody else's: count the row as refused.
        match self.0.push(table, None, &One(row), false, false) {
            Ok(pushed) => Ok(pushed.into()),
            Err(refused) => Err(explain(table, refused)),
        }
    }

    /// A producer that numbers its rows, so that what it sends again after a restart is dropped. A producer sends from
    /// one place at a time, in order.
    pub fn producer(&self, id: impl Into<String>) -> Producer {
        Producer {
            stream: self.clone(),
            id: id.into(),
        }
    }

    /// Waits until the tables of the lake are known.
    ///
    /// # Errors
    /// What ended the stream before.
    pub async fn ready(&self) -> Result<(), Arc<FeederError>> {
        let mut changes = self.0.changes();
        while !self.0.is_ready()? {
            // The sender lives in the buffers.
            if changes.changed().await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Commits everything that is buffered now, and returns when it is in the lake.
    ///
    /// # Errors
    /// Some of it will not be.
    pub async fn flush(&self) -> Result<(), Arc<FeederError>> {
        for chunk in self.0.flush() {
            chunk.fate().await?;
        }
        Ok(())
    }

    /// What became of the rows of each table, by its name in the lake.
    pub fn counts(&self) -> Vec<(String, AppendCounts)> {
        self.0.counts()
    }

    /// Bytes of rows that wait for their commit.
    pub fn buffered_bytes(&self) -> u64 {
        self.0.buffered_bytes()
    }

    /// Takes no more rows; those that were taken are committed.
    pub fn close(&self) {
        self.0.close();
    }

    async fn push(
        &self,
        table: &str,
        stamp: Option<Stamp<'_>>,
        rows: &(impl Rows + Sync),
        durable: bool,
    ) -> Result<Receipt, Arc<FeederError>> {
        let mut refused = match self.0.push(table, stamp, rows, durable, false) {
            Ok(pushed) => return Ok(pushed.into()),
            Err(refused) => refused,
        };
        let mut changes = self.0.changes();
        loop {
            match refused {
                Refused::NotReady => {}
                Refused::Full if self.0.options().overflow == Overflow::Block => {}
                refused => return Err(explain(table, refused)),
            }
            // Again before every wait: a change in between would be missed.
            changes.borrow_and_update();
            refused = match self.0.push(table, stamp, rows, durable, true) {
                Ok(pushed) => return Ok(pushed.into()),
                Err(refused @ (Refused::Full | Refused::NotReady)) => refused,
                Err(refused) => return Err(explain(table, refused)),
            };
            if changes.changed().await.is_err() {
                return Err(explain(table, refused));
            }
        }
    }
}

/// See [`AppendStream::producer`].
#[derive(Debug)]
pub struct Producer {
    stream: AppendStream,
    id: String,
}

impl Producer {
    /// Appends a row under a number that is greater than all before in its table; one that is not is a replay and
    /// dropped. Returns when it is buffered.
    ///
    /// # Errors
    /// As [`AppendStream::append`].
    pub async fn append<T: Serialize + Sync + ?Sized>(
        &mut self,
        table: &str,
        seq: i64,
        row: &T,
    ) -> Result<Receipt, Arc<FeederError>> {
        let stamp = self.stamp(seq);
        self.stream.push(table, Some(stamp), &One(row), false).await
    }

    /// As [`append`](Self::append), but returns when the row is in the lake; for a replay, when it is since before.
    ///
    /// # Errors
    /// As [`AppendStream::append_durable`].
    pub async fn append_durable<T: Serialize + Sync + ?Sized>(
        &mut self,
        table: &str,
        seq: i64,
        row: &T,
    ) -> Result<i64, Arc<FeederError>> {
        let stamp = self.stamp(seq);
        let receipt = self
            .stream
            .push(table, Some(stamp), &One(row), true)
            .await?;
        receipt.durable().await
    }

    /// Appends an Arrow batch, whose first row has the number `first_seq` and each other one the next.
    ///
    /// # Errors
    /// As [`AppendStream::append_batch`].
    pub async fn append_batch(
        &mut self,
        table: &str,
        first_seq: i64,
        batch: &RecordBatch,
    ) -> Result<Receipt, Arc<FeederError>> {
        let stamp = self.stamp(first_seq);
        self.stream.push(table, Some(stamp), batch, false).await
    }

    /// The greatest number of this producer that is in the lake's table, once the tables are known: where to go on after
    /// a restart.
    ///
    /// # Errors
    /// What ended the stream before.
    pub async fn position(&self, table: &str) -> Result<Option<i64>, Arc<FeederError>> {
        self.stream.ready().await?;
        Ok(self.stream.0.position(table, &self.id))
    }

    fn stamp(&self, seq: i64) -> Stamp<'_> {
        Stamp {
            producer: &self.id,
            seq,
        }
    }
}

fn explain(table: &str, refused: Refused) -> Arc<FeederError> {
    let overflow =
        |message: String| Arc::new(FeederError::transient(FeederErrorKind::Overflow, message));
    match refused {
        Refused::Full => overflow(format!(
            "the buffer of the append stream is full, a row for {table} was refused"
        )),
        Refused::NotReady => overflow(format!(
            "the lake's tables are not known yet, a row for {table} was refused"
        )),
        Refused::Error(error) => Arc::new(error),
        Refused::Broken(error) => error,
    }
}
