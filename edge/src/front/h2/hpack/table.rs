//! What an index stands for (RFC 7541 §2.3): the static table, and the dynamic one behind it.
//!
//! The dynamic table's strings lie one behind the other in one buffer, the oldest entry's first, each
//! entry's name before its value. New ones are appended, old ones die at the front, and when the
//! end is reached, those that live are moved to the front, at once. That costs some copying that a
//! true ring would save, but each string stays in one piece and is lent out as it lies there. The
//! buffer never exceeds the table's largest size, of which each entry's overhead of 32 bytes is
//! free: that is what keeps the moves rare.

use std::collections::VecDeque;

use super::HpackError;

/// SETTINGS_HEADER_TABLE_SIZE unless announced otherwise (RFC 9113 §6.5.2).
pub(crate) const DEFAULT_SIZE: usize = 4096;

/// What an entry counts beyond its name and value (RFC 7541 §4.1).
pub(super) const OVERHEAD: usize = 32;

/// Bytes of the first buffer: enough for what most clients repeat.
const FIRST_BUFFER: usize = 256;

/// RFC 7541 Appendix A. Its first index is 1.
#[rustfmt::skip]
pub(super) static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The static table's field at an index.
pub(super) fn fixed(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = STATIC.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// Both tables, as one decoder sees them.
#[derive(Debug)]
pub(super) struct Table {
    /// Names and values; in front of the oldest entry's, dead ones.
    bytes: Vec<u8>,
    /// The newest first.
    entries: VecDeque<Entry>,
    /// As RFC 7541 §4.1 counts.
    size: usize,
    /// The most that `size` may be now: the client chooses it.
    most: usize,
    /// The most that the client may choose.
    limit: usize,
}

/// Where an entry lies. Offsets within a buffer that is never larger than the limit, a `u32`.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    /// Lengths.
    name: u32,
    value: u32,
}

impl Table {
    /// An empty one, of the protocol's first size, that may be told to grow to `limit`.
    pub(super) fn new(limit: u32) -> Table {
        Table {
            bytes: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            most: DEFAULT_SIZE,
            limit: (limit as usize).max(DEFAULT_SIZE),
        }
    }

    /// The field at an index of the common address space (RFC 7541 §2.3.3).
    pub(super) fn get(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        if let Some(field) = fixed(index) {
            return Ok(field);
        }
        // 0 has none in either.
        let nth = index.checked_sub(STATIC.len() + 1);
        let entry = nth.and_then(|nth| self.entries.get(nth));
        let entry = entry.ok_or(HpackError::Index)?;
        let field = &self.bytes[entry.start as usize..];
        let (name, behind) = field.split_at(entry.name as usize);
        Ok((name, &behind[..entry.value as usize]))
    }

    /// Adds a field, for which the oldest ones go; one that is larger than all the table empties it,
    /// and is not an error (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + OVERHEAD;
        let Some(others) = self.most.checked_sub(size) else {
            self.evict(0);
            return;
        };
        self.evict(others);
        self.make_room(name.len() + value.len());
        self.entries.push_front(Entry {
            start: self.bytes.len() as u32,
            name: name.len() as u32,
            value: value.len() as u32,
        });
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.size += size;
    }

    /// A table size update (RFC 7541 §6.3). A table that is emptied by it keeps no memory.
    pub(super) fn resize(&mut self, most: usize) -> Result<(), HpackError> {
        if most > self.limit {
            return Err(HpackError::TableSize);
        }
        self.most = most;
        self.evict(most);
        if self.entries.is_empty() {
            self.bytes = Vec::new();
            self.entries = VecDeque::new();
        }
        Ok(())
    }

    /// Removes the oldest entries until the size is `most` or less.
    fn evict(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.name as usize + oldest.value as usize + OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Makes the buffer hold so many bytes more. There is room for them within the limit.
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        self.bury_the_dead();
        let needed = self.bytes.len() + more;
        // With a quarter to spare, or every entry from here on would move all the others.
        if needed + needed / 4 > self.bytes.capacity() {
            let larger = (2 * needed).clamp(FIRST_BUFFER, self.limit);
            self.bytes.reserve_exact(larger - self.bytes.len());
        }
    }

    fn bury_the_dead(&mut self) {
        let dead = self.entries.back().map_or(0, |oldest| oldest.start);
        if dead > 0 {
            self.bytes.drain(..dead as usize);
            for entry in &mut self.entries {
                entry.start -= dead;
            }
        }
    }
}

