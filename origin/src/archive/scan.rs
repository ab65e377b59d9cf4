//! An archive that is hashed while it comes in.
//!
//! A scan goes from local header to local header. What it finds is only a guess, used where the directory,
//! which comes last, says the same; so a scan that stops at something odd costs time, never
//! rightness. It stops where it can't tell an entry's end (stored data with a descriptor), and where
//! a bound is passed.

use modcdn_core::digest::Sha256;
use modcdn_core::goproxy::{ModulePath, Version};

use super::Limits;
use super::directory::Stretch;
use super::examine::{Examined, check_found};
use super::record::{DESCRIPTOR_LEN, Found, LOCAL_LEN, Local, Method, descriptor_len, local_lens};
use super::rules::{GO_MOD, prefix};
use super::unpack::Unpacker;

/// See the module. Its memory: some 100 bytes and a name for each file, and the go.mod.
pub struct Scan {
    limits: Limits,
    go_mod: String,
    state: State,
    /// The beginning of a header or descriptor, of which the rest is still to come.
    waiting: Vec<u8>,
    /// How many bytes came before `waiting`.
    position: u64,
    unpacked: u64,
    unpacker: Unpacker,
    current: Current,
    records: Vec<Record>,
    names: Vec<u8>,
    kept: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Data,
    Descriptor,
    Stopped,
}

/// The entry whose data comes now.
struct Current {
    offset: u64,
    local: Local,
    name: (usize, usize),
    /// How much of its data is still to come, where that is known.
    left: Option<u64>,
}

/// An entry that has come.
struct Record {
    offset: u64,
    end: u64,
    local: Local,
    name: (usize, usize),
    found: Found,
    digest: Sha256,
    is_kept: bool,
}

impl Scan {
    /// Begins a scan of a module's zip.
    #[must_use]
    pub fn new(module: &ModulePath, version: &Version, limits: Limits) -> Self {
        Self {
            go_mod: prefix(module, version) + GO_MOD,
            limits,
            state: State::Header,
            waiting: Vec::new(),
            position: 0,
            unpacked: 0,
            unpacker: Unpacker::new(),
            current: Current {
                offset: 0,
                local: Local::NONE,
                name: (0, 0),
                left: None,
            },
            records: Vec::new(),
            names: Vec::new(),
            kept: None,
        }
    }

