//! The interfaces of this host's network namespace, as the kernel lists them now.

use crate::spec::Interface;
use crate::sys;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;

/// One interface.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) name: Box<str>,
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) multicast: bool,
    pub(crate) loopback: bool,
    addresses: Vec<Ipv4Addr>,
}

/// All of them, by name.
#[derive(Clone, Debug)]
pub(crate) struct Interfaces(Vec<Found>);

impl Interfaces {
    /// Asks the kernel.
    pub(crate) fn list() -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let mut addresses = Vec::new();
        for entry in sys::interface_entries()? {
            // An address may carry a label (`eth0:1`), and no name of an interface has a colon.
            let name: Box<str> = entry.name.split(':').next().unwrap_or_default().into();
            if let Some(address) = entry.address {
                addresses.push((name, address));
            } else if let Some(index) = entry.index {
                let has = |flag: libc::c_int| entry.flags & flag.cast_unsigned() != 0;
                let one = Found {
                    name: name.clone(),
                    index,
                    up: has(libc::IFF_UP),
                    multicast: has(libc::IFF_MULTICAST),
                    loopback: has(libc::IFF_LOOPBACK),
                    addresses: Vec::new(),
                };
                found.insert(name, one);
            }
        }
        for (name, address) in addresses {
            if let Some(one) = found.get_mut(&name) {
                one.addresses.push(address);
            }
        }
        Ok(Self(found.into_values().collect()))
    }

    /// Their addresses.
    pub(crate) fn addresses(&self) -> Vec<Ipv4Addr> {
        self.0.iter().flat_map(|one| one.addresses.iter().copied()).collect()
    }

    /// The one that is meant, if it is there; none is meant [by route](Interface::ByRoute).
    pub(crate) fn find(&self, wanted: &Interface) -> Option<&Found> {
        self.0.iter().find(|one| match wanted {
            Interface::Address(address) => one.addresses.contains(address),
            Interface::ByRoute => false,
            Interface::Name(name) => one.name == *name,
        })
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, one) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(&one.name)?;
            for address in &one.addresses {
                write!(f, " {address}")?;
            }
        }
        Ok(())
    }
}
