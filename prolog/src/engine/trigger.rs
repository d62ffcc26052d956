//! Triggers as the terms that `on/1` is called with.

use crate::frame::{Position, Trigger, What};
use synod_core::term::Term;
use synod_core::term::text::write_encoded;

/// Appends a trigger's canonical text. False if its bytes are no term, which no node sends.
pub(super) fn write(trigger: &Trigger, item: u32, out: &mut String) -> bool {
    let mut w = Writer { out, vars: format!("_{item}_"), is_sound: true };
    match trigger {
        Trigger::Start => w.raw("start"),
        Trigger::Engine => w.raw("engine"),
        Trigger::Event { position, from, term } => {
            w.raw("event(").position(position).raw(",").atom(from).raw(",").term(term).raw(")")
        }
        Trigger::Changed { position: _, what, fact } => {
            let name = match what {
                What::Assertz => "changed(assertz(",
                What::Asserta => "changed(asserta(",
                What::Retract => "changed(retract(",
            };
            w.raw(name).term(fact).raw("))")
        }
        Trigger::Message { topic, from, term } => {
            w.raw("message(").atom(topic).raw(",").atom(from).raw(",").term(term).raw(")")
        }
        Trigger::Sent { from, term } => w.raw("sent(").atom(from).raw(",").term(term).raw(")"),
        Trigger::Timer { term } => w.raw("timer(").term(term).raw(")"),
        Trigger::Datagram { group, port, from, bytes } => w
            .raw("datagram(:(")
            .address(group)
            .raw(&format!(",{port}),"))
            .endpoint(from)
            .raw(",bytes(")
            .bytes(bytes)
            .raw("))"),
        Trigger::Udp { scope, from, term } => {
            w.raw("udp(").atom(scope).raw(",").endpoint(from).raw(",").term(term).raw(")")
        }
        Trigger::OrderedDatagram { position, group, port, from, bytes } => w
            .raw("datagram(")
            .position(position)
            .raw(",:(")
            .address(group)
            .raw(&format!(",{port}),"))
            .endpoint(from)
            .raw(",bytes(")
            .bytes(bytes)
            .raw("))"),
        Trigger::OrderedUdp { position, scope, from, term } => w
            .raw("udp(")
            .position(position)
            .raw(",")
            .atom(scope)
            .raw(",")
            .endpoint(from)
            .raw(",")
            .term(term)
            .raw(")"),
        Trigger::Gap { from, to } => w.raw(&format!("gap({from},{to})")),
        Trigger::Recorded { term } => w.term(term),
    };
    w.is_sound
}

/// The argument that `on/1` is called with for a trigger, encoded; none if it is no term that could be
/// stored: too large, or nested too deep.
pub fn term(trigger: &Trigger) -> Option<Vec<u8>> {
    let mut text = String::new();
    let term = write(trigger, 0, &mut text).then(|| super::text::read(&text).ok())?;
    term?.encode().ok()
}

struct Writer<'a> {
    out: &'a mut String,
    /// What the names of this trigger's variables begin with.
    vars: String,
    is_sound: bool,
}

impl Writer<'_> {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.out.push_str(text);
        self
    }

    fn term(&mut self, bytes: &[u8]) -> &mut Self {
        self.is_sound &= write_encoded(bytes, self.out, &self.vars).is_ok();
        self
    }

    fn atom(&mut self, name: &str) -> &mut Self {
        super::text::write(&Term::atom(name), self.out);
        self
    }

    fn position(&mut self, position: &Position) -> &mut Self {
        self.raw(&format!("-({},{})", position.index, position.n))
    }

    /// Bytes as a string of the characters 0 to 255.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let chars: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        super::text::write(&Term::string(chars), self.out);
        self
    }

    /// `ip(A,B,C,D)` as SWI-Prolog has it, or `ip6(Text)`. No atoms: addresses are an open set.
    fn address(&mut self, text: &str) -> &mut Self {
        match text.parse::<std::net::Ipv4Addr>() {
            Ok(ip) => {
                let [a, b, c, d] = ip.octets();
                self.raw(&format!("ip({a},{b},{c},{d})"))
            }
            Err(_) => {
                self.raw("ip6(");
                super::text::write(&Term::string(text.trim_matches(['[', ']'])), self.out);
                self.raw(")")
            }
        }
    }

    fn endpoint(&mut self, text: &str) -> &mut Self {
        match text.rsplit_once(':') {
            Some((address, port)) if port.parse::<u16>().is_ok() => {
                self.raw(":(").address(address).raw(",").raw(port).raw(")")
            }
            _ => self.address(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(trigger: &Trigger) -> String {
        let mut out = String::new();
        assert!(write(trigger, 3, &mut out));
        let term = super::super::text::read(&out).unwrap();
        let mut people = String::new();
        synod_core::term::text::write(
            &term,
            &mut people,
            synod_core::term::text::WriteOptions { operators: true, ..Default::default() },
        );
        people
    }

    #[test]
    fn a_datagram_has_addresses_without_atoms_and_bytes_as_a_string() {
        let trigger = Trigger::Datagram {
            group: "239.0.0.2".into(),
            port: 20005,
            from: "10.1.2.3:999".into(),
            bytes: vec![0, b'a', 255],
        };
        assert_eq!(
            text(&trigger),
            r#"datagram(ip(239,0,0,2):20005,ip(10,1,2,3):999,bytes("\x0\aÿ"))"#
        );
    }

    #[test]
    fn one_that_is_an_event_has_its_place_before_all_else() {
        let position = Position { index: 17, n: 3 };
        let (group, port, from) = ("239.0.0.2".to_owned(), 20005, "127.64.2.3:999".to_owned());
        let trigger = Trigger::OrderedDatagram {
            position: position.clone(),
            group,
            port,
            from: from.clone(),
            bytes: vec![],
        };
        let expected = r#"datagram(17-3,ip(239,0,0,2):20005,ip(127,64,2,3):999,bytes([]))"#;
        assert_eq!(text(&trigger), expected);
        let scope = "239.0.0.2:20005".to_owned();
        let term = Term::structure("p", [Term::Var(0), Term::Var(0)]).encode().unwrap();
        let trigger = Trigger::OrderedUdp { position, scope, from, term };
        assert_eq!(text(&trigger), "udp(17-3,'239.0.0.2:20005',ip(127,64,2,3):999,p(_0,_0))");
    }
}
