//! A tunnel as people are shown it.

use super::request::idle;
use super::{Open, Running};
use crate::api::{TunnelInfo, TunnelRequest, TunnelTraffic};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

pub(super) fn info(running: &Running) -> TunnelInfo {
    let TunnelRequest { name, groups, ports, ttl, .. } = running.request.clone();
    let mut info = TunnelInfo {
        name,
        groups,
        ports,
        capture: "none".to_owned(),
        by_gossip: false,
        ttl,
        idle_ms: idle(&running.request).as_millis() as u64,
        address: Ipv4Addr::UNSPECIFIED,
        peers: Vec::new(),
        captured: TunnelTraffic::default(),
        received: TunnelTraffic::default(),
        drops: BTreeMap::new(),
        stand_ins: 0,
        sources: 0,
        p50_us: None,
        p99_us: None,
        order: None,
        remarks: Vec::new(),
    };
    let Open { shared, network, .. } = match &running.open {
        Ok(open) => open,
        Err(why) => return TunnelInfo { remarks: vec![why.clone()], ..info },
    };
    let seen = shared.seen();
    let traffic = |traffic: synod_udp_shim::tunnel::Traffic| TunnelTraffic {
        datagrams: traffic.datagrams,
        bytes: traffic.bytes,
    };
    info.capture = network.mode().to_string();
    info.by_gossip = shared.topic().is_used();
    info.address = seen.address;
    info.captured = traffic(seen.counters.out);
    info.received = traffic(seen.counters.received);
    let drops = seen.counters.drops.iter();
    info.drops = drops.map(|(reason, count)| (reason.name().to_owned(), *count)).collect();
    if let Some(ordering) = &shared.ordering {
        info.order = Some(ordering.info());
        info.drops.extend(ordering.drops());
    }
    info.stand_ins = seen.stand_ins as u64;
    info.sources = seen.sources as u64;
    info.p50_us = shared.latency.quantile(0.5);
    info.p99_us = shared.latency.quantile(0.99);
    info.remarks = network.remarks().iter().cloned().chain(seen.refused).collect();
    info.remarks.extend(shared.ordering.as_ref().and_then(|ordering| ordering.warning()));
    info.peers = seen.peers;
    info
}
