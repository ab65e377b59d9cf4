//! What an upstream's bytes must be before anyone gets them. Pure.
//!
//! Whole bodies only; zips, which aren't held in memory, are checked by length and framing.

use bytes::Bytes;
use modcdn_core::goproxy::{Request, SumDbCall, Version};
use serde::Deserialize;

/// The part of an `.info` that the protocol requires.
#[derive(Deserialize)]
struct Info {
    #[serde(rename = "Version")]
    version: String,
}

/// Takes an upstream's answer, in the form in which it is passed on: a list loses what is no
/// version and what is a pseudo-version, everything else stays byte for byte.
///
/// # Errors
/// What the answer is instead, in words that follow "upstream sent".
pub(crate) fn check(request: &Request, body: Bytes) -> Result<Bytes, String> {
    match request {
        Request::List(_) => return list(&body),
        Request::Info(_, version) => info(&body, |said| said == version)?,
        Request::Latest(module) | Request::Query(module, _) => {
            info(&body, |said| module.allows(said))?;
        }
        Request::Mod(..) | Request::Zip(..) => not_empty(&body)?,
        // All else is proven, not looked at.
        Request::SumDb(sumdb) if sumdb.call == SumDbCall::Supported => return Ok(Bytes::new()),
        Request::SumDb(_) => not_empty(&body)?,
    }
    Ok(body)
}

fn not_empty(body: &[u8]) -> Result<(), String> {
    if body.is_empty() {
        return Err("an empty body".to_owned());
    }
    Ok(())
}

fn info(body: &[u8], fits: impl Fn(&Version) -> bool) -> Result<(), String> {
    let info: Info = serde_json::from_slice(body)
        .map_err(|error| format!("something that is no version's JSON: {error}"))?;
    let version: Option<Version> = info.version.parse().ok();
    match version {
        Some(version) if fits(&version) => Ok(()),
        _ => Err(format!(
            "version {:?}, which wasn't asked for",
            info.version
        )),
    }
}

fn list(body: &[u8]) -> Result<Bytes, String> {
    let text = std::str::from_utf8(body).map_err(|_| "a list that is no text")?;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let version: Option<Version> = line.split_whitespace().next().and_then(|v| v.parse().ok());
        if let Some(version) = version.filter(|version| !version.is_pseudo()) {
            kept.push_str(version.as_str());
            kept.push('\n');
        }
    }
    Ok(kept.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(path: &str, body: &str) -> Result<Bytes, String> {
        check(
            &Request::parse(path).unwrap(),
            Bytes::copy_from_slice(body.as_bytes()),
        )
    }

    #[test]
    fn an_info_must_echo_its_version() {
        let path = "/a.example/m/@v/v1.0.0.info";
        assert!(
            checked(
                path,
                r#"{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}"#
            )
            .is_ok()
        );
        for bad in [
            r#"{"Version":"v1.0.1"}"#,
            r#"{"Version":"v1.0.0""#,
            r#"{"version":"v1.0.0"}"#,
            "[]",
            "",
            "<html>",
        ] {
            assert!(checked(path, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_must_name_a_version_the_module_can_have() {
        for path in ["/a.example/m/@v/main.info", "/a.example/m/@latest"] {
            assert!(checked(path, r#"{"Version":"v1.2.3"}"#).is_ok());
            for bad in [r#"{"Version":"main"}"#, r#"{"Version":"v2.0.0"}"#, "{}"] {
                assert!(checked(path, bad).is_err(), "{path} {bad}");
            }
        }
    }

    #[test]
    fn lists_keep_tagged_versions_only() {
        let list = "v1.0.0\nv1.1.0 2020-01-01T00:00:00Z\njunk\n\nv1.2\n\
                    v0.0.0-20200101000000-abcdefabcdef\nv2.0.0+incompatible";
        assert_eq!(
            checked("/a.example/m/@v/list", list).unwrap(),
            "v1.0.0\nv1.1.0\nv2.0.0+incompatible\n"
        );
        assert_eq!(checked("/a.example/m/@v/list", "").unwrap(), "");
    }
}
