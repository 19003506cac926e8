//! How an append stream behaves.

use std::time::Duration;

use crate::config::FlushConfig;

/// What happens to a row that finds the buffer full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// It waits for room.
    #[default]
    Block,
    /// It is refused with an error of kind [`Overflow`](crate::FeederErrorKind::Overflow); the stream goes on.
    Fail,
    /// The oldest rows make room. Rows of named producers never do: they would be taken for replays when they come
    /// again. When nothing else is there, the row is refused.
    DropOldest,
}

/// The options of an append stream.
#[derive(Clone, Copy, Debug)]
pub struct AppendOptions {
    /// Bytes of rows that may wait for their commit, those that are being committed included. A row is taken while they
    /// are below it, so a single row or batch may exceed it. Encoding takes some more.
    pub memory: u64,
    /// What happens beyond.
    pub overflow: Overflow,
    /// When rows are committed: age of the oldest, number, bytes. A quarter of [`memory`](Self::memory) is enough, too.
    pub flush: FlushConfig,
    /// How long a row that somebody awaits waits for others to be committed with it.
    pub durable_within: Duration,
    /// Takes rows and forgets them.
    pub disabled: bool,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            overflow: Overflow::Block,
            flush: FlushConfig::default(),
            durable_within: Duration::from_millis(100),
            disabled: false,
        }
    }
}

impl AppendOptions {
    /// What is dropped together, and may share a receipt.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        (self.memory / 16).clamp(1, 8 << 20)
    }
}
