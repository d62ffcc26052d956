//! What a tunnel is asked to be, and why it cannot be that.

use super::carriage::Carriage;
use crate::api::{ErrorBody, TunnelRequest};
use crate::hex::hex;
use crate::space::error;
use std::time::Duration;
use synod_udp_shim::tunnel::{Groups, IDLE, MAX_IDLE, MAX_NAME_BYTES, MIN_IDLE, Ports};

/// What a tunnel is asked to carry, if it can.
pub(super) fn check(request: &TunnelRequest) -> Result<Groups, ErrorBody> {
    let name = &request.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
        let text = format!(
            "{name:?} is no name for a tunnel: give it letters, digits, _ and -, up to {MAX_NAME_BYTES}"
        );
        return Err(error("name", text));
    }
    let wrong = |e: String| error("bad_request", e);
    let ports = request.ports.iter().map(|text| text.parse::<Ports>());
    let ports = ports.collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))?;
    if !(MIN_IDLE..=MAX_IDLE).contains(&idle(request)) {
        let text =
            "--idle: a source may be silent for no less than 1s, and no more than 30 days (720h)";
        return Err(wrong(text.to_owned()));
    }
    Groups::new(request.groups.clone(), ports).map_err(|e| wrong(e.to_string()))
}

/// By which way its frames are to go.
pub(super) fn carriage(request: &TunnelRequest) -> Result<Carriage, ErrorBody> {
    let wrong = |e: String| error("bad_request", e);
    let carriage = request.carry.as_deref().map(str::parse).transpose().map_err(wrong)?;
    let carriage = carriage.unwrap_or_default();
    match carriage {
        // Gossip goes to all who listen.
        _ if request.peers.is_empty() => Ok(carriage),
        Carriage::Gossip => Err(wrong(
            "gossip goes to all that have the tunnel: carry by streams to the peers that are named, or name none"
                .to_owned(),
        )),
        Carriage::Auto | Carriage::Streams => Ok(Carriage::Streams),
    }
}

/// For how long a source may be silent.
pub(super) fn idle(request: &TunnelRequest) -> Duration {
    request.idle_ms.map_or(IDLE, Duration::from_millis)
}

/// What a name is in the names of rules, which are short.
pub(super) fn short(name: &str) -> String {
    hex(&blake3::hash(name.as_bytes()).as_bytes()[..4])
}
