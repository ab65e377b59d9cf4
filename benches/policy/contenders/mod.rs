//! The policies that are compared.

mod gdsf;
mod list;
mod lru;
mod ours;
mod s3fifo;
mod sieve;
mod tinylfu;

use std::sync::Arc;

use self::ours::{Ours, Standing};
use crate::policy::Tuning;
use crate::world::Id;

/// What a policy is told at first.
#[derive(Clone)]
pub(crate) struct Setting {
    /// Bytes.
    pub(crate) capacity: u64,
    /// Entries.
    pub(crate) most: usize,
    /// Of every object, in bytes.
    pub(crate) weights: Arc<[u64]>,
}

impl Setting {
    fn weight(&self, id: Id) -> u64 {
        self.weights[id as usize]
    }
}

/// A cache without bytes.
pub(crate) trait Contender {
    /// Whether the object was held; it has been taken in otherwise, if the policy wants it. Never
    /// asked for what is heavier than the capacity.
    fn ask(&mut self, id: Id) -> bool;

    /// A newer version has displaced the object's.
    fn supersede(&mut self, _id: Id) {}

    /// Bytes of memory an entry, the index apart.
    fn per_entry(&self) -> usize;
}

/// A policy by name.
#[derive(Clone, Copy)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    make: Make,
}

#[derive(Clone, Copy)]
enum Make {
    Peer(fn(&Setting) -> Box<dyn Contender>),
    Ours(Tuning, Standing),
}

impl Named {
    pub(crate) fn make(&self, setting: &Setting) -> Box<dyn Contender> {
        match self.make {
            Make::Peer(make) => make(setting),
            Make::Ours(tuning, standing) => Box::new(Ours::new(setting, tuning, standing)),
        }
    }
}

const fn peer(name: &'static str, make: fn(&Setting) -> Box<dyn Contender>) -> Named {
    let make = Make::Peer(make);
    Named { name, make }
}

const fn ours(name: &'static str, tuning: Tuning, standing: Standing) -> Named {
    let make = Make::Ours(tuning, standing);
    Named { name, make }
}

const CHOSEN: Tuning = Tuning::CHOSEN;
/// Everything enters the main queue at once.
const NO_ADMISSION: Tuning = Tuning { light: 0, ..CHOSEN };
/// What is light has to pass through the small queue as well.
const NOBODY_DIRECT: Tuning = Tuning {
    light: u8::MAX,
    ..CHOSEN
};
/// Weights bound the cache and play no other part.
const NO_LIVES: Tuning = Tuning {
    most_lives: 0,
    ..CHOSEN
};

pub(crate) const ALL: &[Named] = &[
    peer("LRU", |setting| Box::new(lru::Lru::new(setting))),
    peer("SIEVE", |setting| Box::new(sieve::Sieve::new(setting))),
    peer("S3-FIFO", |setting| Box::new(s3fifo::S3Fifo::new(setting))),
    peer("W-TinyLFU", |setting| {
        Box::new(tinylfu::TinyLfu::new(setting))
    }),
    peer("GDSF, O(log n)", |setting| {
        Box::new(gdsf::Gdsf::new(setting))
    }),
    ours("the edge's", CHOSEN, Standing::Ignored),
    ours("no admission", NO_ADMISSION, Standing::Ignored),
    ours("light ones queue too", NOBODY_DIRECT, Standing::Ignored),
    ours("weights ignored", NO_LIVES, Standing::Ignored),
    ours(
        "small 1/5",
        Tuning {
            small_share: 5,
            ..CHOSEN
        },
        Standing::Ignored,
    ),
    ours(
        "lives 63",
        Tuning {
            most_lives: 63,
            ..CHOSEN
        },
        Standing::Ignored,
    ),
    ours("light 1", Tuning { light: 1, ..CHOSEN }, Standing::Ignored),
    ours("newest count twice", CHOSEN, Standing::NewestTwice),
    ours("superseded never", CHOSEN, Standing::SupersededNever),
];
