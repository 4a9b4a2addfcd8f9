//! [pure] Gives each name of a sandbox an address of its own, so that a connection says which name it is for.
//!
//! The addresses are of the block for benchmarks (RFC 2544, RFC 6890), which nobody
//! routes: they mean something between one job and its gateway only.

use super::grant::Name;
use core::net::Ipv4Addr;
use std::collections::BTreeMap;

/// The first address of the block, which is given to nobody.
pub const BLOCK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// The length of the block's prefix.
pub const PREFIX: u8 = 15;
/// The most names that have an address at once, below what the block holds: names below a
/// wildcard are the job's to invent, and each of them costs memory here.
pub const NAMES: usize = 16_384;

/// The names of one sandbox that have an address.
///
/// A name keeps its address for as long as there is room. Then the name that was used the
/// longest ago and has no open connection loses its own to the next one.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    most: usize,
    places: Vec<Place>,
    by_name: BTreeMap<Name, usize>,
    /// Places without connections, by when they were used.
    idle: BTreeMap<u64, usize>,
    uses: u64,
}

#[derive(Clone, Debug)]
struct Place {
    name: Name,
    open: u32,
    used: u64,
}

impl Pool {
    /// For so many names at once, at most [`NAMES`].
    pub fn new(most: usize) -> Self {
        Self {
            most: most.min(NAMES),
            ..Self::default()
        }
    }

    /// The address of a name, which is its own from now on; `None` while every address has
    /// connections.
    pub fn address(&mut self, name: &Name) -> Option<Ipv4Addr> {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => self.give(name)?,
        };
        self.use_now(at, 0)?;
        address_of(at)
    }

    /// Whether the name has an address.
    pub fn has(&self, name: &Name) -> bool {
        self.by_name.contains_key(name)
    }

    /// The name that has this address.
    pub fn name(&self, address: Ipv4Addr) -> Option<&Name> {
        let place = self.places.get(place_of(address)?)?;
        Some(&place.name)
    }

    /// Whether the address is of the block, given to somebody or not.
    pub fn holds(address: Ipv4Addr) -> bool {
        (u32::from(address) ^ u32::from(BLOCK)).leading_zeros() >= u32::from(PREFIX)
    }

    /// Counts a connection to the address; its name keeps it until [`Pool::close`].
    pub fn open(&mut self, address: Ipv4Addr) -> Option<&Name> {
        self.use_now(place_of(address)?, 1)
    }

    /// One connection less to the address.
    pub fn close(&mut self, address: Ipv4Addr) {
        if let Some(at) = place_of(address) {
            self.use_now(at, -1);
        }
    }

    fn give(&mut self, name: &Name) -> Option<usize> {
        let at = if self.places.len() < self.most {
            self.places.len()
        } else {
            *self.idle.values().next()?
        };
        let place = Place {
            name: name.clone(),
            open: 0,
            used: 0,
        };
        match self.places.get_mut(at) {
            Some(old) => {
                self.idle.remove(&old.used);
                self.by_name.remove(&old.name);
                *old = place;
            }
            None => self.places.push(place),
        }
        self.by_name.insert(name.clone(), at);
        Some(at)
    }

    /// Notes that the place is used now, by so many connections more.
    fn use_now(&mut self, at: usize, more: i32) -> Option<&Name> {
        let place = self.places.get_mut(at)?;
        self.idle.remove(&place.used);
        self.uses = self.uses.wrapping_add(1);
        place.used = self.uses;
        place.open = place.open.saturating_add_signed(more);
        if place.open == 0 {
            self.idle.insert(place.used, at);
        }
        Some(&place.name)
    }
}

/// The first place has the address after the block's own.
fn address_of(place: usize) -> Option<Ipv4Addr> {
    let offset = u32::try_from(place).ok()?.checked_add(1)?;
    u32::from(BLOCK).checked_add(offset).map(Ipv4Addr::from)
}

fn place_of(address: Ipv4Addr) -> Option<usize> {
    let offset = u32::from(address).checked_sub(u32::from(BLOCK))?;
    usize::try_from(offset.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_keeps_its_address() {
        let mut pool = Pool::new(NAMES);
        let one = pool.address(&name("a.example")).unwrap();
        let other = pool.address(&name("b.example")).unwrap();
        assert_eq!(one, Ipv4Addr::new(198, 18, 0, 1));
        assert_ne!(one, other);
        assert_eq!(pool.address(&name("a.example")), Some(one));
        assert_eq!(pool.name(other), Some(&name("b.example")));
        for nobody in [
            "198.18.0.0",
            "198.18.0.3",
            "198.17.255.255",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            assert_eq!(pool.name(nobody.parse().unwrap()), None, "{nobody}");
        }
    }

    #[test]
    fn every_place_lies_in_the_block() {
        for (address, inside) in [
            ("198.17.255.255", false),
            ("198.18.0.0", true),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
        ] {
            assert_eq!(Pool::holds(address.parse().unwrap()), inside, "{address}");
        }
        assert!(Pool::holds(address_of(NAMES - 1).unwrap()));
        assert_eq!(place_of(address_of(NAMES - 1).unwrap()), Some(NAMES - 1));
    }

    #[test]
    fn the_longest_unused_name_without_connections_goes() {
        let mut pool = Pool::new(3);
        let [a, b, c, d, e] = ["a.x", "b.x", "c.x", "d.x", "e.x"].map(name);
        let at_a = pool.address(&a).unwrap();
        let at_b = pool.address(&b).unwrap();
        let at_c = pool.address(&c).unwrap();
        assert_eq!(pool.open(at_a), Some(&a));
        assert_eq!(pool.open(at_a), Some(&a));
        assert_eq!(pool.address(&b), Some(at_b));
        assert_eq!(
            pool.address(&d),
            Some(at_c),
            "c was used before b, and a is open"
        );
        assert_eq!(pool.name(at_c), Some(&d));
        pool.open(at_b);
        pool.open(at_c);
        assert_eq!(pool.address(&e), None, "all are open");
        assert_eq!(pool.address(&a), Some(at_a), "who is there stays there");
        pool.close(at_a);
        assert_eq!(pool.address(&e), None, "one of two is open");
        pool.close(at_a);
        assert_eq!(pool.address(&e), Some(at_a));
        assert_eq!((pool.by_name.len(), pool.idle.len()), (3, 1));
        pool.close(at_a);
        assert_eq!(pool.idle.len(), 1, "one close too many changes nothing");
    }

    #[test]
    fn a_pool_for_nobody_is_full() {
        assert_eq!(Pool::new(0).address(&name("a.x")), None);
        assert_eq!(Pool::new(usize::MAX).most, NAMES);
    }
}
