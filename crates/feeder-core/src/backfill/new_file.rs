//! Where a range's rows go.

use std::sync::Arc;

use super::Round;
use crate::control::answered;
use crate::error::FeederError;
use crate::file::{FileWriter, LakeTable};
use crate::retry::Backoff;

impl Round {
    /// A new file, declared before it is uploaded (rule 16). A catalog that is away is waited for: otherwise everything
    /// of this round would be copied again.
    pub(super) async fn writer(&self, lake: &Arc<LakeTable>) -> Result<FileWriter, FeederError> {
        let mut backoff = Backoff::new();
        let name = loop {
            let name = LakeTable::new_file_name();
            let files = [(lake.object_path(&name), lake.table_id.get())];
            let declared = self
                .context
                .control
                .declare_files(&self.context.fence, &files);
            match answered(declared).await {
                Ok(()) => break name,
                Err(error) if error.is_transient() => {
                    tracing::warn!(
                        table = %lake.source,
                        error = error.explained(),
                        "a file of a copy cannot be declared; trying again"
                    );
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        };
        FileWriter::new(
            Arc::clone(&self.context.storage),
            Arc::clone(lake),
            name,
            &self.context.options,
        )
    }
}
