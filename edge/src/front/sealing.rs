//! TLS 1.3 records, encrypted from where their plaintext lies.
//!
//! rustls copies a record's plaintext into the record and encrypts it there. For a body from RAM that
//! copy is an eighth of all that sending it costs. So the two AES-GCM suites have an encrypter of
//! ours: of the same library, with the same keys, nonces and layout (RFC 8446 §5.2, §5.3), all of
//! which rustls derives and counts. It differs where a record is one long slice with at most a little
//! behind it: that is encrypted out of place. Everything else of TLS is rustls'.

use std::sync::LazyLock;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, Nonce};
use aws_lc_rs::aead::{TlsProtocolId, TlsRecordSealingKey};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError,
    make_tls13_aad,
};
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    SupportedCipherSuite, Tls13CipherSuite,
};

/// Below this a copy costs nothing worth a word.
const LONG: usize = 4 << 10;

/// What may stand behind the long slice: room for the head of an HTTP/2 frame.
pub(crate) const LITTLE: usize = 16;

/// The authentication tag of AES-GCM.
const TAG: usize = 16;

/// The most plaintext of a record, its type, the tag; to make room for a record with.
static ROOM: [u8; super::tls_stream::RECORD + 1 + TAG] = [0; super::tls_stream::RECORD + 1 + TAG];

/// The cryptography of rustls and aws-lc, with encrypters of ours.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    for suite in &mut provider.cipher_suites {
        let ours = SUITES.iter().find(|ours| ours.suite() == suite.suite());
        *suite = ours.copied().unwrap_or(*suite);
    }
    provider
}

/// Made once: rustls wants them to live as long as the process.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(|| {
    let suites = [
        (TLS13_AES_128_GCM_SHA256, &AES_128_GCM),
        (TLS13_AES_256_GCM_SHA384, &AES_256_GCM),
    ];
    let ours = suites.into_iter().filter_map(|(suite, algorithm)| {
        let theirs = suite.tls13()?;
        let aead: &Aead = Box::leak(Box::new(Aead {
            theirs: theirs.aead_alg,
            algorithm,
        }));
        let ours = Tls13CipherSuite {
            common: CipherSuiteCommon {
                suite: theirs.common.suite,
                hash_provider: theirs.common.hash_provider,
                confidentiality_limit: theirs.common.confidentiality_limit,
            },
            hkdf_provider: theirs.hkdf_provider,
            aead_alg: aead,
            quic: None,
        };
        Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(ours))))
    });
    ours.collect()
});

/// A suite's cipher.
struct Aead {
    theirs: &'static dyn Tls13AeadAlgorithm,
    algorithm: &'static Algorithm,
}

impl Tls13AeadAlgorithm for Aead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        match TlsRecordSealingKey::new(self.algorithm, TlsProtocolId::TLS13, key.as_ref()) {
            Ok(key) => Box::new(Encrypter { key, iv }),
            // A key of another length, which rustls doesn't make.
            Err(_) => self.theirs.encrypter(key, iv),
        }
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.theirs.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        self.theirs.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.theirs.extract_keys(key, iv)
    }
}

struct Encrypter {
    key: TlsRecordSealingKey,
    iv: Iv,
}

impl MessageEncrypter for Encrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let length = self.encrypted_payload_len(message.payload.len());
        let mut record = PrefixedPayload::with_capacity(length);
        let nonce = rustls::crypto::cipher::Nonce::new(&self.iv, sequence);
        let nonce = Nonce::assume_unique_for_key(nonce.0);
        let aad = Aad::from(make_tls13_aad(length));
        let kind = message.typ.to_array();
        let sealed = match (long_first(&message.payload), ROOM.get(..length)) {
            (Some((long, little)), Some(room)) => {
                record.extend_from_slice(room);
                let (ciphertext, end) = record.as_mut().split_at_mut(long.len());
                let (mut behind, behind_len) = ([0; LITTLE + 1], little.len() + 1);
                behind[..little.len()].copy_from_slice(little);
                behind[little.len()..behind_len].copy_from_slice(&kind);
                let behind = &behind[..behind_len];
                self.key
                    .seal_out_of_place_scatter(nonce, aad, long, ciphertext, behind, end)
            }
            _ => {
                record.extend_from_chunks(&message.payload);
                record.extend_from_slice(&kind);
                self.key.seal_in_place_append_tag(nonce, aad, &mut record)
            }
        };
        sealed.map_err(|_| Error::EncryptError)?;
        let (kind, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        Ok(OutboundOpaqueMessage::new(kind, version, record))
    }

    fn encrypted_payload_len(&self, payload: usize) -> usize {
        payload + 1 + TAG
    }
}

/// A payload's long slice and the little behind it, if it consists of these.
fn long_first<'a>(payload: &OutboundChunks<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let (long, little): (&[u8], &[u8]) = match *payload {
        OutboundChunks::Single(long) => (long, &[]),
        OutboundChunks::Multiple {
            chunks: [long, little],
            start: 0,
            end,
        } if end == long.len() + little.len() => (long, little),
        OutboundChunks::Multiple { .. } => return None,
    };
    (long.len() >= LONG && little.len() <= LITTLE).then_some((long, little))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What our encrypter makes of a payload, and rustls' own.
    fn records(pieces: &[&[u8]], sequence: u64) -> [Vec<u8>; 2] {
        let theirs = TLS13_AES_256_GCM_SHA384;
        let ours = SUITES.iter().find(|ours| ours.suite() == theirs.suite());
        [*ours.unwrap(), theirs].map(|suite| {
            let aead = suite.tls13().unwrap().aead_alg;
            let mut encrypter = aead.encrypter(AeadKey::from([7; 32]), Iv::from([9; 12]));
            let mut encrypt = |sequence| {
                let message = OutboundPlainMessage {
                    typ: ContentType::ApplicationData,
                    version: ProtocolVersion::TLSv1_3,
                    payload: OutboundChunks::new(pieces),
                };
                encrypter.encrypt(message, sequence).unwrap().encode()
            };
            // The library insists on nonces that grow by one.
            (0..=sequence).map(&mut encrypt).last().unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_record_is_the_one_that_rustls_makes(
            long in 0_usize..16_384,
            little in 0_usize..20,
            sequence in 0_u64..4,
        ) {
            let long = vec![1; long];
            let little = vec![2; little.min(16_384 - long.len())];
            for pieces in [&[&long[..], &little[..]][..], &[&long[..]]] {
                let [ours, theirs] = records(pieces, sequence);
                prop_assert!(ours == theirs);
            }
        }
    }

    #[test]
    fn the_suites_are_those_of_rustls() {
        let names = |provider: CryptoProvider| {
            let names = provider
                .cipher_suites
                .into_iter()
                .map(|suite| suite.suite());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(provider()), names(default_provider()));
        assert_eq!(SUITES.len(), 2);
    }
}
