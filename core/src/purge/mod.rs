//! Purges: which answers are meant, and what becomes of them. Pure.
//!
//! [`Purge`] is what an admin listener is asked for, what the origin's purge log holds, and what an
//! edge carries out: one grammar for all three. [`log`] is how edges follow it,
//! [`Subject`] is an answer as selectors see it.

pub mod log;
mod subject;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::subject::{Named, Subject};
use crate::goproxy::{GrammarError, ModulePath, Prefix, PrefixError, Request, Version};

/// A key or prefix is no longer than this, in bytes.
pub const MAX_PATH: usize = 8192;

/// A tag is no longer than this, in bytes.
pub const MAX_TAG: usize = 1024;

/// What becomes of the answers. The harder one wins where two purges concern one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They are stale: the origin is asked before each is used again; it may stand in while the
    /// origin fails, as a stale answer may (an immutable one always may).
    Soft,
    /// They are gone.
    #[default]
    Hard,
}

impl Mode {
    /// The gentler first.
    pub const ALL: [Self; 2] = [Self::Soft, Self::Hard];

    /// The name in JSON, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// By what a purge selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Selector::Key`].
    Key,
    /// See [`Selector::Module`].
    Module,
    /// See [`Selector::Version`].
    Version,
    /// See [`Selector::Prefix`].
    Prefix,
    /// See [`Selector::Tag`].
    Tag,
    /// See [`Selector::All`].
    All,
}

impl Kind {
    /// In the order of declaration. An edge's journal writes the place in it.
    pub const ALL: [Self; 6] = [
        Self::Key,
        Self::Module,
        Self::Version,
        Self::Prefix,
        Self::Tag,
        Self::All,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Module => "module",
            Self::Version => "version",
            Self::Prefix => "prefix",
            Self::Tag => "tag",
            Self::All => "all",
        }
    }
}

/// Which answers a purge concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The answers of one path (with its query, if it has one), every variant of it.
    Key(Box<str>),
    /// Everything about a module path: list, `@latest`, queries, the files of every version, and
    /// look-ups of it in checksum databases. In one mount, or in all.
    Module(Option<Prefix>, ModulePath),
    /// One version's `.info`, `.mod` and `.zip`, and look-ups of it in checksum databases. In one
    /// mount, or in all.
    Version(Option<Prefix>, ModulePath, Version),
    /// A path and everything below it, element by element: `/a/b` is not a prefix of `/a/bc`.
    Prefix(Box<str>),
    /// What the origin tagged so, with a `Cache-Tag` field.
    Tag(Box<str>),
    /// Everything.
    All,
}

/// Why a purge makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// Not exactly one selector.
    #[error("name exactly one of: key, module (with or without version), prefix, tag, all")]
    NotOne,
    /// A version of what?
    #[error("a version needs its module")]
    VersionAlone,
    /// A mount of what?
    #[error("a mount goes with a module; a key and a prefix begin with the mount's own")]
    MountAlone,
    /// Not a mount's prefix.
    #[error("mount: {0}")]
    Mount(#[from] PrefixError),
    /// `all: false`.
    #[error("`all` is true or left out")]
    NotAll,
    /// Not the path of an answer.
    #[error(
        "key {0:?}: a path as it is asked for, such as /example.com/m/@v/v1.0.0.zip, \
         at most {MAX_PATH} bytes, without blanks"
    )]
    Key(String),
    /// Not a prefix.
    #[error(
        "prefix {0:?}: a path that begins with / and has something behind it, such as \
         /github.com/acme, at most {MAX_PATH} bytes, without blanks; for everything say `all`"
    )]
    Prefix(String),
    /// Not a tag.
    #[error("tag {0:?}: 1 to {MAX_TAG} bytes without commas and blanks")]
    Tag(String),
    /// Not a module path.
    #[error("module {0:?}: {1}")]
    Module(String, GrammarError),
    /// Not a version.
    #[error("version {0:?}: {1}")]
    Version(String, GrammarError),
    /// The module can't have such a version.
    #[error("module {0} cannot have version {1}: its path asks for another major version")]
    Mismatch(ModulePath, Version),
}

impl Selector {
    /// One path. One of the module protocol is taken in its canonical form, however it was
    /// percent-encoded.
    ///
    /// # Errors
    /// It isn't a path.
    pub fn key(text: &str) -> Result<Self, PurgeError> {
        let (mount, rest) = Prefix::split(text);
        if let Ok(request) = Request::parse(rest) {
            return Ok(Self::Key(format!("{mount}{}", request.path()).into()));
        }
        if is_path(text) {
            Ok(Self::Key(text.into()))
        } else {
            Err(PurgeError::Key(text.to_owned()))
        }
    }

