//! Values with a form of their own: parsed once, here.

use std::fmt;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

/// An absolute domain name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Name);

/// A text that is no absolute domain name.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// It doesn't end in a dot.
    #[error("{0:?} is not absolute: write {0}. with a dot at its end")]
    Relative(String),
    /// It isn't a name.
    #[error("{0:?} is not a domain name: {1}")]
    Malformed(String, hickory_proto::ProtoError),
}

impl Domain {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.0
    }
}

impl std::str::FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if !text.ends_with('.') {
            return Err(DomainError::Relative(text.to_owned()));
        }
        Name::from_ascii(text)
            .map(Self)
            .map_err(|error| DomainError::Malformed(text.to_owned(), error))
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0.to_ascii()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_ascii())
    }
}
