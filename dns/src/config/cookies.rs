//! DNS cookies.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// DNS cookies (RFC 7873).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// Whether cookies are made and judged, or passed over.
    pub enabled: bool,
    /// The file with the secrets; none: one of this process's own, so that cookies of one node or
    /// from before a restart are nothing to another.
    pub secret_file: Option<PathBuf>,
}

impl Default for Cookies {
    fn default() -> Self {
        Self {
            enabled: true,
            secret_file: None,
        }
    }
}
