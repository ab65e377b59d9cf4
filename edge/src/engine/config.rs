//! What the engine can be told: sizes of the store, bounds of freshness, limits of a fill.
//!
//! Three sections of the edge's file (`store`, `freshness`, `fill`), each with its defaults as
//! named constants. [`EngineConfig`] joins them with what the rest of the edge knows.

use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use super::failed::FailedBounds;
pub use super::http::config::HttpConfig;
use crate::backoff::Backoff;

/// Default folder of the store.
pub const DEFAULT_DIR: &str = "/var/lib/modcdn/edge";
/// Default bound of the disk tier.
pub const DEFAULT_DISK: ByteSize = ByteSize::gib(10);
/// Default bound of the RAM tier.
pub const DEFAULT_RAM: ByteSize = ByteSize::mib(512);
/// Default bound of what is kept in RAM only.
pub const DEFAULT_LOOSE: ByteSize = ByteSize::mib(32);
/// Default bound on the number of keys.
pub const DEFAULT_KEYS: usize = 1_000_000;
/// Bodies up to this size enter the RAM tier.
pub const DEFAULT_RAM_BODY: ByteSize = ByteSize::mib(8);
/// Bodies up to this size live in the journal instead of a file.
pub const DEFAULT_PACKED_BODY: ByteSize = ByteSize::kib(16);
/// Default bound of the index entries that are kept ready in RAM.
pub const DEFAULT_WARM: ByteSize = ByteSize::mib(64);
/// How long nothing is admitted after the disk refused a write.
pub const DEFAULT_PAUSE: Period = Period::secs(30);

/// Default time after which what nobody asked for is dropped.
pub const DEFAULT_UNUSED: Period = Period::secs(30 * 86400);
/// Default bytes a second that the scrub reads.
pub const DEFAULT_SCRUB_RATE: ByteSize = ByteSize::mib(8);
/// Default pause before each round of the scrub.
pub const DEFAULT_SCRUB_PAUSE: Period = Period::secs(86400);

/// The most that [`StoreConfig::packed_body`] may be: a packed body is one block.
pub const MAX_PACKED_BODY: ByteSize = ByteSize::kib(256);
/// The least that [`StoreConfig::disk`] may be.
pub const MIN_DISK: ByteSize = ByteSize::mib(1);

/// The two tiers of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Folder of the store; made if it isn't there. Everything in it is the store's.
    pub dir: PathBuf,
    /// Most bytes on disk: bodies in files, in whole blocks, the journal with its dead records, and the
    /// index as it is written down.
    /// Bodies that are arriving come on top.
    pub disk: ByteSize,
    /// Most keys. Each costs at most 150 bytes of RAM, beside [`StoreConfig::ram`].
    pub keys: usize,
    /// Most bytes of RAM for what is kept ready of keys lately asked for, about 800 bytes each. A
    /// hit on another key costs one read from disk.
    pub warm: ByteSize,
    /// Most bytes of bodies in RAM.
    pub ram: ByteSize,
    /// Most bytes of answers that are in RAM and nowhere else: true "not found"s, and bodies that
    /// arrived while the disk took nothing.
    pub loose: ByteSize,
    /// The longest body that enters the RAM tier; longer ones are sent from disk, block by block.
    pub ram_body: ByteSize,
    /// The longest body that is packed into the journal rather than given a file of its own.
    pub packed_body: ByteSize,
    /// After the disk refused a write: how long until the next try.
    pub pause: Period,
    /// What nobody asked for in this time is dropped, however much room there is, when the scrub comes
    /// by; in whole hours. Where room is needed before, it goes before what was asked for since, as
    /// far as it is found. 0: it stays.
    pub unused: Period,
    /// The scrub, which reads everything stored and compares it with its digests.
    pub scrub: ScrubConfig,
}

/// How the scrub goes about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScrubConfig {
    /// Most bytes a second that it reads. 0: it reads nothing.
    pub rate: ByteSize,
    /// How long it rests before each round.
    pub pause: Period,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self {
            rate: DEFAULT_SCRUB_RATE,
            pause: DEFAULT_SCRUB_PAUSE,
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(DEFAULT_DIR),
            disk: DEFAULT_DISK,
            keys: DEFAULT_KEYS,
            warm: DEFAULT_WARM,
            ram: DEFAULT_RAM,
            loose: DEFAULT_LOOSE,
            ram_body: DEFAULT_RAM_BODY,
            packed_body: DEFAULT_PACKED_BODY,
            pause: DEFAULT_PAUSE,
            unused: DEFAULT_UNUSED,
            scrub: ScrubConfig::default(),
        }
    }
}

impl StoreConfig {
    /// What is wrong with the section; keys are relative to it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut claim = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        claim(self.disk >= MIN_DISK, "disk", "must be at least 1MiB");
        claim(
            self.packed_body <= MAX_PACKED_BODY,
            "packed_body",
            "must be at most 256KiB",
        );
        claim(
            self.packed_body <= self.ram_body,
            "packed_body",
            "must not be above ram_body",
        );
        claim(
            self.scrub.pause >= Period::secs(1),
            "scrub.pause",
            "must be at least 1s",
        );
        claim(
            self.ram_body <= self.ram,
            "ram_body",
            "must not be above ram",
        );
        problems
    }
}

