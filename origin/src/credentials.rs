//! What is shown to whom: credentials by URL, their secrets from files.
//!
//! The longest URL that covers a request's counts. Each request is judged by itself, a redirected
//! one too, so credentials never reach a server or a path that they weren't given for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use reqwest::Url;

use crate::config::{Credential, UrlPrefix};
use crate::secret::{Secret, SecretFile};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// The longest URL first.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    url: UrlPrefix,
    /// Basic, if there is a name.
    user: Option<String>,
    file: Arc<SecretFile>,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    Basic { user: String, password: Secret },
    Bearer(Secret),
}

/// A file with a secret that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't use the secret in {path}: {error}", path = path.display())]
pub(crate) struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) error: io::Error,
}

impl Credentials {
    /// Reads every file once.
    ///
    /// # Errors
    /// The first one that can't be used.
    pub(crate) fn open(config: &[Credential]) -> Result<Self, Unusable> {
        let mut known: Vec<Known> = config.iter().filter_map(Known::new).collect();
        known.sort_by_key(|one| std::cmp::Reverse(one.url.depth()));
        for one in &known {
            one.shown(one.file.read_now())?;
            if one.url.is_clear_text() {
                tracing::warn!(url = %one.url, "credentials go over the network in clear text");
            }
        }
        Ok(Self { known })
    }

    /// What is to be shown to that URL, if anything is.
    ///
    /// # Errors
    /// The secret can't be read now.
    pub(crate) async fn find(&self, url: &Url) -> Result<Option<Authorization>, Unusable> {
        let Some(one) = self.known.iter().find(|one| one.url.covers(url)) else {
            return Ok(None);
        };
        one.shown(one.file.read().await).map(Some)
    }
}

impl Known {
    /// `None` for what the configuration's check doesn't let pass.
    fn new(config: &Credential) -> Option<Self> {
        let file = config
            .token_file
            .as_ref()
            .or(config.password_file.as_ref())?;
        Some(Self {
            url: config.url.clone(),
            user: config.user.clone(),
            file: SecretFile::new(file),
        })
    }

    fn shown(&self, read: io::Result<Secret>) -> Result<Authorization, Unusable> {
        let secret = read.map_err(|error| Unusable {
            path: self.file.path().to_owned(),
            error,
        })?;
        Ok(match &self.user {
            Some(user) => Authorization::Basic {
                user: user.clone(),
                password: secret,
            },
            None => Authorization::Bearer(secret),
        })
    }
}

impl Authorization {
    /// What a URL carries as `name:password@`.
    pub(crate) fn in_url(url: &Url) -> Option<Self> {
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        if url.username().is_empty() && url.password().is_none() {
            return None;
        }
        Some(Self::Basic {
            user: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()).as_str().into(),
        })
    }

    /// The value of `Authorization`, marked as sensitive; `None` if no header can carry it.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic { user, password } => {
                let both = format!("{user}:{}", password.expose());
                format!("Basic {}", BASE64.encode(both))
            }
            Self::Bearer(token) => format!("Bearer {}", token.expose()),
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Whether a text gives it away.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let (Self::Basic {
            password: secret, ..
        }
        | Self::Bearer(secret)) = self;
        let encoded = self.header();
        let encoded = encoded.as_ref().and_then(|value| value.to_str().ok());
        let encoded = encoded.and_then(|value| value.split_once(' '));
        let given_away = |secret: &str| !secret.is_empty() && text.contains(secret);
        given_away(secret.expose()) || encoded.is_some_and(|(_, value)| given_away(value))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn credential(url: &str, user: Option<&str>, file: &Path) -> Credential {
        Credential {
            url: url.parse().unwrap(),
            user: user.map(str::to_owned),
            password_file: user.map(|_| file.to_owned()),
            token_file: user.is_none().then(|| file.to_owned()),
        }
    }

    async fn found(credentials: &Credentials, url: &str) -> Option<String> {
        let found = credentials.find(&url.parse().unwrap()).await.unwrap();
        let header = found?.header().unwrap();
        assert!(header.is_sensitive());
        Some(header.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn the_longest_url_counts_and_no_other_server_sees_anything() {
        let dir = tempfile::tempdir().unwrap();
        let [token, password] = ["token", "password"].map(|name| dir.path().join(name));
        fs::write(&token, "t0ken\n").unwrap();
        fs::write(&password, "Passw0rd\n").unwrap();
        let credentials = Credentials::open(&[
            credential("https://a.example/", Some("me"), &password),
            credential("https://a.example/go", None, &token),
        ])
        .unwrap();
        let basic = Some("Basic bWU6UGFzc3cwcmQ=".to_owned());
        let bearer = Some("Bearer t0ken".to_owned());
        for (url, expected) in [
            ("https://a.example/x", &basic),
            ("https://a.example/gopher", &basic),
            ("https://a.example/go/x", &bearer),
            ("http://a.example/go/x", &None),
            ("https://b.example/go/x", &None),
            ("https://a.example:444/", &None),
        ] {
            assert_eq!(found(&credentials, url).await, *expected, "{url}");
        }
        assert!(!format!("{credentials:?}").contains("Passw0rd"));
        fs::write(&token, "another").unwrap();
        let next = found(&credentials, "https://a.example/go/x").await;
        assert_eq!(next.as_deref(), Some("Bearer another"));
        fs::remove_file(&token).unwrap();
        let url = "https://a.example/go/x".parse().unwrap();
        let error = credentials.find(&url).await.unwrap_err();
        assert!(error.to_string().contains("token"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_at_start_is_named() {
        let credential = credential("https://a.example", None, Path::new("/nonexistent/t"));
        let error = Credentials::open(&[credential]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/t"), "{error}");
    }

    #[test]
    fn a_url_carries_its_name_and_password_percent_encoded() {
        let of = |url: &str| Authorization::in_url(&url.parse().unwrap());
        assert_eq!(of("https://a.example/"), None);
        let both = of("https://m%40e:p%3Aw@a.example/").unwrap();
        assert_eq!(
            both,
            Authorization::Basic {
                user: "m@e".to_owned(),
                password: "p:w".into()
            }
        );
        assert!(!format!("{both:?}").contains("p:w"));
        assert!(both.is_in("echo p:w") && !both.is_in("echo p"));
        let encoded = both.header().unwrap();
        assert!(both.is_in(encoded.to_str().unwrap()));
    }
}
