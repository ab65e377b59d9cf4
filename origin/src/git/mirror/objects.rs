//! Reading a mirror. Nobody outside is asked.
//!
//! Git says of a file that isn't there and of a folder that can't be read the same word, "missing".
//! So files are looked for by `ls-tree`, which fails on a damaged folder, and read by their digests,
//! which must be there.

use std::ffi::OsString;

use bytes::{Buf, Bytes};
use modcdn_core::goproxy::Stamp;

use super::Mirror;
use crate::git::fault::Fault;
use crate::git::program::{Ended, Output};
use crate::git::refs::Commit;

/// What the beginning of a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    None,
    One(Commit),
    Many,
}

/// A commit's time; the inner `None` says that it is no commit, the outer that it isn't here.
pub(super) async fn time(mirror: &Mirror, commit: &Commit) -> Result<Option<Option<Stamp>>, Fault> {
    let objects = batch(mirror, &[commit.as_str()], super::PRINTED).await?;
    let Some(Some(object)) = objects.into_iter().next() else {
        return Ok(None);
    };
    if object.kind != "commit" {
        return Ok(Some(None));
    }
    Ok(Some(Some(committed(&object.content))))
}

/// What `git log --format=%ct` says: the committer's time, 1970 where that can't be read.
fn committed(commit: &[u8]) -> Stamp {
    let text = String::from_utf8_lossy(commit);
    let header = text.split("\n\n").next().unwrap_or_default();
    let line = header.lines().find_map(|l| l.strip_prefix("committer "));
    let digits = line
        .and_then(|line| line.rsplit_once('>'))
        .map(|(_, time)| time.trim_start())
        .map_or("", |time| time.split(' ').next().unwrap_or_default());
    let seconds = digits.parse().ok().and_then(Stamp::from_unix);
    seconds
        .or_else(|| Stamp::from_unix(0))
        .expect("1970 is a year of four digits")
}

/// The commit whose name begins so, among those that are here.
pub(super) async fn resolve(mirror: &Mirror, digits: &str) -> Result<Resolved, Fault> {
    let input = format!("{digits}^{{commit}}\n").into();
    let arguments = words(&["cat-file", "--batch-check=%(objectname)"]);
    let ended = run(mirror, arguments, input, Output::Memory(super::PRINTED)).await?;
    let printed = String::from_utf8_lossy(&ended.output);
    let line = printed.lines().next().unwrap_or_default();
    Ok(match Commit::new(line) {
        Some(commit) => Resolved::One(commit),
        None if line.ends_with(" ambiguous") => Resolved::Many,
        None => Resolved::None,
    })
}

pub(super) async fn files(
    mirror: &Mirror,
    commit: &Commit,
    paths: &[&str],
    limit: u64,
) -> Result<Vec<Option<Bytes>>, Fault> {
    let mut arguments = words(&["ls-tree", "-z", commit.as_str(), "--"]);
    arguments.extend(words(paths));
    let listing = printed(mirror, arguments).await?;
    let listing = String::from_utf8_lossy(&listing);
    let blobs: Vec<Option<&str>> = paths.iter().map(|path| blob(&listing, path)).collect();
    let wanted: Vec<&str> = blobs.iter().flatten().copied().collect();
    if wanted.is_empty() {
        return Ok(vec![None; paths.len()]);
    }
    let most = limit
        .saturating_mul(wanted.len() as u64)
        .saturating_add(4096);
    let mut read = batch(mirror, &wanted, most).await?.into_iter();
    let mut contents = Vec::with_capacity(paths.len());
    for blob in &blobs {
        contents.push(match blob {
            None => None,
            Some(name) => match read.next().flatten() {
                Some(object) => Some(object.content),
                None => return Err(Fault::Damaged(format!("object {name} is missing"))),
            },
        });
    }
    Ok(contents)
}

/// The digest of a file (or link) in what `git ls-tree -z` prints.
fn blob<'a>(listing: &'a str, path: &str) -> Option<&'a str> {
    listing.split('\0').find_map(|entry| {
        let (about, name) = entry.split_once('\t')?;
        let mut fields = about.split(' ');
        let (_mode, kind, digest) = (fields.next()?, fields.next()?, fields.next()?);
        (name == path && kind == "blob").then_some(digest)
    })
}

pub(super) async fn tags_before(mirror: &Mirror, commit: &Commit) -> Result<Vec<String>, Fault> {
    let merged = format!("--merged={commit}");
    let arguments = words(&["for-each-ref", "--format=%(refname)", &merged, "refs/tags/"]);
    let printed = printed(mirror, arguments).await?;
    let printed = String::from_utf8_lossy(&printed);
    let tags = printed.lines().filter_map(|l| l.strip_prefix("refs/tags/"));
    Ok(tags.map(str::to_owned).collect())
}

pub(super) async fn descends(
    mirror: &Mirror,
    commit: &Commit,
    from: &Commit,
) -> Result<bool, Fault> {
    let (commit, from) = (commit.as_str(), from.as_str());
    let arguments = words(&["merge-base", "--is-ancestor", from, commit]);
    let printed = Output::Memory(super::PRINTED);
    let workshop = &mirror.workshop;
    let ended = workshop.local(mirror.dir(), arguments, Bytes::new(), printed);
    match ended.await? {
        Ended { success: true, .. } => Ok(true),
        Ended { code: Some(1), .. } => Ok(false),
        ended => Err(damaged(&ended)),
    }
}

