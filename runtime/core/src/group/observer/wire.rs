//! What goes between observers and those whom they follow (`observers.cddl` is the grammar).
//!
//! ```text
//! announcement = [1, head, before, [* entry]]      gossiped: the entries behind `before` lead to the head
//! entry        = [term, kind, data: bstr]
//! request      = [1, proof: bstr .size 16, 0, before, chain: bstr .size 32]    what lies behind it?
//!              / [1, proof: bstr .size 16, 1]                                  your newest snapshot
//!              / [1, proof: bstr .size 16, 2]                                  how far must I see?
//! answer       = [1, 0, head, before, [* entry]]   a piece
//!              / [1, 1]                            busy: ask another
//!              / [1, 2]                            that is gone here: ask another, or for a snapshot
//!              / [1, 3]                            you have not what there was there
//!              / [1, 4, head, bytes]               a snapshot of that place; its file follows
//!              / [1, 5, index]                     up to here
//! ```
//! Entries follow one another from `before`, an index of Raft's log, so none names its own. The proof shows
//! that who asks was let in: BLAKE3, keyed, of both peers' ids. Its key is made from the members', and theirs
//! cannot be made from it.

use super::super::head::Head;
use crate::cbor::{Error, Reader, What, Writer};
use crate::log::{Entry, MAX_KIND, MAX_PAYLOAD};
use bytes::Bytes;

/// The version of all of it; another one is refused.
const VERSION: u64 = 1;
/// Bytes of an announcement's entries, at most: larger ones are fetched.
pub const MAX_ANNOUNCED_BYTES: usize = 16 << 10;
/// Bytes of an announcement, at most.
pub const MAX_ANNOUNCEMENT_BYTES: usize = MAX_ANNOUNCED_BYTES + 16 * MAX_ANNOUNCED + 1024;
/// Entries of an announcement, at most.
pub const MAX_ANNOUNCED: usize = 256;
/// Bytes of a piece's entries, at most, but for a single larger one.
pub const MAX_PIECE_BYTES: usize = 1 << 20;
/// Entries of a piece, at most.
pub(super) const MAX_PIECE: usize = 16 << 10;
/// Bytes of an answer, at most.
pub const MAX_ANSWER_BYTES: usize = MAX_PAYLOAD + MAX_PIECE * 24 + 4096;
/// Bytes of a request, at most.
pub const MAX_REQUEST_BYTES: usize = 256;
/// What the key of observers is derived under.
const CONTEXT: &str = "synod observers of a space, key 1";

/// The key that a space's observers know, of the members'.
pub fn observers_key(key: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(CONTEXT, key)
}

/// What a request from one peer to another begins with.
pub fn proof(key: &[u8; 32], from: &[u8], to: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(from.len() as u64).to_le_bytes()).update(from).update(to);
    let mut proof = [0; 16];
    proof.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    proof
}

/// Entries of a log that lead to a signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where they lead.
    pub head: Head,
    /// The index of the entry before the first.
    pub before: u64,
    /// One behind the other.
    pub entries: Vec<Entry>,
}

/// What an observer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What lies behind its own place.
    Behind {
        /// The index of its last entry.
        before: u64,
        /// The chain there.
        chain: [u8; 32],
    },
    /// A snapshot.
    Snapshot,
    /// The index of all that was acknowledged before it asked.
    Index,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Entries; none, if there are no more.
    Piece(Piece),
    /// Too many are served.
    Busy,
    /// It is not there, or not any more.
    Gone,
    /// What who asks has is not what there was.
    Apart,
    /// A file of so many bytes follows.
    Snapshot {
        /// The state's place.
        head: Head,
        /// The file's length.
        bytes: u64,
    },
    /// An index of the space.
    Index(u64),
}

impl Piece {
    fn write(&self, w: &mut Writer) {
        self.head.write(w);
        w.uint(self.before).array(self.entries.len());
        for entry in &self.entries {
            w.array(3).uint(entry.term).uint(u64::from(entry.kind)).bytes(&entry.data);
        }
    }

