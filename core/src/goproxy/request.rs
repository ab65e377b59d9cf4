//! A GOPROXY request: parsed from a raw path, printed as the one path that names the object.

use std::{fmt, str::FromStr};

use super::{
    GrammarError, ModulePath, Prefix, Query, SumDb, SumDbCall, Version,
    escape::{percent_decode, unescape},
};

/// How long a raw path may be, in bytes, percent-encodings included. The longest module paths in
/// use are far under 300.
pub const MAX_PATH: usize = 2048;

/// What the go command can ask of a module proxy.
///
/// Two requests are equal exactly if their [`path`](Self::path)s are, as long as they were made by
/// [`parse`](Self::parse), [`info`](Self::info), [`module_file`](Self::module_file) or
/// [`zip`](Self::zip), which also see to it that the version fits the module path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// `MODULE/@v/list`: the tagged versions.
    List(ModulePath),
    /// `MODULE/@latest`: the version to take where the list has none.
    Latest(ModulePath),
    /// `MODULE/@v/VERSION.info`: version and time of a version the module can have.
    Info(ModulePath, Version),
    /// `MODULE/@v/QUERY.info`: the version that a branch, commit or version prefix stands for. So is
    /// a canonical version that the path doesn't allow: `x.y/z/@v/v2.0.0.info` is how the go
    /// command finds `v2.0.0+incompatible`.
    Query(ModulePath, Query),
    /// `MODULE/@v/VERSION.mod`: the go.mod file.
    Mod(ModulePath, Version),
    /// `MODULE/@v/VERSION.zip`: the module's files.
    Zip(ModulePath, Version),
    /// `sumdb/NAME/…`: a call to a checksum database.
    SumDb(SumDb),
}

impl Request {
    /// Parses a path as it stands on the request line: percent-encoded, led by `/`, without the
    /// mount's prefix and without `?` and what follows it.
    pub fn parse(raw_path: &str) -> Result<Self, GrammarError> {
        if raw_path.len() > MAX_PATH {
            return Err(GrammarError::PathTooLong);
        }
        let path = percent_decode(raw_path)?;
        let path = path.strip_prefix('/').ok_or(GrammarError::NoLeadingSlash)?;
        if let Some(sumdb) = path.strip_prefix("sumdb/") {
            return SumDb::parse(sumdb).map(Self::SumDb);
        }
        // No module path has an '@', so there is only one place to split.
        let (module, call) = path.split_once('@').ok_or(GrammarError::NotARequest)?;
        let module = module.strip_suffix('/').ok_or(GrammarError::NotARequest)?;
        match (call, call.strip_prefix("v/")) {
            ("latest", _) => ModulePath::from_escaped(module).map(Self::Latest),
            (_, Some("list")) => ModulePath::from_escaped(module).map(Self::List),
            (_, Some(file)) => Self::parse_file(module, file),
            (_, None) => Err(GrammarError::NotARequest),
        }
    }

    fn parse_file(module: &str, file: &str) -> Result<Self, GrammarError> {
        let (version, kind) = file.rsplit_once('.').ok_or(GrammarError::UnknownFile)?;
        let make = match kind {
            "info" => Self::info,
            "mod" => Self::module_file,
            "zip" => Self::zip,
            _ => return Err(GrammarError::UnknownFile),
        };
        make(ModulePath::from_escaped(module)?, &unescape(version)?)
    }

    /// Asks for the `.info` of a version or query (unescaped): [`Request::Info`] if `version` is
    /// canonical and the module can have it, else [`Request::Query`].
    pub fn info(module: ModulePath, version: &str) -> Result<Self, GrammarError> {
        match version.parse() {
            Ok(version) if module.allows(&version) => Ok(Self::Info(module, version)),
            _ => Query::new(version).map(|query| Self::Query(module, query)),
        }
    }