    /// A module path, as `go.mod` has it (not escaped), in all mounts.
    ///
    /// # Errors
    /// It isn't a module path.
    pub fn module(path: &str) -> Result<Self, PurgeError> {
        parse_module(path).map(|module| Self::Module(None, module))
    }

    /// A canonical version of a module, neither escaped, in all mounts.
    ///
    /// # Errors
    /// One of them is none, or the module can't have that version.
    pub fn version(path: &str, version: &str) -> Result<Self, PurgeError> {
        let module = parse_module(path)?;
        let parsed = version.parse::<Version>();
        let version = parsed.map_err(|error| PurgeError::Version(version.to_owned(), error))?;
        if module.allows(&version) {
            Ok(Self::Version(None, module, version))
        } else {
            Err(PurgeError::Mismatch(module, version))
        }
    }

    /// The same module or version, in that mount only: `/team-a/`.
    ///
    /// # Errors
    /// It isn't a mount's prefix, or no module is selected.
    pub fn in_mount(self, mount: &str) -> Result<Self, PurgeError> {
        let mount = Some(mount.parse()?);
        match self {
            Self::Module(_, module) => Ok(Self::Module(mount, module)),
            Self::Version(_, module, version) => Ok(Self::Version(mount, module, version)),
            _ => Err(PurgeError::MountAlone),
        }
    }

    /// A path and what is below it, as paths are asked for (module paths in them are escaped). A
    /// `/` at the end makes no difference.
    ///
    /// # Errors
    /// It isn't a path, or it is `/`.
    pub fn prefix(text: &str) -> Result<Self, PurgeError> {
        let prefix = text.trim_end_matches('/');
        if is_path(prefix) && !prefix.contains('?') {
            Ok(Self::Prefix(prefix.into()))
        } else {
            Err(PurgeError::Prefix(text.to_owned()))
        }
    }

    /// A tag; upper and lower case differ.
    ///
    /// # Errors
    /// It can't be a tag.
    pub fn tag(text: &str) -> Result<Self, PurgeError> {
        let fits = !text.contains(',') && is_word(text) && text.len() <= MAX_TAG;
        if fits {
            Ok(Self::Tag(text.into()))
        } else {
            Err(PurgeError::Tag(text.to_owned()))
        }
    }

    /// By what it selects.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Key(_) => Kind::Key,
            Self::Module(..) => Kind::Module,
            Self::Version(..) => Kind::Version,
            Self::Prefix(_) => Kind::Prefix,
            Self::Tag(_) => Kind::Tag,
            Self::All => Kind::All,
        }
    }

    /// What it selects, among selectors of its kind: as keys spell it. Empty for everything.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Key(text) | Self::Prefix(text) | Self::Tag(text) => Cow::Borrowed(text),
            Self::Module(mount, module) => Cow::Owned(module_name(mount.as_ref(), module)),
            Self::Version(mount, module, version) => {
                let module = module_name(mount.as_ref(), module);
                Cow::Owned(version_name(&module, &version.escaped()))
            }
            Self::All => Cow::Borrowed(""),
        }
    }

    /// Whether it selects an answer. What will be tagged isn't known before its head is here: it may
    /// be any tag.
    #[must_use]
    pub fn selects(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Key(key) => subject.key() == &**key,
            Self::Module(..) => {
                let named = subject.module().map(|named| named.modules());
                named.is_some_and(|names| names.iter().any(|name| **name == *self.name()))
            }
            Self::Version(..) => {
                let named = subject.module().and_then(|named| named.versions());
                named.is_some_and(|names| names.iter().any(|name| **name == *self.name()))
            }
            Self::Prefix(prefix) => subject.prefixes().any(|found| found == &**prefix),
            Self::Tag(tag) => match subject.tags() {
                Some(mut tags) => tags.any(|found| found == &**tag),
                None => true,
            },
            Self::All => true,
        }
    }

    /// The selector of that kind and name.
    #[must_use]
    pub fn restored(kind: Kind, name: &str) -> Option<Self> {
        match kind {
            Kind::Key => Self::key(name).ok(),
            Kind::Module => {
                let (mount, module) = named(name)?;
                Some(Self::Module(mount, module))
            }
            Kind::Version => {
                let (module, version) = name.split_once('@')?;
                let (mount, module) = named(module)?;
                let version = Version::from_escaped(version).ok()?;
                module
                    .allows(&version)
                    .then_some(Self::Version(mount, module, version))
            }
            Kind::Prefix => Self::prefix(name).ok(),
            Kind::Tag => Self::tag(name).ok(),
            Kind::All => name.is_empty().then_some(Self::All),
        }
    }
}

/// The name of a version among versions: both escaped.
#[must_use]
pub fn version_name(module: &str, version: &str) -> String {
    format!("{module}@{version}")
}