    fn read(
        r: &mut Reader<'_>,
        bytes: &Bytes,
        most: usize,
        most_bytes: usize,
    ) -> Result<Self, Error> {
        let (head, before) = (Head::read(r)?, r.uint()?);
        let len = r.array()?;
        if len > most {
            return Err(r.error(What::TooMany { bound: most, of: "entries" }));
        }
        if before.checked_add(len as u64) != Some(head.place.at.index) {
            return Err(r.invalid("entries that do not end where their head is"));
        }
        let (mut entries, mut sum) = (Vec::with_capacity(len), 0usize);
        for index in (before..).skip(1).take(len) {
            r.array_of(3)?;
            let (term, kind) = (r.uint()?, r.uint()?);
            let data = bytes.slice_ref(r.bytes()?);
            let kind = u8::try_from(kind).ok().filter(|kind| *kind <= MAX_KIND);
            let kind = kind.ok_or_else(|| r.invalid("an entry of no kind"))?;
            sum = sum.saturating_add(data.len());
            if sum > most_bytes && len > 1 || data.len() > MAX_PAYLOAD {
                return Err(r.error(What::TooMany { bound: most_bytes, of: "bytes of entries" }));
            }
            entries.push(Entry { term, index, kind, data });
        }
        Ok(Self { head, before, entries })
    }

    /// As it is gossiped.
    pub fn announcement(&self) -> Bytes {
        let mut w = Writer::new();
        w.array(4).uint(VERSION);
        self.write(&mut w);
        w.into_vec().into()
    }

    /// Reads what was gossiped.
    pub fn read_announcement(bytes: &Bytes) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_ANNOUNCEMENT_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_ANNOUNCEMENT_BYTES, of: "bytes" }));
        }
        r.array_of(4)?;
        version(&mut r)?;
        let piece = Self::read(&mut r, bytes, MAX_ANNOUNCED, MAX_ANNOUNCED_BYTES)?;
        r.end()?;
        Ok(piece)
    }
}

impl Request {
    /// Its bytes.
    pub fn encode(&self, proof: &[u8; 16]) -> Bytes {
        let mut w = Writer::new();
        match self {
            Self::Behind { before, chain } => {
                w.array(5).uint(VERSION).bytes(proof).uint(0).uint(*before).bytes(chain);
            }
            Self::Snapshot => {
                w.array(3).uint(VERSION).bytes(proof).uint(1);
            }
            Self::Index => {
                w.array(3).uint(VERSION).bytes(proof).uint(2);
            }
        }
        w.into_vec().into()
    }

    /// Reads one, with its proof.
    pub fn decode(bytes: &[u8]) -> Result<([u8; 16], Self), Error> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_REQUEST_BYTES, of: "bytes" }));
        }
        let len = r.array()?;
        version(&mut r)?;
        let proof = r.fixed()?;
        let request = match (r.uint()?, len) {
            (0, 5) => Self::Behind { before: r.uint()?, chain: r.fixed()? },
            (1, 3) => Self::Snapshot,
            (2, 3) => Self::Index,
            _ => return Err(r.invalid("an unknown request")),
        };
        r.end()?;
        Ok((proof, request))
    }
}

impl Answer {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        let mut begin = |len: usize, kind: u64| {
            w.array(len).uint(VERSION).uint(kind);
        };
        match self {
            Self::Piece(piece) => {
                begin(5, 0);
                piece.write(&mut w);
            }
            Self::Busy => begin(2, 1),
            Self::Gone => begin(2, 2),
            Self::Apart => begin(2, 3),
            Self::Snapshot { head, bytes } => {
                begin(4, 4);
                head.write(&mut w);
                w.uint(*bytes);
            }
            Self::Index(index) => {
                begin(3, 5);
                w.uint(*index);
            }
        }
        w.into_vec().into()
    }

    /// Reads one.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_ANSWER_BYTES, of: "bytes" }));
        }
        let len = r.array()?;
        version(&mut r)?;
        let answer = match (r.uint()?, len) {
            (0, 5) => Self::Piece(Piece::read(&mut r, bytes, MAX_PIECE, MAX_PIECE_BYTES)?),
            (1, 2) => Self::Busy,
            (2, 2) => Self::Gone,
            (3, 2) => Self::Apart,
            (4, 4) => Self::Snapshot { head: Head::read(&mut r)?, bytes: r.uint()? },
            (5, 3) => Self::Index(r.uint()?),
            _ => return Err(r.invalid("an unknown answer")),
        };
        r.end()?;
        Ok(answer)
    }
}

