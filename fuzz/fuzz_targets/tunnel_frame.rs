//! Any bytes are refused, or a frame that is written as it was read; and what a peer says in one ends in
//! nothing, or in something that goes to a group of the tunnel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;
use std::time::Duration;
use synod_udp_shim::tunnel::segment::Beacon;
use synod_udp_shim::tunnel::{FrameWriter, Groups, Tunnel, read_frame};

fuzz_target!(|bytes: &[u8]| {
    if let Some((beacon, part, _)) = Beacon::read(bytes) {
        assert_eq!(beacon.signed_part().as_deref(), Some(part));
    }
    let Ok(frame) = read_frame(bytes) else { return };
    let mut writer = FrameWriter::new(&frame.head);
    frame.datagrams.iter().for_each(|carried| writer.push(carried));
    assert_eq!(writer.into_vec(), bytes);

    let ports = vec!["20005".parse().expect("ports")];
    let groups = Groups::new(vec![Ipv4Addr::new(239, 0, 0, 2)], ports).expect("groups");
    let mut tunnel = Tunnel::new(groups.clone(), b"me", 1);
    tunnel.add_peer(Duration::ZERO, b"peer").expect("a peer");
    for (nth, carried) in frame.datagrams.iter().enumerate() {
        let nth = nth as u64;
        let delivery = tunnel.received(Duration::ZERO, b"peer", &frame.head, nth, carried);
        assert!(delivery.is_none_or(|delivery| groups.contains(delivery.to)));
    }
});