/// Default lifetime of a mutable answer whose origin names none.
pub const DEFAULT_UNNAMED: Period = Period::secs(60);
/// Default least lifetime of a mutable answer.
pub const DEFAULT_MIN: Period = Period::secs(0);
/// Default greatest lifetime of a mutable answer.
pub const DEFAULT_MAX: Period = Period::secs(3600);
/// Default greatest lifetime of a "not found".
pub const DEFAULT_NEGATIVE: Period = Period::secs(60);
/// Default bound on stale-while-revalidate.
pub const DEFAULT_STALE_WHILE_REVALIDATE: Period = Period::secs(3600);
/// Default bound on stale-if-error.
pub const DEFAULT_STALE_IF_ERROR: Period = Period::secs(7 * 86400);
/// Default offset between our clock and the origin's above which a warning is logged.
pub const DEFAULT_CLOCK_OFFSET: Period = Period::secs(30);
/// Default pause between revalidations that fail.
pub const DEFAULT_RETRY: Period = Period::secs(5);

/// Bounds on what the origin says about the freshness of mutable answers (lists, `@latest`,
/// queries, tree heads). Versioned objects are immutable and have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreshnessConfig {
    /// Lifetime where the origin names none.
    pub unnamed: Period,
    /// A shorter `max-age` is raised to this.
    pub min: Period,
    /// A longer `max-age` is cut to this.
    pub max: Period,
    /// A 404 or 410 is kept for its `max-age`, but never longer than this.
    pub negative: Period,
    /// A longer `stale-while-revalidate` is cut to this.
    pub stale_while_revalidate: Period,
    /// A longer `stale-if-error` is cut to this.
    pub stale_if_error: Period,
    /// After a revalidation failed: how long the stale answer is given without asking again.
    pub retry: Period,
    /// Our clock and the origin's may be so far apart, by the `Date` of its answers, before a warning
    /// is logged.
    pub clock_offset: Period,
}

impl Default for FreshnessConfig {
    fn default() -> Self {
        Self {
            unnamed: DEFAULT_UNNAMED,
            min: DEFAULT_MIN,
            max: DEFAULT_MAX,
            negative: DEFAULT_NEGATIVE,
            stale_while_revalidate: DEFAULT_STALE_WHILE_REVALIDATE,
            stale_if_error: DEFAULT_STALE_IF_ERROR,
            retry: DEFAULT_RETRY,
            clock_offset: DEFAULT_CLOCK_OFFSET,
        }
    }
}

impl FreshnessConfig {
    /// What is wrong with the section; keys are relative to it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let ordered = self.min <= self.max;
        let problem = || Problem::new("min", "must not be above max");
        (!ordered).then(problem).into_iter().collect()
    }
}

/// Default bound on one body.
pub const DEFAULT_BODY: ByteSize = ByteSize::gib(1);
/// Default bound on the RAM of all running fills.
pub const DEFAULT_MEMORY: ByteSize = ByteSize::mib(256);
/// Default number of times that a broken body is continued.
pub const DEFAULT_RESUMES: u32 = 5;
/// Default pause before a broken body is continued; doubles with each try.
pub const DEFAULT_RESUME_PAUSE: Period = Period::millis(100);
/// Default longest of these pauses.
pub const DEFAULT_RESUME_PAUSE_MAX: Period = Period::secs(5);
/// Default number of times that broken bodies are continued each second, of all fills.
pub const DEFAULT_RESUME_RATE: u32 = 10;
/// Default number of times at once beyond that rate.
pub const DEFAULT_RESUME_BURST: u32 = 100;
/// Default time for which the failure of a fill is remembered; doubles with each in a row.
pub const DEFAULT_FAILED_MEMORY: Period = Period::secs(1);
/// Default longest of these times.
pub const DEFAULT_FAILED_MEMORY_MAX: Period = Period::secs(30);
/// Default number of keys whose failure is remembered; some 300 bytes each, 4 KiB at most.
pub const DEFAULT_FAILED_KEYS: usize = 10_000;

/// Limits of a fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FillConfig {
    /// The longest body that is taken from the origin.
    pub body: ByteSize,
    /// Most bytes that all running fills hold in RAM; beyond it readers follow the spool file.
    pub memory: ByteSize,
    /// How often one body that broke off is continued from where it broke.
    pub resumes: u32,
    /// How long to wait before the first of these; doubles with each.
    pub resume_pause: Period,
    /// The longest of these pauses.
    pub resume_pause_max: Period,
    /// How often bodies are continued each second, of all fills together; beyond it a try is lost.
    pub resume_rate: u32,
    /// How often at once beyond that rate.
    pub resume_burst: u32,
    /// How long those who ask again for what failed are told the same; doubles with each failure
    /// in a row. Zero: not at all.
    pub failed_memory: Period,
    /// The longest of these times.
    pub failed_memory_max: Period,
    /// How many keys' failures are remembered.
    pub failed_keys: usize,
}

