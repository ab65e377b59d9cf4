//! Work on a store beside a running origin, or without one: [`verify`] proves again what is in it,
//! [`import`] takes over what others have.
//!
//! Nothing here needs the origin to stand still: bodies appear whole, and who moves one away looks
//! first whether it still is the one that was judged.

pub mod import;
mod judge;
pub(crate) mod pace;
mod part;
mod proof;
pub mod verify;

pub use self::part::Target;
