//! The checksum database as a proxy passes it on: `/sumdb/NAME/CALL`.
//!
//! A name may have slashes. To keep the split from the call unambiguous, none of its elements may
//! be a call's word: `supported`, `latest`, `lookup` or `tile`.

use std::{
    fmt::{self, Write},
    str::FromStr,
};

use super::{GrammarError, ModulePath, Tile, Version, path::check_element};

/// One request to a checksum database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SumDb {
    /// Which database.
    pub name: SumDbName,
    /// What is asked of it.
    pub call: SumDbCall,
}

/// A checksum database's name, as its verifier key has it: `host[/path]`, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SumDbName(Box<str>);

/// What can be asked of a checksum database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SumDbCall {
    /// Whether this proxy passes requests on; never sent upstream.
    Supported,
    /// The signed tree head.
    Latest,
    /// A module version's go.sum lines.
    Lookup(ModulePath, Version),
    /// A tile of the log.
    Tile(Tile),
}

impl SumDb {
    /// Parses what follows `/sumdb/`, percent-decoded.
    pub(super) fn parse(path: &str) -> Result<Self, GrammarError> {
        let (name, call) = split(path)?;
        Ok(Self {
            name: name.parse()?,
            call: SumDbCall::parse(call)?,
        })
    }

    /// Appends `NAME/CALL`.
    pub(super) fn push_path(&self, out: &mut String) {
        out.push_str(&self.name.0);
        out.push('/');
        match &self.call {
            SumDbCall::Supported => out.push_str("supported"),
            SumDbCall::Latest => out.push_str("latest"),
            SumDbCall::Lookup(module, version) => {
                out.push_str("lookup/");
                module.push_escaped(out);
                out.push('@');
                version.push_escaped(out);
            }
            // Writing to a String can't fail.
            SumDbCall::Tile(tile) => drop(write!(out, "{tile}")),
        }
    }
}

impl SumDbCall {
    fn parse(call: &str) -> Result<Self, GrammarError> {
        match call {
            "supported" => Ok(Self::Supported),
            "latest" => Ok(Self::Latest),
            _ if call.starts_with("tile/") => call.parse().map(Self::Tile),
            _ => match call.strip_prefix("lookup/") {
                Some(asked) => Self::parse_lookup(asked),
                None => Err(GrammarError::UnknownSumDbCall),
            },
        }
    }

    fn parse_lookup(asked: &str) -> Result<Self, GrammarError> {
        let (module, version) = asked.split_once('@').ok_or(GrammarError::BadLookup)?;
        let module = ModulePath::from_escaped(module)?;
        let version = Version::from_escaped(version)?;
        if !module.allows(&version) {
            return Err(GrammarError::MajorMismatch);
        }
        Ok(Self::Lookup(module, version))
    }
}

impl SumDbName {
    /// The name, such as `sum.example.com`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SumDbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SumDbName {
    type Err = GrammarError;

    fn from_str(name: &str) -> Result<Self, GrammarError> {
        let mut elements = name.split('/');
        let is_host = elements.next().is_some_and(is_host);
        if is_host && elements.all(is_element) {
            return Ok(Self(name.into()));
        }
        Err(GrammarError::BadSumDbName)
    }
}

/// Where the name ends and the call begins.
fn split(path: &str) -> Result<(&str, &str), GrammarError> {
    let mut end = 0;
    for element in path.split('/') {
        if end > 0 && is_call(element) {
            return Ok((&path[..end - 1], &path[end..]));
        }
        end += element.len() + 1;
    }
    Err(GrammarError::UnknownSumDbCall)
}

fn is_call(element: &str) -> bool {
    matches!(element, "supported" | "latest" | "lookup" | "tile")
}

/// A host name in lower case; its labels neither begin nor end with a dash.
fn is_host(element: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        !label.is_empty()
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    element.split('.').all(is_label) && is_element(element)
}

fn is_element(element: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~');
    check_element(element, allowed).is_ok() && !element.starts_with('.') && !is_call(element)
}

#[cfg(test)]
mod tests {
    use super::{GrammarError::*, *};

    #[test]
    fn names_may_have_slashes() {
        for name in [
            "sum.example.com",
            "localhost.localdev/sumdb",
            "a/b/c",
            "db-1.example/x_y~z",
        ] {
            assert_eq!(
                name.parse::<SumDbName>().map(|n| n.to_string()).as_deref(),
                Ok(name)
            );
            for (call, want) in [
                ("latest", SumDbCall::Latest),
                ("supported", SumDbCall::Supported),
            ] {
                let sumdb = SumDb::parse(&format!("{name}/{call}"));
                assert_eq!(
                    sumdb,
                    Ok(SumDb {
                        name: name.parse().expect("a name"),
                        call: want
                    })
                );
            }
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in [
            "",
            "/",
            "Sum.example.com",
            ".example.com",
            "example.com.",
            "a..b",
            "-a.example",
            "a-.example",
            "example.com:80",
            "example.com/",
            "example.com//a",
            "example.com/..",
            "example.com/.a",
            "example.com/a.",
            "example.com/A",
            "example.com/a b",
            "a_b.example",
            "example.com/a@b",
            "example.com/tile",
            "lookup",
            "example.com/!a",
            "con.example",
        ] {
            assert_eq!(name.parse::<SumDbName>(), Err(BadSumDbName), "{name:?}");
        }
    }

    #[test]
    fn the_first_word_of_a_call_ends_the_name() {
        let cases = [
            ("", UnknownSumDbCall),
            ("latest", UnknownSumDbCall),
            ("a.b", UnknownSumDbCall),
            ("a.b/", UnknownSumDbCall),
            ("a.b/other", UnknownSumDbCall),
            ("/latest", BadSumDbName),
            ("a.b//latest", BadSumDbName),
            ("a.b/latest/", UnknownSumDbCall),
            ("a.b/latest/latest", UnknownSumDbCall),
            ("a.b/supported/x", UnknownSumDbCall),
            ("a.b/lookup", UnknownSumDbCall),
            ("a.b/tile", UnknownSumDbCall),
            ("a.b/lookup/", BadLookup),
            ("a.b/lookup/x.y/z", BadLookup),
            ("a.b/lookup/x.y/z@", NotCanonical),
            ("a.b/lookup/@v1.0.0", EmptyElement),
            ("a.b/lookup/x.y/z@master", NotCanonical),
            ("a.b/lookup/x.y/z@v1", NotCanonical),
            ("a.b/lookup/x.y/z@v1.0.0/go.mod", NotCanonical),
            ("a.b/lookup/x.y/z@v1.0.0@v1.0.0", NotCanonical),
            ("a.b/lookup/x.y/z@v2.0.0", MajorMismatch),
            ("a.b/lookup/x.y/Z@v1.0.0", UpperCase),
            ("a.b/tile/8/0/1", BadTile),
        ];
        for (path, want) in cases {
            assert_eq!(SumDb::parse(path), Err(want), "{path:?}");
        }
    }

    #[test]
    fn a_looked_up_module_may_have_elements_that_look_like_calls() {
        let path = "a.b/c/lookup/x.y/lookup/tile/!z@v1.0.0-!r!c1";
        let sumdb = SumDb::parse(path).expect("a lookup");
        let module = "x.y/lookup/tile/Z".parse().expect("a module");
        let version = "v1.0.0-RC1".parse().expect("a version");
        assert_eq!(sumdb.call, SumDbCall::Lookup(module, version));
        let mut printed = String::new();
        sumdb.push_path(&mut printed);
        assert_eq!(printed, path);
    }
}