impl Default for FillConfig {
    fn default() -> Self {
        Self {
            body: DEFAULT_BODY,
            memory: DEFAULT_MEMORY,
            resumes: DEFAULT_RESUMES,
            resume_pause: DEFAULT_RESUME_PAUSE,
            resume_pause_max: DEFAULT_RESUME_PAUSE_MAX,
            resume_rate: DEFAULT_RESUME_RATE,
            resume_burst: DEFAULT_RESUME_BURST,
            failed_memory: DEFAULT_FAILED_MEMORY,
            failed_memory_max: DEFAULT_FAILED_MEMORY_MAX,
            failed_keys: DEFAULT_FAILED_KEYS,
        }
    }
}

/// Default bound on purges that are held.
pub const DEFAULT_BANS: usize = 10_000;
/// Default bytes a second that are read to carry purges out.
pub const DEFAULT_PURGE_RATE: ByteSize = ByteSize::mib(32);

/// Purges on the admin listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeConfig {
    /// File with the tokens that allow a purge, one a line. None: nobody may.
    pub token_file: Option<PathBuf>,
    /// Most purges held at once: each until no answer that it concerns is left. Further ones are
    /// refused, but for one of everything.
    pub bans: usize,
    /// Most bytes a second that are read to free the room of what was purged: a purge is in effect
    /// before, and what it took away is met by no request. 0: as many as the disk gives.
    pub rate: ByteSize,
}

impl Default for PurgeConfig {
    fn default() -> Self {
        Self {
            token_file: None,
            bans: DEFAULT_BANS,
            rate: DEFAULT_PURGE_RATE,
        }
    }
}

impl PurgeConfig {
    /// What is wrong with the section; keys are relative to it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let problem = || Problem::new("bans", "must be at least 1");
        (self.bans == 0).then(problem).into_iter().collect()
    }
}

impl FillConfig {
    /// What is wrong with the section; keys are relative to it.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let ordered = [
            ("resume_pause", self.resume_pause, self.resume_pause_max),
            ("failed_memory", self.failed_memory, self.failed_memory_max),
        ];
        ordered
            .into_iter()
            .filter(|(_, first, longest)| first > longest)
            .map(|(key, ..)| Problem::new(key, format!("must not be above {key}_max")))
            .collect()
    }

    pub(super) fn failed_bounds(&self) -> FailedBounds {
        let pause = Backoff {
            first: self.failed_memory.get(),
            longest: self.failed_memory_max.get(),
        };
        let most = self.failed_keys;
        FailedBounds { most, pause }
    }

    /// The same for plain HTTP, where failures of the line are remembered: one that lasts must not
    /// make the memory any longer, for it may be over at any time.
    pub(super) fn failed_lines(&self) -> FailedBounds {
        let mut bounds = self.failed_bounds();
        bounds.pause.longest = bounds.pause.first;
        bounds
    }
}

/// Everything that [`super::Engine::open`] needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineConfig {
    /// The edge's name: the cache's name in `Cache-Status` (RFC 9211).
    pub name: String,
    /// The section `store`.
    pub store: StoreConfig,
    /// The section `freshness`.
    pub freshness: FreshnessConfig,
    /// The section `fill`.
    pub fill: FillConfig,
    /// The section `purge`.
    pub purge: PurgeConfig,
    /// The section `http`.
    pub http: HttpConfig,
}

impl EngineConfig {
    /// The longest body that enters the RAM tier, in bytes.
    pub(crate) fn ram_body(&self) -> u64 {
        self.store.ram_body.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problems() {
        assert!(StoreConfig::default().problems().is_empty());
        assert!(FreshnessConfig::default().problems().is_empty());
        assert!(FillConfig::default().problems().is_empty());
    }

    #[test]
    fn contradictions_are_named() {
        let store = StoreConfig {
            ram: ByteSize::kib(1),
            ..StoreConfig::default()
        };
        assert_eq!(store.problems()[0].key, "ram_body");
        let freshness = FreshnessConfig {
            min: Period::secs(9999),
            ..FreshnessConfig::default()
        };
        assert_eq!(freshness.problems()[0].key, "min");
        let fill = FillConfig {
            failed_memory: Period::secs(31),
            ..FillConfig::default()
        };
        assert_eq!(fill.problems()[0].key, "failed_memory");
    }

    #[test]
    fn failures_of_lines_are_remembered_no_longer_the_more_there_are() {
        let pause = FillConfig::default().failed_lines().pause;
        assert_eq!(pause.pause(9, 0.0), DEFAULT_FAILED_MEMORY.get());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_yaml::from_str::<StoreConfig>("dsik: 1GiB").is_err());
        let store: StoreConfig = serde_yaml::from_str("disk: 1GiB").unwrap();
        assert_eq!(store.disk, ByteSize::gib(1));
    }
}