    /// Asks for the `.mod` of a canonical version (unescaped) that the module can have.
    pub fn module_file(module: ModulePath, version: &str) -> Result<Self, GrammarError> {
        let version = fitting(&module, version)?;
        Ok(Self::Mod(module, version))
    }

    /// Asks for the `.zip` of a canonical version (unescaped) that the module can have.
    pub fn zip(module: ModulePath, version: &str) -> Result<Self, GrammarError> {
        let version = fitting(&module, version)?;
        Ok(Self::Zip(module, version))
    }

    /// The canonical path, led by `/`: cache key and suffix of the upstream URL. `!`-escaped;
    /// percent-encoded only in queries, and there only what RFC 3986 doesn't allow in a path. Never
    /// longer than any raw path that parses to it.
    pub fn path(&self) -> String {
        self.path_below(&Prefix::root())
    }

    /// The canonical path in a mount: its prefix, then [`Request::path`].
    pub fn path_below(&self, mount: &Prefix) -> String {
        let mut out = String::with_capacity(128);
        out.push_str(mount.as_str());
        match self {
            Self::List(module) => push(&mut out, module, "/@v/list"),
            Self::Latest(module) => push(&mut out, module, "/@latest"),
            Self::Info(module, version) => push_file(&mut out, module, version, ".info"),
            Self::Mod(module, version) => push_file(&mut out, module, version, ".mod"),
            Self::Zip(module, version) => push_file(&mut out, module, version, ".zip"),
            Self::Query(module, query) => {
                push(&mut out, module, "/@v/");
                query.push_encoded(&mut out);
                out.push_str(".info");
            }
            Self::SumDb(sumdb) => {
                out.push_str("sumdb/");
                sumdb.push_path(&mut out);
            }
        }
        out
    }

    /// Where the object lies below `GOMODCACHE/cache/download` (and in our store, which is such a
    /// tree): for versioned files and `list`. A relative path with `/`, without `..`.
    pub fn tree_path(&self) -> Option<String> {
        match self {
            Self::List(_) | Self::Info(..) | Self::Mod(..) | Self::Zip(..) => {
                let mut path = self.path();
                path.remove(0);
                Some(path)
            }
            Self::Latest(_) | Self::Query(..) | Self::SumDb(_) => None,
        }
    }

    /// Whether the answer can never change: versioned files and full tiles.
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Info(..) | Self::Mod(..) | Self::Zip(..) => true,
            Self::List(_) | Self::Latest(_) | Self::Query(..) => false,
            Self::SumDb(sumdb) => matches!(&sumdb.call, SumDbCall::Tile(tile) if tile.is_full()),
        }
    }

    /// The media type of a good answer.
    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Latest(_) | Self::Info(..) | Self::Query(..) => "application/json",
            Self::Zip(..) => "application/zip",
            Self::SumDb(SumDb {
                call: SumDbCall::Tile(tile),
                ..
            }) if !tile.is_data() => "application/octet-stream",
            Self::List(_) | Self::Mod(..) | Self::SumDb(_) => "text/plain; charset=utf-8",
        }
    }

    /// The module asked about; also a checksum lookup's, whose name must not leak either.
    pub fn module(&self) -> Option<&ModulePath> {
        match self {
            Self::List(module)
            | Self::Latest(module)
            | Self::Info(module, _)
            | Self::Query(module, _)
            | Self::Mod(module, _)
            | Self::Zip(module, _) => Some(module),
            Self::SumDb(sumdb) => match &sumdb.call {
                SumDbCall::Lookup(module, _) => Some(module),
                SumDbCall::Supported | SumDbCall::Latest | SumDbCall::Tile(_) => None,
            },
        }
    }

    /// The canonical version asked about.
    pub fn version(&self) -> Option<&Version> {
        match self {
            Self::Info(_, version) | Self::Mod(_, version) | Self::Zip(_, version) => Some(version),
            Self::SumDb(SumDb {
                call: SumDbCall::Lookup(_, version),
                ..
            }) => Some(version),
            Self::List(_) | Self::Latest(_) | Self::Query(..) | Self::SumDb(_) => None,
        }
    }

    /// A stable name of the kind, for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Latest(_) => "latest",
            Self::Info(..) => "info",
            Self::Query(..) => "query",
            Self::Mod(..) => "mod",
            Self::Zip(..) => "zip",
            Self::SumDb(sumdb) => match sumdb.call {
                SumDbCall::Supported => "sumdb-supported",
                SumDbCall::Latest => "sumdb-latest",
                SumDbCall::Lookup(..) => "sumdb-lookup",
                SumDbCall::Tile(_) => "sumdb-tile",
            },
        }
    }
}

