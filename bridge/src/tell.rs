//! Where others are: what a node tells its neighbours, so that who knows one soon knows many. Pure.
//!
//! ```text
//! peers   for each: length u16 big-endian, the bytes of a multiaddr that ends in /p2p/<peer id>
//! ```

use crate::book::split;
use libp2p::{Multiaddr, PeerId};

/// Addresses that are told at a time.
const MAX: usize = 64;

pub(crate) fn encode(told: impl Iterator<Item = (PeerId, Multiaddr)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let full = told.filter_map(|(peer, address)| address.with_p2p(peer).ok());
    for address in full.take(MAX) {
        if let Ok(length) = u16::try_from(address.len()) {
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(address.as_ref());
        }
    }
    bytes
}

/// `None` where it is not what it is to be.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Vec<(PeerId, Multiaddr)>> {
    let mut told = Vec::new();
    while !bytes.is_empty() && told.len() < MAX {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (address, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (address, peer) = split(&Multiaddr::try_from(address.to_vec()).ok()?);
        told.push((peer?, address));
        bytes = rest;
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_told_is_heard_and_bounded() {
        let told: Vec<_> = (0..MAX + 9)
            .map(|n| (PeerId::random(), format!("/ip4/10.0.0.{n}/tcp/1").parse().unwrap()))
            .collect();
        assert_eq!(decode(&encode(told.clone().into_iter())).unwrap(), told[..MAX]);
        assert_eq!(decode(&encode(std::iter::empty())), Some(vec![]));
    }

    #[test]
    fn an_address_of_nobody_is_refused() {
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/1".parse().unwrap();
        let bytes = [&(address.len() as u16).to_be_bytes(), address.as_ref()].concat();
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }
}
