//! A datagram as an event: `datagram(Tunnel, Node, Group:Port, From, bytes(Bytes))`.

use crate::term::{Term, TermError, shape};
use bytes::Bytes;
use std::fmt;

/// What the labels of tunnels' sessions begin with. No client's session may have such a label, so that what clients
/// and agents broadcast is never taken for a datagram.
pub const RESERVED: &str = "tunnel:";

/// The label of a tunnel's sessions.
pub fn label(tunnel: &str) -> String {
    format!("{RESERVED}{tunnel}")
}

/// An IPv4 address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub ip: [u8; 4],
    /// The port.
    pub port: u16,
}

/// A datagram that an application has sent to a group, as the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The tunnel that carries it.
    pub tunnel: String,
    /// The node that has captured it.
    pub node: String,
    /// The group and port that it was sent to.
    pub to: Endpoint,
    /// Its source, as other nodes know it.
    pub from: Endpoint,
    /// What was in it.
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// The event, encoded.
    pub fn event(&self) -> Result<Bytes, TermError> {
        let Self { tunnel, node, to, from, bytes } = self;
        event(tunnel, node, *to, *from, bytes)
    }

    /// Whether an event of a session with this label is one, which costs nothing to know.
    pub fn is_one(label: &str, event: &[u8]) -> bool {
        label.starts_with(RESERVED) && shape::functor(event) == Some(("datagram", 5))
    }

    /// What an event of a session with this label says; none if it is no datagram of a tunnel.
    pub fn read(label: &str, event: &[u8]) -> Option<Self> {
        let name = label.strip_prefix(RESERVED)?;
        let [tunnel, node, to, from, content] = arguments(Term::decode(event).ok()?, "datagram")?;
        let [content] = arguments(content, "bytes")?;
        let bytes = match content {
            Term::String(text) => text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<_>>(),
            Term::List(items) if items.is_empty() => Some(Vec::new()),
            _ => None,
        }?;
        let (to, from) = (Endpoint::of(to)?, Endpoint::of(from)?);
        let (tunnel, node) = (atom(tunnel)?, atom(node)?);
        (tunnel == name).then_some(Self { tunnel, node, to, from, bytes })
    }
}

/// As [`Datagram::event`], of its parts.
pub(super) fn event(
    tunnel: &str,
    node: &str,
    to: Endpoint,
    from: Endpoint,
    bytes: &[u8],
) -> Result<Bytes, TermError> {
    let content: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let content = Term::structure("bytes", [Term::string(content)]);
    let (tunnel, node) = (Term::atom(tunnel), Term::atom(node));
    let event = Term::structure("datagram", [tunnel, node, to.term(), from.term(), content]);
    event.encode().map(Bytes::from)
}

impl Endpoint {
    /// `ip(A,B,C,D):Port`
    fn term(self) -> Term {
        let ip = Term::structure("ip", self.ip.map(Term::integer));
        Term::structure(":", [ip, Term::integer(self.port)])
    }

    fn of(term: Term) -> Option<Self> {
        let number = |term: &Term| match term {
            Term::Integer(n) => Some(*n),
            _ => None,
        };
        let [ip, port] = arguments(term, ":")?;
        let ip: [Term; 4] = arguments(ip, "ip")?;
        let mut octets = [0; 4];
        for (octet, term) in octets.iter_mut().zip(&ip) {
            *octet = u8::try_from(number(term)?).ok()?;
        }
        Some(Self { ip: octets, port: u16::try_from(number(&port)?).ok()? })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.ip;
        write!(f, "{a}.{b}.{c}.{d}:{}", self.port)
    }
}

fn atom(term: Term) -> Option<String> {
    match term {
        Term::Atom(name) => Some(name.into()),
        // A node may be called that, too.
        Term::List(items) if items.is_empty() => Some("[]".to_owned()),
        _ => None,
    }
}

/// The arguments of a compound of this name and as many as are wanted.
fn arguments<const N: usize>(term: Term, name: &str) -> Option<[Term; N]> {
    match term {
        Term::Compound(known, args) if *known == *name => args.try_into().ok(),
        _ => None,
    }
}
