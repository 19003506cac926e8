//! What becomes of rows that were appended.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{FeederError, FeederErrorKind};

/// The snapshot that holds the rows, or why they are not in the lake.
pub(crate) type Fate = Result<i64, Arc<FeederError>>;

/// Rows that share their fate.
#[derive(Debug)]
pub(crate) struct Chunk(watch::Sender<Option<Fate>>);

impl Chunk {
    pub(crate) fn new() -> Arc<Self> {
        let (fate, _) = watch::channel(None);
        Arc::new(Self(fate))
    }

    /// The first decision stands.
    pub(crate) fn decide(&self, fate: Fate) {
        self.0.send_if_modified(|decided| {
            let first = decided.is_none();
            if first {
                *decided = Some(fate);
            }
            first
        });
    }

    pub(crate) async fn fate(&self) -> Fate {
        let mut fate = self.0.subscribe();
        let decided = fate.wait_for(Option::is_some).await;
        // The sender lives in the chunk.
        let decided = decided.ok().and_then(|fate| fate.clone());
        decided.unwrap_or_else(|| Err(Arc::new(stopped())))
    }
}

/// The stream ended before the rows were in the lake.
pub(crate) fn stopped() -> FeederError {
    FeederError::permanent(
        FeederErrorKind::Stopped,
        "the append stream ended before its rows were in the lake",
    )
}
