//! How upstreams are asked: credentials, redirects, proxies, authorities.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use harness::{Case, Reply, Upstream};
use modcdn_core::telemetry::AccessTarget;
use modcdn_origin::Config;
use modcdn_origin::config::Credential;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

const MOD: &str = "/a.example/m/@v/v1.0.0.mod";
const TEXT: &str = "module a.example/m\n";

/// A version of `MOD` that nobody asked for yet.
fn another(n: usize) -> String {
    format!("/a.example/m/@v/v1.0.{n}.mod")
}

fn bearer(url: &str, file: &Path) -> Credential {
    Credential {
        url: url.parse().unwrap(),
        user: None,
        password_file: None,
        token_file: Some(file.to_owned()),
    }
}

/// A folder with a token in it.
fn token(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, text).unwrap();
    (dir, file)
}

fn shown(upstream: &Upstream, path: &str) -> String {
    let headers = upstream.last(path);
    let value = headers.get("authorization");
    value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_upstream_sees_its_own_credentials_and_no_others() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    b.on_text(MOD, TEXT);
    let (_dir, file) = token("t0ken-of-a\n");
    let chain = format!("{},{}", a.url(), b.url());
    let case = Case::with(&chain, |config| {
        config.credentials = vec![bearer(&a.url(), &file)];
    })
    .await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    assert_eq!(shown(&a, MOD), "Bearer t0ken-of-a");
    assert_eq!(shown(&b, MOD), "");
}

#[tokio::test]
async fn a_password_from_a_file_and_one_in_the_url_are_shown_alike() {
    let upstream = Upstream::start().await;
    upstream.on_text(MOD, TEXT);
    let (_dir, file) = token("Passw0rd");
    let basic = "Basic bWU6UGFzc3cwcmQ=";
    let from_file = Case::with(&upstream.url(), |config| {
        config.credentials = vec![Credential {
            user: Some("me".to_owned()),
            password_file: Some(file.clone()),
            ..bearer(&upstream.url(), &file)
        }];
        config.credentials[0].token_file = None;
    })
    .await;
    assert_eq!(from_file.get(MOD).await.text(), TEXT);
    assert_eq!(shown(&upstream, MOD), basic);
    let in_url = format!("http://me:Passw0rd@{}", upstream.address);
    assert_eq!(Case::start(&in_url).await.get(MOD).await.text(), TEXT);
    assert_eq!(shown(&upstream, MOD), basic);
}

#[tokio::test]
async fn a_new_secret_counts_at_once_and_a_missing_one_is_a_502() {
    let upstream = Upstream::start().await;
    let (_dir, file) = token("one");
    let case = Case::with(&upstream.url(), |config| {
        config.credentials = vec![bearer(&upstream.url(), &file)];
    })
    .await;
    for (n, secret) in ["one", "three"].into_iter().enumerate() {
        fs::write(&file, secret).unwrap();
        upstream.on_text(&another(n), TEXT);
        assert_eq!(case.get(&another(n)).await.status, 200);
        assert_eq!(shown(&upstream, &another(n)), format!("Bearer {secret}"));
    }
    fs::remove_file(&file).unwrap();
    let before = upstream.all_asked();
    let answer = case.get(&another(9)).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("modcdn-reason"), "upstream-credentials");
    assert_eq!(upstream.all_asked(), before);
}

#[tokio::test]
async fn a_secret_that_is_missing_at_start_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = harness::config(dir.path(), "off");
    config.credentials = vec![bearer("https://a.example", Path::new("/nonexistent/t"))];
    let error = modcdn_origin::Origin::start(config).await.err().unwrap();
    assert!(error.to_string().contains("/nonexistent/t"), "{error}");
}

#[tokio::test]
async fn secrets_stay_out_of_answers_and_the_access_log() {
    let upstream = Upstream::start().await;
    // An upstream that says everything that it was told.
    for said in ["bad token s3cretT0ken", "bad header bWU6czNjcmV0VDBrZW4="] {
        let (dir, file) = token("s3cretT0ken");
        let log = dir.path().join("access.log");
        upstream.only(MOD, Reply::Status(403, said));
        let case = Case::with(&upstream.url(), |config| {
            config.access_log = AccessTarget::File(log.clone());
            config.credentials = vec![Credential {
                user: Some("me".to_owned()),
                password_file: Some(file.clone()),
                token_file: None,
                ..bearer(&upstream.url(), &file)
            }];
        })
        .await;
        let answer = case.get(MOD).await;
        assert_eq!(answer.status, 502);
        let line = loop {
            let line = fs::read_to_string(&log).unwrap_or_default();
            if line.ends_with('\n') {
                break line;
            }
            tokio::task::yield_now().await;
        };
        let everything = format!("{} {:?} {line}", answer.text(), answer.headers);
        for secret in ["s3cretT0ken", "bWU6czNjcmV0VDBrZW4="] {
            assert!(!everything.contains(secret), "{everything}");
        }
    }
}

