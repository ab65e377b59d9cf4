//! One signature over one RRset (RFC 4034 §3).

use hickory_proto::dnssec::DnsSecError;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG, SigInput};
use hickory_proto::rr::{Name, RData, SerialNumber};
use hickory_proto::serialize::binary::NameEncoding;

use super::canonical::{Canonical, encode};
use super::key::Key;

/// Signatures count from this many seconds before they are made: validators' clocks may be behind.
pub const SKEW: u32 = 3600;

/// Both ends of a signature's life are at whole multiples of this many seconds, so that every server
/// that signs within it says the same.
pub const STEP: u32 = 3600;

/// When a signature counts, in seconds since 1970 (modulo 2³², RFC 4034 §3.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// The first second.
    pub(super) inception: u32,
    /// The last second.
    pub(super) expiration: u32,
}

impl Life {
    /// The life of a signature made at `now` that should count for `validity` seconds from then on:
    /// up to [`STEP`] less, and [`SKEW`] seconds into the past.
    #[must_use]
    pub(super) fn from(now: u32, validity: u32) -> Self {
        let step = now - now % STEP;
        Self {
            inception: step.wrapping_sub(SKEW),
            expiration: step.wrapping_add(validity),
        }
    }

    /// Seconds until it ends, less than zero once it has.
    #[must_use]
    pub(super) fn left(self, now: u32) -> i32 {
        self.expiration.wrapping_sub(now).cast_signed()
    }
}

/// Signs a set with a key of `zone`; what comes is an RRSIG record's data.
///
/// # Errors
/// If the cryptographic library fails.
pub(super) fn sign(
    zone: &Name,
    key: &Key,
    set: &Canonical,
    life: Life,
) -> Result<RData, DnsSecError> {
    let input = SigInput {
        type_covered: set.kind(),
        algorithm: key.number(),
        num_labels: set.labels(),
        original_ttl: set.original_ttl(),
        sig_expiration: SerialNumber::new(life.expiration),
        sig_inception: SerialNumber::new(life.inception),
        key_tag: key.tag(),
        signer_name: zone.to_lowercase(),
    };
    let mut bytes = encode(&input, NameEncoding::UncompressedLowercase)?;
    bytes.extend(set.bytes());
    let signature = key.sign(&bytes)?;
    let rrsig = RRSIG::from_sig(input, signature);
    Ok(RData::DNSSEC(DNSSECRData::RRSIG(rrsig)))
}
