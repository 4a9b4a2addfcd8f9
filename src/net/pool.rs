//! [pure] Names and the addresses of 198.18.0.0/15 that stand for them, in one sandbox.

use crate::net::grant::Name;
use core::net::Ipv4Addr;
use std::collections::HashMap;

/// Names that one sandbox may ask for: a bound on memory and on what names can carry out.
const NAMES: usize = 4096;
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 1]);

/// The names that were asked for so far.
#[derive(Debug, Default)]
pub struct Pool {
    names: Vec<Name>,
    places: HashMap<Name, u32>,
}

impl Pool {
    /// The address of a name, the same each time; None when there are too many names.
    pub fn address_of(&mut self, name: &Name) -> Option<Ipv4Addr> {
        if let Some(place) = self.places.get(name) {
            return Some(Ipv4Addr::from(FIRST + place));
        }
        if self.names.len() >= NAMES {
            return None;
        }
        let place = u32::try_from(self.names.len()).ok()?;
        self.names.push(name.clone());
        self.places.insert(name.clone(), place);
        Some(Ipv4Addr::from(FIRST + place))
    }

    /// The name that an address stands for.
    pub fn name_of(&self, address: Ipv4Addr) -> Option<&Name> {
        let place = u32::from(address).checked_sub(FIRST)?;
        self.names.get(usize::try_from(place).ok()?)
    }
}
