//! Any bytes are refused, or a message that is written as it was read; and whatever a node asks its monitor for, the
//! groups are multicast, the address is a node's, and the names lead nowhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use synod_udp_shim::network::monitor::{Message, Request};
use synod_udp_shim::tunnel::is_virtual;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else { return };
    assert_eq!(message.encode(), bytes);
    match message {
        Message::Request(Request::Open(open)) => {
            assert!(open.groups.groups().iter().all(Ipv4Addr::is_multicast));
            assert!(is_virtual(open.address));
            assert!(!open.name.is_empty() && !open.name.contains(['/', '.', '\0']));
            assert!(open.tag.chars().all(|c| c.is_ascii_alphanumeric()));
        }
        Message::Request(Request::Join(spec)) => assert!(spec.group().ip().is_multicast()),
        _ => {}
    }
});
