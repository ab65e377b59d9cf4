//! Why Git did not give what was asked.
//!
//! A client takes a 404 as leave to carry the module's name to the next proxy. So there is one only
//! where somebody truly knows: the repository was read and has no such thing; or, of a module that
//! isn't private, whoever would have it says that there is no repository. A private repository that
//! can't be read looks the same as one that doesn't exist (servers hide it so), and is a failure.

use modcdn_core::refusal::{Reason, Refusal};

use crate::upstream::Trouble;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The repository was read, and has no such thing.
    Nothing(String),
    /// Whoever was asked says that there is no repository.
    NoRepository(String),
    /// The repository changed between two questions; asking again from the start may help.
    Moved(String),
    /// Our mirror of it is damaged; one made anew may not be.
    Damaged(String),
    /// It failed.
    Failed(Failure),
}

/// A failure, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) failed: String,
    pub(crate) hint: String,
}

impl Fault {
    pub(crate) fn failed(reason: Reason, failed: impl Into<String>) -> Self {
        Self::Failed(Failure {
            reason,
            failed: failed.into(),
            hint: String::new(),
        })
    }

    /// Adds what to do about a failure.
    pub(crate) fn hint(mut self, text: &str) -> Self {
        if let Self::Failed(Failure { hint, .. }) = &mut self {
            text.clone_into(hint);
        }
        self
    }

    /// What it is for those who asked for `asked`, a private module or not.
    pub(crate) fn trouble(self, asked: &str, private: bool) -> Trouble {
        match self {
            Self::Nothing(failed) => Trouble::Absent(Refusal::new(Reason::NotFound, asked, failed)),
            Self::NoRepository(failed) if !private => {
                Trouble::Absent(Refusal::new(Reason::NotFound, asked, failed))
            }
            Self::NoRepository(failed) => {
                Trouble::failed(Refusal::new(Reason::GitUnreadable, asked, failed).hint(
                    "private: it does not exist, or the origin may not read it (git.credentials)",
                ))
            }
            Self::Moved(failed) => Self::failed(Reason::GitFailed, failed)
                .hint("try again")
                .trouble(asked, private),
            Self::Damaged(failed) => {
                Self::failed(Reason::Store, format!("a Git mirror is damaged: {failed}"))
                    .hint("the origin's log and disk may tell why")
                    .trouble(asked, private)
            }
            Self::Failed(Failure {
                reason,
                failed,
                hint,
            }) => Trouble::failed(Refusal::new(reason, asked, failed).hint(hint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_knows_says_not_found() {
        let is_absent = |fault: Fault, private| {
            matches!(fault.trouble("m@v1.0.0", private), Trouble::Absent(refusal)
                if refusal.reason == Reason::NotFound)
        };
        let nothing = Fault::Nothing("no tag v1.0.0".to_owned());
        let no_repository = Fault::NoRepository("404".to_owned());
        let failed = Fault::failed(Reason::UpstreamTimeout, "too slow");
        assert!(is_absent(nothing.clone(), true) && is_absent(nothing, false));
        assert!(is_absent(no_repository.clone(), false) && !is_absent(no_repository, true));
        assert!(!is_absent(failed.clone(), true) && !is_absent(failed, false));
    }
}