fn version(r: &mut Reader<'_>) -> Result<(), Error> {
    match r.uint()? {
        VERSION => Ok(()),
        _ => Err(r.invalid("another version of what observers and voters say")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Chain;
    use crate::group::Place;
    use crate::log::Position;
    use proptest::prelude::*;

    fn head(entry: u64) -> Head {
        let at = Position { term: 1, index: entry };
        let chain = Chain { index: 2, time: 3, hash: [4; 32] };
        let mut head = Head::new([9; 32], 0, Place { at, chain }, 5, "v".into());
        head.signature = "s".into();
        head
    }

    fn piece(before: u64, entries: u64, bytes: usize) -> Piece {
        let data = Bytes::from(vec![0x80; bytes]);
        let entry = |index| Entry { term: 1, index, kind: 0, data: data.clone() };
        let entries: Vec<_> = (before + 1..=before + entries).map(entry).collect();
        Piece { head: head(before + entries.len() as u64), before, entries }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn everything_has_these_bytes_and_comes_back() {
        let chain = "04".repeat(32);
        let signed = |entry| {
            let space = "09".repeat(32);
            format!("8b015820{space}0001{entry}02035820{chain}0541764173")
        };
        let announced = piece(5, 1, 1);
        let bytes = announced.announcement();
        assert_eq!(hex(&bytes), format!("8401{}05818301004180", signed("06")));
        assert_eq!(Piece::read_announcement(&bytes).unwrap(), announced);
        let proof = [7; 16];
        let shown = "50".to_owned() + &"07".repeat(16);
        let requests = [
            (Request::Behind { before: 5, chain: [4; 32] }, format!("8501{shown}00055820{chain}")),
            (Request::Snapshot, format!("8301{shown}01")),
            (Request::Index, format!("8301{shown}02")),
        ];
        for (request, golden) in requests {
            let bytes = request.encode(&proof);
            assert_eq!(hex(&bytes), golden);
            assert_eq!(Request::decode(&bytes).unwrap(), (proof, request));
            assert!((0..bytes.len()).all(|cut| Request::decode(&bytes[..cut]).is_err()));
        }
        let answers = [
            (Answer::Piece(announced), format!("850100{}05818301004180", signed("06"))),
            (Answer::Busy, "820101".to_owned()),
            (Answer::Gone, "820102".to_owned()),
            (Answer::Apart, "820103".to_owned()),
            (Answer::Snapshot { head: head(6), bytes: 9 }, format!("840104{}09", signed("06"))),
            (Answer::Index(8), "83010508".to_owned()),
        ];
        for (answer, golden) in answers {
            let bytes = answer.encode();
            assert_eq!(hex(&bytes), golden);
            assert_eq!(Answer::decode(&bytes).unwrap(), answer);
            assert!((0..bytes.len()).all(|cut| Answer::decode(&bytes.slice(..cut)).is_err()));
        }
    }

    #[test]
    fn what_is_over_a_bound_is_refused() {
        let small = piece(0, 4, MAX_ANNOUNCED_BYTES / 4);
        assert!(Piece::read_announcement(&small.announcement()).is_ok());
        let large = piece(0, 4, MAX_ANNOUNCED_BYTES / 4 + 1);
        assert!(Piece::read_announcement(&large.announcement()).is_err());
        let many = piece(0, MAX_ANNOUNCED as u64 + 1, 0);
        assert!(Piece::read_announcement(&many.announcement()).is_err());
        let one = Answer::Piece(piece(0, 1, MAX_PIECE_BYTES * 2));
        assert_eq!(Answer::decode(&one.encode()).unwrap(), one, "one entry may be larger");
        let two = Answer::Piece(piece(0, 2, MAX_PIECE_BYTES));
        assert!(Answer::decode(&two.encode()).is_err());
        let mut elsewhere = piece(3, 2, 1);
        elsewhere.before = 4;
        assert!(Answer::decode(&Answer::Piece(elsewhere).encode()).is_err());
        let mut last = piece(3, 2, 1);
        last.before = u64::MAX;
        assert!(Answer::decode(&Answer::Piece(last).encode()).is_err());
    }

    #[test]
    fn an_observers_proof_is_of_two_peers_and_no_members_key() {
        let key = [5; 32];
        assert_ne!(observers_key(&key), key);
        let of = |from: &str, to: &str| proof(&observers_key(&key), from.as_bytes(), to.as_bytes());
        assert_eq!(of("a", "b"), of("a", "b"));
        assert_ne!(of("a", "b"), of("b", "a"));
        assert_ne!(of("a", "bc"), of("ab", "c"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            drop(Request::decode(&bytes));
            let bytes = Bytes::from(bytes);
            drop(Answer::decode(&bytes));
            drop(Piece::read_announcement(&bytes));
        }
    }
}
