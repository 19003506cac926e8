//! `duckfeeder teardown`

use std::io::{self, IsTerminal as _};

use feeder_core::operations;

use crate::config::Settings;
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};

/// Drops slot and publication, after asking.
pub(super) async fn teardown(settings: &Settings, yes: bool, console: &Console) -> Result {
    if !yes {
        confirm(settings, console)?;
    }
    let dropped = operations::teardown(&settings.feeder).await?;
    for object in &dropped {
        console.print(&format!("dropped {object}"))?;
    }
    console.print(if dropped.is_empty() {
        "there was nothing to drop; the lake stays"
    } else {
        "the lake stays"
    })?;
    Ok(Exit::Done)
}

fn confirm(settings: &Settings, console: &Console) -> Result<()> {
    let name = settings.feeder.name.as_str();
    let refused = || {
        Failure::usage(
            "nothing was dropped: there was no confirmation",
            format!("type {name} when asked, or give --yes"),
        )
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    console.error(&format!(
        "This drops slot {} and publication {} at the source, for good: changes from then on are not kept for the lake.\n\
         Type the feeder's name ({name}) to go on: ",
        settings.feeder.source.slot.as_str(),
        settings.feeder.source.publication.as_str(),
    ));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| refused().caused_by(&error))?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(refused())
    }
}
