//! A lookup's answer (x/mod's `tlog.ParseRecord`, and a signed note behind it).
//!
//! ```text
//! number of the record
//! module version h1:…
//! module version/go.mod h1:…
//!
//! signed note
//! ```
//!
//! Failure rule: the hashes are taken from the record's own lines, of which there must be exactly one
//! for the zip and one for the go.mod, of exactly the version asked for, and none of another module.
//! Lines of that version with hashes of another kind than `h1:` are passed over, as the go command
//! does it.

use crate::goproxy::{ModulePath, Version};
use crate::h1::H1;

use super::tree::parse_number;

/// A lookup's answer in its parts; nothing of it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// The record's number in the log, from 0.
    pub id: u64,
    /// The record: whole lines, what its leaf's hash is of.
    pub record: &'a str,
    /// A signed tree head.
    pub note: &'a [u8],
}

impl<'a> Lookup<'a> {
    /// Reads an answer; `None` if it isn't one. Stricter than x/mod in one thing: the number must be
    /// in canonical form.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (number, rest) = body.split_at(body.iter().position(|byte| *byte == b'\n')?);
        let rest = &rest[1..];
        let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
        let record = std::str::from_utf8(&rest[..=end]).ok()?;
        let is_text = record.bytes().all(|byte| byte >= b' ' || byte == b'\n');
        is_text.then_some(())?;
        Some(Self {
            id: parse_number(std::str::from_utf8(number).ok()?)?,
            record,
            note: &rest[end + 2..],
        })
    }

    /// The answer with another head: what [`parse`](Self::parse) reads.
    #[must_use]
    pub fn with_note(&self, note: &[u8]) -> Vec<u8> {
        let mut body = format!("{}\n{}\n", self.id, self.record).into_bytes();
        body.extend_from_slice(note);
        body
    }
}

/// What is wrong with a record that stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not exactly one line with the zip's hash.
    #[error("{0} lines with the zip's hash instead of one")]
    Zip(usize),
    /// Not exactly one line with the go.mod's hash.
    #[error("{0} lines with the go.mod's hash instead of one")]
    GoMod(usize),
    /// A line of another module or version.
    #[error("a line of something else")]
    Other,
    /// A hash that is none.
    #[error("a hash that is none")]
    Hash,
}

/// The zip's and the go.mod's hash, from a record's lines.
///
/// # Errors
/// If it isn't exactly that version's.
pub fn hashes(record: &str, module: &ModulePath, version: &Version) -> Result<(H1, H1), Fault> {
    let of_zip = format!("{module} {version} ");
    let of_mod = format!("{module} {version}/go.mod ");
    let (mut zips, mut mods) = (Vec::new(), Vec::new());
    for line in record.lines() {
        if let Some(hash) = line.strip_prefix(&of_zip) {
            zips.push(hash);
        } else if let Some(hash) = line.strip_prefix(&of_mod) {
            mods.push(hash);
        } else {
            return Err(Fault::Other);
        }
    }
    Ok((the_one(&zips, Fault::Zip)?, the_one(&mods, Fault::GoMod)?))
}

fn the_one(hashes: &[&str], fault: fn(usize) -> Fault) -> Result<H1, Fault> {
    let mut known = hashes.iter().filter(|hash| hash.starts_with("h1:"));
    let (Some(hash), None) = (known.next(), known.next()) else {
        let count = hashes.iter().filter(|hash| hash.starts_with("h1:")).count();
        return Err(fault(count));
    };
    hash.parse().map_err(|_| Fault::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZIP: &str = "rsc.io/quote v1.5.2 h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=\n";
    const MOD: &str =
        "rsc.io/quote v1.5.2/go.mod h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=\n";

    fn read(record: &str) -> Result<(String, String), Fault> {
        let module = "rsc.io/quote".parse().unwrap();
        let version = "v1.5.2".parse().unwrap();
        let (zip, go_mod) = hashes(record, &module, &version)?;
        Ok((zip.to_string(), go_mod.to_string()))
    }

    #[test]
    fn an_answer_has_three_parts() {
        let body = format!("17\n{ZIP}{MOD}\nnote\n\nmore\n");
        let lookup = Lookup::parse(body.as_bytes()).unwrap();
        assert_eq!((lookup.id, lookup.note), (17, &b"note\n\nmore\n"[..]));
        assert_eq!(lookup.record, format!("{ZIP}{MOD}"));
        assert_eq!(lookup.with_note(b"note\n\nmore\n"), body.as_bytes());
        // What isn't a record at all is told by its lines, later.
        assert_eq!(Lookup::parse(b"0\nx\n\n").unwrap().note, b"");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in [
            "",
            "\n\n",
            "17",
            "17\n",
            &format!("17\n{ZIP}{MOD}"),
            &format!("\n{ZIP}{MOD}\n"),
            &format!("-1\n{ZIP}{MOD}\n"),
            &format!("+1\n{ZIP}{MOD}\n"),
            &format!("01\n{ZIP}{MOD}\n"),
            &format!("0x1\n{ZIP}{MOD}\n"),
            &format!("9223372036854775808\n{ZIP}{MOD}\n"),
            &format!("17\n{ZIP}\r{MOD}\n"),
            &format!("17\n\0{ZIP}{MOD}\n"),
        ] {
            assert_eq!(Lookup::parse(body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(Lookup::parse(b"17\n\xff\n\n"), None);
    }

    #[test]
    fn the_hashes_are_the_two_lines() {
        for record in [format!("{ZIP}{MOD}"), format!("{MOD}{ZIP}")] {
            let (zip, go_mod) = read(&record).unwrap();
            assert!(ZIP.contains(&zip) && MOD.contains(&go_mod));
        }
        let with_new_kind = format!("{ZIP}{MOD}rsc.io/quote v1.5.2 h2:abc=\n");
        assert!(read(&with_new_kind).is_ok());
    }

    #[test]
    fn other_lines_missing_and_doubled_ones_are_refused() {
        let h1 = "h1:w5fcysjrx7yqtD/aO+QwRjYZOKnaM9Uh2b40tElTs3Y=";
        for (record, fault) in [
            (String::new(), Fault::Zip(0)),
            ("\n".to_owned(), Fault::Other),
            (ZIP.to_owned(), Fault::GoMod(0)),
            (MOD.to_owned(), Fault::Zip(0)),
            (format!("{ZIP}{ZIP}{MOD}"), Fault::Zip(2)),
            (format!("{ZIP}{MOD}{MOD}"), Fault::GoMod(2)),
            (
                format!("{ZIP}{MOD}rsc.io/quote v1.5.3 {h1}\n"),
                Fault::Other,
            ),
            (
                format!("{ZIP}{MOD}rsc.io/quote/x v1.5.2 {h1}\n"),
                Fault::Other,
            ),
            (format!(" {ZIP}{MOD}"), Fault::Other),
            (
                format!("{}{MOD}", ZIP.replace("v1.5.2", "v1.5.20")),
                Fault::Other,
            ),
            (format!("{}{MOD}", ZIP.replace("rsc", "RSC")), Fault::Other),
            (
                format!("{}{MOD}", ZIP.replace(" h1", "  h1")),
                Fault::Zip(0),
            ),
            (format!("{}{MOD}", ZIP.replace("h1:", "h2:")), Fault::Zip(0)),
            (format!("{}{MOD}", ZIP.replace("h1:w5", "h1:")), Fault::Hash),
            (format!("{}{MOD}", ZIP.replace("=\n", "= \n")), Fault::Hash),
        ] {
            assert_eq!(read(&record), Err(fault), "{record:?}");
        }
    }
}
