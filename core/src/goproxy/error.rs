//! Why a path is not a GOPROXY request.

use thiserror::Error;

use super::{MAX_ELEMENT, MAX_PATH};

/// Why something is outside the GOPROXY grammar. The text says what to change; it doesn't repeat the
/// input, which the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The raw path is over [`MAX_PATH`] bytes.
    #[error("the path is longer than {MAX_PATH} bytes")]
    PathTooLong,
    /// One element, `!`-escaped, is over [`MAX_ELEMENT`] bytes.
    #[error("a path element is longer than {MAX_ELEMENT} bytes")]
    ElementTooLong,
    /// The path doesn't begin with `/`.
    #[error("the path must begin with '/'")]
    NoLeadingSlash,
    /// `?` or `#` stands in the path.
    #[error(
        "a module request has no query string and no fragment; write '?' and '#' as %3F and %23"
    )]
    QueryOrFragment,
    /// `%` without two hexadecimal digits.
    #[error("'%' must be followed by two hexadecimal digits")]
    BadPercent,
    /// `%2F`.
    #[error("an encoded slash (%2F) can't stand in a module request")]
    EncodedSlash,
    /// A byte that RFC 3986 doesn't allow in a path, or an encoded one outside printable ASCII.
    #[error("byte 0x{0:02x} can't stand in a module request")]
    BadByte(u8),
    /// Neither `MODULE/@latest`, `MODULE/@v/…` nor `sumdb/…`.
    #[error("not a module request: expected /MODULE/@latest, /MODULE/@v/… or /sumdb/…")]
    NotARequest,
    /// `MODULE/@v/…` with something unknown behind it.
    #[error("expected list, VERSION.info, VERSION.mod or VERSION.zip after /@v/")]
    UnknownFile,
    /// A raw upper-case letter.
    #[error("an upper-case letter must be escaped as '!' + lower case")]
    UpperCase,
    /// `!` that isn't followed by a lower-case letter.
    #[error("'!' must be followed by the lower-case form of an upper-case letter")]
    BadBang,
    /// Nothing between two slashes, or an empty path, version or query.
    #[error("a path element is empty")]
    EmptyElement,
    /// `..`, in an element or being one.
    #[error("two dots in a row can't stand in a module request")]
    DoubleDot,
    /// An element begins with a dot.
    #[error("an element of a module path must not begin with a dot")]
    LeadingDot,
    /// An element ends with a dot.
    #[error("a path element or version must not end with a dot")]
    TrailingDot,
    /// A character that can't stand there.
    #[error("character {0:?} is not allowed here")]
    BadCharacter(char),
    /// The first element is no domain name.
    #[error("the first element of a module path must be a lower-case domain name with a dot")]
    NotADomain,
    /// An element that Windows reserves, such as `con` or `com1.x`.
    #[error("a path element or version begins with a name that Windows reserves")]
    ReservedName,
    /// An element that looks like a Windows short name, such as `longna~1`.
    #[error("an element of a module path must not end in '~' and digits")]
    ShortName,
    /// `/v1`, `/v02`, `/v1.2` at the end of a module path.
    #[error(
        "a module path's major version suffix must be /v2 or higher, without dots or leading zeros"
    )]
    BadMajorSuffix,
    /// A `gopkg.in` path without `.vN`.
    #[error("a gopkg.in path must end in .vN")]
    BadGopkgSuffix,
    /// Only a canonical version may stand there.
    #[error("expected a canonical version: vMAJOR.MINOR.PATCH[-PRERELEASE][+incompatible]")]
    NotCanonical,
    /// The version's major doesn't fit the module path.
    #[error(
        "the version's major number does not fit the module path (/vN wants vN; no suffix wants v0, v1 or +incompatible)"
    )]
    MajorMismatch,
    /// The checksum database's name isn't `host[/path]` in lower case.
    #[error("the checksum database's name must be a lower-case host name, with or without a path")]
    BadSumDbName,
    /// Unknown call of the checksum database.
    #[error(
        "expected supported, latest, lookup/MODULE@VERSION or tile/… after the checksum database's name"
    )]
    UnknownSumDbCall,
    /// `lookup/` without `MODULE@VERSION`.
    #[error("expected lookup/MODULE@VERSION")]
    BadLookup,
    /// A tile path that isn't in canonical form.
    #[error(
        "expected tile/HEIGHT/LEVEL/NUMBER[.p/WIDTH] or tile/HEIGHT/data/NUMBER[.p/WIDTH] in canonical form"
    )]
    BadTile,
}

impl GrammarError {
    /// Whether the request is refused for its length: 414 rather than 400.
    pub const fn is_too_long(self) -> bool {
        matches!(self, Self::PathTooLong | Self::ElementTooLong)
    }
}
