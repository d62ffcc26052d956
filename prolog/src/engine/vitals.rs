//! When an engine has grown old: reasons to be replaced by a fresh one between two batches.

use crate::frame::Renewal;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// New atoms sent in, after which an engine is renewed: each makes the next one slower, and is kept.
const MAX_NEW_ATOMS: usize = 20_000;
/// Bytes of an atom that the machine keeps in place, without a table.
const INLINE_ATOM_BYTES: usize = 6;
/// Handlers that are measured together.
const WINDOW: u32 = 2_000;
/// Microseconds a handler below which slowness is noise.
const SLOW_MICROS: u64 = 200;

/// What tells an engine's age.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    atoms: HashSet<u64>,
    hasher: RandomState,
    /// Microseconds a handler in the best window so far.
    was: Option<u64>,
    is: Option<u64>,
    time: Duration,
    handlers: u32,
    has_asked: bool,
}

impl Vitals {
    /// Counts the atoms of a canonical text that are new to the machine.
    pub(super) fn count_atoms(&mut self, text: &str) {
        if self.atoms.len() > MAX_NEW_ATOMS {
            return;
        }
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let quote = bytes[at];
            at += 1;
            if quote != b'\'' && quote != b'"' {
                continue;
            }
            let from = at;
            while at < bytes.len() && bytes[at] != quote {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            let name = &bytes[from..at.min(bytes.len())];
            at += 1;
            if quote == b'\'' && name.len() > INLINE_ATOM_BYTES {
                self.atoms.insert(self.hasher.hash_one(name));
            }
        }
    }

    /// Handlers have taken this long.
    pub(super) fn handled(&mut self, handlers: u32, time: Duration) {
        self.handlers += handlers;
        self.time += time;
        if self.handlers >= WINDOW {
            let micros = u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX);
            let mean = micros / u64::from(self.handlers);
            self.was = Some(self.was.map_or(mean, |was| was.min(mean)));
            self.is = Some(mean);
            (self.handlers, self.time) = (0, Duration::ZERO);
        }
    }

    /// Why the engine should be renewed, once. `heavy` are its resident bytes, if they are too many.
    pub(super) fn renewal(&mut self, heavy: Option<u64>) -> Option<Renewal> {
        if self.has_asked {
            return None;
        }
        let why = if let Some(bytes) = heavy {
            Some(Renewal::Memory { bytes })
        } else if self.atoms.len() > MAX_NEW_ATOMS {
            Some(Renewal::Atoms { count: self.atoms.len() as u64 })
        } else {
            match (self.was, self.is) {
                (Some(was), Some(is)) if is > SLOW_MICROS && is > 2 * was => {
                    Some(Renewal::Slow { was, is })
                }
                _ => None,
            }
        };
        self.has_asked = why.is_some();
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_twice_as_slow_as_they_were_are_a_reason_to_renew_once() {
        let mut vitals = Vitals::default();
        let mut window = |micros: u64| {
            vitals.handled(WINDOW, Duration::from_micros(micros) * WINDOW);
            vitals.renewal(None)
        };
        assert_eq!(window(300), None);
        assert_eq!(window(120), None);
        assert_eq!(window(230), None);
        assert_eq!(window(500), Some(Renewal::Slow { was: 120, is: 500 }));
        assert_eq!(window(900), None);
        assert_eq!(Vitals::default().renewal(Some(9)), Some(Renewal::Memory { bytes: 9 }));
    }

    #[test]
    fn long_atoms_are_counted_once_and_strings_not_at_all() {
        let mut vitals = Vitals::default();
        vitals.count_atoms(r"['account'('short',1),'account'('another atom',2)]");
        vitals.count_atoms(r#"['account'("a string with 'quoted words' inside",'it\'s long')]"#);
        // account, another atom, it\'s long
        assert_eq!(vitals.atoms.len(), 3);
        for n in 0..2 * MAX_NEW_ATOMS {
            vitals.count_atoms(&format!("['number {n}']"));
        }
        assert_eq!(vitals.atoms.len(), MAX_NEW_ATOMS + 1);
    }
}
