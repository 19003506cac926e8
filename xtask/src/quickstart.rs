//! `cargo xtask quickstart`.

use anyhow::Result;

/// Options of `quickstart`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove what an earlier run left
    #[arg(long)]
    clean: bool,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    anyhow::bail!("not built yet (clean: {})", args.clean)
}
