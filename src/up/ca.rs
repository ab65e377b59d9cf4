//! The certificate authority of `up --tls`: made once and kept, so that it is trusted once.
//!
//! ```text
//! DATA/ca/ca.pem                  its certificate: what SSL_CERT_FILE names
//! DATA/ca/ADDRESS.pem             an edge's certificate
//! DATA/ca/private/ca.key          its key (0600, in a 0700 folder)
//! DATA/ca/private/ADDRESS.key     an edge's key
//! ```
//!
//! It can vouch for `go.test` and loopback addresses only (RFC 5280 §4.2.1.10), so trusting it
//! gives nobody else's name away. Its key is written before its certificate: a crash between
//! leaves no authority, and the next start makes one.
//!
//! Failure rule: a certificate that can't be read, doesn't fit or ends soon is made again; an
//! authority that can't be read is an error, because a new one would have to be trusted anew.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use modcdn_core::durable;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
    SanType,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::{Pem, parse_x509_pem};

use crate::up::folders::private_folder;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority is valid.
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);

/// How long an edge's certificate is valid.
const LEAF_LIFE: Duration = DAY.saturating_mul(90);

/// A certificate with less than this left is made again.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

/// Certificates begin to be valid this long before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Everything the authority vouches for: this name and those below it.
const DOMAIN: &str = "go.test";

/// A point in time: since 1970-01-01T00:00:00Z.
pub(crate) type UnixTime = Duration;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    /// The file system said no.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    /// The authority's own files are damaged.
    #[error(
        "{}: {why}; delete {} to have a new authority made (which must be trusted anew)",
        path.display(),
        folder.display()
    )]
    Damaged {
        path: PathBuf,
        folder: PathBuf,
        why: String,
    },
    /// Making a key or a certificate failed.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// An edge's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// PEM.
    pub(crate) certificate: PathBuf,
    /// PEM, readable by its owner only.
    pub(crate) key: PathBuf,
}

/// The authority.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
    certificate: Pem,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority kept in `folder`; made if there is none, or if it ends before a certificate
    /// of today would.
    ///
    /// # Errors
    /// See [`CaError`].
    pub(crate) fn open(folder: &Path, now: UnixTime) -> Result<Self, CaError> {
        // Two steps: the outer one stays open to others, who may have to read the certificate.
        fs::create_dir_all(folder)
            .and_then(|()| private_folder(&folder.join("private")))
            .map_err(|error| file_error(folder, error))?;
        let path = folder.join("ca.pem");
        let Some(pem) = read_if_there(&path)? else {
            return Self::make(folder, now);
        };
        let damaged = |path: &Path, why: String| CaError::Damaged {
            path: path.to_owned(),
            folder: folder.to_owned(),
            why,
        };
        let certificate = parse_pem(&pem).map_err(|why| damaged(&path, why))?;
        let parsed = parse(&certificate).map_err(|why| damaged(&path, why))?;
        if left(&parsed, now) < LEAF_LIFE {
            return Self::make(folder, now);
        }
        let key_path = key_path(folder, "ca");
        let key = read_if_there(&key_path)?
            .ok_or_else(|| damaged(&key_path, "is missing".to_owned()))
            .and_then(|pem| parse_key(&pem).map_err(|why| damaged(&key_path, why)))?;
        if key.subject_public_key_info() != parsed.public_key().raw {
            return Err(damaged(&key_path, "is not the key of ca.pem".to_owned()));
        }
        Ok(Self {
            folder: folder.to_owned(),
            issuer: Issuer::from_ca_cert_der(&certificate.contents.clone().into(), key)?,
            certificate,
        })
    }

    /// The file that clients have to trust.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for an edge: kept while it fits and has long enough left, else made.
    ///
    /// # Errors
    /// See [`CaError`].
    pub(crate) fn leaf(
        &self,
        address: IpAddr,
        names: &[&str],
        now: UnixTime,
    ) -> Result<Leaf, CaError> {
        let leaf = Leaf {
            certificate: self.folder.join(format!("{address}.pem")),
            key: key_path(&self.folder, &address.to_string()),
        };
        if !self.fits(&leaf, address, names, now)? {
            self.make_leaf(&leaf, address, names, now)?;
        }
        Ok(leaf)
    }

    fn make(folder: &Path, now: UnixTime) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let id: String = params.key_identifier(&key)[..4]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        // Unique, so that somebody who trusted two of them can tell them apart.
        params.distinguished_name = named(&format!("modcdn up {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![
                GeneralSubtree::DnsName(DOMAIN.to_owned()),
                GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            ],
            excluded_subtrees: Vec::new(),
        });
        set_validity(&mut params, now, AUTHORITY_LIFE);
        let pem = params.self_signed(&key)?.pem();
        write_key(&key_path(folder, "ca"), &key)?;
        write(&folder.join("ca.pem"), &pem)?;
        let certificate = parse_pem(&pem).map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        Ok(Self {
            folder: folder.to_owned(),
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    fn make_leaf(
        &self,
        leaf: &Leaf,
        address: IpAddr,
        names: &[&str],
        now: UnixTime,
    ) -> Result<(), CaError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("modcdn edge {address}"));
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        for name in names {
            let name = SanType::DnsName((*name).try_into()?);
            params.subject_alt_names.push(name);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, LEAF_LIFE);
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_key(&leaf.key, &key)?;
        write(&leaf.certificate, &certificate.pem())
    }

    /// Whether the certificate on disk is ours, is for this, and has long enough left.
    fn fits(
        &self,
        leaf: &Leaf,
        address: IpAddr,
        names: &[&str],
        now: UnixTime,
    ) -> Result<bool, CaError> {
        let (Some(pem), Some(key)) = (read_if_there(&leaf.certificate)?, read_if_there(&leaf.key)?)
        else {
            return Ok(false);
        };
        let (Ok(pem), Ok(key), Ok(authority)) =
            (parse_pem(&pem), parse_key(&key), parse(&self.certificate))
        else {
            return Ok(false);
        };
        let Ok(certificate) = parse(&pem) else {
            return Ok(false);
        };
        Ok(left(&certificate, now) >= RENEW_BEFORE
            && certificate.public_key().raw == key.subject_public_key_info()
            && certificate
                .verify_signature(Some(authority.public_key()))
                .is_ok()
            && covers(&certificate, address, names))
    }
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, now: UnixTime, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + life;
}

