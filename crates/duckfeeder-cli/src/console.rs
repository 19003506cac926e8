//! Standard output and standard error, shared by messages, log lines and the progress bar.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogFormat;
use crate::exit::{Failure, Result};

/// Where people and scripts read.
#[derive(Clone, Debug)]
pub(crate) struct Console {
    bars: MultiProgress,
    interactive: bool,
}

impl Console {
    /// Progress bars are drawn on a terminal, beside logs for people only.
    pub(crate) fn new(format: LogFormat) -> Self {
        let interactive = format == LogFormat::Text && io::stderr().is_terminal();
        let target = if interactive {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            interactive,
        }
    }

    /// Whether progress bars can be seen.
    pub(crate) fn interactive(&self) -> bool {
        self.interactive
    }

    /// The progress bars.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Writes the result of a command to standard output.
    ///
    /// # Errors
    /// Standard output is closed or full.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let write = || {
            let mut output = io::stdout().lock();
            output.write_all(text.as_bytes())?;
            if !text.ends_with('\n') {
                output.write_all(b"\n")?;
            }
            output.flush()
        };
        self.bars.suspend(write).map_err(|error| {
            Failure::usage("standard output cannot be written", "check where it goes")
                .caused_by(&error)
        })
    }

    /// Tells of an error. There is nobody left to tell when that fails.
    pub(crate) fn error(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> Self::Writer {
        LogWriter(self.bars.clone())
    }
}

/// Writes log lines to standard error, around the progress bars.
#[derive(Debug)]
pub(crate) struct LogWriter(MultiProgress);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().lock().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