/// The canonical path.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl FromStr for Request {
    type Err = GrammarError;

    fn from_str(raw_path: &str) -> Result<Self, GrammarError> {
        Self::parse(raw_path)
    }
}

fn fitting(module: &ModulePath, version: &str) -> Result<Version, GrammarError> {
    let version = version.parse()?;
    if !module.allows(&version) {
        return Err(GrammarError::MajorMismatch);
    }
    Ok(version)
}

fn push(out: &mut String, module: &ModulePath, suffix: &str) {
    module.push_escaped(out);
    out.push_str(suffix);
}

fn push_file(out: &mut String, module: &ModulePath, version: &Version, suffix: &str) {
    push(out, module, "/@v/");
    version.push_escaped(out);
    out.push_str(suffix);
}

#[cfg(test)]
mod tests {
    use super::{GrammarError::*, *};

    fn parse(raw: &str) -> Request {
        Request::parse(raw).unwrap_or_else(|e| panic!("{raw}: {e}"))
    }

    #[test]
    fn every_kind_prints_as_it_parses() {
        let cases = [
            (
                "/rsc.io/quote/@v/list",
                "list",
                false,
                "text/plain; charset=utf-8",
            ),
            ("/rsc.io/quote/@latest", "latest", false, "application/json"),
            (
                "/rsc.io/quote/@v/v1.5.2.info",
                "info",
                true,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/v1.5.2.mod",
                "mod",
                true,
                "text/plain; charset=utf-8",
            ),
            (
                "/github.com/!burnt!sushi/toml/@v/v1.0.0.zip",
                "zip",
                true,
                "application/zip",
            ),
            (
                "/rsc.io/quote/@v/v1.5.2-!r!c1.zip",
                "zip",
                true,
                "application/zip",
            ),
            (
                "/rsc.io/quote/v4/@v/v4.0.1.mod",
                "mod",
                true,
                "text/plain; charset=utf-8",
            ),
            (
                "/gopkg.in/yaml.v3/@v/v3.0.1.mod",
                "mod",
                true,
                "text/plain; charset=utf-8",
            ),
            (
                "/rsc.io/breaker/@v/v2.0.0+incompatible.zip",
                "zip",
                true,
                "application/zip",
            ),
            (
                "/rsc.io/quote/@v/master.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/v1.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/v1.5.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/v1.5.2+meta.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/list.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/breaker/@v/v2.0.0.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/a@b%20(c)%23.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/rsc.io/quote/@v/x.zip.info",
                "query",
                false,
                "application/json",
            ),
            (
                "/golang.org/toolchain/@v/v0.0.1-go1.27.0.linux-amd64.zip",
                "zip",
                true,
                "application/zip",
            ),
            (
                "/sumdb/sum.example/supported",
                "sumdb-supported",
                false,
                "text/plain; charset=utf-8",
            ),
            (
                "/sumdb/a.example/x/latest",
                "sumdb-latest",
                false,
                "text/plain; charset=utf-8",
            ),
            (
                "/sumdb/sum.example/lookup/github.com/!burnt!sushi/toml@v1.0.0",
                "sumdb-lookup",
                false,
                "text/plain; charset=utf-8",
            ),
            (
                "/sumdb/sum.example/tile/8/0/x001/234",
                "sumdb-tile",
                true,
                "application/octet-stream",
            ),
            (
                "/sumdb/sum.example/tile/8/0/x001/234.p/7",
                "sumdb-tile",
                false,
                "application/octet-stream",
            ),
            (
                "/sumdb/sum.example/tile/8/data/001",
                "sumdb-tile",
                true,
                "text/plain; charset=utf-8",
            ),
        ];
        for (path, kind, immutable, content_type) in cases {
            let request = parse(path);
            assert_eq!(request.path(), path);
            assert_eq!(request.to_string(), path);
            assert_eq!(request.kind(), kind, "{path}");
            assert_eq!(request.is_immutable(), immutable, "{path}");
            assert_eq!(request.content_type(), content_type, "{path}");
        }
    }

