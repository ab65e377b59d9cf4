//! Flow-control windows (RFC 9113 §5.2, §6.9). Pure.

use super::frame::MAX_31;

/// Every window before anything was said (§6.9.2).
pub(crate) const INITIAL: u32 = 65_535;

/// Bytes that may be sent. Below zero after the peer has made its initial window smaller (§6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(i64);

/// A window above 2³¹−1: FLOW_CONTROL_ERROR (§6.9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Window {
    pub(crate) fn new(bytes: u32) -> Window {
        Window(i64::from(bytes))
    }

    /// How many bytes may be sent now.
    pub(crate) fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Whether `bytes` fit; if so they are taken.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.room();
        if fits {
            self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
        }
        fits
    }

    /// WINDOW_UPDATE.
    pub(crate) fn grow(&mut self, bytes: u32) -> Result<(), Overflow> {
        self.shift(i64::from(bytes))
    }

    /// The peer's initial window went from `old` to `new`.
    pub(crate) fn adjust(&mut self, old: u32, new: u32) -> Result<(), Overflow> {
        self.shift(i64::from(new) - i64::from(old))
    }

    fn shift(&mut self, by: i64) -> Result<(), Overflow> {
        let shifted = self.0 + by;
        if shifted > i64::from(MAX_31) {
            return Err(Overflow);
        }
        self.0 = shifted;
        Ok(())
    }
}

/// The window that we give a peer: what has been read of it is given back in larger pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    open: Window,
    /// Read, not yet given back.
    owed: u32,
}

impl Allowance {
    /// The protocol's initial window.
    pub(crate) fn new() -> Allowance {
        Allowance {
            open: Window::new(INITIAL),
            owed: 0,
        }
    }

    /// `bytes` have come, padding included; false: more than was allowed.
    pub(crate) fn receive(&mut self, bytes: usize) -> bool {
        self.open.take(bytes)
    }

    /// `bytes` were read or thrown away. Answers what to give back now, if anything.
    pub(crate) fn release(&mut self, bytes: usize) -> Option<u32> {
        self.owed += u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.owed < INITIAL / 2 {
            return None;
        }
        // What is owed was taken before, so the window can't overflow.
        let owed = std::mem::take(&mut self.owed);
        self.open.grow(owed).ok().map(|()| owed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_can_be_made_negative_and_recovers() {
        let mut window = Window::new(100);
        assert!(window.take(100) && !window.take(1));
        window.adjust(100, 40).unwrap();
        assert_eq!(window.room(), 0);
        window.grow(70).unwrap();
        assert_eq!(window.room(), 10);
    }

    #[test]
    fn a_window_beyond_31_bits_is_an_error() {
        let mut window = Window::new(MAX_31);
        assert_eq!(window.grow(1), Err(Overflow));
        assert_eq!(window.room(), usize::try_from(MAX_31).unwrap());
    }

    proptest! {
        /// A peer that keeps to its allowance, and whose bytes are read, is never stopped for good.
        #[test]
        fn what_is_read_is_given_back(pieces in prop::collection::vec(1_usize..16_384, 1..200)) {
            let (mut ours, mut theirs) = (Allowance::new(), Window::new(INITIAL));
            for piece in pieces {
                prop_assert!(theirs.take(piece), "the peer was stopped");
                prop_assert!(ours.receive(piece));
                if let Some(back) = ours.release(piece) {
                    theirs.grow(back).unwrap();
                }
            }
        }
    }
}
