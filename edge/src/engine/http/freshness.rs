//! How long an answer may be used, and whether one request may have it (RFC 9111 §4.2, RFC 5861).
//! Pure.

use http::StatusCode;
use http::header::{DATE, EXPIRES, LAST_MODIFIED, SET_COOKIE};
use modcdn_core::units::Period;

use super::config::HttpConfig;
use super::directives::{RequestControl, ResponseControl, Scope};
use super::fields::{Fields, date, single};
use crate::engine::clock::{Millis, millis};
use crate::engine::freshness::{Judgement, Lifetime};

/// The lifetime of an answer, within the configured bounds.
pub(super) fn lifetime(
    status: StatusCode,
    response: &impl Fields,
    control: &ResponseControl,
    bounds: &HttpConfig,
) -> Lifetime {
    let fresh = match explicit(response, control) {
        _ if control.no_cache == Scope::All => 0,
        Some(seconds) => seconds.saturating_mul(1000),
        None if may_guess(status, response, control) => guess(response, bounds),
        None => 0,
    };
    let forbidden = control.must_revalidate || control.proxy_revalidate;
    let window = |named: Option<u64>, most: Period| match named {
        Some(seconds) if !forbidden && control.no_cache != Scope::All => {
            seconds.saturating_mul(1000).min(millis(most.get()))
        }
        _ => 0,
    };
    Lifetime::of(
        fresh,
        window(
            control.stale_while_revalidate,
            bounds.stale_while_revalidate,
        ),
        window(control.stale_if_error, bounds.stale_if_error),
    )
}

/// Seconds, as the origin says (RFC 9111 §4.2.1): `s-maxage`, `max-age`, or `Expires` less `Date`.
/// An `Expires` that is no date is in the past (RFC 9111 §5.3).
pub(super) fn explicit(response: &impl Fields, control: &ResponseControl) -> Option<u64> {
    if let Some(seconds) = control.lifetime() {
        return Some(seconds);
    }
    if control.targeted || !response.has(&EXPIRES) {
        return None;
    }
    let expires = single(response, &EXPIRES).and_then(date).unwrap_or(0);
    let dated = response.first(&DATE).and_then(date);
    Some(expires.saturating_sub(dated.unwrap_or(u64::MAX)))
}

/// Whether a lifetime may be guessed: RFC 9111 §4.2.2. Not where a cookie is set: that it may be
/// shared must then be said.
fn may_guess(status: StatusCode, response: &impl Fields, control: &ResponseControl) -> bool {
    (is_heuristically_cacheable(status) || control.public) && !response.has(&SET_COOKIE)
}

/// The statuses that may be stored without a word about it (RFC 9110 §15.1), less 206.
pub(super) fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

fn guess(response: &impl Fields, bounds: &HttpConfig) -> Millis {
    let at = |name| single(response, name).and_then(date);
    let Some((dated, modified)) = at(&DATE).zip(at(&LAST_MODIFIED)) else {
        return 0;
    };
    let unchanged = dated.saturating_sub(modified).saturating_mul(1000);
    let part = unchanged / 100 * u64::from(bounds.heuristic_percent);
    part.min(millis(bounds.heuristic_max.get()))
}

/// What one request may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The stored answer, which is fresh.
    Fresh,
    /// The stored answer, which is stale: the client takes it so.
    Accepted,
    /// The stored answer, which is stale, while the origin is asked.
    Revalidating,
    /// What the origin confirms or sends; `fresh`: only because the client wants it so.
    Validate {
        /// The stored answer is fresh.
        fresh: bool,
    },
}

/// What a request may be given of an answer of some age (RFC 9111 §4.2.4, §5.2.1).
pub(super) fn judge(
    lifetime: &Lifetime,
    age: Millis,
    forbids_stale: impl Fn() -> bool,
    request: &RequestControl,
) -> Verdict {
    let judgement = lifetime.judge(age);
    let fresh = judgement == Judgement::Fresh;
    let too_old = request
        .max_age
        .is_some_and(|most| most == 0 || age > most.saturating_mul(1000));
    if request.no_cache || too_old {
        return Verdict::Validate { fresh };
    }
    let left = lifetime.fresh().saturating_sub(age);
    if request
        .min_fresh
        .is_some_and(|least| left < least.saturating_mul(1000))
    {
        return Verdict::Validate { fresh };
    }
    let stale_for = age.saturating_sub(lifetime.fresh());
    let accepted = |most: u64| stale_for <= most.saturating_mul(1000) && !forbids_stale();
    match judgement {
        Judgement::Fresh => Verdict::Fresh,
        _ if request.max_stale.is_some_and(accepted) => Verdict::Accepted,
        Judgement::StaleWhileRevalidate if request.max_age.is_none() => Verdict::Revalidating,
        _ => Verdict::Validate { fresh },
    }
}

