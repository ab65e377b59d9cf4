//! What left not long ago, by fingerprint.

/// Ghosts of one bucket: 16 bytes.
const WAYS: usize = 8;
/// Buckets at first.
const LEAST: usize = 128;

/// Tags of those that left, newest first in each bucket; 0 is an empty place. A newcomer pushes the
/// bucket's oldest out, so together they are a queue that forgets in about the order it learnt.
///
/// Two bytes a ghost. One asked for in vain is taken for another in about 1 of 8,000 cases.
#[derive(Debug)]
pub(super) struct Ghosts {
    buckets: Vec<[u16; WAYS]>,
}

impl Ghosts {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![[0; WAYS]; LEAST],
        }
    }

    /// Remembers a fingerprint, among about as many as entries are `held`.
    pub(super) fn add(&mut self, fingerprint: u32, held: usize) {
        while self.buckets.len() * WAYS < held {
            // Nobody knows in which half a tag belongs: both have it until it is pushed out.
            self.buckets.extend_from_within(..);
        }
        let (bucket, tag) = self.place(fingerprint);
        bucket.rotate_right(1);
        bucket[0] = tag;
    }

    /// Whether the fingerprint was remembered; it is no longer.
    pub(super) fn take(&mut self, fingerprint: u32) -> bool {
        let (bucket, tag) = self.place(fingerprint);
        let found = bucket.iter().position(|ghost| *ghost == tag);
        let Some(at) = found else { return false };
        bucket[at..].rotate_left(1);
        bucket[WAYS - 1] = 0;
        true
    }

    /// Bytes that they occupy.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buckets.capacity() * size_of::<[u16; WAYS]>()
    }

    fn place(&mut self, fingerprint: u32) -> (&mut [u16; WAYS], u16) {
        let tag = (fingerprint as u16).max(1);
        // Spread once more: the tag's bits are in the fingerprint too.
        let spread = fingerprint.wrapping_mul(0x9E37_79B1).rotate_left(16);
        let bucket = spread as usize & (self.buckets.len() - 1);
        (&mut self.buckets[bucket], tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(n: u32) -> u32 {
        n.wrapping_mul(0x85EB_CA6B).rotate_left(13) ^ n
    }

    #[test]
    fn a_ghost_is_remembered_once() {
        let mut ghosts = Ghosts::new();
        assert!(!ghosts.take(7));
        ghosts.add(7, 0);
        assert!(ghosts.take(7));
        assert!(!ghosts.take(7));
    }

    #[test]
    fn ghosts_survive_growth() {
        let mut ghosts = Ghosts::new();
        (0..100).for_each(|n| ghosts.add(fingerprint(n), 0));
        ghosts.add(fingerprint(100), 100_000);
        assert!((0..=100).all(|n| ghosts.take(fingerprint(n))));
    }

    #[test]
    fn the_newest_are_kept_and_the_oldest_are_forgotten() {
        let mut ghosts = Ghosts::new();
        (0..100_000).for_each(|n| ghosts.add(fingerprint(n), 1000));
        let newest = (99_700..100_000).filter(|n| ghosts.take(fingerprint(*n)));
        assert!(newest.count() > 290);
        let oldest = (0..90_000).filter(|n| ghosts.take(fingerprint(*n)));
        assert!(oldest.count() < 90);
        assert_eq!(ghosts.memory(), 2 * 1024);
    }
}
