//! What a proof, or the lack of one, means for a body. Pure.

use modcdn_core::goenv;
use modcdn_core::goproxy::{ModulePath, Pattern};
use modcdn_core::h1::H1;
use modcdn_core::refusal::{Reason, Refusal};
use modcdn_core::sumdb::{Proven, SumError};

use crate::config::{SumDb, Unreachable, Verify};

/// Which hash of a module version is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The go.mod's.
    Mod,
    /// The zip's.
    Zip,
}

impl Part {
    /// As metrics call it.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Mod => "mod",
            Self::Zip => "zip",
        }
    }

    fn of(self, proven: &Proven) -> H1 {
        match self {
            Self::Mod => proven.go_mod,
            Self::Zip => proven.zip,
        }
    }
}

/// Why a body isn't verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The database can't be asked.
    Unreachable,
    /// It knows no such version.
    Unknown,
    /// It proved another hash.
    Mismatch,
    /// Its answer is none.
    Malformed,
    /// Its answer contradicts what it signed.
    Forged,
}

impl Cause {
    /// As metrics and headers call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
            Self::Mismatch => "mismatch",
            Self::Malformed => "malformed",
            Self::Forged => "forged",
        }
    }

    /// Whether somebody must look: these don't happen by themselves.
    pub(crate) fn is_alarming(self) -> bool {
        matches!(self, Self::Mismatch | Self::Malformed | Self::Forged)
    }
}

impl From<&SumError> for Cause {
    fn from(error: &SumError) -> Self {
        match error {
            SumError::Unreachable(_) => Self::Unreachable,
            SumError::NotFound(_) => Self::Unknown,
            SumError::Malformed(_) => Self::Malformed,
            SumError::Forged(_) => Self::Forged,
        }
    }
}

/// What is known of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is what the database proved.
    Verified,
    /// Nobody is asked: by configuration, or because it is private.
    Exempt,
    /// It is served all the same.
    Unverified(Cause),
}

/// A body that isn't served, and why it isn't verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) cause: Cause,
    pub(crate) refusal: Refusal,
}

/// Judges a body by its hash and what the database proved, or failed to.
///
/// # Errors
/// The refusal to answer with.
pub(crate) fn judge(
    config: &SumDb,
    part: Part,
    hash: H1,
    proof: &Result<Proven, SumError>,
    asked: &str,
) -> Result<Standing, Denied> {
    let (cause, refusal) = match proof {
        Ok(proven) if part.of(proven) == hash => return Ok(Standing::Verified),
        Ok(proven) => (Cause::Mismatch, mismatch(asked, part.of(proven), hash)),
        Err(error) => (Cause::from(error), unproven(asked, error)),
    };
    let tolerated = match config.verify {
        Verify::Off | Verify::Warn => true,
        Verify::Required => cause == Cause::Unreachable && config.unreachable == Unreachable::Serve,
    };
    if tolerated {
        return Ok(Standing::Unverified(cause));
    }
    Err(Denied { cause, refusal })
}

fn mismatch(asked: &str, proven: H1, found: H1) -> Refusal {
    let failed = format!(
        "SECURITY ERROR: what was downloaded is not what the checksum database has\n\
         downloaded: {found}\n\
         proven:     {proven}"
    );
    Refusal::new(Reason::SumMismatch, asked, failed)
        .hint("it is kept in the origin's .quarantine; the upstream, or a tag, was changed")
}

/// A body whose hash can't be proven.
fn unproven(asked: &str, error: &SumError) -> Refusal {
    match error {
        SumError::NotFound(_) => Refusal::new(Reason::SumdbUnknown, asked, error.to_string())
            .hint("unverified modules are not served; a private one must be named in the mount's `private`"),
        _ => of_database(asked, error),
    }
}

/// What went wrong with the database, for whoever asked for something of it.
pub(crate) fn of_database(asked: &str, error: &SumError) -> Refusal {
    let (reason, hint) = match error {
        SumError::Unreachable(_) => (
            Reason::SumdbUnreachable,
            "try again; what is verified and stored is served meanwhile",
        ),
        SumError::NotFound(_) => (Reason::NotFound, ""),
        SumError::Malformed(_) => (
            Reason::SumdbContent,
            "look at the checksum database, or at who passes it on",
        ),
        SumError::Forged(_) => (
            Reason::SumdbForged,
            "do not work around this: somebody shows you another history than others",
        ),
    };
    Refusal::new(reason, asked, error.to_string()).hint(hint)
}

