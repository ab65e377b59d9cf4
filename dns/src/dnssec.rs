//! DNSSEC: keys, signatures and signed denials.

pub mod file;
mod key;

pub use key::{Algorithm, Key, KeyError, Role, State};
