//! The section `freshness`.

use modcdn_core::units::Period;
use serde::{Deserialize, Serialize};

/// How long answers that may change (lists, `@latest`, queries, tree heads) are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freshness {
    /// An answer that may change is used this long without asking again.
    pub mutable: Period,
    /// A record of the checksum database is used this long. It never changes; the tree head
    /// beside it only grows old, which clients accept.
    pub lookup: Period,
    /// For this long after that, it is used while a newer one is fetched in the background.
    pub stale_while_revalidate: Period,
    /// For this long after it was fresh, it is used if upstream fails.
    pub stale_if_error: Period,
    /// An answer that was asked for within this time is refreshed in the background before it is
    /// stale. Zero: only once somebody asks for what is stale.
    pub ahead: Period,
    /// A true "not found" is remembered this long.
    pub not_found: Period,
}

impl Freshness {
    /// See [`Freshness::mutable`].
    pub const MUTABLE: Period = Period::secs(60);
    /// See [`Freshness::lookup`].
    pub const LOOKUP: Period = Period::secs(24 * 3600);
    /// See [`Freshness::stale_while_revalidate`].
    pub const STALE_WHILE_REVALIDATE: Period = Period::secs(5 * 60);
    /// See [`Freshness::stale_if_error`].
    pub const STALE_IF_ERROR: Period = Period::secs(24 * 3600);
    /// See [`Freshness::ahead`].
    pub const AHEAD: Period = Period::secs(2 * 60);
    /// See [`Freshness::not_found`].
    pub const NOT_FOUND: Period = Period::secs(60);
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            mutable: Self::MUTABLE,
            lookup: Self::LOOKUP,
            stale_while_revalidate: Self::STALE_WHILE_REVALIDATE,
            stale_if_error: Self::STALE_IF_ERROR,
            ahead: Self::AHEAD,
            not_found: Self::NOT_FOUND,
        }
    }
}
