//! A zone's key: made, read and described as its DNSKEY and DS records.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey};
use hickory_proto::dnssec::rdata::{CDNSKEY, CDS, DNSKEY, DNSSECRData, DS};
use hickory_proto::dnssec::{self, DigestType, PublicKey, SigningKey, TBS};
use hickory_proto::rr::{Name, RData, RecordType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};

/// The Zone Key bit of a DNSKEY's flags (RFC 4034 §2.1.1).
const ZONE_KEY: u16 = 0x0100;

/// The Secure Entry Point bit: the parent zone holds a DS record of this key.
const SECURE_ENTRY_POINT: u16 = 0x0001;

/// A signature algorithm. Both make signatures of 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256 (RFC 6605): what every validating resolver knows.
    EcdsaP256,
    /// Ed25519 (RFC 8080).
    Ed25519,
}

impl Algorithm {
    /// Its number in DNSKEY, DS and RRSIG records.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::EcdsaP256 => 13,
            Self::Ed25519 => 15,
        }
    }
}

/// What a key signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything: one key for a zone ("combined signing key").
    #[default]
    Csk,
    /// The zone's keys and what is said of them to the parent ("key signing key").
    Ksk,
    /// Everything else ("zone signing key").
    Zsk,
}

impl Role {
    /// Whether the parent zone holds a DS record of it.
    #[must_use]
    pub fn is_entry_point(self) -> bool {
        self != Self::Zsk
    }

    /// Whether it signs records of a type.
    #[must_use]
    pub fn signs(self, kind: RecordType) -> bool {
        let about_keys = matches!(
            kind,
            RecordType::DNSKEY | RecordType::CDS | RecordType::CDNSKEY
        );
        match self {
            Self::Csk => true,
            Self::Ksk => about_keys,
            Self::Zsk => !about_keys,
        }
    }

    /// The flags of its DNSKEY record.
    #[must_use]
    pub fn flags(self) -> u16 {
        if self.is_entry_point() {
            ZONE_KEY | SECURE_ENTRY_POINT
        } else {
            ZONE_KEY
        }
    }
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Shown to resolvers, and to the parent zone if it is an entry point; signs nothing yet.
    Published,
    /// Shown, and signs.
    #[default]
    Active,
    /// Shown to those who still hold its signatures; the parent zone may forget it.
    Retired,
}

/// Why a key can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The cryptographic library has no randomness, or fails otherwise.
    #[error("no key can be made: {0}")]
    Generate(dnssec::DnsSecError),
    /// It isn't a private key of an algorithm of ours.
    #[error("neither an ECDSA P-256 nor an Ed25519 private key in PKCS#8 form")]
    Unusable,
}

/// A private key of a zone. It never shows its secret.
pub struct Key {
    algorithm: Algorithm,
    role: Role,
    dnskey: DNSKEY,
    tag: u16,
    secret: Box<dyn SigningKey>,
}

