//! The certificate of the TLS listeners, and its change while they serve.
//!
//! The files are looked at every `tls.reload` and at SIGHUP. Changed ones (time, size or inode)
//! are read and checked as a whole; new handshakes take the new certificate, open connections go
//! on. Failure rule: what can't be read, doesn't belong together or isn't valid now is refused and
//! counted, and the old one stays; it is tried again at every look until the files are right.
//!
//! Session tickets outlive a change: their keys belong to the process, not to the certificate.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::Metrics;

const SECONDS_A_DAY: f64 = 86_400.0;

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct TlsError {
    file: String,
    why: String,
}

impl TlsError {
    fn new(file: &Path, why: &impl ToString) -> TlsError {
        TlsError {
            file: file.display().to_string(),
            why: why.to_string(),
        }
    }
}

/// Where a certificate chain and its key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate that was read, and the files as they were just before.
pub(crate) struct Loaded {
    server: Arc<ServerConfig>,
    files: Files,
    stamps: [Option<Stamp>; 2],
    validity: Validity,
}

/// What new handshakes use. One per edge.
pub(crate) struct Certificates {
    current: ArcSwap<Loaded>,
    ticketer: Arc<dyn ProducesTickets>,
    metrics: Metrics,
}

impl Certificates {
    /// Reads the first certificate. One that isn't valid now is taken all the same, with a
    /// warning: at start there is none to keep, and the clock may be what is wrong.
    ///
    /// # Errors
    /// Which file can't be used and why.
    pub(crate) fn open(files: Files, metrics: &Metrics) -> Result<Arc<Certificates>, TlsError> {
        let ticketer =
            aws_lc_rs::Ticketer::new().map_err(|error| TlsError::new(&files.key, &error))?;
        let loaded = Loaded::read(files, &ticketer)?;
        let now = SystemTime::now();
        if let Err(why) = loaded.validity.check(now) {
            tracing::warn!(file = %loaded.files.certificate.display(), why, "certificate");
        }
        let certificates = Certificates {
            current: ArcSwap::from_pointee(loaded),
            ticketer,
            metrics: metrics.clone(),
        };
        certificates.show_days_left(now);
        Ok(Arc::new(certificates))
    }

    /// What the next handshake uses.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.current.load().server.clone()
    }

    /// Reads `files` if they aren't those in use; `None` if they are. Nothing changes yet.
    ///
    /// # Errors
    /// Which file can't be used and why. Counted.
    pub(crate) fn prepare(
        &self,
        files: &Files,
        now: SystemTime,
    ) -> Result<Option<Loaded>, TlsError> {
        let current = self.current.load();
        if current.files == *files && current.stamps == stamps(files) {
            return Ok(None);
        }
        let loaded = Loaded::read(files.clone(), &self.ticketer).and_then(|loaded| {
            let refuse = |why: &str| TlsError::new(&files.certificate, &why);
            loaded.validity.check(now).map_err(refuse)?;
            Ok(loaded)
        });
        loaded
            .map(Some)
            .inspect_err(|_| self.metrics.certificate_reload_failures.inc())
    }

    /// Has new handshakes use it.
    pub(crate) fn adopt(&self, loaded: Loaded, now: SystemTime) {
        self.current.store(Arc::new(loaded));
        self.metrics.certificate_reloads.inc();
        self.show_days_left(now);
        tracing::info!("new certificate in use");
    }

    /// Takes the files up if they have changed, and shows how long the certificate still lasts.
    pub(crate) fn look(&self, now: SystemTime) {
        let files = self.current.load().files.clone();
        match self.prepare(&files, now) {
            Ok(Some(loaded)) => self.adopt(loaded, now),
            Ok(None) => self.show_days_left(now),
            Err(error) => {
                tracing::error!(%error, "new certificate refused, the old one stays in use");
                self.show_days_left(now);
            }
        }
    }

    fn show_days_left(&self, now: SystemTime) {
        let left = self.current.load().validity.seconds_left(now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of some years fit into 53 bits"
        )]
        let days = left as f64 / SECONDS_A_DAY;
        self.metrics.certificate_days_left.set(days);
    }
}

impl Loaded {
    fn read(files: Files, ticketer: &Arc<dyn ProducesTickets>) -> Result<Loaded, TlsError> {
        // Before the files are read: a change in between is seen at the next look.
        let stamps = stamps(&files);
        let chain = read_chain(&files.certificate)?;
        let unusable = |error: &dyn ToString| TlsError::new(&files.certificate, &error.to_string());
        let validity = Validity::of(&chain[0]).map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| TlsError::new(&files.key, &error))?;
        let server = server_config(chain, key, ticketer).map_err(|error| unusable(&error))?;
        Ok(Loaded {
            server: Arc::new(server),
            files,
            stamps,
            validity,
        })
    }
}

/// What tells that a file was written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