    /// Takes the next bytes of the archive in.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while self.state != State::Stopped && !bytes.is_empty() {
            bytes = match self.state {
                State::Header => self.header(bytes),
                State::Data => self.data(bytes),
                State::Descriptor => self.descriptor(bytes),
                State::Stopped => return,
            };
        }
    }

    /// Whether nothing that comes will be looked at.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// Adds to `waiting` until it is that long; what is left of the bytes.
    fn gather<'b>(&mut self, bytes: &'b [u8], len: usize) -> &'b [u8] {
        let missing = len.saturating_sub(self.waiting.len());
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.waiting.extend_from_slice(head);
        rest
    }

    fn header<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let rest = self.gather(bytes, LOCAL_LEN);
        if self.waiting.len() < LOCAL_LEN {
            return rest;
        }
        // Also where the directory begins: the end of what there is to scan.
        let Some((name, extra)) = local_lens(&self.waiting) else {
            return self.stop();
        };
        let len = LOCAL_LEN + name + extra;
        let rest = self.gather(rest, len);
        if self.waiting.len() < len {
            return rest;
        }
        if self.begin().is_none() {
            return self.stop();
        }
        self.waiting.clear();
        self.position += len as u64;
        if self.current.left == Some(0) {
            self.end_of_data();
        }
        rest
    }

    /// Begins the entry whose header is waiting; `None` if it is one that can't be scanned.
    fn begin(&mut self) -> Option<()> {
        let (local, name) = Local::parse(&self.waiting).ok()?;
        let method = local.method()?;
        let room = self.limits.unpacked.checked_sub(self.unpacked)?;
        let fits = self.records.len() < self.limits.files
            && (self.names.len() + name.len()) as u64 <= self.limits.directory;
        let open = local.has_descriptor();
        // A folder's entry may be without the descriptor that it says it has.
        if !fits || open && (method == Method::Stored || name.ends_with(b"/")) {
            return None;
        }
        let keep = name == self.go_mod.as_bytes();
        let most = if keep {
            room.min(self.limits.go_mod)
        } else {
            room
        };
        let most = if open { most } else { most.min(local.size) };
        self.unpacker.begin(method, most, keep);
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.current = Current {
            offset: self.position,
            local,
            name: (start, self.names.len()),
            left: (!open).then_some(local.packed),
        };
        self.state = State::Data;
        Some(())
    }

    fn data<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let left = self.current.left.unwrap_or(u64::MAX);
        let most = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let Ok(used) = self.unpacker.feed(&bytes[..most]) else {
            return self.stop();
        };
        self.position += used as u64;
        let ended = match &mut self.current.left {
            Some(left) => {
                *left -= used as u64;
                if used < most {
                    return self.stop();
                }
                *left == 0
            }
            None => self.unpacker.has_ended(),
        };
        if ended {
            self.end_of_data();
        }
        &bytes[used..]
    }

    fn end_of_data(&mut self) {
        if !self.unpacker.may_end() {
            self.stop();
        } else if self.current.local.has_descriptor() {
            self.state = State::Descriptor;
        } else {
            self.end_of_entry(0);
        }
    }

    fn descriptor<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        const WANTED: usize = DESCRIPTOR_LEN + 4;
        let rest = self.gather(bytes, WANTED);
        if self.waiting.len() < WANTED {
            return rest;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let Some(len) = self.end_of_open_entry(&waiting) else {
            return self.stop();
        };
        self.position += len as u64;
        self.waiting.extend_from_slice(&waiting[len..]);
        rest
    }

    /// Ends an entry whose descriptor is among these bytes; how long it is.
    fn end_of_open_entry(&mut self, bytes: &[u8]) -> Option<usize> {
        let found = self.unpacker.found();
        let len = descriptor_len(bytes, found)?;
        self.end_of_entry(len as u64);
        Some(len)
    }

    fn end_of_entry(&mut self, descriptor: u64) {
        let unpacked = self.unpacker.finish();
        self.unpacked += unpacked.found.size;
        self.records.push(Record {
            offset: self.current.offset,
            end: self.position + descriptor,
            local: self.current.local,
            name: self.current.name,
            found: unpacked.found,
            digest: unpacked.digest,
            is_kept: unpacked.kept.is_some(),
        });
        self.kept = unpacked.kept.or(self.kept.take());
        self.state = State::Header;
    }

    fn stop<'b>(&mut self) -> &'b [u8] {
        self.state = State::Stopped;
        self.waiting = Vec::new();
        &[]
    }

    /// What was found of an entry, if it is just what the directory says.
    pub(super) fn take(&mut self, stretch: &Stretch<'_>) -> Option<Examined> {
        let at = self
            .records
            .binary_search_by_key(&stretch.entry.offset, |r| r.offset);
        let record = &self.records[at.ok()?];
        let (from, to) = record.name;
        let same = record.end == stretch.end
            && self.names[from..to] == *stretch.name
            && record.local.agrees(stretch.entry)
            && check_found(stretch, record.found).is_ok();
        same.then(|| Examined {
            digest: record.digest,
            kept: record.is_kept.then(|| self.kept.take()).flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Input, Kind, write};

    struct File(&'static str);

    impl Input for File {
        fn path(&self) -> &str {
            self.0
        }

        fn kind(&self) -> Kind {
            Kind::File
        }

        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn open(&self) -> std::io::Result<Box<dyn std::io::Read + '_>> {
            Ok(Box::new(self.0.as_bytes()))
        }
    }

    #[test]
    fn all_that_came_was_found() {
        let (module, version) = ("a.example/m".parse().unwrap(), "v1.0.0".parse().unwrap());
        let mut zip = Vec::new();
        let limits = Limits::default();
        let files = [File("go.mod"), File("a.go"), File("b.go")];
        write(&mut zip, &module, &version, &files, &limits).unwrap();
        let mut scan = Scan::new(&module, &version, limits);
        zip.chunks(10).for_each(|piece| scan.feed(piece));
        assert_eq!(scan.records.len(), files.len());
        assert_eq!(scan.kept.as_deref(), Some(&b"go.mod"[..]));
        assert!(scan.has_stopped(), "at the directory");
    }

    #[test]
    fn a_scan_stops_at_its_bounds() {
        let (module, version) = ("a.example/m".parse().unwrap(), "v1.0.0".parse().unwrap());
        let mut zip = Vec::new();
        let files = [File("go.mod"), File("a.go"), File("b.go")];
        write(&mut zip, &module, &version, &files, &Limits::default()).unwrap();
        for limits in [
            Limits {
                files: 1,
                ..Limits::default()
            },
            Limits {
                unpacked: 9,
                ..Limits::default()
            },
            Limits {
                directory: 40,
                ..Limits::default()
            },
        ] {
            let mut scan = Scan::new(&module, &version, limits);
            scan.feed(&zip);
            assert!(scan.has_stopped() && scan.records.len() == 1, "{limits:?}");
        }
    }
}