impl Key {
    /// Makes a private key, as PKCS#8.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate(algorithm: Algorithm) -> Result<PrivatePkcs8KeyDer<'static>, KeyError> {
        match algorithm {
            Algorithm::EcdsaP256 => {
                EcdsaSigningKey::generate_pkcs8(dnssec::Algorithm::ECDSAP256SHA256)
            }
            Algorithm::Ed25519 => Ed25519SigningKey::generate_pkcs8(),
        }
        .map_err(KeyError::Generate)
    }

    /// A key from its PKCS#8 form, which says its algorithm.
    ///
    /// # Errors
    /// If it isn't a key of an algorithm of ours.
    pub fn from_pkcs8(der: &PrivatePkcs8KeyDer<'_>, role: Role) -> Result<Self, KeyError> {
        let p256 = EcdsaSigningKey::from_pkcs8(der, dnssec::Algorithm::ECDSAP256SHA256);
        let (algorithm, secret): (_, Box<dyn SigningKey>) = match p256 {
            Ok(key) => (Algorithm::EcdsaP256, Box::new(key)),
            Err(_) => match Ed25519SigningKey::from_pkcs8(der) {
                Ok(key) => (Algorithm::Ed25519, Box::new(key)),
                Err(_) => return Err(KeyError::Unusable),
            },
        };
        let public = secret.to_public_key().map_err(|_| KeyError::Unusable)?;
        let dnskey = DNSKEY::with_flags(role.flags(), public);
        let tag = dnskey.calculate_key_tag().map_err(|_| KeyError::Unusable)?;
        Ok(Self {
            algorithm,
            role,
            dnskey,
            tag,
            secret,
        })
    }

    /// Its algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it signs.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its tag (RFC 4034 appendix B): what a signature names it by.
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// The DNSKEY record's data.
    #[must_use]
    pub fn dnskey(&self) -> RData {
        RData::DNSSEC(DNSSECRData::DNSKEY(self.dnskey.clone()))
    }

    /// The CDNSKEY record's data: what the parent zone should point to (RFC 7344).
    #[must_use]
    pub fn cdnskey(&self) -> RData {
        let public = self.public_bytes().to_vec();
        let cdnskey = CDNSKEY::with_flags(self.dnskey.flags(), Some(self.number()), public);
        RData::DNSSEC(DNSSECRData::CDNSKEY(cdnskey))
    }

    /// The CDS record's data: the DS record that the parent zone should hold (RFC 7344).
    #[must_use]
    pub fn cds(&self, zone: &Name) -> RData {
        let digest = self.digest(zone);
        let cds = CDS::new(self.tag, Some(self.number()), DigestType::SHA256, digest);
        RData::DNSSEC(DNSSECRData::CDS(cds))
    }

    /// The DS record's data, with SHA-256 (RFC 4509).
    #[must_use]
    pub fn ds(&self, zone: &Name) -> DS {
        DS::new(
            self.tag,
            self.number(),
            DigestType::SHA256,
            self.digest(zone),
        )
    }

    /// The DNSKEY record as zone files have it.
    #[must_use]
    pub fn dnskey_line(&self, zone: &Name) -> String {
        format!(
            "{} IN DNSKEY {} 3 {} {}",
            zone.to_lowercase().to_ascii(),
            self.dnskey.flags(),
            self.algorithm.number(),
            STANDARD.encode(self.public_bytes())
        )
    }

    /// The DS record as zone files have it.
    #[must_use]
    pub fn ds_line(&self, zone: &Name) -> String {
        let hex: String = self
            .digest(zone)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!(
            "{} IN DS {} {} 2 {hex}",
            zone.to_lowercase().to_ascii(),
            self.tag,
            self.algorithm.number()
        )
    }

    /// Signs bytes.
    pub(super) fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, dnssec::DnsSecError> {
        self.secret.sign(&TBS::from(bytes))
    }

    /// Its algorithm as the codec names it.
    pub(super) fn number(&self) -> dnssec::Algorithm {
        self.dnskey.public_key().algorithm()
    }

    fn public_bytes(&self) -> &[u8] {
        self.dnskey.public_key().public_bytes()
    }

    /// SHA-256 over the zone's name and the DNSKEY record (RFC 4034 §5.1.4).
    fn digest(&self, zone: &Name) -> Vec<u8> {
        self.dnskey
            .to_digest(zone, DigestType::SHA256)
            .expect("a name and a key are encoded and SHA-256 is there")
            .as_ref()
            .to_vec()
    }
}

/// The data of the CDS and CDNSKEY records that ask the parent zone to forget all keys (RFC 8078 §4).
pub(super) fn deletion() -> [RData; 2] {
    let cds = CDS::new(0, None, DigestType::Unknown(0), vec![0]);
    let cdnskey = CDNSKEY::with_flags(0, None, vec![0]);
    [DNSSECRData::CDS(cds), DNSSECRData::CDNSKEY(cdnskey)].map(RData::DNSSEC)
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("role", &self.role)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