#[tokio::test]
async fn redirects_are_followed_and_credentials_stay_where_they_belong() {
    let upstream = Upstream::start().await;
    let other = Upstream::start_at("127.0.0.2").await;
    let (_dir, file) = token("t0ken");
    other.on_text("/there", TEXT);
    upstream.on_text("/go/there", TEXT);
    upstream.on_text("/outside", TEXT);
    let base = format!("{}/go", upstream.url());
    let case = Case::with(&base, |config| {
        config.credentials = vec![bearer(&base, &file)];
    })
    .await;
    for (n, (to, by, path, expected)) in [
        (format!("{}/there", other.url()), &other, "/there", ""),
        (
            "/go/there".to_owned(),
            &upstream,
            "/go/there",
            "Bearer t0ken",
        ),
        ("/outside".to_owned(), &upstream, "/outside", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let status = [301, 302, 307][n];
        upstream.on(&format!("/go{}", another(n)), Reply::Redirect(status, to));
        assert_eq!(case.get(&another(n)).await.text(), TEXT, "{path}");
        assert_eq!(shown(by, path), expected, "{path}");
    }
    other.on("/broken", Reply::Status(500, "trouble"));
    let to = format!("{}/broken", other.url());
    upstream.on(&format!("/go{}", another(8)), Reply::Redirect(302, to));
    let refused = case.get(&another(8)).await;
    assert_eq!(refused.status, 502);
    let by = format!("redirected to {}", other.address);
    assert!(refused.text().contains(&by), "{}", refused.text());
}

#[tokio::test]
async fn a_password_in_an_upstreams_url_does_not_follow_a_redirect_elsewhere() {
    let (upstream, other) = (Upstream::start().await, Upstream::start().await);
    other.on_text("/there", TEXT);
    let to = format!("http://evil:pw@{}/there", other.address);
    upstream.on(MOD, Reply::Redirect(308, to));
    let case = Case::start(&format!("http://me:pw@{}", upstream.address)).await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    assert_eq!(shown(&other, "/there"), "");
}

#[tokio::test]
async fn loops_and_long_ways_are_not_followed() {
    let upstream = Upstream::start().await;
    upstream.on("/a", Reply::Redirect(302, "/b".to_owned()));
    upstream.on("/b", Reply::Redirect(302, "/a".to_owned()));
    upstream.on(MOD, Reply::Redirect(302, "/a".to_owned()));
    for n in 0..20 {
        let next = format!("/{}", n + 1);
        upstream.on(&format!("/{n}"), Reply::Redirect(302, next));
    }
    upstream.on(&another(1), Reply::Redirect(302, "/0".to_owned()));
    upstream.on(
        &another(2),
        Reply::Redirect(302, "file:///etc/passwd".to_owned()),
    );
    let case = Case::start(&upstream.url()).await;
    for (path, said, asked) in [
        (MOD, "to where it came from", 3),
        (&another(1), "more than 10 redirects", 11),
        (&another(2), "without a usable Location", 1),
    ] {
        let before = upstream.all_asked();
        let answer = case.get(path).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("modcdn-reason"), "upstream-content");
        assert!(answer.text().contains(said), "{}", answer.text());
        assert_eq!(upstream.all_asked() - before, asked, "{said}");
    }
}

/// An acceptor with a certificate of a new authority for 127.0.0.1, and the authority's file.
fn tls(dir: &Path) -> (TlsAcceptor, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let authority = dir.join("ca.pem");
    fs::write(&authority, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority)
}

#[tokio::test]
async fn an_authority_of_ones_own_can_vouch_for_an_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, authority) = tls(dir.path());
    let upstream = Upstream::start_tls(acceptor).await;
    upstream.on_text(MOD, TEXT);
    let url = format!("https://{}", upstream.address);
    let refused = Case::start(&url).await.get(MOD).await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    let trusting = |config: &mut Config| config.upstreams.ca = vec![authority];
    assert_eq!(Case::with(&url, trusting).await.get(MOD).await.text(), TEXT);
}

#[tokio::test]
async fn a_file_without_an_authority_is_named_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    for text in ["", "no certificate"] {
        fs::write(&file, text).unwrap();
        let mut config = harness::config(dir.path(), "https://a.example");
        config.upstreams.ca = vec![file.clone()];
        let error = modcdn_origin::Origin::start(config).await.err().unwrap();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}

#[tokio::test]
async fn https_never_leads_to_http() {
    let dir = tempfile::tempdir().unwrap();
    let (acceptor, authority) = tls(dir.path());
    let (secure, open) = (Upstream::start_tls(acceptor).await, Upstream::start().await);
    open.on_text("/there", TEXT);
    secure.on(MOD, Reply::Redirect(302, format!("{}/there", open.url())));
    let trusting = |config: &mut Config| config.upstreams.ca = vec![authority];
    let case = Case::with(&format!("https://{}", secure.address), trusting).await;
    let answer = case.get(MOD).await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("from https to http"),
        "{}",
        answer.text()
    );
    assert_eq!(open.all_asked(), 0);
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_is_not_on_this_machine() {
    let (proxy, local) = (Upstream::start().await, Upstream::start().await);
    proxy.on_text(MOD, TEXT);
    local.on_text(MOD, TEXT);
    let by_way = |no_proxy: &[&str]| {
        let url = format!("http://me:pw@{}", proxy.address);
        let no_proxy = no_proxy.iter().map(|name| (*name).to_owned()).collect();
        move |config: &mut Config| {
            config.upstreams.proxy = url.parse().unwrap();
            config.upstreams.no_proxy = no_proxy;
        }
    };
    let case = Case::with("http://up.invalid", by_way(&[])).await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    let headers = proxy.last(MOD);
    assert_eq!(headers["proxy-authorization"], "Basic bWU6cHc=");
    assert_eq!(headers["host"], "up.invalid");

    let case = Case::with(&local.url(), by_way(&[])).await;
    assert_eq!(case.get(MOD).await.text(), TEXT);
    let case = Case::with("http://up.invalid", by_way(&["invalid"])).await;
    assert_eq!(case.get(MOD).await.status, 502);
    assert_eq!((proxy.all_asked(), local.all_asked()), (1, 1));
}