    #[test]
    fn all_spellings_are_one_object() {
        let cases = [
            (
                "/github.com/%21burnt%21sushi/toml/@v/list",
                "/github.com/!burnt!sushi/toml/@v/list",
            ),
            ("/rsc.io/quote/%40v/%6cist", "/rsc.io/quote/@v/list"),
            (
                "/rsc.io/breaker/@v/v2.0.0%2Bincompatible.mod",
                "/rsc.io/breaker/@v/v2.0.0+incompatible.mod",
            ),
            (
                "/rsc.io/quote/@v/a%2Cb%28%29%5b%5D.info",
                "/rsc.io/quote/@v/a,b()%5B%5D.info",
            ),
            ("/rsc.io/quote/@v/50%25.info", "/rsc.io/quote/@v/50%25.info"),
            ("/%73umdb/a.b/%6catest", "/sumdb/a.b/latest"),
        ];
        for (raw, canonical) in cases {
            assert_eq!(parse(raw).path(), canonical);
            assert_eq!(parse(raw), parse(canonical));
        }
    }

    #[test]
    fn what_is_outside_the_grammar_is_refused_with_its_reason() {
        let cases = [
            ("", NoLeadingSlash),
            ("rsc.io/quote/@v/list", NoLeadingSlash),
            ("/", NotARequest),
            ("/rsc.io/quote", NotARequest),
            ("/rsc.io/quote/@v", NotARequest),
            ("/rsc.io/quote/@Latest", NotARequest),
            ("/rsc.io/quote/@latest/", NotARequest),
            ("/rsc.io/quote/@v/", UnknownFile),
            ("/rsc.io/quote/@v/list/", UnknownFile),
            ("/rsc.io/quote/@v/LIST", UnknownFile),
            ("/rsc.io/quote/@v/v1.5.2", UnknownFile),
            ("/rsc.io/quote/@v/v1.5.2.ziphash", UnknownFile),
            ("/rsc.io/quote/@v/v1.5.2.ZIP", UnknownFile),
            ("/rsc.io/quote/@v/.info", EmptyElement),
            ("/rsc.io/quote/@v/.zip", NotCanonical),
            ("/rsc.io/quote/@v/master.zip", NotCanonical),
            ("/rsc.io/quote/@v/v1.5.mod", NotCanonical),
            ("/rsc.io/quote/@v/v1.5.2+meta.zip", NotCanonical),
            ("/rsc.io/quote/@v/v2.0.0.zip", MajorMismatch),
            ("/rsc.io/quote/v2/@v/v1.0.0.mod", MajorMismatch),
            ("/rsc.io/quote/@v/feature%2Fx.info", EncodedSlash),
            ("/rsc.io/quote/@v/feature/x.info", BadCharacter('/')),
            ("/rsc.io/quote/@v/...info", DoubleDot),
            ("/rsc.io/quote/@v/../@v/list", UnknownFile),
            ("/rsc.io/quote/@v/%2e%2e.info", DoubleDot),
            ("/rsc.io/../@v/list", DoubleDot),
            ("/rsc.io//quote/@v/list", EmptyElement),
            ("//rsc.io/quote/@v/list", EmptyElement),
            ("/rsc.io/Quote/@v/list", UpperCase),
            ("/rsc.io/%51uote/@v/list", UpperCase),
            ("/rsc.io/!Quote/@v/list", BadBang),
            ("/rsc.io/quote!/@v/list", BadBang),
            ("/rsc.io/!!quote/@v/list", BadBang),
            ("/rsc.io/quote/@v/v1.0.0-RC1.mod", UpperCase),
            ("/rsc.io/qu@te/@v/list", NotARequest),
            ("/rsc.io/@quote/@v/list", NotARequest),
            ("/rsc.io/quote;x/@v/list", BadCharacter(';')),
            ("/rsc.io/quote/@v/list;x", UnknownFile),
            ("/rsc.io/quote/@v/list?x", QueryOrFragment),
            ("/rsc.io/quote/@v/list#x", QueryOrFragment),
            ("/rsc.io/quote/@v/list%3Fx", UnknownFile),
            ("/rsc.io/quote/@v/list%00", BadByte(0)),
            ("/rsc.io/quöte/@v/list", BadByte(0xc3)),
            ("/quote/@v/list", NotADomain),
            ("/-/healthz", NotARequest),
            ("/-/@v/list", NotADomain),
            ("/gopkg.in/yaml/@v/list", BadGopkgSuffix),
            ("/!rsc.io/quote/@v/list", NotADomain),
            ("/sumdb", NotARequest),
            ("/sumdb/", UnknownSumDbCall),
            ("/SumDB/a.b/latest", NotARequest),
        ];
        for (raw, want) in cases {
            assert_eq!(Request::parse(raw), Err(want), "{raw:?}");
        }
    }