/// A module's name among modules: with a slash before it in one mount, without in all.
fn module_name(mount: Option<&Prefix>, module: &ModulePath) -> String {
    let mount = mount.map_or("", Prefix::as_str);
    format!("{mount}{}", module.escaped())
}

fn named(name: &str) -> Option<(Option<Prefix>, ModulePath)> {
    let (mount, module) = match Prefix::split(name) {
        ("", _) if !name.starts_with('/') => (None, name),
        (mount, module) => (
            Some(format!("{mount}/").parse().ok()?),
            module.strip_prefix('/')?,
        ),
    };
    Some((mount, ModulePath::from_escaped(module).ok()?))
}

fn parse_module(path: &str) -> Result<ModulePath, PurgeError> {
    path.parse()
        .map_err(|error| PurgeError::Module(path.to_owned(), error))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() <= MAX_PATH && is_word(text)
}

/// Visible characters, at least one.
fn is_word(text: &str) -> bool {
    let visible = |c: char| !c.is_whitespace() && !c.is_control();
    !text.is_empty() && text.chars().all(visible)
}

/// As logs show it.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(text) => write!(f, "key {text}"),
            Self::Module(None, module) => write!(f, "module {module}"),
            Self::Module(Some(mount), module) => write!(f, "module {module} in {mount}"),
            Self::Version(None, module, version) => write!(f, "version {module}@{version}"),
            Self::Version(Some(mount), module, version) => {
                write!(f, "version {module}@{version} in {mount}")
            }
            Self::Prefix(text) => write!(f, "prefix {text}"),
            Self::Tag(text) => write!(f, "tag {text}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// A purge, as the admin listener is asked for it:
/// `{"module": "example.com/m", "version": "v1.0.0", "mount": "/team-a/", "mode": "soft"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Purge {
    /// Which answers.
    pub selector: Selector,
    /// What becomes of them.
    pub mode: Mode,
}

/// [`Purge`] as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    mode: Mode,
}

impl TryFrom<Wire> for Purge {
    type Error = PurgeError;

    fn try_from(wire: Wire) -> Result<Self, PurgeError> {
        let selector = match (
            wire.key.as_deref(),
            wire.module.as_deref(),
            wire.version.as_deref(),
            wire.prefix.as_deref(),
            wire.tag.as_deref(),
            wire.all,
        ) {
            (Some(key), None, None, None, None, None) => Selector::key(key)?,
            (None, Some(module), None, None, None, None) => Selector::module(module)?,
            (None, Some(module), Some(version), None, None, None) => {
                Selector::version(module, version)?
            }
            (None, None, None, Some(prefix), None, None) => Selector::prefix(prefix)?,
            (None, None, None, None, Some(tag), None) => Selector::tag(tag)?,
            (None, None, None, None, None, Some(true)) => Selector::All,
            (None, None, None, None, None, Some(false)) => return Err(PurgeError::NotAll),
            (None, None, Some(_), None, None, None) => return Err(PurgeError::VersionAlone),
            _ => return Err(PurgeError::NotOne),
        };
        let selector = match wire.mount.as_deref() {
            Some(mount) => selector.in_mount(mount)?,
            None => selector,
        };
        Ok(Self {
            selector,
            mode: wire.mode,
        })
    }
}

