//! Certificates that sign themselves, for nodes that are started without `up`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Where a node finds its certificate and key.
pub struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// Writes one for 127.0.0.1 and `go.test` into `folder`, valid now.
    pub fn in_folder(folder: &Path) -> Certificate {
        fs::create_dir_all(folder).expect("a folder");
        let certificate = Certificate {
            folder: folder.to_owned(),
        };
        certificate.renew(2020, 2100);
        certificate
    }

    /// Replaces certificate and key by new ones, valid from and until the beginning of these years.
    pub fn renew(&self, from: i32, until: i32) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "go.test".to_owned()];
        let mut params = CertificateParams::new(names).expect("valid names");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).expect("a certificate");
        // The key first: whoever looks between the two sees files that don't belong together.
        fs::write(self.key(), key.serialize_pem()).expect("the key can be written");
        fs::write(self.file(), certificate.pem()).expect("the certificate can be written");
    }

    /// The certificate's file, which is also the only authority to trust.
    pub fn file(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// For a server of the test's own, with HTTP/2 and HTTP/1.1.
    pub fn acceptor(&self) -> TlsAcceptor {
        let certificate = CertificateDer::from_pem_file(self.file()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(self.key()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// The edge's section.
    pub fn section(&self, listen: &str) -> String {
        let (file, key) = (self.file(), self.key());
        let (file, key) = (file.display(), key.display());
        format!("{{listen: ['{listen}'], certificate: '{file}', key: '{key}', reload: 100ms}}")
    }
}
