//! How long an answer may be used (RFC 9111 §4.2, RFC 5861, RFC 8246). Pure: no clock, no I/O.
//!
//! ```text
//! validated      fresh            while_revalidate            if_error
//!     ├────────────┼───────────────────────┼──────────────────────┤
//!        as it is     as it is; the origin    the origin is asked;   the origin's answer
//!                     is asked meanwhile      as it is if that fails or its failure
//! ```
//! Both stale windows begin where freshness ends; the second may be shorter than the first.

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};

use super::clock::Millis;
use super::config::{EngineConfig, FreshnessConfig};
use super::http::config::HttpConfig;
use super::http::lifetime;
use super::store::entry::{Meta, Rules};

/// The bounds within which answers live, by the rules that they live by.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    modules: FreshnessConfig,
    http: HttpConfig,
}

impl Bounds {
    /// Those of a configuration.
    pub(crate) fn of(config: &EngineConfig) -> Self {
        Self {
            modules: config.freshness.clone(),
            http: config.http.clone(),
        }
    }

    /// How long an answer may be used.
    pub(crate) fn lifetime(&self, meta: &Meta) -> Lifetime {
        let immutable = match meta.rules {
            Rules::Http => return lifetime(meta.status, &meta.headers, &self.http),
            Rules::Variants => return Lifetime::of(Millis::MAX, 0, 0),
            Rules::Immutable => true,
            Rules::Mutable => false,
        };
        let control = CacheControl::parse(meta.headers.get_all(&CACHE_CONTROL));
        Lifetime::new(&control, immutable, meta.status, &self.modules)
    }
}

/// The directives of a response's `Cache-Control` that a shared cache obeys. Seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    no_store: bool,
    no_cache: bool,
    private: bool,
    must_revalidate: bool,
    max_age: Option<u64>,
    s_maxage: Option<u64>,
    stale_while_revalidate: Option<u64>,
    stale_if_error: Option<u64>,
}

impl CacheControl {
    /// Reads the field's lines. Unknown directives are passed over; a lifetime that isn't a number counts
    /// as 0, so that a typo makes an answer too short-lived, never too long-lived.
    pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut parsed = Self::default();
        let lines = lines.into_iter().filter_map(|line| line.to_str().ok());
        for directive in lines.flat_map(|line| line.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            parsed.take(name.trim(), value);
        }
        parsed
    }

    fn take(&mut self, name: &str, value: &str) {
        let seconds = || Some(value.trim().trim_matches('"').parse().unwrap_or(0));
        match name.to_ascii_lowercase().as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "max-age" => self.max_age = seconds(),
            "s-maxage" => self.s_maxage = seconds(),
            "stale-while-revalidate" => self.stale_while_revalidate = seconds(),
            "stale-if-error" => self.stale_if_error = seconds(),
            _ => {}
        }
    }

    /// Whether a cache that serves many users may keep the answer (RFC 9111 §3).
    pub(crate) fn may_store(&self) -> bool {
        !self.no_store && !self.private
    }
}

/// How long one answer may be used. Milliseconds, counted from its last validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// `u64::MAX`: for ever, the object is immutable.
    fresh: Millis,
    while_revalidate: Millis,
    if_error: Millis,
    /// What `ttl` in Cache-Status counts from; that of an immutable object is the origin's.
    named: Millis,
}

/// What may be done with an answer of some age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Use it.
    Fresh,
    /// Use it, and ask the origin meanwhile.
    StaleWhileRevalidate,
    /// Ask the origin, and use it if that fails.
    StaleIfError,
    /// Ask the origin.
    Expired,
}

impl Lifetime {
    /// A lifetime of these parts, each counted from the end of the first.
    pub(crate) const fn of(fresh: Millis, while_revalidate: Millis, if_error: Millis) -> Self {
        Self {
            fresh,
            while_revalidate,
            if_error,
            named: fresh,
        }
    }

    /// How long the answer is fresh.
    pub(crate) const fn fresh(&self) -> Millis {
        self.fresh
    }

    /// Whether there is any time at which the answer is given without the origin's word.
    pub(crate) const fn is_ever_served(&self) -> bool {
        self.fresh > 0 || self.while_revalidate > 0 || self.if_error > 0
    }

    /// The lifetime of an answer with these directives, within the configured bounds.
    pub(crate) fn new(
        control: &CacheControl,
        immutable: bool,
        status: StatusCode,
        bounds: &FreshnessConfig,
    ) -> Self {
        let named = control.s_maxage.or(control.max_age).map(seconds);
        if status != StatusCode::OK {
            let fresh = named
                .unwrap_or(period(bounds.negative))
                .min(period(bounds.negative));
            return Self {
                fresh,
                while_revalidate: 0,
                if_error: 0,
                named: fresh,
            };
        }
        if immutable {
            let named = named.unwrap_or(seconds(31_536_000));
            return Self {
                fresh: Millis::MAX,
                while_revalidate: 0,
                if_error: 0,
                named,
            };
        }
        let fresh = match named {
            _ if control.no_cache => 0,
            named => named
                .unwrap_or(period(bounds.unnamed))
                .clamp(period(bounds.min), period(bounds.max)),
        };
        let window = |named: Option<u64>, most: Millis| match named {
            Some(named) if !control.must_revalidate => seconds(named).min(most),
            _ => 0,
        };
        let while_revalidate = match control.no_cache {
            true => 0,
            false => window(
                control.stale_while_revalidate,
                period(bounds.stale_while_revalidate),
            ),
        };
        let if_error = window(control.stale_if_error, period(bounds.stale_if_error));
        Self {
            fresh,
            while_revalidate,
            if_error,
            named: fresh,
        }
    }