/// How long a certificate is still valid; nothing if it isn't yet.
fn left(certificate: &X509Certificate<'_>, now: UnixTime) -> Duration {
    let validity = certificate.validity();
    let unix = |timestamp: i64| Duration::from_secs(timestamp.try_into().unwrap_or(0));
    if unix(validity.not_before.timestamp()) > now {
        return Duration::ZERO;
    }
    unix(validity.not_after.timestamp()).saturating_sub(now)
}

/// Whether the certificate is for this address and all of these names.
fn covers(certificate: &X509Certificate<'_>, address: IpAddr, names: &[&str]) -> bool {
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return false;
    };
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let has = |wanted: &GeneralName<'_>| alternatives.value.general_names.contains(wanted);
    has(&GeneralName::IPAddress(&octets)) && names.iter().all(|n| has(&GeneralName::DNSName(n)))
}

fn parse_pem(text: &str) -> Result<Pem, String> {
    match parse_x509_pem(text.as_bytes()) {
        Ok((_, pem)) => Ok(pem),
        Err(error) => Err(format!("is no PEM file ({error})")),
    }
}

fn parse(pem: &Pem) -> Result<X509Certificate<'_>, String> {
    pem.parse_x509()
        .map_err(|error| format!("is no certificate ({error})"))
}

fn parse_key(text: &str) -> Result<KeyPair, String> {
    KeyPair::from_pem(text).map_err(|error| format!("is no private key ({error})"))
}

fn key_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("private").join(format!("{name}.key"))
}

fn read_if_there(path: &Path) -> Result<Option<String>, CaError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(path, error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CaError> {
    durable::write(path, text.as_bytes()).map_err(|error| file_error(path, error))
}

/// Its folder lets nobody else in, so there is no moment at which others could read it.
fn write_key(path: &Path, key: &KeyPair) -> Result<(), CaError> {
    write(path, &key.serialize_pem())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| file_error(path, error))
}