impl From<Purge> for Wire {
    fn from(purge: Purge) -> Self {
        let mut wire = Self {
            mode: purge.mode,
            ..Self::default()
        };
        match purge.selector {
            Selector::Key(key) => wire.key = Some(key.into()),
            Selector::Module(mount, module) => {
                wire.module = Some(module.to_string());
                wire.mount = mount.map(String::from);
            }
            Selector::Version(mount, module, version) => {
                wire.module = Some(module.to_string());
                wire.version = Some(version.to_string());
                wire.mount = mount.map(String::from);
            }
            Selector::Prefix(prefix) => wire.prefix = Some(prefix.into()),
            Selector::Tag(tag) => wire.tag = Some(tag.into()),
            Selector::All => wire.all = Some(true),
        }
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Purge, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_selector_is_read_and_written() {
        let table = [
            (
                r#"{"key":"/a.b/m/@v/v1.0.0.zip","mode":"hard"}"#,
                "key /a.b/m/@v/v1.0.0.zip",
            ),
            (
                r#"{"module":"github.com/BurntSushi/toml","mode":"soft"}"#,
                "module github.com/BurntSushi/toml",
            ),
            (
                r#"{"module":"a.b/m","version":"v1.0.0","mode":"hard"}"#,
                "version a.b/m@v1.0.0",
            ),
            (
                r#"{"module":"a.b/M","mount":"/team-a/","mode":"hard"}"#,
                "module a.b/M in /team-a/",
            ),
            (
                r#"{"module":"a.b/m","mount":"/","mode":"hard"}"#,
                "module a.b/m in /",
            ),
            (
                r#"{"module":"a.b/m","version":"v1.0.0","mount":"/eu/b/","mode":"soft"}"#,
                "version a.b/m@v1.0.0 in /eu/b/",
            ),
            (r#"{"prefix":"/a.b","mode":"hard"}"#, "prefix /a.b"),
            (r#"{"tag":"release","mode":"soft"}"#, "tag release"),
            (r#"{"all":true,"mode":"hard"}"#, "all"),
        ];
        for (json, shown) in table {
            let purge = parsed(json).unwrap();
            assert_eq!(purge.selector.to_string(), shown);
            assert_eq!(serde_json::to_string(&purge).unwrap(), json);
            let restored = Selector::restored(purge.selector.kind(), &purge.selector.name());
            assert_eq!(restored, Some(purge.selector));
        }
    }

    #[test]
    fn a_purge_is_hard_unless_it_says_soft() {
        assert_eq!(parsed(r#"{"all":true}"#).unwrap().mode, Mode::Hard);
    }

    #[test]
    fn what_is_not_exactly_one_selector_is_refused() {
        for (json, said) in [
            ("{}", "exactly one"),
            (r#"{"mode":"soft"}"#, "exactly one"),
            (r#"{"all":true,"tag":"x"}"#, "exactly one"),
            (r#"{"key":"/a","version":"v1.0.0"}"#, "exactly one"),
            (r#"{"version":"v1.0.0"}"#, "needs its module"),
            (r#"{"all":false}"#, "left out"),
            (r#"{"al":true}"#, "unknown field"),
            (r#"{"all":true,"mode":"gentle"}"#, "unknown variant"),
            (r#"{"module":"UPPER"}"#, "module \"UPPER\""),
            (r#"{"module":"a.b/m","version":"1.0"}"#, "version \"1.0\""),
            (r#"{"module":"a.b/m","version":"v2.0.0"}"#, "major version"),
            (r#"{"mount":"/team-a/"}"#, "exactly one"),
            (r#"{"all":true,"mount":"/team-a/"}"#, "goes with a module"),
            (
                r#"{"module":"a.b/m","mount":"team-a"}"#,
                "no mount's prefix",
            ),
            (r#"{"key":"a.b/m/@v/list"}"#, "key "),
            (r#"{"key":"/a b"}"#, "without blanks"),
            (r#"{"prefix":"/"}"#, "say `all`"),
            (r#"{"prefix":"a.b"}"#, "begins with /"),
            (r#"{"tag":"a,b"}"#, "without commas"),
            (r#"{"tag":""}"#, "1 to"),
        ] {
            let error = parsed(json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn a_key_is_taken_in_its_canonical_form() {
        let plain = Selector::key("/a.b/m/@v/v1.0.0.zip").unwrap();
        assert_eq!(Selector::key("/a%2Eb/m/@v/v1.0.0.zip").unwrap(), plain);
        assert_eq!(
            Selector::key("/team-a/a%2Eb/m/@v/v1.0.0.zip")
                .unwrap()
                .name(),
            "/team-a/a.b/m/@v/v1.0.0.zip"
        );
        assert_eq!(
            Selector::key("/static/App.js?v=1").unwrap().name(),
            "/static/App.js?v=1"
        );
    }

    #[test]
    fn selectors_mean_what_they_name() {
        let subject = Subject::new("/t/a.b/!m/@v/v1.0.0.zip", b"red, blue");
        for (json, means) in [
            (r#"{"key":"/t/a.b/!m/@v/v1.0.0.zip"}"#, true),
            (r#"{"key":"/a.b/!m/@v/v1.0.0.zip"}"#, false),
            (r#"{"module":"a.b/M"}"#, true),
            (r#"{"module":"a.b/M","mount":"/t/"}"#, true),
            (r#"{"module":"a.b/M","mount":"/"}"#, false),
            (r#"{"module":"a.b/m"}"#, false),
            (r#"{"module":"a.b/M","version":"v1.0.0"}"#, true),
            (r#"{"module":"a.b/M","version":"v1.0.1"}"#, false),
            (r#"{"prefix":"/t/a.b"}"#, true),
            (r#"{"prefix":"/t/a"}"#, false),
            (r#"{"tag":"red"}"#, true),
            (r#"{"tag":"re"}"#, false),
            (r#"{"all":true}"#, true),
        ] {
            assert_eq!(
                parsed(json).unwrap().selector.selects(&subject),
                means,
                "{json}"
            );
        }
        let tag = Selector::tag("green").unwrap();
        assert!(tag.selects(&Subject::awaited("/x")));
    }

    #[test]
    fn a_slash_at_a_prefix_end_makes_no_difference() {
        assert_eq!(Selector::prefix("/a/"), Selector::prefix("/a"));
    }
}
