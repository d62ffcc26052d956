//! Tickets: what a node needs to join a space, as one word that people can send each other.
//!
//! ```text
//! synod-ticket:BASE32 of [1, space: bstr .size 32, name, secret: bstr .size 16, peer: bstr,
//!                         [* address: tstr], network: tstr / null]
//! ```

use data_encoding::BASE32_NOPAD;
use synod_core::cbor::{Error, Reader, Writer};

/// What a ticket begins with.
pub(crate) const PREFIX: &str = "synod-ticket:";
const VERSION: u64 = 1;
/// Addresses in a ticket, at most.
pub(crate) const MAX_ADDRESSES: usize = 16;
/// Bytes of a ticket's text, at most.
const MAX_TEXT: usize = 8 << 10;

/// What a node needs to join a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The space's id.
    pub(crate) space: [u8; 32],
    /// The name that its members have for it.
    pub(crate) name: String,
    /// Admits whoever knows it.
    pub(crate) secret: [u8; 16],
    /// A member's id in the network.
    pub(crate) peer: Vec<u8>,
    /// Where that member may be.
    pub(crate) addresses: Vec<String>,
    /// The fingerprint of the private network's key, if it is one.
    pub(crate) network: Option<String>,
}

impl Ticket {
    /// What of the secret is in the space's log.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.secret).as_bytes()
    }

    /// As text.
    pub(crate) fn to_text(&self) -> String {
        let mut w = Writer::new();
        w.array(7).uint(VERSION).bytes(&self.space).text(&self.name).bytes(&self.secret);
        w.bytes(&self.peer).array(self.addresses.len());
        for address in &self.addresses {
            w.text(address);
        }
        match &self.network {
            Some(network) => w.text(network),
            None => w.null(),
        };
        PREFIX.to_owned() + &BASE32_NOPAD.encode(w.as_slice()).to_lowercase()
    }

    /// Reads a ticket's text; says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(word) = text.strip_prefix(PREFIX) else {
            return Err(format!("a ticket begins with {PREFIX}; `synod space ticket` prints one"));
        };
        if word.len() > MAX_TEXT {
            return Err("it is longer than a ticket can be".to_owned());
        }
        let bytes = BASE32_NOPAD.decode(word.to_uppercase().as_bytes());
        let bytes = bytes.map_err(|_| "a part of it is missing or changed".to_owned())?;
        Self::decode(&bytes).map_err(|e| format!("it cannot be read ({e}): ask for another"))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        r.array_of(7)?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of tickets"));
        }
        let (space, name, secret) = (r.fixed()?, r.text()?.to_owned(), r.fixed()?);
        let peer = r.bytes()?.to_vec();
        let len = r.array()?;
        if len > MAX_ADDRESSES {
            return Err(r.invalid("too many addresses"));
        }
        let texts = (0..len).map(|_| r.text().map(str::to_owned));
        let addresses = texts.collect::<Result<_, _>>()?;
        let network = if r.null() { None } else { Some(r.text()?.to_owned()) };
        r.end()?;
        Ok(Self { space, name, secret, peer, addresses, network })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_comes_back_from_its_text_and_from_no_other() {
        let ticket = Ticket {
            space: [3; 32],
            name: "bank".to_owned(),
            secret: [4; 16],
            peer: vec![0, 36, 8, 1],
            addresses: vec!["/ip4/192.0.2.1/tcp/4001".to_owned()],
            network: None,
        };
        let text = ticket.to_text();
        assert_eq!(Ticket::parse(&format!(" {text}\n")), Ok(ticket.clone()));
        let private = Ticket { network: Some("abc".to_owned()), ..ticket };
        assert_eq!(Ticket::parse(&private.to_text()), Ok(private));
        for (text, wrong) in [
            ("bank", "begins with"),
            (&text[..text.len() - 3], "missing or changed"),
            (&text[..PREFIX.len() + 8], "cannot be read"),
            ("synod-ticket:!!", "missing or changed"),
        ] {
            let said = Ticket::parse(text).unwrap_err();
            assert!(said.contains(wrong), "{text}: {said}");
        }
    }
}