/// A private module asked of the checksum database: nobody is told its name.
pub(crate) fn private(asked: &str, module: &ModulePath, pattern: &Pattern) -> Refusal {
    let failed = format!(
        "{module} is private: the checksum database is not asked about it\n\
         (its name would be published)"
    );
    Refusal::new(Reason::PrivateModule, asked, failed).hint(goenv::hint(pattern))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use modcdn_core::sumdb::Forgery;

    use super::*;

    fn h1(text: &str) -> H1 {
        H1::of_mod(text.as_bytes())
    }

    fn proven() -> Proven {
        Proven {
            zip: h1("zip"),
            go_mod: h1("mod"),
            record: 7,
            answer: Bytes::new(),
        }
    }

    fn errors() -> [SumError; 4] {
        [
            SumError::Unreachable("no route".to_owned()),
            SumError::NotFound("unknown revision".to_owned()),
            SumError::Malformed("junk".to_owned()),
            Forgery::Shrunk { old: 2, new: 1 }.into(),
        ]
    }

    fn config(verify: Verify, unreachable: Unreachable) -> SumDb {
        SumDb {
            verify,
            unreachable,
            ..SumDb::default()
        }
    }

    #[test]
    fn the_proven_hash_is_verified_whatever_the_configuration() {
        for verify in [Verify::Required, Verify::Warn] {
            let config = config(verify, Unreachable::Refuse);
            let proof = Ok(proven());
            assert_eq!(
                judge(&config, Part::Zip, h1("zip"), &proof, "m"),
                Ok(Standing::Verified)
            );
            assert_eq!(
                judge(&config, Part::Mod, h1("mod"), &proof, "m"),
                Ok(Standing::Verified)
            );
        }
    }

    #[test]
    fn required_refuses_whatever_isnt_proven() {
        let config = config(Verify::Required, Unreachable::Refuse);
        let swapped = judge(&config, Part::Zip, h1("mod"), &Ok(proven()), "m").unwrap_err();
        let reasons = errors().map(|error| {
            let denied = judge(&config, Part::Zip, h1("zip"), &Err(error), "m").unwrap_err();
            denied.refusal.reason
        });
        assert_eq!(swapped.refusal.reason, Reason::SumMismatch);
        assert_eq!(
            reasons,
            [
                Reason::SumdbUnreachable,
                Reason::SumdbUnknown,
                Reason::SumdbContent,
                Reason::SumdbForged
            ]
        );
        // None of them sends the module's name on to whoever stands next in the client's list.
        for reason in reasons.into_iter().chain([Reason::SumMismatch]) {
            assert!(
                !matches!(reason.status().as_u16(), 404 | 410),
                "{}",
                reason.name()
            );
        }
    }

    #[test]
    fn serving_while_unreachable_excuses_nothing_else() {
        let config = config(Verify::Required, Unreachable::Serve);
        let served =
            errors().map(|error| judge(&config, Part::Mod, h1("mod"), &Err(error), "m").is_ok());
        assert_eq!(served, [true, false, false, false]);
        assert!(judge(&config, Part::Mod, h1("x"), &Ok(proven()), "m").is_err());
    }

    #[test]
    fn warn_serves_everything_and_says_why() {
        let config = config(Verify::Warn, Unreachable::Refuse);
        let causes = errors().map(|error| judge(&config, Part::Mod, h1("mod"), &Err(error), "m"));
        assert_eq!(
            causes,
            [
                Cause::Unreachable,
                Cause::Unknown,
                Cause::Malformed,
                Cause::Forged
            ]
            .map(|cause| Ok(Standing::Unverified(cause)))
        );
        let wrong = judge(&config, Part::Zip, h1("x"), &Ok(proven()), "m");
        assert_eq!(wrong, Ok(Standing::Unverified(Cause::Mismatch)));
    }

    #[test]
    fn a_mismatch_shows_both_hashes_to_the_user() {
        let config = config(Verify::Required, Unreachable::Refuse);
        let asked = "example.com/a-module-with-a-name/of-some-length@v1.2.3-0.20200101000000-abcdefabcdef.zip";
        let denied = judge(&config, Part::Zip, h1("x"), &Ok(proven()), asked).unwrap_err();
        let text = String::from_utf8(denied.refusal.text().to_vec()).unwrap();
        for part in [&h1("x").to_string(), &h1("zip").to_string(), "sum-mismatch"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_private_module_is_told_the_variable_to_set() {
        let pattern: Pattern = "corp.example/*".parse().unwrap();
        let module: ModulePath = "corp.example/x".parse().unwrap();
        let refusal = private("sumdb/…", &module, &pattern);
        assert_eq!(refusal.reason.status(), 403);
        let text = String::from_utf8(refusal.text().to_vec()).unwrap();
        assert!(
            text.contains("go env -w GONOSUMDB=corp.example/*"),
            "{text}"
        );
    }
}