/// Fields, lent.
#[cfg(test)]
pub(super) type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

#[cfg(any(test, feature = "fuzzing"))]
impl Table {
    /// The bounds that hold at any time.
    ///
    /// # Panics
    /// If one doesn't.
    pub(super) fn assert_bounded(&self) {
        let sizes = self.entries.iter().map(|entry| {
            let text = entry.name as usize + entry.value as usize;
            text + OVERHEAD
        });
        assert_eq!(self.size, sizes.sum::<usize>());
        assert!(self.size <= self.most && self.most <= self.limit);
        assert!(self.bytes.capacity() <= self.limit);
        assert!(self.entries.capacity() <= 2 * self.limit / OVERHEAD);
    }

    /// The entries, the newest first, and their size.
    #[cfg(test)]
    pub(super) fn dynamic(&self) -> (Fields<'_>, usize) {
        let indices = (STATIC.len() + 1..).take(self.entries.len());
        let fields = indices.map(|index| self.get(index).expect("an index that is there"));
        (fields.collect(), self.size)
    }

    #[cfg(test)]
    pub(super) fn owns_heap(&self) -> bool {
        self.bytes.capacity() + self.entries.capacity() > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indices_begin_at_one_and_go_on_behind_the_static_table() {
        let mut table = Table::new(0);
        assert_eq!(table.get(0), Err(HpackError::Index));
        assert_eq!(table.get(1), Ok((&b":authority"[..], &b""[..])));
        assert_eq!(table.get(16).unwrap().1, b"gzip, deflate");
        assert_eq!(table.get(61).unwrap().0, b"www-authenticate");
        assert_eq!(table.get(62), Err(HpackError::Index));
        table.insert(b"a", b"1");
        table.insert(b"b", b"2");
        assert_eq!(table.get(62), Ok((&b"b"[..], &b"2"[..])));
        assert_eq!(table.get(63), Ok((&b"a"[..], &b"1"[..])));
        assert_eq!(table.get(64), Err(HpackError::Index));
        assert_eq!(table.get(usize::MAX), Err(HpackError::Index));
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it() {
        let mut table = Table::new(0);
        table.insert(b"a", b"1");
        let fits = vec![b'x'; DEFAULT_SIZE - OVERHEAD - 1];
        table.insert(b"n", &fits);
        assert_eq!(
            table.dynamic(),
            (vec![(&b"n"[..], &fits[..])], DEFAULT_SIZE)
        );
        table.insert(b"nn", &fits);
        assert_eq!(table.dynamic(), (vec![], 0));
    }

    #[test]
    fn no_heap_before_the_first_entry_and_none_after_the_last() {
        let mut table = Table::new(65_536);
        assert!(!table.owns_heap());
        table.insert(b"a", b"1");
        assert!(table.owns_heap());
        table.resize(0).unwrap();
        assert!(!table.owns_heap());
        table.insert(b"a", b"1");
        assert!(!table.owns_heap());
        table.resize(65_536).unwrap();
        assert_eq!(table.resize(65_537), Err(HpackError::TableSize));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(usize, usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => (0_usize..40, 0_usize..80).prop_map(|(name, value)| Step::Insert(name, value)),
            4 => (0_usize..40, 0_usize..5000).prop_map(|(name, value)| Step::Insert(name, value)),
            1 => (0_usize..=6000).prop_map(Step::Resize),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_that_fit(steps in prop::collection::vec(step(), 0..300)) {
            let mut table = Table::new(6000);
            let mut model: VecDeque<(Vec<u8>, Vec<u8>)> = VecDeque::new();
            let mut most = DEFAULT_SIZE;
            for (nth, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(name, value) => {
                        let filler = nth.to_le_bytes()[0];
                        let (name, value) = (vec![filler; name], vec![!filler; value]);
                        table.insert(&name, &value);
                        model.push_front((name, value));
                    }
                    Step::Resize(to) => {
                        table.resize(to).unwrap();
                        most = to;
                    }
                }
                let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
                while model.iter().map(size).sum::<usize>() > most {
                    model.pop_back();
                }
                table.assert_bounded();
                let expected = model.iter().map(|(name, value)| (&name[..], &value[..]));
                prop_assert_eq!(table.dynamic().0, expected.collect::<Vec<_>>());
            }
        }
    }
}
