//! What an upstream's bytes must be before anyone gets them. Pure.
//!
//! Whole bodies only; zips, which aren't held in memory, are checked by length and framing.

use bytes::Bytes;
use modcdn_core::goproxy::{ModulePath, Request, SumDbCall, Tile, Version};
use serde::Deserialize;

/// Bytes of one hash in a tile.
const HASH_BYTES: u64 = 32;

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
        Request::SumDb(sumdb) => match &sumdb.call {
            SumDbCall::Supported => return Ok(Bytes::new()),
            SumDbCall::Latest => not_empty(&body)?,
            SumDbCall::Lookup(module, version) => lookup(&body, module, version)?,
            SumDbCall::Tile(tile) => check_tile(&body, tile)?,
        },
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

/// A record's number, its go.sum lines, a blank line, a tree head. The proofs are the client's.
fn lookup(body: &[u8], module: &ModulePath, version: &Version) -> Result<(), String> {
    let text = std::str::from_utf8(body).map_err(|_| "a record that is no text")?;
    let (number, rest) = text.split_once('\n').unwrap_or_default();
    let (record, head) = rest.split_once("\n\n").unwrap_or_default();
    let has = |start: &str| {
        record
            .lines()
            .filter(|line| line.starts_with(start))
            .count()
            == 1
    };
    let related =
        has(&format!("{module} {version} h1:")) && has(&format!("{module} {version}/go.mod h1:"));
    if number.parse::<u64>().is_ok() && related && !head.is_empty() {
        return Ok(());
    }
    Err("a record that isn't this version's".to_owned())
}

fn check_tile(body: &[u8], tile: &Tile) -> Result<(), String> {
    let expected = u64::from(tile.width()) * HASH_BYTES;
    if tile.is_data() {
        return not_empty(body);
    }
    if body.len() as u64 != expected {
        return Err(format!(
            "a tile of {} bytes instead of {expected}",
            body.len()
        ));
    }
    Ok(())
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

    #[test]
    fn records_must_be_about_the_version_asked_for() {
        let path = "/sumdb/sum.example/lookup/a.example/m@v1.0.0";
        let good = "7\na.example/m v1.0.0 h1:x=\na.example/m v1.0.0/go.mod h1:y=\n\nhead\n";
        assert!(checked(path, good).is_ok());
        for bad in ["", "7\n\nhead\n", &good.replace("v1.0.0", "v1.0.1")] {
            assert!(checked(path, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tile_has_as_many_hashes_as_it_is_wide() {
        let path = "/sumdb/sum.example/tile/8/0/000.p/2";
        assert!(checked(path, &"x".repeat(64)).is_ok());
        assert!(checked(path, &"x".repeat(63)).is_err());
    }
}
