use std::collections::HashMap;

use async_trait::async_trait;
use http::StatusCode;
use parking_lot::Mutex;
use prometheus::Registry;

use super::*;
use crate::config::Config;
use crate::git::fault::Failure;
use crate::git::workshop::Workshop;
use crate::metrics::Metrics;

/// Pages that are made up; all others are 404.
#[derive(Default)]
struct Book {
    pages: HashMap<&'static str, (u16, String)>,
    unreachable: Vec<&'static str>,
    asked: Mutex<Vec<(String, As)>>,
}

#[async_trait]
impl Pages for Book {
    async fn get(&self, url: &Url, who: As) -> Result<Page, Fault> {
        self.asked.lock().push((url.to_string(), who));
        if self
            .unreachable
            .iter()
            .any(|out| url.as_str().starts_with(out))
        {
            return Err(Fault::failed(Reason::UpstreamUnreachable, "no answer"));
        }
        let page = self.pages.get(url.as_str());
        let (status, text) = page.cloned().unwrap_or((404, String::new()));
        Ok(Page {
            status: StatusCode::from_u16(status).unwrap(),
            text,
        })
    }
}

impl Book {
    fn tag(mut self, url: &'static str, content: &str) -> Self {
        let tag = format!("<meta name=\"go-import\" content=\"{content}\">");
        let page = self.pages.entry(url).or_insert((200, String::new()));
        page.1 += &tag;
        self
    }

    fn status(mut self, url: &'static str, status: u16) -> Self {
        self.pages.insert(url, (status, String::new()));
        self
    }
}

struct Rig {
    _dir: tempfile::TempDir,
    discovery: Discovery,
    book: Arc<Book>,
    shelf: Shelf,
}

fn rig(book: Book, git: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("{{store: {{dir: '{}'}}, git: {git}}}", dir.path().display());
    let config: Config = modcdn_core::config::parse("origin.yaml", &text).unwrap();
    let workshop = Workshop::open(&config, Metrics::new(&Registry::new())).unwrap();
    let book = Arc::new(book);
    Rig {
        discovery: Discovery::new(&config.git, book.clone()),
        shelf: Shelf::open(workshop).unwrap(),
        book,
        _dir: dir,
    }
}

impl Rig {
    async fn place(&self, module: &str) -> Result<Place, Fault> {
        let module = module.parse().unwrap();
        self.discovery.place(&module, As::Itself, &self.shelf).await
    }

    /// Root, address and folder of a repository.
    async fn repository(&self, module: &str) -> (String, String, String) {
        match self.place(module).await.unwrap() {
            Place::Repository(root) => (root.path, root.url.to_string(), root.folder),
            other => panic!("{other:?}"),
        }
    }

    async fn reason(&self, module: &str) -> Option<Reason> {
        match self.place(module).await.unwrap_err() {
            Fault::Failed(Failure { reason, .. }) => Some(reason),
            Fault::NoRepository(_) => None,
            other => panic!("{other:?}"),
        }
    }
}

fn triple(path: &str, url: &str, folder: &str) -> (String, String, String) {
    (path.to_owned(), url.to_owned(), folder.to_owned())
}

const GIT: &str = "https://git.example/x";

#[tokio::test]
async fn a_page_says_where_the_repository_is_and_the_prefixs_page_confirms_it() {
    let book = Book::default()
        .tag(
            "https://a.example/x/sub?go-get=1",
            "a.example/x git https://git.example/x go/dir/",
        )
        .tag(
            "https://a.example/x?go-get=1",
            "a.example/x git https://git.example/x go/dir/",
        );
    let rig = rig(book, "{}");
    let found = rig.repository("a.example/x/sub").await;
    assert_eq!(found, triple("a.example/x", GIT, "go/dir"));
    assert_eq!(rig.book.asked.lock().len(), 2);
    // What was found is remembered.
    rig.repository("a.example/x/sub").await;
    assert_eq!(rig.book.asked.lock().len(), 2);
    rig.repository("a.example/x").await;
    assert_eq!(rig.book.asked.lock().len(), 3);
}

#[tokio::test]
async fn a_prefix_whose_page_says_otherwise_is_not_believed() {
    let claim = "a.example git https://evil.example/x";
    for book in [
        Book::default().tag("https://a.example/bob?go-get=1", claim),
        Book::default()
            .tag("https://a.example/bob?go-get=1", claim)
            .tag(
                "https://a.example/?go-get=1",
                "a.example git https://git.example/x",
            ),
        Book::default()
            .tag("https://a.example/bob?go-get=1", claim)
            .tag("https://a.example/?go-get=1", &format!("{claim} folder")),
    ] {
        assert!(rig(book, "{}").place("a.example/bob").await.is_err());
    }
}