fn stamps(files: &Files) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key].map(|file| stamp(file).ok())
}

fn stamp(file: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(file)?;
    Ok(Stamp {
        modified: metadata.modified().ok(),
        size: metadata.len(),
        inode: metadata.ino(),
    })
}

/// From when to when a certificate is valid, in seconds since 1970 (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy)]
struct Validity {
    from: i64,
    until: i64,
}

impl Validity {
    fn of(leaf: &CertificateDer<'_>) -> Result<Validity, String> {
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
        let validity = parsed.validity();
        Ok(Validity {
            from: validity.not_before.timestamp(),
            until: validity.not_after.timestamp(),
        })
    }

    fn check(self, now: SystemTime) -> Result<(), &'static str> {
        match seconds(now) {
            now if now < self.from => Err("is not valid yet"),
            now if now > self.until => Err("has expired"),
            _ => Ok(()),
        }
    }

    /// Negative once it has expired.
    fn seconds_left(self, now: SystemTime) -> i64 {
        self.until.saturating_sub(seconds(now))
    }
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// At least one certificate.
fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| TlsError::new(file, &error))?
        .collect();
    let chain = chain.map_err(|error| TlsError::new(file, &error))?;
    if chain.is_empty() {
        return Err(TlsError::new(file, &"holds no certificate"));
    }
    Ok(chain)
}

/// # Errors
/// The key isn't the certificate's, or of a kind that can't be used.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(super::sealing::provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = Arc::clone(ticketer);
    config.max_early_data_size = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Folder {
            Folder(tempfile::tempdir().unwrap())
        }

        fn files(&self) -> Files {
            Files {
                certificate: self.0.path().join("cert.pem"),
                key: self.0.path().join("key.pem"),
            }
        }

        /// Writes a certificate that is valid from and until these years, and its key.
        fn write(&self, from: i32, until: i32) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["go.test".to_owned()]).unwrap();
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            let certificate = params.self_signed(&key).unwrap();
            fs::write(self.files().certificate, certificate.pem()).unwrap();
            fs::write(self.files().key, key.serialize_pem()).unwrap();
        }

        fn open(&self) -> (Arc<Certificates>, Metrics) {
            let metrics = Metrics::new(&Registry::new());
            let certificates = Certificates::open(self.files(), &metrics).unwrap();
            (certificates, metrics)
        }
    }

    #[test]
    fn a_changed_certificate_is_taken_up() {
        let folder = Folder::new();
        folder.write(2020, 2100);
        let (certificates, metrics) = folder.open();
        let first = certificates.server();
        certificates.look(SystemTime::now());
        assert!(Arc::ptr_eq(&first, &certificates.server()), "no change");
        folder.write(2020, 2101);
        certificates.look(SystemTime::now());
        let second = certificates.server();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(
            Arc::ptr_eq(&first.ticketer, &second.ticketer),
            "tickets that were given stay good"
        );
        assert_eq!(metrics.certificate_reloads.get(), 1);
        assert!(metrics.certificate_days_left.get() > 20_000.0);
    }

    #[test]
    fn a_broken_certificate_is_refused_and_the_old_one_stays() {
        let folder = Folder::new();
        folder.write(2020, 2100);
        let (certificates, metrics) = folder.open();
        let first = certificates.server();
        let mut failures = 0;
        let mut refused = || {
            certificates.look(SystemTime::now());
            failures += 1;
            assert!(Arc::ptr_eq(&first, &certificates.server()));
            assert_eq!(metrics.certificate_reload_failures.get(), failures);
        };
        folder.write(2020, 2021);
        refused();
        folder.write(2099, 2100);
        refused();
        fs::write(folder.files().certificate, "no certificate").unwrap();
        refused();
        let other = Folder::new();
        other.write(2020, 2100);
        fs::copy(other.files().certificate, folder.files().certificate).unwrap();
        refused();
        fs::remove_file(folder.files().certificate).unwrap();
        refused();
        folder.write(2020, 2100);
        certificates.look(SystemTime::now());
        assert!(!Arc::ptr_eq(&first, &certificates.server()));
    }

    #[test]
    fn at_start_an_expired_certificate_is_better_than_none() {
        let folder = Folder::new();
        folder.write(2020, 2021);
        let (_, metrics) = folder.open();
        assert!(metrics.certificate_days_left.get() < 0.0);
    }

    #[test]
    fn unusable_files_are_named() {
        let folder = Folder::new();
        let absent = Certificates::open(folder.files(), &Metrics::new(&Registry::new()));
        let error = absent.err().unwrap().to_string();
        assert!(error.contains("cert.pem"), "{error}");
        folder.write(2020, 2100);
        fs::write(folder.files().certificate, "").unwrap();
        let empty = Certificates::open(folder.files(), &Metrics::new(&Registry::new()));
        let error = empty.err().unwrap().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