/// Whether an answer that has just come may also serve one who waited for it (RFC 9111 §4: as far as it
/// could be reused for that request). Not if each use has to be confirmed, nor if it came stale.
pub(super) fn may_share(
    lifetime: &Lifetime,
    age: Millis,
    forbids_stale: impl Fn() -> bool,
    request: &RequestControl,
) -> bool {
    let too_old = |most: &u64| age / 1000 > *most;
    let waited = RequestControl {
        max_age: request.max_age.filter(too_old),
        ..request.clone()
    };
    let verdict = judge(lifetime, age, forbids_stale, &waited);
    !matches!(verdict, Verdict::Validate { .. })
}

/// Why the origin gave no good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It answered with a 5xx.
    Failing,
    /// It did not answer.
    Unreachable,
}

/// Whether a stale answer may stand in (RFC 5861 §4; RFC 9111 §4.2.4 for an origin that is gone).
pub(super) fn covers(
    lifetime: &Lifetime,
    age: Millis,
    forbids_stale: impl Fn() -> bool,
    request: &RequestControl,
    trouble: Trouble,
    bounds: &HttpConfig,
) -> bool {
    if lifetime.covers_failure(age) {
        return true;
    }
    let stale_for = age.saturating_sub(lifetime.fresh());
    let by_client = request.stale_if_error.unwrap_or(0).saturating_mul(1000);
    let by_us = match trouble {
        Trouble::Unreachable if !request.no_cache => millis(bounds.stale_if_unreachable.get()),
        _ => 0,
    };
    stale_for < by_client.max(by_us) && !forbids_stale()
}

