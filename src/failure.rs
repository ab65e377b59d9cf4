//! Every way to end other than well, and the exit code it has.

use std::fmt;
use std::process::ExitCode;

use modcdn_core::config::ConfigError;

use crate::terminal::{error_lines, notice};

/// Something went wrong while running.
const EXIT_FAILED: u8 = 1;

/// What was asked makes no sense: a flag or a configuration file. clap ends with the same code.
const EXIT_USAGE: u8 = 2;

/// What was asked about is blocked: a clear answer, and a no.
const EXIT_BLOCKED: u8 = 3;

/// Why the program ends. The text is for a person, and may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A flag, or flags together, make no sense: exit code 2.
    Usage(String),
    /// A configuration file is wrong; its lines begin with `FILE:line:column`: exit code 2.
    Config(String),
    /// What was asked makes sense but failed: exit code 1.
    Failed(String),
    /// The answer is no, and has been given: exit code 3.
    Blocked,
}

impl Failure {
    /// Says it on stderr and hands out the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            // Editors jump to `FILE:line:column`, so nothing stands in front of it.
            Self::Config(text) => error_lines(text),
            Self::Usage(text) | Self::Failed(text) => notice(format_args!("{text}")),
            Self::Blocked => {}
        }
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) => EXIT_USAGE,
            Self::Failed(_) => EXIT_FAILED,
            Self::Blocked => EXIT_BLOCKED,
        }
    }

    /// A failure while doing `what`: `what: error`.
    pub(crate) fn doing(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_configuration_end_with_2_and_the_rest_with_1() {
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::Config(String::new()).code(), 2);
        assert_eq!(Failure::doing("reading a", "gone").code(), 1);
    }
}
