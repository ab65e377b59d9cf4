//! A binary trie of prefixes: the longest match of an address, and how far around it that match
//! holds.
//!
//! Eight bytes and an optional value a bit of each prefix: meant for what operators write by hand.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes of both families and their values.
#[derive(Clone, Debug, PartialEq)]
pub struct Trie<T> {
    v4: Family<T>,
    v6: Family<T>,
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            v4: Family::default(),
            v6: Family::default(),
        }
    }
}

/// What a trie says of an address.
#[derive(Debug, PartialEq, Eq)]
pub struct Match<'a, T> {
    /// The value of the longest prefix that holds the address.
    pub value: Option<&'a T>,
    /// Bits of the address that decided: every address that shares them gets this very match.
    pub depth: u8,
}

impl<T> Trie<T> {
    /// Adds a prefix, or replaces its value.
    pub fn insert(&mut self, prefix: IpNet, value: T) {
        let (bits, _) = bits_of(prefix.network());
        self.family_mut(prefix.network())
            .insert(bits, prefix.prefix_len(), value);
    }

    /// Looks an address up.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Match<'_, T> {
        let (bits, width) = bits_of(address);
        match address {
            IpAddr::V4(_) => self.v4.find(bits, width),
            IpAddr::V6(_) => self.v6.find(bits, width),
        }
    }

    fn family_mut(&mut self, address: IpAddr) -> &mut Family<T> {
        match address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

/// Index of a node that isn't there: no node points back at the root.
const NONE: u32 = 0;

#[derive(Clone, Debug, PartialEq)]
struct Family<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Node<T> {
    children: [u32; 2],
    value: Option<T>,
}

impl<T> Node<T> {
    const EMPTY: Self = Self {
        children: [NONE; 2],
        value: None,
    };
}

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::EMPTY],
        }
    }
}

impl<T> Family<T> {
    fn insert(&mut self, bits: u128, length: u8, value: T) {
        let mut at = 0;
        for depth in 0..length {
            let side = side(bits, depth);
            if self.nodes[at].children[side] == NONE {
                let next =
                    u32::try_from(self.nodes.len()).expect("2^32 nodes are more than memory holds");
                self.nodes[at].children[side] = next;
                self.nodes.push(Node::EMPTY);
            }
            at = self.nodes[at].children[side] as usize;
        }
        self.nodes[at].value = Some(value);
    }

    fn find(&self, bits: u128, width: u8) -> Match<'_, T> {
        let mut node = &self.nodes[0];
        let mut value = node.value.as_ref();
        let mut depth = 0;
        while depth < width && node.children != [NONE; 2] {
            let next = node.children[side(bits, depth)];
            depth += 1;
            if next == NONE {
                break;
            }
            node = &self.nodes[next as usize];
            value = node.value.as_ref().or(value);
        }
        Match { value, depth }
    }
}

/// An address left-aligned in 128 bits, and how many of them count.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    }
}

fn side(bits: u128, depth: u8) -> usize {
    usize::from((bits >> (127 - u32::from(depth))) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trie(prefixes: &[(&str, u32)]) -> Trie<u32> {
        let mut trie = Trie::default();
        for (prefix, value) in prefixes {
            trie.insert(prefix.parse().unwrap(), *value);
        }
        trie
    }

    #[test]
    fn the_longest_prefix_wins_and_depth_is_where_it_was_decided() {
        let trie = trie(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("2001:db8::/32", 3)]);
        let find = |text: &str| {
            let found = trie.find(text.parse().unwrap());
            (found.value.copied(), found.depth)
        };
        assert_eq!(find("10.1.2.3"), (Some(2), 16));
        assert_eq!(find("10.0.2.3"), (Some(1), 16));
        assert_eq!(find("10.128.2.3"), (Some(1), 9));
        assert_eq!(find("192.0.2.1"), (None, 1));
        assert_eq!(find("2001:db8::1"), (Some(3), 32));
        assert_eq!(find("8000::"), (None, 1));
    }

    #[test]
    fn an_empty_trie_says_the_same_to_everybody() {
        let found = trie(&[]).find("192.0.2.1".parse().unwrap()).depth;
        assert_eq!(found, 0);
    }

    #[test]
    fn whole_addresses_and_everything_are_prefixes_too() {
        let trie = trie(&[("0.0.0.0/0", 1), ("192.0.2.1/32", 2), ("::1/128", 3)]);
        let find = |text: &str| trie.find(text.parse().unwrap());
        assert_eq!(find("192.0.2.1").value, Some(&2));
        assert_eq!(find("192.0.2.1").depth, 32);
        assert_eq!(find("192.0.2.0").value, Some(&1));
        assert_eq!(find("::1").depth, 128);
    }

    proptest! {
        #[test]
        fn a_match_is_the_longest_and_holds_throughout_its_depth(
            prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            address in any::<u32>(), other in any::<u32>(),
        ) {
            let nets: Vec<ipnet::Ipv4Net> = prefixes
                .iter()
                .map(|&(bits, length)| ipnet::Ipv4Net::new(bits.into(), length).unwrap().trunc())
                .collect();
            let mut trie = Trie::default();
            nets.iter().for_each(|net| trie.insert(IpNet::V4(*net), *net));
            let ip = std::net::Ipv4Addr::from(address);
            let found = trie.find(ip.into());
            let longest = nets.iter().filter(|n| n.contains(&ip)).max_by_key(|n| n.prefix_len());
            prop_assert_eq!(found.value, longest);
            let mask = u32::MAX.checked_shl(32 - u32::from(found.depth)).unwrap_or(0);
            let near = std::net::Ipv4Addr::from((address & mask) | (other & !mask));
            prop_assert_eq!(trie.find(near.into()), found);
        }
    }
}