    #[test]
    fn a_path_is_bounded() {
        let of_length = |length: usize| {
            let elements = "/x.example".to_owned() + &"/a".repeat(2000);
            format!("{}/@v/list", &elements[..length - "/@v/list".len()])
        };
        assert!(Request::parse(&of_length(MAX_PATH)).is_ok());
        let error = Request::parse(&of_length(MAX_PATH + 2)).expect_err("too long");
        assert_eq!(error, PathTooLong);
        assert!(error.is_too_long());
        assert!(!BadBang.is_too_long());
    }

    #[test]
    fn versioned_files_and_lists_have_a_place_in_the_tree() {
        let cases = [
            ("/rsc.io/quote/@v/list", Some("rsc.io/quote/@v/list")),
            (
                "/github.com/%21burnt%21sushi/toml/@v/v1.0.0.zip",
                Some("github.com/!burnt!sushi/toml/@v/v1.0.0.zip"),
            ),
            (
                "/rsc.io/quote/@v/v1.5.2.info",
                Some("rsc.io/quote/@v/v1.5.2.info"),
            ),
            ("/rsc.io/quote/@v/master.info", None),
            ("/rsc.io/quote/@latest", None),
            ("/sumdb/a.b/latest", None),
        ];
        for (raw, want) in cases {
            assert_eq!(parse(raw).tree_path().as_deref(), want, "{raw}");
        }
    }

    #[test]
    fn a_request_knows_its_module_and_version() {
        let lookup = parse("/sumdb/a.b/lookup/rsc.io/quote@v1.5.2");
        assert_eq!(
            lookup.module().map(ModulePath::as_str),
            Some("rsc.io/quote")
        );
        assert_eq!(lookup.version().map(Version::as_str), Some("v1.5.2"));
        assert_eq!(parse("/sumdb/a.b/latest").module(), None);
        assert_eq!(parse("/rsc.io/quote/@v/v2.0.0.info").version(), None);
        assert_eq!(
            parse("/rsc.io/quote/@latest")
                .module()
                .map(ModulePath::as_str),
            Some("rsc.io/quote")
        );
    }
}