pub(super) async fn archive(
    mirror: &Mirror,
    commit: &Commit,
    folder: &str,
    into: Output,
) -> Result<(), Fault> {
    let mut arguments = words(&["archive", "--format=tar", commit.as_str()]);
    if !folder.is_empty() {
        arguments.extend(words(&["--", folder]));
    }
    run(mirror, arguments, Bytes::new(), into).await.map(drop)
}

/// Fails if what the mirror has doesn't hang together.
pub(super) async fn check(mirror: &Mirror) -> Result<(), Fault> {
    let arguments = words(&[
        "fsck",
        "--connectivity-only",
        "--no-dangling",
        "--no-progress",
    ]);
    printed(mirror, arguments).await.map(drop)
}

/// An object as `git cat-file --batch` prints it.
struct Object {
    kind: String,
    content: Bytes,
}

/// Some objects, in their order; `None` for each that isn't here.
async fn batch(mirror: &Mirror, names: &[&str], limit: u64) -> Result<Vec<Option<Object>>, Fault> {
    let input = names
        .iter()
        .map(|name| format!("{name}\n"))
        .collect::<String>();
    let arguments = words(&["cat-file", "--batch"]);
    let ended = run(mirror, arguments, input.into(), Output::Memory(limit)).await?;
    let mut printed = ended.output;
    let mut objects = Vec::with_capacity(names.len());
    for _ in names {
        let object = take(&mut printed)
            .ok_or_else(|| Fault::Damaged("git cat-file broke off".to_owned()))?;
        objects.push(object);
    }
    Ok(objects)
}

/// Takes one object off the front of what was printed; the outer `None` says that it is no such thing.
fn take(printed: &mut Bytes) -> Option<Option<Object>> {
    let end = printed.iter().position(|b| *b == b'\n')?;
    let line = printed.split_to(end + 1);
    let line = std::str::from_utf8(&line).ok()?.trim_end();
    if line.ends_with(" missing") || line.ends_with(" ambiguous") {
        return Some(None);
    }
    let mut fields = line.split(' ').skip(1);
    let kind = fields.next()?.to_owned();
    let len: usize = fields.next()?.parse().ok()?;
    if printed.len() <= len {
        return None;
    }
    let content = printed.split_to(len);
    printed.advance(1);
    Some(Some(Object { kind, content }))
}

/// What a run prints that needs no input.
async fn printed(mirror: &Mirror, arguments: Vec<OsString>) -> Result<Bytes, Fault> {
    let output = Output::Memory(super::PRINTED);
    let ended = run(mirror, arguments, Bytes::new(), output).await?;
    Ok(ended.output)
}

/// A run that can only fail if the mirror is damaged.
async fn run(
    mirror: &Mirror,
    arguments: Vec<OsString>,
    input: Bytes,
    output: Output,
) -> Result<Ended, Fault> {
    let workshop = &mirror.workshop;
    let ended = workshop
        .local(mirror.dir(), arguments, input, output)
        .await?;
    if ended.success {
        return Ok(ended);
    }
    Err(damaged(&ended))
}

fn damaged(ended: &Ended) -> Fault {
    Fault::Damaged(crate::git::diagnose::told(&ended.complaint))
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committers_time_counts() {
        for (commit, seconds) in [
            (
                "tree x\nauthor A <a> 5 +0000\ncommitter B <b> 7 +0100\n\ncommitter C <c> 9 +0000\n",
                7,
            ),
            ("committer B > <b>  1573265971 -0800\n\nx", 1_573_265_971),
            ("committer B <b>\n\nx", 0),
            ("committer B <b> x\n\nx", 0),
            ("author A <a> 5 +0000\n\ncommitter B <b> 7 +0000\n", 0),
            ("", 0),
        ] {
            assert_eq!(committed(commit.as_bytes()).unix(), seconds, "{commit}");
        }
    }

    #[test]
    fn objects_are_taken_off_one_by_one() {
        let mut printed =
            Bytes::from_static(b"aa blob 3\na\nb\nbb missing\ncc tree 0\n\ndd blob 9\nx");
        let object = take(&mut printed).unwrap().unwrap();
        assert_eq!(
            (object.kind.as_str(), &object.content[..]),
            ("blob", &b"a\nb"[..])
        );
        assert!(take(&mut printed).unwrap().is_none());
        assert_eq!(take(&mut printed).unwrap().unwrap().content.len(), 0);
        assert!(take(&mut printed).is_none());
    }

    #[test]
    fn only_files_and_links_are_blobs() {
        let entries = [
            "100644 blob aa\tgo.mod",
            "040000 tree bb\tsub",
            "160000 commit cc\tx",
        ];
        let listing = &entries.join("\0");
        assert_eq!(blob(listing, "go.mod"), Some("aa"));
        for path in ["sub", "x", "go", "go.mod/x"] {
            assert_eq!(blob(listing, path), None);
        }
    }
}