#[tokio::test]
async fn what_pages_do_not_say_is_told_by_its_cause() {
    let several = "https://a.example/several?go-get=1";
    let book = Book::default()
        .status("https://a.example/empty?go-get=1", 200)
        .status("https://a.example/gone?go-get=1", 410)
        .status("https://a.example/locked?go-get=1", 401)
        .status("https://a.example/broken?go-get=1", 503)
        .tag(
            "https://a.example/hg?go-get=1",
            "a.example/hg hg https://hg.example/x",
        )
        .tag(
            "https://a.example/odd?go-get=1",
            "a.example/odd cvs https://cvs.example/x",
        )
        .tag(
            "https://a.example/up?go-get=1",
            "a.example/up git https://git.example/x ../x",
        )
        .tag(
            "https://a.example/scp?go-get=1",
            "a.example/scp git git@git.example:x",
        )
        .tag(
            "https://a.example/plain?go-get=1",
            "a.example/plain mod http://proxy.example",
        )
        .tag(several, "a.example/several git https://git.example/x")
        .tag(several, "a.example git https://git.example/x");
    let rig = rig(book, "{}");
    for (module, reason) in [
        ("a.example/none", None),
        ("a.example/empty", None),
        ("a.example/gone", None),
        ("github.com/owner", None),
        ("a.example/locked", Some(Reason::GitUnreadable)),
        ("a.example/broken", Some(Reason::UpstreamStatus)),
        ("a.example/hg", Some(Reason::VcsUnsupported)),
        ("a.example/odd", Some(Reason::VcsUnsupported)),
        ("a.example/x.svn/y", Some(Reason::VcsUnsupported)),
        ("a.example/up", Some(Reason::UpstreamContent)),
        ("a.example/scp", Some(Reason::UpstreamContent)),
        ("a.example/plain", Some(Reason::UpstreamContent)),
        ("a.example/several", Some(Reason::UpstreamContent)),
    ] {
        assert_eq!(rig.reason(module).await, reason, "{module}");
    }
}

#[tokio::test]
async fn known_hosts_and_configured_places_need_no_page() {
    let rig = rig(
        Book::default(),
        "{repositories: [{prefix: 'corp.example/*', url: 'ssh://git@git.example/*'},
           {prefix: 'corp.example/odd/lib', url: 'https://git.example/odd'}]}",
    );
    for (module, found) in [
        (
            "github.com/a/b/c/v2",
            triple("github.com/a/b", "https://github.com/a/b", ""),
        ),
        (
            "corp.example/x/y",
            triple("corp.example/x", "ssh://git@git.example/x", ""),
        ),
        (
            "corp.example/odd/lib/sub",
            triple("corp.example/odd/lib", "https://git.example/odd", ""),
        ),
        (
            "corp.example/odd",
            triple("corp.example/odd", "ssh://git@git.example/odd", ""),
        ),
    ] {
        assert_eq!(rig.repository(module).await, found, "{module}");
    }
    assert!(rig.book.asked.lock().is_empty());
}

#[tokio::test]
async fn plain_http_is_for_modules_that_may_and_without_credentials() {
    let book = || {
        let mut book = Book::default()
            .tag(
                "http://a.example/x?go-get=1",
                "a.example/x git https://git.example/x",
            )
            .tag(
                "http://b.example/x?go-get=1",
                "b.example/x mod http://proxy.example/base",
            );
        book.unreachable.push("https://");
        book
    };
    let strict = rig(book(), "{}");
    assert_eq!(
        strict.reason("a.example/x").await,
        Some(Reason::UpstreamUnreachable)
    );
    let lax = rig(book(), "{insecure: [a.example, b.example]}");
    let found = lax.repository("a.example/x").await;
    assert_eq!(found, triple("a.example/x", GIT, ""));
    let proxy = Place::Proxy("http://proxy.example/base".parse().unwrap());
    assert_eq!(lax.place("b.example/x").await, Ok(proxy));
    let asked = lax.book.asked.lock();
    assert!(
        asked
            .iter()
            .all(|(url, who)| url.starts_with("https") || *who == As::Anybody)
    );
}