/// A status for which a stale answer may stand in (RFC 5861 §4).
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::super::fields::http_date;
    use super::super::fields::testing::header;
    use super::*;

    fn of(status: u16, fields: &str) -> Lifetime {
        let fields = header(fields);
        let control = ResponseControl::of(&fields);
        let status = StatusCode::from_u16(status).unwrap();
        lifetime(status, &fields, &control, &HttpConfig::default())
    }

    fn fresh(fields: &str) -> u64 {
        of(200, fields).fresh() / 1000
    }

    /// RFC 9111 §4.2.1: the order in which lifetimes count.
    #[test]
    fn s_maxage_counts_before_max_age_before_expires() {
        let expires = "Date: Fri, 15 Jan 2027 08:00:00 GMT\nExpires: Fri, 15 Jan 2027 08:00:30 GMT";
        assert_eq!(fresh(expires), 30);
        assert_eq!(fresh(&format!("{expires}\nCache-Control: max-age=20")), 20);
        assert_eq!(
            fresh(&format!(
                "{expires}\nCache-Control: max-age=20, s-maxage=10"
            )),
            10
        );
        assert_eq!(
            fresh(&format!("{expires}\nCDN-Cache-Control: max-age=5")),
            5
        );
        assert_eq!(fresh(&format!("{expires}\nCDN-Cache-Control: public")), 0);
        assert_eq!(fresh("Cache-Control: max-age=20, no-cache"), 0);
    }

    /// RFC 9111 §5.3: an invalid Expires, "0" above all, is in the past.
    #[test]
    fn a_strange_expires_is_in_the_past() {
        let date = "Date: Fri, 15 Jan 2027 08:00:00 GMT";
        for text in [
            "Expires: 0",
            "Expires: soon",
            "Expires: Fri, 15 Jan 2027 07:59:59 GMT",
            "Expires: Fri, 15 Jan 2027 08:01:00 GMT\nExpires: Fri, 15 Jan 2027 08:02:00 GMT",
        ] {
            let modified = "Last-Modified: Fri, 15 Jan 2026 08:00:00 GMT";
            assert_eq!(fresh(&format!("{date}\n{modified}\n{text}")), 0, "{text}");
        }
    }

    /// RFC 9111 §4.2.2.
    #[test]
    fn a_lifetime_is_guessed_only_where_none_is_named() {
        let now = 1_800_000_000;
        let dates = |unchanged: u64| {
            let (date, modified) = (http_date(now), http_date(now - unchanged));
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            format!("Date: {}\nLast-Modified: {}", text(&date), text(&modified))
        };
        assert_eq!(fresh(&dates(1000)), 100);
        assert_eq!(
            fresh(&dates(100 * 86_400)),
            86_400,
            "bounded by the configuration"
        );
        assert_eq!(fresh(""), 0);
        assert_eq!(fresh(&format!("{}\nSet-Cookie: a=b", dates(1000))), 0);
        assert_eq!(
            fresh(&format!("{}\nCache-Control: max-age=7", dates(1000))),
            7
        );
        let all = |status| of(status, &dates(1000)).fresh() / 1000;
        for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
            assert_eq!(all(status), 100, "{status}");
        }
        for status in [201, 302, 303, 307, 403, 500, 503, 599] {
            assert_eq!(all(status), 0, "{status}");
            let public = format!("{}\nCache-Control: public", dates(1000));
            assert_eq!(of(status, &public).fresh() / 1000, 100, "{status}");
        }
    }

    /// RFC 9111 §5.2.1: what a client asks for is weighed against what is stored.
    #[test]
    fn a_client_may_narrow_or_widen_what_it_is_given() {
        use Verdict::{Accepted, Fresh, Revalidating, Validate};
        let no = Validate { fresh: false };
        let but = Validate { fresh: true };
        let swr = "max-age=60, stale-while-revalidate=30";
        let table = [
            ("max-age=60", 59, "", Fresh),
            ("max-age=60", 60, "", no),
            (swr, 61, "", Revalidating),
            (swr, 61, "max-age=100", no),
            (swr, 91, "", no),
            ("max-age=60", 10, "no-cache", but),
            ("max-age=60", 10, "max-age=0", but),
            ("max-age=60", 0, "max-age=0", but),
            ("max-age=60", 10, "max-age=10", Fresh),
            ("max-age=60", 11, "max-age=10", but),
            ("max-age=60", 50, "min-fresh=10", Fresh),
            ("max-age=60", 51, "min-fresh=10", but),
            ("max-age=60", 70, "max-stale=10", Accepted),
            ("max-age=60", 71, "max-stale=10", no),
            ("max-age=60", 9999, "max-stale", Accepted),
            ("max-age=60, must-revalidate", 70, "max-stale", no),
            ("max-age=60, proxy-revalidate", 70, "max-stale", no),
            ("s-maxage=60", 70, "max-stale", no),
            ("max-age=60, no-cache", 1, "max-stale", no),
            ("max-age=60", 70, "max-stale, max-age=5", no),
            (
                "max-age=60, must-revalidate, stale-while-revalidate=9",
                61,
                "",
                no,
            ),
        ];
        for (stored, age, asked, expected) in table {
            let fields = header(&format!("Cache-Control: {stored}"));
            let control = ResponseControl::of(&fields);
            let lifetime = of(200, &format!("Cache-Control: {stored}"));
            let request = RequestControl::of(&header(&format!("Cache-Control: {asked}")));
            let verdict = judge(&lifetime, age * 1000, || control.forbids_stale(), &request);
            assert_eq!(verdict, expected, "{stored:?} at {age} s, asked {asked:?}");
        }
    }

    /// RFC 9111 §4, §5.2.2.4: what each must have confirmed is not shared.
    #[test]
    fn those_who_waited_share_what_they_could_reuse() {
        let table = [
            ("max-age=60", 0, "", true),
            ("max-age=60", 0, "max-age=0", true),
            ("max-age=60", 2, "max-age=1", false),
            ("max-age=60", 0, "min-fresh=61", false),
            ("no-cache, max-age=60", 0, "", false),
            ("max-age=0", 0, "", false),
            ("max-age=0", 0, "max-stale", true),
            ("max-age=0, stale-while-revalidate=9", 0, "", true),
            ("max-age=60", 61, "", false),
        ];
        for (stored, age, asked, expected) in table {
            let control = ResponseControl::of(&header(&format!("Cache-Control: {stored}")));
            let lifetime = of(200, &format!("Cache-Control: {stored}"));
            let request = RequestControl::of(&header(&format!("Cache-Control: {asked}")));
            let forbids = || control.forbids_stale();
            let may = may_share(&lifetime, age * 1000, forbids, &request);
            assert_eq!(may, expected, "{stored:?} at {age} s, asked {asked:?}");
        }
    }

    /// RFC 5861 §4, RFC 9111 §4.2.4.
    #[test]
    fn a_stale_answer_stands_in_only_where_nobody_forbids_it() {
        use Trouble::{Failing, Unreachable};
        let table = [
            ("max-age=1, stale-if-error=60", 30, "", Failing, true),
            ("max-age=1, stale-if-error=60", 62, "", Failing, false),
            ("max-age=1", 30, "", Failing, false),
            ("max-age=1", 30, "stale-if-error=60", Failing, true),
            ("max-age=1", 30, "", Unreachable, true),
            ("max-age=1", 90_000, "", Unreachable, false),
            ("max-age=1", 30, "no-cache", Unreachable, false),
            ("max-age=1, must-revalidate", 30, "", Unreachable, false),
            ("max-age=1, proxy-revalidate", 30, "", Unreachable, false),
            ("s-maxage=1", 30, "", Unreachable, false),
            ("no-cache", 30, "", Unreachable, false),
            (
                "max-age=1, must-revalidate, stale-if-error=60",
                30,
                "",
                Failing,
                false,
            ),
        ];
        for (stored, age, asked, trouble, expected) in table {
            let control = ResponseControl::of(&header(&format!("Cache-Control: {stored}")));
            let lifetime = of(200, &format!("Cache-Control: {stored}"));
            let request = RequestControl::of(&header(&format!("Cache-Control: {asked}")));
            let (age, forbids) = (age * 1000, || control.forbids_stale());
            let bounds = HttpConfig::default();
            let may = covers(&lifetime, age, forbids, &request, trouble, &bounds);
            assert_eq!(
                may, expected,
                "{stored:?} at {age} ms, asked {asked:?}, {trouble:?}"
            );
        }
    }
}
