//! The world cut into units: stretches of addresses about which the same is known, so that they
//! are led alike.

use std::collections::HashMap;

use ipnet::IpNet;

use super::space::{Family, Key, Steps, Walk};
use super::unit::mix;
use super::world::{Traits, World};
use super::{Inputs, Place, cap};

/// What decides about a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Basis {
    /// A pin, by its index.
    Pin(u32),
    /// A pin of this system.
    AsnPin(u32),
    /// Scores, from the traits and the measured prefix of this index.
    Scored(Traits, Option<u32>),
    /// Nothing is known.
    Unknown,
}

/// All units, and where each holds.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// In the order in which they first begin.
    pub(super) units: Vec<Basis>,
    pub(super) stretches: [Steps<u32>; 2],
}

impl Layout {
    pub(super) fn new(inputs: &Inputs, world: &World) -> Self {
        let mut units = Units::default();
        let stretches = Family::ALL.map(|family| units.cut(family, inputs, world));
        units.list.shrink_to_fit();
        Self {
            units: units.list,
            stretches,
        }
    }

    /// The unit of some bits.
    pub(super) fn at(&self, family: Family, bits: u64) -> u32 {
        self.stretches[family as usize].at(bits)
    }

    /// Where each unit first begins, in their order.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (Family, u64)> + '_ {
        let mut seen = 0;
        let stretches = Family::ALL.into_iter().flat_map(|family| {
            let stretches = self.stretches[family as usize].as_slice().iter();
            stretches.map(move |(start, unit)| (family, *start, *unit))
        });
        stretches.filter_map(move |(family, start, unit)| {
            let first = unit == seen;
            seen += u32::from(first);
            first.then_some((family, start))
        })
    }
}

#[derive(Default)]
struct Units {
    list: Vec<Basis>,
    known: HashMap<Basis, u32>,
}

impl Units {
    fn cut(&mut self, family: Family, inputs: &Inputs, world: &World) -> Steps<u32> {
        let pins = inputs.pins.iter().zip(1..).filter_map(|((net, _), index)| {
            let (of, key) = Key::cut(*net);
            (of == family && net.prefix_len() <= family.cap()).then_some((key, 0, index))
        });
        let pins = Steps::of_prefixes(pins.collect(), 0);
        let measured = world.measured(family);
        let measured = measured.map(|(key, index)| (key, 0, index as u32 + 1));
        let measured = Steps::of_prefixes(measured.collect(), 0);
        let nothing = Steps::constant(0);
        let places = inputs
            .geo
            .as_ref()
            .map_or(&nothing, |geo| geo.steps(family));
        let asns = inputs
            .asns
            .as_ref()
            .map_or(&nothing, |asns| asns.steps(family));

        let functions = [&pins, &measured, places, asns];
        let most = functions.iter().map(|steps| steps.as_slice().len()).sum();
        let mut stretches = Steps::with_capacity(most);
        let mut walk = Walk::new(functions);
        while let Some((start, [pin, own, place, asn])) = walk.next() {
            let basis = if pin != 0 {
                Basis::Pin(pin - 1)
            } else if inputs.asn_pins.contains_key(&asn) {
                Basis::AsnPin(asn)
            } else {
                scored(inputs, world, Traits { place, asn }, own)
            };
            stretches.put(start, self.id(basis, world));
        }
        stretches.shrink();
        stretches
    }

    fn id(&mut self, basis: Basis, world: &World) -> u32 {
        let next = self.list.len() as u32;
        // A prefix of the cap's length comes once: it needn't be remembered.
        let id = match basis {
            Basis::Scored(_, Some(own)) if is_whole(world, own) => next,
            basis => *self.known.entry(basis).or_insert(next),
        };
        if id == next {
            self.list.push(basis);
        }
        id
    }
}

fn scored(inputs: &Inputs, world: &World, traits: Traits, own: u32) -> Basis {
    let knows = world.knows_asn(inputs, traits);
    let traits = Traits {
        asn: if knows { traits.asn } else { 0 },
        ..traits
    };
    match own.checked_sub(1) {
        None if traits.place == 0 && traits.asn == 0 => Basis::Unknown,
        own => Basis::Scored(traits, own),
    }
}

fn is_whole(world: &World, own: u32) -> bool {
    let (family, key) = world.prefix(own);
    key.length == family.cap()
}

/// What a unit is known by from map to map and from server to server: a hash of what it is made of.
pub(super) fn key(basis: Basis, inputs: &Inputs, world: &World) -> u64 {
    match basis {
        Basis::Unknown => mix(0, 0),
        Basis::Pin(pin) => of_prefix(1, inputs.pins[pin as usize].0),
        Basis::AsnPin(asn) => mix(2, asn.into()),
        Basis::Scored(traits, own) => {
            let own = own.map(|own| {
                let (family, key) = world.prefix(own);
                family.net(key)
            });
            let place = inputs.geo.as_ref().and_then(|geo| geo.place(traits.place));
            key_of(own, place, traits.asn)
        }
    }
}

/// What a scored unit is known by. A prefix that can't be cut further is known by itself, so that
/// it stays itself when its place turns out to be another.
pub(super) fn key_of(own: Option<IpNet>, place: Option<Place>, asn: u32) -> u64 {
    let hash = own.map_or(3, |own| of_prefix(4, own));
    if own.is_some_and(|own| own.prefix_len() == cap(own.network())) {
        return hash;
    }
    mix(
        place.map_or(hash, |place| of_place(hash, place)),
        asn.into(),
    )
}

fn of_prefix(hash: u64, net: IpNet) -> u64 {
    let (family, key) = Key::cut(net);
    [family as u64, key.first, key.length.into()]
        .into_iter()
        .fold(hash, mix)
}

fn of_place(hash: u64, place: Place) -> u64 {
    let country = place.country.map_or(0, u16::from_be_bytes);
    [
        place.point.latitude.to_bits(),
        place.point.longitude.to_bits(),
        country.into(),
        place.continent.map_or(0, |continent| continent as u64 + 1),
    ]
    .into_iter()
    .fold(hash, mix)
}
