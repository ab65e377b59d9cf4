//! A mount's section `sumdb`: which checksum database is believed, how it is asked, and what is
//! done without its word.

use std::fmt;
use std::str::FromStr;

use modcdn_core::goproxy::SumDbName;
use modcdn_core::sumdb::note::KeyError;
use modcdn_core::sumdb::{SUM_GOLANG_ORG, VerifierKey};
use modcdn_core::units::Period;
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The checksum database of a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SumDb {
    /// Whose word counts.
    pub key: DatabaseKey,
    /// Where it is asked; without it, as the go command does: through the first upstream that
    /// passes it on.
    pub url: Option<DatabaseUrl>,
    /// Whether it is asked at its own address where no upstream passes it on.
    pub direct: bool,
    /// What a hash that isn't proven leads to.
    pub verify: Verify,
    /// What is done while it can't be asked.
    pub unreachable: Unreachable,
    /// How long a proof may take, all requests together.
    pub timeout: Period,
    /// How long it isn't asked after it did not answer several times.
    pub rest: Period,
    /// Requests to it at once.
    pub requests: usize,
}

/// What a hash that isn't proven leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// It isn't served.
    #[default]
    Required,
    /// It is served, counted and marked.
    Warn,
    /// Nothing is asked.
    Off,
}

/// What is done while the database can't be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreachable {
    /// What isn't verified already is refused.
    #[default]
    Refuse,
    /// It is served, counted and marked, and verified later.
    Serve,
}

/// A verifier key whose name is that of a database; the public one's name stands for its key, as
/// in `GOSUMDB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseKey {
    key: VerifierKey,
    name: SumDbName,
}

/// A text that is no database's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseKeyError {
    /// Not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key of something else.
    #[error("{0:?}: a checksum database's name is a lower-case host name, with or without a path")]
    Name(String),
}

/// Where a database answers: `http` or `https`, without query and fragment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUrl(Url);

/// A text that is no such URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checksum database's URL begins with https:// or http:// and has no '?' and no '#'")]
pub struct DatabaseUrlError;

impl SumDb {
    /// See [`SumDb::direct`].
    pub const DIRECT: bool = true;
    /// See [`SumDb::timeout`].
    pub const TIMEOUT: Period = Period::secs(20);
    /// See [`SumDb::rest`].
    pub const REST: Period = Period::secs(10);
    /// See [`SumDb::requests`].
    pub const REQUESTS: usize = 64;

    /// Nothing is verified, and the database is passed on only where an upstream does so.
    #[must_use]
    pub fn off() -> Self {
        Self {
            verify: Verify::Off,
            direct: false,
            ..Self::default()
        }
    }

    /// The database that a go command with this `GOSUMDB` would ask: `off`, a key or a known name, and
    /// maybe a URL behind it.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn of_gosumdb(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (key, url) = match (words.next(), words.next(), words.next()) {
            (Some("off"), None, None) => return Ok(Self::off()),
            // The go command's own alias for where the name can't be reached.
            (Some("sum.golang.google.cn"), None, None) => {
                ("sum.golang.org", Some("https://sum.golang.google.cn"))
            }
            (Some(key), url, None) => (key, url),
            _ => return Err("expected off, or a key and maybe a URL".to_owned()),
        };
        let url = url.map(str::parse).transpose();
        Ok(Self {
            key: key
                .parse()
                .map_err(|error: DatabaseKeyError| error.to_string())?,
            url: url.map_err(|error: DatabaseUrlError| error.to_string())?,
            ..Self::default()
        })
    }

    /// What must hold.
    pub(super) fn check(&self, key: &str, require: &mut impl FnMut(bool, &str, &str)) {
        require(
            !self.timeout.is_zero(),
            &format!("{key}.timeout"),
            "must be above zero: every wait has an end",
        );
        require(
            self.requests > 0,
            &format!("{key}.requests"),
            "must be above zero",
        );
    }
}

impl Default for SumDb {
    fn default() -> Self {
        Self {
            key: DatabaseKey::default(),
            url: None,
            direct: Self::DIRECT,
            verify: Verify::default(),
            unreachable: Unreachable::default(),
            timeout: Self::TIMEOUT,
            rest: Self::REST,
            requests: Self::REQUESTS,
        }
    }
}

