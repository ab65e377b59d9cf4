//! What is said on stdout and stderr.
//!
//! A closed pipe is no reason to stop a network, so nothing here fails: what can't be written is
//! lost. (`println!` would panic.)

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Says one thing on stderr: `modcdn: …`.
pub(crate) fn notice(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "modcdn: {what}");
}

/// Writes lines to stderr as they are.
pub(crate) fn error_lines(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes lines to stdout and makes sure that a reader has them.
pub(crate) fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Whether someone watches stderr.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// A line on stderr that is written over and over; nothing where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
}

impl Progress {
    /// A line that isn't there yet.
    pub(crate) fn new() -> Self {
        Self {
            shown: is_terminal(),
        }
    }

    /// Replaces the line.
    pub(crate) fn show(&self, text: &str) {
        if self.shown {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K{text}").and_then(|()| stderr.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.show("");
    }
}
