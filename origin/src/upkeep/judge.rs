//! Whether a body is what its name says.

use std::fmt;
use std::io;

use bytes::Bytes;
use modcdn_core::goproxy::{Request, SumDbCall};
use modcdn_core::h1::H1;
use serde::Serialize;

use crate::archive::{self, Checked};
use crate::config::Limits;
use crate::store::shelf::Local;
use crate::{content, disk};

/// Bytes of a hash in a tile.
const HASH_BYTES: usize = 32;

/// In which way a body is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// Its bytes aren't those that were stored.
    Bytes,
    /// It is longer than such a thing may be, or empty.
    Length,
    /// It is no zip, or one that breaks the rules.
    Zip,
    /// Its content hashes to something else than was written down of it.
    H1,
    /// The checksum database proved another hash.
    Proof,
    /// It is no `.info` of its version.
    Info,
    /// It is no go.mod.
    Mod,
    /// It isn't the go.mod of the zip beside it; nobody can say which of the two is wrong.
    ModDiffers,
    /// It is no tile, or no record, of a checksum database.
    Database,
    /// It can't be read: nothing is known of it.
    Unreadable,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Length => "length",
            Self::Zip => "zip",
            Self::H1 => "h1",
            Self::Proof => "proof",
            Self::Info => "info",
            Self::Mod => "mod",
            Self::ModDiffers => "mod-differs",
            Self::Database => "database",
            Self::Unreadable => "unreadable",
        })
    }
}

/// What is wrong with a body, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) wrong: Wrong,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(wrong: Wrong, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { wrong, text }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::new(Wrong::Unreadable, format!("can't be read: {error}"))
    }
}

/// What a good body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Zip(Checked),
    Mod(H1),
    Other,
}

impl Judged {
    /// As go.sum has it.
    pub(super) fn h1(&self) -> Option<H1> {
        match self {
            Self::Zip(checked) => Some(checked.h1),
            Self::Mod(h1) => Some(*h1),
            Self::Other => None,
        }
    }
}

/// Judges a body by what it is alone.
pub(super) async fn judge(
    request: &Request,
    body: Local,
    len: u64,
    limits: &Limits,
    archives: archive::Limits,
) -> Result<Judged, Fault> {
    let most = limits.of(request);
    if len == 0 || len > most {
        let text = format!("is {len} bytes long, of at most {most}");
        return Err(Fault::new(Wrong::Length, text));
    }
    let asked = request.clone();
    let judged = disk::blocking(move || Ok(judge_now(&asked, &body, len, archives)));
    judged.await?
}

fn judge_now(
    request: &Request,
    body: &Local,
    len: u64,
    archives: archive::Limits,
) -> Result<Judged, Fault> {
    if let Request::Zip(module, version) = request {
        let checked = archive::check(body, len, module, version, &archives);
        return checked.map(Judged::Zip).map_err(|fault| match fault {
            archive::Fault::Io(error) => error.into(),
            fault => Fault::new(Wrong::Zip, fault.to_string()),
        });
    }
    let bytes = whole(body, len)?;
    let wrong = match request {
        Request::Info(..) => Wrong::Info,
        Request::Mod(..) => Wrong::Mod,
        _ => Wrong::Database,
    };
    let said = |text: String| Fault::new(wrong, format!("is {text}"));
    let bytes = content::check(request, bytes).map_err(said)?;
    if let Request::SumDb(sumdb) = request {
        return is_of_database(&sumdb.call, &bytes).map(|()| Judged::Other);
    }
    match request {
        Request::Mod(..) if is_go_mod(&bytes) => Ok(Judged::Mod(H1::of_mod(&bytes))),
        Request::Mod(..) => Err(said("no go.mod: it names no module".to_owned())),
        _ => Ok(Judged::Other),
    }
}

/// Whether a tile or a record can be one: what it says was proven when it was stored.
fn is_of_database(call: &SumDbCall, bytes: &[u8]) -> Result<(), Fault> {
    let is_one = match call {
        SumDbCall::Tile(tile) if !tile.is_data() => {
            bytes.len() == tile.width() as usize * HASH_BYTES
        }
        SumDbCall::Lookup(module, version) => {
            let wanted = format!("\n{} {} h1:", module.as_str(), version.as_str());
            String::from_utf8_lossy(bytes).contains(&wanted)
        }
        _ => true,
    };
    if is_one {
        return Ok(());
    }
    let text = "is nothing that a checksum database says there";
    Err(Fault::new(Wrong::Database, text))
}

fn whole(body: &Local, len: u64) -> Result<Bytes, Fault> {
    use crate::archive::Source;
    if let Local::Bytes(bytes) = body {
        return Ok(bytes.clone());
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match body.read_at(&mut bytes[filled..], filled as u64)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            read => filled += read,
        }
    }
    Ok(bytes.into())
}

/// Whether a text has a `module` directive.
fn is_go_mod(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    text.lines().any(|line| {
        let rest = line.trim_start().strip_prefix("module");
        rest.is_some_and(|rest| rest.starts_with([' ', '\t', '"', '`', '(']))
    })
}

/// Whether a zip's hash is the one that was written down.
pub(super) fn is_recorded(h1: H1, recorded: Option<H1>, whence: &str) -> Result<(), Fault> {
    match recorded {
        Some(recorded) if recorded != h1 => {
            let text = format!("has {h1}, but {whence} says {recorded}");
            Err(Fault::new(Wrong::H1, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn judged(path: &str, body: &'static str) -> Result<Judged, Wrong> {
        let (limits, archives) = (Limits::default(), archive::Limits::default());
        let request = Request::parse(path).unwrap();
        let local = Local::Bytes(Bytes::from_static(body.as_bytes()));
        let judged = judge(&request, local, body.len() as u64, &limits, archives).await;
        judged.map_err(|fault| fault.wrong)
    }

    #[tokio::test]
    async fn each_kind_is_judged_by_its_own_rules() {
        let at = |kind: &str| format!("/a.example/m/@v/v1.0.0.{kind}");
        for (kind, body, expected) in [
            ("info", r#"{"Version":"v1.0.0"}"#, None),
            ("info", r#"{"Version":"v1.0.1"}"#, Some(Wrong::Info)),
            ("mod", "// x\nmodule a.example/m\n", None),
            ("mod", "module (\n\ta.example/m\n)\n", None),
            ("mod", "modules a.example/m\n", Some(Wrong::Mod)),
            ("mod", "<html>", Some(Wrong::Mod)),
            ("mod", "", Some(Wrong::Length)),
            ("zip", "PK", Some(Wrong::Zip)),
        ] {
            assert_eq!(
                judged(&at(kind), body).await.err(),
                expected,
                "{kind} {body}"
            );
        }
        let tile = "/sumdb/sum.example/tile/8/0/000.p/2";
        assert_eq!(judged(tile, "short").await.err(), Some(Wrong::Database));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for wrong in [Wrong::Bytes, Wrong::ModDiffers, Wrong::Unreadable] {
            let json = serde_json::to_string(&wrong).unwrap();
            assert_eq!(json, format!("\"{wrong}\""));
        }
    }
}
