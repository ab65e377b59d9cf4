//! How long a client waits before it wants to hear that its answer is being worked on: the preferences
//! `respond-async` and `wait` of RFC 7240.
//!
//! An edge can't tell an origin that is busy with a large repository from one that is dead, unless the
//! origin says so. So it asks with `Prefer: respond-async, wait=2`, and an origin whose answer isn't there
//! by then says 202: it goes on, and is to be asked again. Who doesn't know of it answers as ever.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// In an answer: which preferences shaped it.
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The field's value for a wait in whole seconds; `None` if it is shorter than one.
#[must_use]
pub fn respond_async(wait: Duration) -> Option<HeaderValue> {
    let seconds = Some(wait.as_secs()).filter(|seconds| *seconds > 0)?;
    HeaderValue::try_from(format!("respond-async, wait={seconds}")).ok()
}

/// The wait after which a client wants to hear at least that its answer is being worked on; `None` if it
/// would rather wait. Preferences that aren't understood are passed over, as the RFC has it.
#[must_use]
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let preferences = texts.flat_map(|text| text.split(',')).map(str::trim);
    let (mut respond_async, mut wait) = (false, None);
    for preference in preferences {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        let name = name.trim_end();
        respond_async |= name.eq_ignore_ascii_case("respond-async");
        // Of several, the first counts (§2).
        if wait.is_none() && name.eq_ignore_ascii_case("wait") {
            let seconds: Option<u32> = value.trim().trim_matches('"').parse().ok();
            wait = seconds.map(u64::from).map(Duration::from_secs);
        }
    }
    wait.filter(|_| respond_async)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<u64> {
        let values = values.iter().map(|value| HeaderValue::from_static(value));
        let headers: HeaderMap = values.map(|value| (PREFER, value)).collect();
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn both_preferences_make_a_wait() {
        assert_eq!(of(&["respond-async, wait=2"]), Some(2));
        assert_eq!(of(&["wait=100", "respond-async"]), Some(100));
        assert_eq!(of(&["Respond-Async , WAIT = \"7\", wait=8"]), Some(7));
        assert_eq!(of(&["foo; bar=1, respond-async, wait=0"]), Some(0));
        for none in [
            "",
            "wait=2",
            "respond-async",
            "respond-async, wait=",
            "respond-async, wait=-1",
            "respond-async, wait=99999999999",
            "respond-async; wait=2",
        ] {
            assert_eq!(of(&[none]), None, "{none}");
        }
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let value = respond_async(Duration::from_millis(2500)).unwrap();
        assert_eq!(value, "respond-async, wait=2");
        let headers = HeaderMap::from_iter([(PREFER, value)]);
        assert_eq!(wait(&headers), Some(Duration::from_secs(2)));
        assert_eq!(respond_async(Duration::from_millis(999)), None);
    }
}
