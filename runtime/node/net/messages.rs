//! Gossip of agents, as bytes.
//!
//! ```text
//! message = [1, agent: tstr, node: tstr, term: bstr]     the term as the term codec writes it
//! ```
//!
//! A topic of agents has a name of its own among those of the network, so that what others gossip under
//! the same word is no message.

use synod_bridge::limits::{MAX_GOSSIP, MAX_NAME};
use synod_core::cbor::{Error, Reader, What, Writer};
use synod_core::term::Term;
use synod_prolog::frame::MAX_PUBLISHED_BYTES;

/// The version of a message; another one is refused.
const VERSION: u64 = 1;
/// Before the name of an agents' topic.
const PREFIX: &str = "synod/agents/1/";
/// Bytes of an agents' topic, at most.
pub(crate) const MAX_TOPIC_BYTES: usize = MAX_NAME - PREFIX.len();
/// Bytes of the name of an agent or a node, at most.
pub(crate) const MAX_WHO_BYTES: usize = 255;
/// Bytes of a term, at most.
pub(crate) const MAX_TERM_BYTES: usize = MAX_PUBLISHED_BYTES;
const _: () = assert!(MAX_TERM_BYTES + 2 * MAX_WHO_BYTES + 32 <= MAX_GOSSIP);

/// A message of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Who published it.
    pub(crate) agent: String,
    /// On which node.
    pub(crate) node: String,
    /// The term, encoded.
    pub(crate) term: Vec<u8>,
}

/// The network's name of an agents' topic.
pub(crate) fn to_network(topic: &str) -> String {
    format!("{PREFIX}{topic}")
}

/// The agents' topic that the network calls so, if it is one.
pub(crate) fn of_network(topic: &str) -> Option<&str> {
    topic.strip_prefix(PREFIX)
}

/// Why something cannot be published, if it cannot.
pub(crate) fn check(topic: &str, term: &[u8]) -> Result<(), String> {
    if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES {
        return Err(format!(
            "a topic has 1 to {MAX_TOPIC_BYTES} bytes, and this one {}",
            topic.len()
        ));
    }
    if term.len() > MAX_TERM_BYTES {
        return Err(format!(
            "the term has {} bytes, and gossip carries {MAX_TERM_BYTES}: put it into a fact or an event, and \
             publish where it is",
            term.len()
        ));
    }
    Ok(())
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.array(4).uint(VERSION).text(&self.agent).text(&self.node).bytes(&self.term);
        w.into_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        r.array_of(4)?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of messages"));
        }
        let (agent, node) = (who(&mut r)?, who(&mut r)?);
        let term = r.bytes()?;
        if term.len() > MAX_TERM_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_TERM_BYTES, of: "bytes of a term" }));
        }
        if Term::decode(term).is_err() {
            return Err(r.invalid("a term that cannot be read"));
        }
        let term = term.to_vec();
        r.end()?;
        Ok(Self { agent, node, term })
    }
}

/// A name.
pub(crate) fn who(r: &mut Reader<'_>) -> Result<String, Error> {
    let text = r.text()?;
    if text.len() > MAX_WHO_BYTES {
        return Err(r.error(What::TooMany { bound: MAX_WHO_BYTES, of: "bytes of a name" }));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;
    use proptest::prelude::*;

    fn message(term: &Term) -> Message {
        let (agent, node) = ("bank".to_owned(), "alpha".to_owned());
        Message { agent, node, term: term.encode().unwrap() }
    }

    #[test]
    fn a_message_has_these_bytes() {
        let bytes = message(&Term::Integer(7)).encode();
        assert_eq!(hex(&bytes), GOLDEN);
        assert_eq!(Message::decode(&bytes).unwrap(), message(&Term::Integer(7)));
    }

    const GOLDEN: &str = "84016462616e6b65616c7068614107";

    #[test]
    fn what_is_no_message_is_refused() {
        let good = message(&Term::atom("a")).encode();
        for cut in 0..good.len() {
            assert!(Message::decode(&good[..cut]).is_err(), "{cut}");
        }
        let mut other = good.clone();
        other[1] = 2;
        assert!(Message::decode(&other).unwrap_err().to_string().contains("version"));
        let mut long = message(&Term::atom("a"));
        long.agent = "x".repeat(MAX_WHO_BYTES + 1);
        assert!(Message::decode(&long.encode()).is_err());
        let no_term = Message { term: vec![0xff], ..message(&Term::atom("a")) };
        assert!(Message::decode(&no_term.encode()).is_err());
        assert!(Message::decode(&[good, vec![0]].concat()).is_err());
    }

    #[test]
    fn what_is_largest_fits_into_gossip() {
        let term = vec![0; MAX_TERM_BYTES];
        let (agent, node) = ("a".repeat(MAX_WHO_BYTES), "n".repeat(MAX_WHO_BYTES));
        assert!(Message { agent, node, term }.encode().len() <= MAX_GOSSIP);
        assert!(check("news", &vec![0; MAX_TERM_BYTES]).is_ok());
        assert!(check("news", &vec![0; MAX_TERM_BYTES + 1]).unwrap_err().contains("bytes"));
        assert!(check("", &[]).is_err());
        assert!(check(&"t".repeat(MAX_TOPIC_BYTES), &[]).is_ok());
        assert_eq!(to_network(&"t".repeat(MAX_TOPIC_BYTES)).len(), MAX_NAME);
        assert!(check(&"t".repeat(MAX_TOPIC_BYTES + 1), &[]).is_err());
    }

    #[test]
    fn topics_of_others_are_none_of_agents() {
        assert_eq!(of_network(&to_network("news")), Some("news"));
        assert_eq!(of_network("news"), None);
        assert_eq!(of_network("synod/agents/2/news"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            drop(Message::decode(&bytes));
        }
    }
}