fn file_error(path: &Path, error: io::Error) -> CaError {
    CaError::File {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// 2026-01-01.
    const NOW: UnixTime = Duration::from_secs(1_767_225_600);
    const EU: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));
    const NAMES: &[&str] = &["go.test", "all.go.test"];

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_authority_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = read(&Authority::open(dir.path(), NOW).unwrap().certificate_file());
        let later = NOW + DAY * 3000;
        let again = Authority::open(dir.path(), later).unwrap();
        assert_eq!(read(&again.certificate_file()), first);
    }

    #[test]
    fn its_folder_is_no_more_private_than_any_other() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("ca"), dir.path().join("other"));
        Authority::open(&folder, NOW).unwrap();
        fs::create_dir(&other).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&folder), mode(&other));
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let leaf = authority.leaf(EU, NAMES, NOW).unwrap();
        for path in [leaf.key, key_path(dir.path(), "ca")] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_certificate_is_for_its_address_and_names_and_signed_by_the_authority() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let leaf = authority.leaf(EU, NAMES, NOW).unwrap();
        let pem = parse_pem(&read(&leaf.certificate)).unwrap();
        let certificate = parse(&pem).unwrap();
        assert!(covers(&certificate, EU, NAMES));
        assert!(!covers(
            &certificate,
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            NAMES
        ));
        assert!(!covers(&certificate, EU, &["go.example"]));
        assert_eq!(left(&certificate, NOW), LEAF_LIFE);
        let key = parse(&authority.certificate).unwrap();
        certificate
            .verify_signature(Some(key.public_key()))
            .unwrap();
    }

    #[test]
    fn a_certificate_is_kept_until_it_has_less_than_a_month_left() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let at = |days: u32| {
            read(
                &authority
                    .leaf(EU, NAMES, NOW + DAY * days)
                    .unwrap()
                    .certificate,
            )
        };
        let first = at(0);
        assert_eq!(at(60), first);
        let renewed = at(61);
        assert_ne!(renewed, first);
        assert_eq!(at(62), renewed);
    }

    #[test]
    fn an_authority_made_by_another_process_run_signs_what_it_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW).unwrap();
        let leaf = read(&first.leaf(EU, NAMES, NOW).unwrap().certificate);
        let again = Authority::open(dir.path(), NOW).unwrap();
        assert_eq!(read(&again.leaf(EU, NAMES, NOW).unwrap().certificate), leaf);
        let other = again
            .leaf(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 12)), NAMES, NOW)
            .unwrap();
        let pem = parse_pem(&read(&other.certificate)).unwrap();
        let key = parse(&first.certificate).unwrap();
        parse(&pem)
            .unwrap()
            .verify_signature(Some(key.public_key()))
            .unwrap();
    }

    #[test]
    fn what_does_not_fit_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), NOW).unwrap();
        let leaf = authority.leaf(EU, NAMES, NOW).unwrap();
        let first = read(&leaf.certificate);
        let more: &[&str] = &["go.test", "all.go.test", "eu.go.test"];
        assert_ne!(
            read(&authority.leaf(EU, more, NOW).unwrap().certificate),
            first
        );
        fs::write(&leaf.certificate, "garbage").unwrap();
        assert!(authority.leaf(EU, NAMES, NOW).is_ok());
        fs::write(&leaf.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let before = read(&leaf.certificate);
        assert_ne!(
            read(&authority.leaf(EU, NAMES, NOW).unwrap().certificate),
            before
        );
    }

    #[test]
    fn an_authority_near_its_end_is_replaced_and_so_is_what_it_signed() {
        let dir = tempfile::tempdir().unwrap();
        let old = Authority::open(dir.path(), NOW).unwrap();
        let signed = read(&old.leaf(EU, NAMES, NOW).unwrap().certificate);
        let late = NOW + DAY * 3600;
        let new = Authority::open(dir.path(), late).unwrap();
        assert_ne!(new.certificate.contents, old.certificate.contents);
        assert_ne!(
            read(&new.leaf(EU, NAMES, late).unwrap().certificate),
            signed
        );
    }

    #[test]
    fn a_damaged_authority_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open(dir.path(), NOW).unwrap();
        let key = key_path(dir.path(), "ca");
        for spoil in [
            |key: &Path| fs::write(key, KeyPair::generate().unwrap().serialize_pem()).unwrap(),
            |key: &Path| fs::write(key, "garbage").unwrap(),
            |key: &Path| fs::remove_file(key).unwrap(),
        ] {
            spoil(&key);
            let error = Authority::open(dir.path(), NOW).unwrap_err().to_string();
            assert!(
                error.contains("ca.key") && error.contains("delete"),
                "{error}"
            );
        }
    }
}
