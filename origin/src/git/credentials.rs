//! What repositories, and the pages that name them, are asked with.
//!
//! A secret is read from its file at each use and shown to its address only: to pages by us, to
//! repositories by git, which reads it from the file itself.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modcdn_core::refusal::Reason;
use reqwest::Url;

use super::fault::Fault;
use super::gitconfig;
use super::program::{Ended, Output, Run};
use super::remote::RemoteUrl;
use super::workshop::{As, NO_SSH, SMALL, Workshop, config_file, cut_off};
use crate::config::GitCredential;
use crate::secret::{Secret, SecretFile};

impl Workshop {
    /// What a repository is fetched with, if anything; its file must be there.
    pub(super) async fn credential(
        &self,
        remote: &RemoteUrl,
        who: As,
    ) -> Result<Option<&GitCredential>, Fault> {
        let Some(found) = self.entry(remote.url(), who) else {
            return Ok(None);
        };
        self.secret(found).await?;
        if let Some(file) = &found.identity
            && let Err(error) = fs::File::open(file)
        {
            return Err(no_secret(found, file, &error));
        }
        Ok(Some(found))
    }

    /// The user and password to show to a page, if any.
    pub(crate) async fn password(
        &self,
        url: &Url,
        who: As,
    ) -> Result<Option<(String, String)>, Fault> {
        let Some(found) = self.entry(url, who) else {
            return Ok(None);
        };
        if let Some(secret) = self.secret(found).await? {
            return Ok(Some((found.user.clone(), secret.expose().to_owned())));
        }
        if found.helper.is_none() {
            return Ok(None);
        }
        let asked = self.ask_helper(url).await?;
        let said = String::from_utf8_lossy(&asked.output);
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        Ok(field("username=")
            .zip(field("password="))
            .map(|(u, p)| (u.to_owned(), p.to_owned())))
    }

    async fn ask_helper(&self, url: &Url) -> Result<Ended, Fault> {
        let run = Run {
            arguments: ["credential", "fill"].map(OsString::from).to_vec(),
            repository: None,
            config: config_file(&self.home, As::Itself),
            ssh: NO_SSH.to_owned(),
            input: format!("url={url}\n\n").into(),
            output: Output::Memory(SMALL),
            limit: self.config.timeouts.page.get(),
            file_limit: SMALL,
            growth: None,
        };
        let ran = self.counted("credential", run).await;
        ran.map_err(|cut| cut_off(&cut, "the answer of a credential helper"))
    }

    fn entry(&self, url: &Url, who: As) -> Option<&GitCredential> {
        match who {
            As::Anybody => None,
            As::Itself => gitconfig::credential(&self.config.credentials, url),
        }
    }

    async fn secret(&self, of: &GitCredential) -> Result<Option<Secret>, Fault> {
        let Some(file) = &of.password_file else {
            return Ok(None);
        };
        let Some(secret) = self.passwords.get(file) else {
            return Ok(None);
        };
        match secret.read().await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) => Err(no_secret(of, file, &error)),
        }
    }
}

pub(super) fn password_files(credentials: &[GitCredential]) -> HashMap<PathBuf, Arc<SecretFile>> {
    let files = credentials
        .iter()
        .filter_map(|one| one.password_file.clone());
    files
        .map(|file| (file.clone(), SecretFile::new(&file)))
        .collect()
}

/// Says the file to the log only.
fn no_secret(of: &GitCredential, file: &Path, error: &io::Error) -> Fault {
    tracing::error!(file = %file.display(), %error, "can't read a file of git.credentials");
    Fault::failed(
        Reason::GitUnreadable,
        format!("the origin can't read its own credentials for {}", of.url),
    )
    .hint("look at the origin's log, and at git.credentials")
}

#[cfg(test)]
mod tests {
    use super::super::workshop::tests::workshop;
    use super::*;

    #[tokio::test]
    async fn passwords_are_for_private_modules_and_their_address() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "s3cret\n").unwrap();
        let helper = "!f() { test $1 = get && echo username=h && echo password=helped; }; f";
        let workshop = workshop(
            dir.path(),
            &format!(
                "{{credentials: [{{url: 'https://a.example', user: me, password_file: '{}'}},
                   {{url: 'https://a.example/team', helper: '{helper}'}}]}}",
                file.display()
            ),
        );
        let password = async |url: &str, who| {
            let url = url.parse().unwrap();
            workshop.password(&url, who).await.unwrap()
        };
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        let own = password("https://a.example/x?go-get=1", As::Itself).await;
        assert_eq!(own, pair("me", "s3cret"));
        let helped = password("https://a.example/team/x?go-get=1", As::Itself).await;
        assert_eq!(helped, pair("h", "helped"));
        assert_eq!(password("https://b.example/x", As::Itself).await, None);
        assert_eq!(password("http://a.example/x", As::Itself).await, None);
        assert_eq!(password("https://a.example/x", As::Anybody).await, None);
        fs::remove_file(file).unwrap();
        let url = "https://a.example/x".parse().unwrap();
        assert!(workshop.password(&url, As::Itself).await.is_err());
    }
}
