//! Which repository a module is in.
//!
//! In this order: the configuration's `git.repositories`; what the path says (`hosts`); what the page at
//! `https://PATH?go-get=1` says (`meta`), confirmed by the page of the prefix it names, so
//! that nobody can claim more than his own folder of a site. What was found is remembered for a
//! while; what wasn't is asked again (true absences are remembered elsewhere, by request).

mod hosts;
mod meta;
mod pages;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use modcdn_core::goproxy::ModulePath;
use modcdn_core::refusal::Reason;
use parking_lot::Mutex;
use reqwest::Url;

use self::hosts::{Says, Vcs};
use self::meta::{Import, Kind, NoMatch, is_under, matching};
use self::pages::Page;
pub(crate) use self::pages::{Pages, Web};
use super::fault::Fault;
use super::mirror::Shelf;
use super::remote::{Protocol, RemoteUrl};
use super::workshop::As;
use crate::config::Git;

/// Where a module is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a Git repository.
    Repository(Root),
    /// At a module proxy.
    Proxy(Url),
}

/// A Git repository, and what of it the module path's beginning stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// The part of the module path that stands for `folder`.
    pub(crate) path: String,
    pub(crate) url: RemoteUrl,
    /// Usually empty: the repository's own root.
    pub(crate) folder: String,
}

/// See the module.
pub(crate) struct Discovery {
    config: Git,
    pages: Arc<dyn Pages>,
    found: Mutex<HashMap<(As, ModulePath), (Instant, Place)>>,
}

impl Discovery {
    pub(crate) fn new(config: &Git, pages: Arc<dyn Pages>) -> Self {
        Self {
            config: config.clone(),
            pages,
            found: Mutex::default(),
        }
    }

    /// Where a module is.
    ///
    /// # Errors
    /// If it can't be found out, or is where Git isn't spoken.
    pub(crate) async fn place(
        &self,
        module: &ModulePath,
        who: As,
        shelf: &Shelf,
    ) -> Result<Place, Fault> {
        let key = (who, module.clone());
        let lifetime = self.config.freshness.discovery.get();
        if let Some((when, place)) = self.found.lock().get(&key)
            && when.elapsed() < lifetime
        {
            return Ok(place.clone());
        }
        let place = self.look(module, who, shelf).await?;
        let mut found = self.found.lock();
        if found.len() >= self.config.limits.discoveries {
            found.retain(|_, (when, _)| when.elapsed() < lifetime);
        }
        if found.len() < self.config.limits.discoveries {
            found.insert(key, (Instant::now(), place.clone()));
        }
        Ok(place)
    }

    async fn look(&self, module: &ModulePath, who: As, shelf: &Shelf) -> Result<Place, Fault> {
        if let Some(root) = self.configured(module) {
            return Ok(Place::Repository(root));
        }
        match hosts::says(module.as_str()) {
            Says::At { root, url, vcs } => repository(root, vcs, &url, ""),
            Says::Somewhere { root, place, vcs } => {
                self.answering(module, root, place, vcs, who, shelf).await
            }
            Says::Impossible(why) => Err(Fault::NoRepository(why)),
            Says::Nothing => self.ask(module, who).await,
        }
    }

    fn configured(&self, module: &ModulePath) -> Option<Root> {
        let fits = self.config.repositories.iter().filter_map(|repository| {
            let (path, url) = repository.of(module)?;
            Some((repository.depth(), path, url))
        });
        let (_, path, url) = fits.max_by_key(|(depth, ..)| *depth)?;
        Some(Root {
            path: path.to_owned(),
            url,
            folder: String::new(),
        })
    }

    /// The first scheme under which there is a repository.
    async fn answering(
        &self,
        module: &ModulePath,
        root: &str,
        place: &str,
        vcs: Vcs,
        who: As,
        shelf: &Shelf,
    ) -> Result<Place, Fault> {
        if vcs != Vcs::Git {
            return Err(unsupported(root, vcs.name()));
        }
        let mut first = None;
        for protocol in [Protocol::Https, Protocol::Http, Protocol::Ssh] {
            let is_safe = protocol != Protocol::Http || self.config.insecure.matches(module);
            if !is_safe || !self.config.protocols.contains(&protocol) {
                continue;
            }
            let url = format!("{protocol}://{place}");
            let Ok(remote) = url.parse::<RemoteUrl>() else {
                continue;
            };
            let mirror = shelf.mirror(&remote, who).await;
            match mirror.refs(Instant::now()).await {
                Ok(_) => return repository(root, vcs, &url, ""),
                Err(fault) => first.get_or_insert(fault),
            };
        }
        Err(first.unwrap_or_else(|| {
            Fault::failed(
                Reason::GitFailed,
                format!("no protocol that may be used leads to {place}"),
            )
        }))
    }

