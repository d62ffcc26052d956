//! Addresses that nodes have on each other's hosts, and which sources are believed.
//!
//! A node's *virtual address* is made from its id: one of 127.64.0.0/10. All of 127.0.0.0/8 is local
//! on every Linux host, so a socket is bound to such an address without any set-up, nothing sent from
//! one can leave the host, and only this host can answer it. On its own host a node's applications
//! send from it where the route says so; on the others their stand-ins are bound to it. So an
//! application has the same address everywhere, however many hosts have the same addresses themselves.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The first of the virtual addresses, and how many bits of them are free.
const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const FREE_BITS: u32 = 22;
const FREE: u32 = (1 << FREE_BITS) - 1;

/// The virtual address of the node with this id. Two nodes may have the same, once in four million;
/// [`Tunnel::add_peer`](super::Tunnel::add_peer) refuses the second.
pub fn virtual_address(id: &[u8]) -> Ipv4Addr {
    // FNV-1a, 64 bits: it spreads what is different already, and no more is asked of it.
    let mut hash = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash ^= hash >> 44 ^ hash >> 22;
    // Neither the network's own address nor the last, which reads like a broadcast.
    let host = (hash as u32 & FREE).clamp(1, FREE - 1);
    Ipv4Addr::from(FIRST | host)
}

/// Whether an address is one that nodes have on each other's hosts.
pub fn is_virtual(address: Ipv4Addr) -> bool {
    u32::from(address) & !FREE == FIRST
}

/// Whether a node may say that a datagram came from there: an address of one host, and of those that
/// every host calls its own only the node's virtual one.
pub(super) fn is_source(source: SocketAddrV4, capturer: Ipv4Addr) -> bool {
    let ip = *source.ip();
    let is_one_host = !ip.is_multicast() && !ip.is_broadcast() && ip.octets()[0] != 0;
    source.port() != 0 && is_one_host && (!ip.is_loopback() || ip == capturer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ip: [u8; 4], port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(ip.into(), port)
    }

    #[test]
    fn an_id_has_the_same_address_for_ever() {
        assert_eq!(virtual_address(b""), Ipv4Addr::new(127, 93, 14, 28));
        assert_eq!(virtual_address(b"alpha"), virtual_address(b"alpha"));
        assert_ne!(virtual_address(b"alpha"), virtual_address(b"beta"));
    }

    #[test]
    fn ids_that_differ_little_are_spread() {
        let ids = (0..1000_u32).map(|n| virtual_address(&n.to_be_bytes()));
        let different: std::collections::BTreeSet<_> = ids.collect();
        // Half a million pairs, and one in four million has the same.
        assert!(different.len() >= 998, "{}", different.len());
    }

    #[test]
    fn only_addresses_of_one_host_are_sources() {
        let me = Ipv4Addr::new(127, 70, 1, 2);
        for good in [[192, 0, 2, 1], [10, 0, 0, 1], [127, 70, 1, 2], [172, 21, 0, 2]] {
            assert!(is_source(at(good, 1), me), "{good:?}");
            assert!(!is_source(at(good, 0), me), "{good:?}");
        }
        for bad in [[127, 0, 0, 1], [127, 70, 1, 3], [239, 0, 0, 2], [255; 4], [0; 4], [0, 1, 2, 3]]
        {
            assert!(!is_source(at(bad, 5), me), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_id_has_an_address_of_the_range(id: Vec<u8>) {
            let address = virtual_address(&id);
            prop_assert!(is_virtual(address) && address.is_loopback());
            prop_assert!(is_source(SocketAddrV4::new(address, 1), address));
        }
    }
}