impl DatabaseKey {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &SumDbName {
        &self.name
    }
}

impl Default for DatabaseKey {
    fn default() -> Self {
        SUM_GOLANG_ORG.parse().expect("the pinned key is a key")
    }
}

impl FromStr for DatabaseKey {
    type Err = DatabaseKeyError;

    fn from_str(text: &str) -> Result<Self, DatabaseKeyError> {
        let text = text.trim();
        let is_public = SUM_GOLANG_ORG.split('+').next() == Some(text);
        let text = if is_public { SUM_GOLANG_ORG } else { text };
        let key: VerifierKey = text.parse()?;
        let name = key.name().parse();
        let name = name.map_err(|_| DatabaseKeyError::Name(key.name().to_owned()))?;
        Ok(Self { key, name })
    }
}

impl TryFrom<String> for DatabaseKey {
    type Error = DatabaseKeyError;

    fn try_from(text: String) -> Result<Self, DatabaseKeyError> {
        text.parse()
    }
}

impl From<DatabaseKey> for String {
    fn from(key: DatabaseKey) -> Self {
        key.key.to_string()
    }
}

impl DatabaseUrl {
    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Where the database of that name answers by itself.
    pub(crate) fn of(name: &SumDbName) -> Option<Self> {
        format!("https://{name}").parse().ok()
    }
}

/// Without what may be a password.
impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let url = Url::parse(text).map_err(|_| DatabaseUrlError)?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        if is_plain && matches!(url.scheme(), "http" | "https") {
            return Ok(Self(url));
        }
        Err(DatabaseUrlError)
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = DatabaseUrlError;

    fn try_from(text: String) -> Result<Self, DatabaseUrlError> {
        text.parse()
    }
}

/// With credentials: a configuration that is written down must work when it is read again.
impl From<DatabaseUrl> for String {
    fn from(url: DatabaseUrl) -> Self {
        url.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SumDb, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    #[test]
    fn the_public_database_may_be_named() {
        let section = parse("key: sum.golang.org").unwrap();
        assert_eq!(section, SumDb::default());
        assert_eq!(section.key.name().as_str(), "sum.golang.org");
    }

    #[test]
    fn a_section_survives_a_round_trip() {
        let text = "{url: 'https://me:pw@a.example/db', verify: warn, unreachable: serve}";
        let section = parse(text).unwrap();
        assert_eq!(section.verify, Verify::Warn);
        let written = serde_yaml::to_string(&section).unwrap();
        assert_eq!(parse(&written).unwrap(), section);
        assert!(!format!("{section:?}").contains("pw"));
    }

    #[test]
    fn gosumdb_is_read_as_the_go_command_does() {
        let read = |text: &str| SumDb::of_gosumdb(text).unwrap();
        assert_eq!(read("off"), SumDb::off());
        assert_eq!(read("sum.golang.org"), SumDb::default());
        assert_eq!(read(SUM_GOLANG_ORG), SumDb::default());
        let elsewhere = read("sum.golang.google.cn");
        assert_eq!(
            elsewhere,
            read("sum.golang.org https://sum.golang.google.cn")
        );
        assert_eq!(elsewhere.key, DatabaseKey::default());
        for bad in [
            "",
            "off https://a.example",
            "x",
            "sum.golang.org a.example",
            "sum.golang.org https://a https://b",
        ] {
            assert!(SumDb::of_gosumdb(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn keys_and_urls_that_are_none_are_refused() {
        let wrong_hash = SUM_GOLANG_ORG.replace("033de0ae", "033de0af");
        for (text, said) in [
            ("key: sum.example".to_owned(), "NAME+HASH+BASE64"),
            (format!("key: {wrong_hash}"), "hash"),
            // x/mod's example of a key, whose name is no host's.
            (
                "key: PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
                    .to_owned(),
                "host name",
            ),
            ("url: sum.example".to_owned(), "https://"),
            ("url: ftp://sum.example".to_owned(), "https://"),
            ("url: https://sum.example/?x".to_owned(), "https://"),
            ("verify: yes".to_owned(), "verify"),
            ("veryfy: off".to_owned(), "veryfy"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