    /// Asks the page of the module, and that of the prefix it names.
    async fn ask(&self, module: &ModulePath, who: As) -> Result<Place, Fault> {
        let path = module.as_str();
        let found = self.import(path, module, who).await?;
        if found.prefix != path {
            let again = self.import(&found.prefix, module, who).await?;
            if again != found {
                return Err(Fault::failed(
                    Reason::UpstreamContent,
                    format!(
                        "the pages of {path} and {} disagree about go-import",
                        found.prefix
                    ),
                ));
            }
        }
        match &found.kind {
            Kind::Vcs(vcs) => repository(&found.prefix, *vcs, &found.url, &found.folder),
            Kind::Proxy => proxy(&found, self.config.insecure.matches(module)),
            Kind::Other(name) => Err(unsupported(&found.prefix, name)),
        }
    }

    /// What the page of `page` says about the module.
    async fn import(&self, page: &str, module: &ModulePath, who: As) -> Result<Import, Fault> {
        let insecure = self.config.insecure.matches(module);
        let module = module.as_str();
        let (answer, url) = self.page(page, who, insecure).await?;
        let imports = meta::imports(&answer.text);
        let import = match matching(&imports, module) {
            Ok(import) => import.clone(),
            Err(NoMatch::None) => return Err(no_tag(&answer, &url, module)),
            Err(NoMatch::Several) => {
                let failed = format!("{url} has several go-import tags for {module}");
                return Err(Fault::failed(Reason::UpstreamContent, failed));
            }
        };
        if import.folder.starts_with(['/', '-']) || import.folder.split('/').any(|e| e == "..") {
            let failed = format!("{url} names the folder {:?}", import.folder);
            return Err(Fault::failed(Reason::UpstreamContent, failed));
        }
        debug_assert!(is_under(module, &import.prefix));
        Ok(import)
    }

    /// By https; by http only for who may, and where https brings no answer.
    async fn page(&self, path: &str, who: As, insecure: bool) -> Result<(Page, Url), Fault> {
        let url = |scheme: &str| {
            let slash = if path.contains('/') { "" } else { "/" };
            Url::parse(&format!("{scheme}://{path}{slash}?go-get=1"))
                .map_err(|_| Fault::NoRepository(format!("{path} is no web address")))
        };
        let secure = url("https")?;
        let answer = self.pages.get(&secure, who).await;
        if answer.is_err() && insecure {
            let plain = url("http")?;
            // Without credentials: anybody could be listening.
            return Ok((self.pages.get(&plain, As::Anybody).await?, plain));
        }
        Ok((answer?, secure))
    }
}

fn repository(path: &str, vcs: Vcs, url: &str, folder: &str) -> Result<Place, Fault> {
    if vcs != Vcs::Git {
        return Err(unsupported(path, vcs.name()));
    }
    let url: RemoteUrl = url.parse().map_err(|error| {
        Fault::failed(
            Reason::UpstreamContent,
            format!("{path} is said to be in a repository that can't be used: {error}"),
        )
    })?;
    Ok(Place::Repository(Root {
        path: path.to_owned(),
        url,
        folder: folder.trim_end_matches('/').to_owned(),
    }))
}

fn proxy(import: &Import, insecure: bool) -> Result<Place, Fault> {
    let url = Url::parse(&import.url).ok();
    let is_safe = |url: &Url| url.scheme() == "https" || insecure && url.scheme() == "http";
    let is_bare = |url: &Url| url.query().is_none() && url.password().is_none();
    let url = url.filter(|url| is_safe(url) && is_bare(url));
    url.map(Place::Proxy).ok_or_else(|| {
        Fault::failed(
            Reason::UpstreamContent,
            format!(
                "{} is said to be at a module proxy that isn't https",
                import.prefix
            ),
        )
    })
}

fn unsupported(path: &str, vcs: &str) -> Fault {
    Fault::failed(
        Reason::VcsUnsupported,
        format!("{path} is in a {vcs} repository, and modcdn reads Git only"),
    )
    .hint("have a module proxy that reads it stand before direct in the upstream list")
}

/// What it means that a page has no tag for the module.
fn no_tag(page: &Page, url: &Url, module: &str) -> Fault {
    let status = page.status;
    let mut at = url.clone();
    at.set_query(None);
    match status.as_u16() {
        401 | 403 | 407 => Fault::failed(
            Reason::GitUnreadable,
            format!("{at} answers {status} when asked for the repository of {module}"),
        )
        .hint("check git.credentials of the origin, or name the place under git.repositories"),
        404 | 410 => Fault::NoRepository(format!("{at} answers {status}")),
        _ if status.is_success() || status.is_redirection() => {
            Fault::NoRepository(format!("{at} has no go-import tag for {module}"))
        }
        _ => Fault::failed(Reason::UpstreamStatus, format!("{at} answers {status}"))
            .hint("try again"),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod invariants {
    pub use super::meta::invariants::page;
}

#[cfg(test)]
mod tests;
