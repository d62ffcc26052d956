//! How bytes get to a peer: TCP or QUIC, or by way of a relay; encrypted and multiplexed.

use crate::Error;
use crate::driven::Driven;
use crate::identity::Identity;
use crate::limits::SETUP;
use crate::psk::PrivateKey;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, OrTransport, Transport as _};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::PnetConfig;
use libp2p::{Multiaddr, PeerId, noise, quic, relay, tcp, yamux};
use std::net::IpAddr;

pub(crate) type Transport = Boxed<(PeerId, StreamMuxerBox)>;

/// What is given back makes tasks of the runtime that it is driven on.
pub(crate) fn build(
    identity: &Identity,
    private: Option<PrivateKey>,
) -> Result<(Transport, relay::client::Behaviour), Error> {
    let key = identity.keypair();
    let noise = || noise::Config::new(key).map_err(|error| Error::Noise(error.to_string()));
    let (relayed, relay) = relay::client::new(identity.id());
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise()?)
        .multiplex(yamux::Config::default())
        .timeout(SETUP)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Driven::start(muxer))));
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let boxed = if let Some(key) = private {
        let key = key.shared();
        // The key covers streams only, so this network has no other transport.
        let tcp = tcp
            .and_then(move |socket, _| PnetConfig::new(key).handshake(socket))
            .upgrade(Version::V1Lazy)
            .authenticate(noise()?)
            .multiplex(yamux::Config::default())
            .timeout(SETUP)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Driven::start(muxer))));
        OrTransport::new(relayed, tcp).map(|either, _| either.into_inner()).boxed()
    } else {
        let tcp = tcp
            .upgrade(Version::V1Lazy)
            .authenticate(noise()?)
            .multiplex(yamux::Config::default())
            .timeout(SETUP)
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Driven::start(muxer))));
        let quic = quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let tcp = OrTransport::new(relayed, tcp).map(|either, _| either.into_inner());
        OrTransport::new(tcp, quic).map(|either, _| either.into_inner()).boxed()
    };
    Ok((boxed, relay))
}

pub(crate) fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1 | Protocol::Udp(_)))
}

/// Whether nobody listens on a TCP address yet. libp2p's sockets share their port with any other of
/// the kind, so two nodes on one port would each get some of the connections.
pub(crate) fn is_free(address: &Multiaddr) -> std::io::Result<()> {
    let mut host = None;
    for part in address {
        match (part, host) {
            (Protocol::Ip4(ip), _) => host = Some(IpAddr::V4(ip)),
            (Protocol::Ip6(ip), _) => host = Some(IpAddr::V6(ip)),
            (Protocol::Tcp(port), Some(host)) if port != 0 => {
                return std::net::TcpListener::bind((host, port)).map(drop);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts IP addresses in place of a name, as the system resolves it.
pub(crate) async fn resolve(address: Multiaddr) -> Vec<Multiaddr> {
    let named = address.iter().enumerate().find_map(|(at, part)| match part {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
            Some((at, name.to_string()))
        }
        _ => None,
    });
    let Some((at, name)) = named else {
        return vec![address];
    };
    let Ok(found) = tokio::net::lookup_host((name.as_str(), 0)).await else {
        return Vec::new();
    };
    let (four, six) = match address.iter().nth(at) {
        Some(Protocol::Dns4(_)) => (true, false),
        Some(Protocol::Dns6(_)) => (false, true),
        _ => (true, true),
    };
    found
        .map(|found| found.ip())
        .filter(|ip| if ip.is_ipv4() { four } else { six })
        .filter_map(|ip| address.replace(at, |_| Some(Protocol::from(ip))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_its_addresses() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let found = resolve(address("/dns4/localhost/tcp/4001")).await;
        assert_eq!(found, [address("/ip4/127.0.0.1/tcp/4001")]);
        let plain = address("/ip4/10.0.0.1/tcp/1");
        assert_eq!(resolve(plain.clone()).await, [plain]);
        assert!(resolve(address("/dns4/nobody.invalid/tcp/1")).await.is_empty());
    }
}