    /// What may be done with the answer `age` after its validation.
    pub(crate) fn judge(&self, age: Millis) -> Judgement {
        if age < self.fresh {
            return Judgement::Fresh;
        }
        let stale_for = age - self.fresh;
        if stale_for < self.while_revalidate {
            Judgement::StaleWhileRevalidate
        } else if stale_for < self.if_error {
            Judgement::StaleIfError
        } else {
            Judgement::Expired
        }
    }

    /// Whether the answer may stand in for a failure `age` after its validation.
    pub(crate) fn covers_failure(&self, age: Millis) -> bool {
        let stale_for = age.saturating_sub(self.fresh);
        age < self.fresh || stale_for < self.if_error.max(self.while_revalidate)
    }

    /// The age at which an answer that doesn't stay fresh has just become stale.
    pub(crate) fn just_stale(&self) -> Millis {
        if self.fresh == Millis::MAX {
            0
        } else {
            self.fresh
        }
    }

    /// Seconds of freshness left; below zero once stale (RFC 9211 §2.4).
    pub(crate) fn ttl(&self, age: Millis) -> i64 {
        let secs = |ms: Millis| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        secs(self.named) - secs(age)
    }
}

fn seconds(secs: u64) -> Millis {
    secs.saturating_mul(1000)
}

fn period(period: modcdn_core::units::Period) -> Millis {
    super::clock::millis(period.get())
}

#[cfg(test)]
mod tests {
    use modcdn_core::units::Period;

    use super::*;

    fn control(text: &'static str) -> CacheControl {
        CacheControl::parse(Some(&HeaderValue::from_static(text)))
    }

    fn lifetime(text: &'static str) -> Lifetime {
        Lifetime::new(
            &control(text),
            false,
            StatusCode::OK,
            &FreshnessConfig::default(),
        )
    }

    #[test]
    fn the_windows_follow_each_other() {
        use Judgement::{Expired, Fresh, StaleIfError, StaleWhileRevalidate};
        let origin = "public, max-age=60, stale-while-revalidate=300, stale-if-error=86400";
        let table: &[(&str, u64, Judgement)] = &[
            (origin, 0, Fresh),
            (origin, 59, Fresh),
            (origin, 60, StaleWhileRevalidate),
            (origin, 359, StaleWhileRevalidate),
            (origin, 360, StaleIfError),
            (origin, 86459, StaleIfError),
            (origin, 86460, Expired),
            ("max-age=60", 60, Expired),
            ("", 59, Fresh),
            ("", 60, Expired),
            ("max-age=abc", 0, Expired),
            (
                "no-cache, max-age=60, stale-while-revalidate=9, stale-if-error=9",
                0,
                StaleIfError,
            ),
            ("must-revalidate, max-age=1, stale-if-error=99", 2, Expired),
            ("max-age=10, s-maxage=20", 15, Fresh),
            ("max-age=999999", 3599, Fresh),
            ("max-age=999999", 3600, Expired),
        ];
        for &(text, age, expected) in table {
            assert_eq!(
                lifetime(text).judge(age * 1000),
                expected,
                "{text:?} at {age} s"
            );
        }
    }

    #[test]
    fn an_immutable_object_is_fresh_for_ever() {
        let control = control("public, max-age=31536000, immutable");
        let bounds = FreshnessConfig::default();
        let lifetime = Lifetime::new(&control, true, StatusCode::OK, &bounds);
        assert_eq!(lifetime.judge(Millis::MAX - 1), Judgement::Fresh);
        assert_eq!(lifetime.ttl(1000), 31_535_999);
    }

    #[test]
    fn a_not_found_lives_no_longer_than_its_bound() {
        let bounds = FreshnessConfig {
            negative: Period::secs(60),
            ..FreshnessConfig::default()
        };
        let of = |text| Lifetime::new(&control(text), true, StatusCode::NOT_FOUND, &bounds);
        assert_eq!(of("max-age=600").judge(59_999), Judgement::Fresh);
        assert_eq!(
            of("max-age=600, stale-if-error=99").judge(60_000),
            Judgement::Expired
        );
        assert_eq!(of("max-age=5").judge(5_000), Judgement::Expired);
    }

    #[test]
    fn the_ttl_of_a_stale_answer_is_negative() {
        assert_eq!(lifetime("max-age=60").ttl(65_000), -5);
    }

    #[test]
    fn private_and_no_store_are_not_for_us() {
        assert!(!control("private, max-age=60").may_store());
        assert!(!control("No-Store").may_store());
        assert!(control("public, max-age=60").may_store());
        let lines = ["public, max-age=60", "private"].map(HeaderValue::from_static);
        assert!(!CacheControl::parse(&lines).may_store());
    }
}
