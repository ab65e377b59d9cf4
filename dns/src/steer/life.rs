//! What happens to a map between two compilations.

use std::time::Instant;

use super::{Constants, Inputs, Map, compile};

impl Map {
    /// The same map under a version that its publisher gives out.
    #[must_use]
    pub fn numbered(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// The map for other states and addresses of the same PoPs, at once.
    #[must_use]
    pub fn restated(&self, inputs: &Inputs, constants: &Constants, now: Instant) -> Self {
        compile(inputs, Some(self), constants, now).0
    }
}
