//! Frames between the members of a space, over a transport that proves who each peer is.
//!
//! ```text
//! frame = [2, token: bstr .size 16, kind, …]
//!   raft      = [2, token, 0, message: bstr]                      as `order` writes it
//!   propose   = [2, token, 1, boot, giving, first, [* command]]   put these into the log
//!   dropped   = [2, token, 2, boot, giving, first, count, why]    by that giving they are not there:
//!                                                                 0 busy, 1 not leader, 2 too large
//!   ask       = [2, token, 3, boot, number, wish, id]             0 promote, 1 remove, 2 transfer to
//!   answer    = [2, token, 4, boot, number, null / tstr]          done, or why not
//!   removed   = [2, token, 5, member, index]                      that member is one no longer
//!   recovered = [2, token, 6, generation]                         the space went on without the receiver
//!   mark      = [2, token, 7, index, chain, digest, bstr]         a voter's state, and its signature
//!   want      = [2, token, 8, first]                              send a state from which the log goes
//!                                                                 on with this entry, or a later one
//!   state     = [2, token, 9]                                     the file before this is one
//! ```
//! A frame may come late, twice or never, but only to the start of the node that it was sent to, for a
//! connection is of two processes.
//!
//! The token shows that the sender knows the space's key and is the peer that it says it is: BLAKE3,
//! keyed, of the space's generation and the two peers' ids. It names the space at the same time, and
//! nobody listens to who lives in another generation. The transport keeps it from others' eyes.

use super::Mark;
use crate::cbor::{Error, Reader, What, Writer};
use crate::command::MAX_SIGNATURE_BYTES;
use crate::order::MAX_MESSAGE_BYTES;
use bytes::Bytes;

/// The version of the frames; another one is refused.
pub const VERSION: u64 = 2;
/// Bytes of a frame, at most.
pub const MAX_FRAME_BYTES: usize = MAX_MESSAGE_BYTES + 64;
/// Bytes of an answer's text, at most.
pub const MAX_WHY_BYTES: usize = 1024;
/// Generations before the present one and after it whose members are told of one another.
const MAX_APART: u64 = 16;
/// Commands in one frame, at most.
const MAX_COMMANDS: usize = 4096;

const RAFT: u64 = 0;
const PROPOSE: u64 = 1;
const DROPPED: u64 = 2;
const ASK: u64 = 3;
const ANSWER: u64 = 4;
const REMOVED: u64 = 5;
const RECOVERED: u64 = 6;
const MARK: u64 = 7;
const WANT_STATE: u64 = 8;
const STATE: u64 = 9;

/// What a frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of Raft.
    Raft(Bytes),
    /// Commands for the leader to put into the log.
    Propose {
        /// Which start of the sender.
        boot: u64,
        /// Which of its givings.
        giving: u64,
        /// The number that it gave the first; the others follow.
        first: u64,
        /// The commands, encoded.
        commands: Vec<Bytes>,
    },
    /// Commands that the sender has not put into the log.
    Dropped {
        /// As they came.
        boot: u64,
        /// As they came.
        giving: u64,
        /// The number of the first.
        first: u64,
        /// How many.
        count: u32,
        /// Why not.
        why: Dropped,
    },
    /// Something that only the leader can do.
    Ask {
        /// Which start of the sender.
        boot: u64,
        /// The sender's number for it.
        number: u64,
        /// What.
        ask: Ask,
    },
    /// What came of it.
    Answer {
        /// As it came.
        boot: u64,
        /// The number.
        number: u64,
        /// Why it was not done.
        why: Option<String>,
    },
    /// To a node that speaks as a member and is one no longer.
    Removed {
        /// Which.
        member: u64,
        /// The index at which it was removed, or one behind that.
        at: u64,
    },
    /// The space was recovered without the receiver, who still lives in an older generation. The token
    /// is of that one.
    Recovered {
        /// The generation that the space has come to.
        generation: u64,
    },
    /// A voter's state at an index, for the leader.
    Mark {
        /// Where, and what.
        mark: Mark,
        /// The voter's signature over [`statement`](super::statement).
        signature: Bytes,
    },
    /// The sender's state is wrong, and its own log does not lead to another.
    WantState {
        /// The first entry that its log has: a snapshot of all before that will do, or a later one.
        first: u64,
    },
    /// Such a snapshot has come before this, as a file.
    State,
}

/// Why commands were not put into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Too much is under way.
    Busy,
    /// Whom they were given to does not lead.
    NotLeader,
    /// One is larger than an entry may be.
    TooLarge,
}

/// Something that only the leader can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Let this member vote.
    Promote(u64),
    /// Let this member be one no longer.
    Remove(u64),
    /// Hand the leadership to this member.
    Transfer(u64),
}

/// What a frame from one peer to another begins with, in a space of this key and generation.
pub fn token(key: &[u8; 32], generation: u64, from: &[u8], to: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&generation.to_le_bytes());
    hasher.update(&(from.len() as u64).to_le_bytes()).update(from).update(to);
    let mut token = [0; 16];
    token.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    token
}

/// In which generation of a space of this key a peer has made a token, where that is not far from `now`. In an
/// older one lives who has not heard of a recovery; in a newer one, who knows of one that was not heard of here.
pub fn generation_of(
    key: &[u8; 32],
    now: u64,
    (from, to): (&[u8], &[u8]),
    made: &[u8; 16],
) -> Option<u64> {
    let mut near = now.saturating_sub(MAX_APART)..=now.saturating_add(MAX_APART);
    near.find(|&generation| token(key, generation, from, to) == *made)
}

impl Frame {
    /// The frame's bytes.
    pub fn encode(&self, token: &[u8; 16]) -> Bytes {
        let size = match self {
            Self::Raft(message) => message.len(),
            Self::Propose { commands, .. } => commands.iter().map(Bytes::len).sum(),
            Self::Dropped { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::Removed { .. }
            | Self::Recovered { .. }
            | Self::Mark { .. }
            | Self::WantState { .. }
            | Self::State => 0,
        };
        let mut w = Writer::onto(Vec::with_capacity(size + 64));
        let mut head = |len: usize, kind: u64| {
            w.array(3 + len).uint(VERSION).bytes(token).uint(kind);
        };
        match self {
            Self::Raft(message) => {
                head(1, RAFT);
                w.bytes(message);
            }
            Self::Propose { boot, giving, first, commands } => {
                head(4, PROPOSE);
                w.uint(*boot).uint(*giving).uint(*first).array(commands.len());
                for command in commands {
                    w.raw(command);
                }
            }
            Self::Dropped { boot, giving, first, count, why } => {
                head(5, DROPPED);
                w.uint(*boot).uint(*giving).uint(*first).uint(u64::from(*count)).uint(match why {
                    Dropped::Busy => 0,
                    Dropped::NotLeader => 1,
                    Dropped::TooLarge => 2,
                });
            }
            Self::Ask { boot, number, ask } => {
                head(4, ASK);
                let (wish, id) = match *ask {
                    Ask::Promote(id) => (0, id),
                    Ask::Remove(id) => (1, id),
                    Ask::Transfer(id) => (2, id),
                };
                w.uint(*boot).uint(*number).uint(wish).uint(id);
            }
            Self::Removed { member, at } => {
                head(2, REMOVED);
                w.uint(*member).uint(*at);
            }
            Self::Answer { boot, number, why } => {
                head(3, ANSWER);
                w.uint(*boot).uint(*number);
                match why {
                    None => w.null(),
                    Some(why) => w.text(cut(why)),
                };
            }
            Self::Recovered { generation } => {
                head(1, RECOVERED);
                w.uint(*generation);
            }
            Self::Mark { mark, signature } => {
                head(4, MARK);
                w.uint(mark.index).bytes(&mark.chain).bytes(&mark.digest).bytes(signature);
            }
            Self::WantState { first } => {
                head(1, WANT_STATE);
                w.uint(*first);
            }
            Self::State => head(0, STATE),
        }
        w.into_vec().into()
    }

    /// The token of a frame, for whoever looks for the space that it belongs to.
    pub fn token(bytes: &[u8]) -> Result<[u8; 16], Error> {
        let mut r = Reader::new(bytes);
        r.array()?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of the frames between members"));
        }
        r.fixed()
    }

    /// Reads a frame. What it holds stays slices of `bytes`; commands are checked to be well-formed
    /// CBOR, messages are not looked at.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(r.error(What::TooMany { bound: MAX_FRAME_BYTES, of: "bytes" }));
        }
        let at = r.position();
        let len = r.array()?;
        if r.uint()? != VERSION {
            return Err(r.invalid("another version of the frames between members"));
        }
        let _token: [u8; 16] = r.fixed()?;
        let kind = r.uint()?;
        let items = match kind {
            STATE => 3,
            RAFT | RECOVERED | WANT_STATE => 4,
            REMOVED => 5,
            ANSWER => 6,
            PROPOSE | ASK | MARK => 7,
            DROPPED => 8,
            _ => return Err(Error { at, what: What::Invalid("an unknown kind of frame") }),
        };
        if len != items {
            return Err(Error { at, what: What::Invalid("a frame of another length") });
        }
        let frame = match kind {
            RAFT => Self::Raft(bytes.slice_ref(r.bytes()?)),
            PROPOSE => {
                let (boot, giving, first) = (r.uint()?, r.uint()?, r.uint()?);
                let len = r.array()?;
                if len > MAX_COMMANDS {
                    return Err(r.error(What::TooMany { bound: MAX_COMMANDS, of: "commands" }));
                }
                if first.checked_add(len as u64).is_none() {
                    return Err(r.invalid("numbers that are too large"));
                }
                let mut commands = Vec::with_capacity(len);
                for _ in 0..len {
                    let from = r.position();
                    r.item()?;
                    commands.push(bytes.slice(from..r.position()));
                }
                Self::Propose { boot, giving, first, commands }
            }
            DROPPED => {
                let (boot, giving, first) = (r.uint()?, r.uint()?, r.uint()?);
                let count = r.uint32()?;
                let why = match r.uint()? {
                    0 => Dropped::Busy,
                    1 => Dropped::NotLeader,
                    2 => Dropped::TooLarge,
                    _ => return Err(r.invalid("an unknown reason")),
                };
                Self::Dropped { boot, giving, first, count, why }
            }
            ASK => {
                let (boot, number) = (r.uint()?, r.uint()?);
                let (wish, id) = (r.uint()?, r.uint()?);
                let ask = match wish {
                    0 => Ask::Promote(id),
                    1 => Ask::Remove(id),
                    2 => Ask::Transfer(id),
                    _ => return Err(r.invalid("an unknown wish")),
                };
                Self::Ask { boot, number, ask }
            }
            REMOVED => Self::Removed { member: r.uint()?, at: r.uint()? },
            MARK => {
                let mark = Mark { index: r.uint()?, chain: r.fixed()?, digest: r.fixed()? };
                let signature = bytes.slice_ref(r.bytes()?);
                if signature.len() > MAX_SIGNATURE_BYTES {
                    return Err(r.invalid("a signature that is too long"));
                }
                Self::Mark { mark, signature }
            }
            RECOVERED => Self::Recovered { generation: r.uint()? },
            WANT_STATE => Self::WantState { first: r.uint()? },
            STATE => Self::State,
            _ => {
                let (boot, number) = (r.uint()?, r.uint()?);
                let why = if r.null() { None } else { Some(read_why(&mut r)?) };
                Self::Answer { boot, number, why }
            }
        };
        r.end()?;
        Ok(frame)
    }
}

fn read_why(r: &mut Reader<'_>) -> Result<String, Error> {
    let why = r.text()?;
    if why.len() > MAX_WHY_BYTES {
        return Err(r.error(What::TooMany { bound: MAX_WHY_BYTES, of: "bytes of an answer" }));
    }
    Ok(why.to_owned())
}

/// As much of an answer as a frame takes.
fn cut(why: &str) -> &str {
    let mut end = why.len().min(MAX_WHY_BYTES);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    &why[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let command = any::<u64>().prop_map(|n| {
            let mut w = Writer::new();
            w.uint(n);
            Bytes::from(w.into_vec())
        });
        let why = prop::sample::select(&[Dropped::Busy, Dropped::NotLeader, Dropped::TooLarge]);
        let ask = (0..3u8, any::<u64>()).prop_map(|(wish, id)| match wish {
            0 => Ask::Promote(id),
            1 => Ask::Remove(id),
            _ => Ask::Transfer(id),
        });
        prop_oneof![
            vec(any::<u8>(), 0..40).prop_map(|bytes| Frame::Raft(bytes.into())),
            (any::<(u64, u64, u32)>(), vec(command, 0..5)).prop_map(
                |((boot, giving, first), commands)| {
                    Frame::Propose { boot, giving, first: u64::from(first), commands }
                }
            ),
            (any::<(u64, u64, u64, u32)>(), why).prop_map(|((boot, giving, first, count), why)| {
                Frame::Dropped { boot, giving, first, count, why }
            }),
            (any::<(u64, u64)>(), ask).prop_map(|((boot, number), ask)| Frame::Ask {
                boot,
                number,
                ask
            }),
            (any::<(u64, u64)>(), prop::option::of(".{0,9}"))
                .prop_map(|((boot, number), why)| Frame::Answer { boot, number, why }),
            any::<(u64, u64)>().prop_map(|(member, at)| Frame::Removed { member, at }),
            any::<u64>().prop_map(|generation| Frame::Recovered { generation }),
            any::<u64>().prop_map(|first| Frame::WantState { first }),
            Just(Frame::State),
            (any::<(u64, [u8; 32], [u8; 32])>(), vec(any::<u8>(), 0..9)).prop_map(
                |((index, chain, digest), signature)| {
                    let mark = Mark { index, chain, digest };
                    Frame::Mark { mark, signature: signature.into() }
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_and_every_part_of_it_is_none(frame in frame(), byte in any::<u8>()) {
            let token = [7; 16];
            let bytes = frame.encode(&token);
            prop_assert_eq!(Frame::token(&bytes), Ok(token));
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
            for end in 0..bytes.len() {
                prop_assert!(Frame::decode(&bytes.slice(..end)).is_err());
            }
            prop_assert!(Frame::decode(&[&bytes[..], &[byte]].concat().into()).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..60)) {
            drop(Frame::token(&bytes));
            drop(Frame::decode(&bytes.into()));
        }
    }

    #[test]
    fn the_bytes_are_what_they_have_always_been() {
        let hex = |frame: Frame| {
            frame.encode(&[0xaa; 16]).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let token = "a".repeat(32);
        let golden = [
            (Frame::Raft(vec![1, 2].into()), format!("840250{token}00420102")),
            (
                Frame::Propose { boot: 9, giving: 7, first: 3, commands: vec![vec![0].into()] },
                format!("870250{token}010907038100"),
            ),
            (
                Frame::Dropped { boot: 9, giving: 7, first: 3, count: 2, why: Dropped::NotLeader },
                format!("880250{token}020907030201"),
            ),
            (
                Frame::Ask { boot: 9, number: 5, ask: Ask::Transfer(2) },
                format!("870250{token}0309050202"),
            ),
            (Frame::Answer { boot: 9, number: 5, why: None }, format!("860250{token}040905f6")),
            (Frame::Removed { member: 4, at: 6 }, format!("850250{token}050406")),
            (Frame::Recovered { generation: 3 }, format!("840250{token}0603")),
            (Frame::WantState { first: 5 }, format!("840250{token}0805")),
            (Frame::State, format!("830250{token}09")),
            (
                Frame::Mark {
                    mark: Mark { index: 9, chain: [1; 32], digest: [2; 32] },
                    signature: vec![3].into(),
                },
                format!("870250{token}07095820{}5820{}4103", "01".repeat(32), "02".repeat(32)),
            ),
        ];
        for (frame, bytes) in golden {
            assert_eq!(hex(frame), bytes);
        }
        assert!(Frame::token(&[0x84, 1]).is_err(), "another version");
    }

    #[test]
    fn a_token_is_of_one_space_and_generation_and_of_one_direction() {
        let tokens = [
            token(&[1; 32], 0, b"a", b"b"),
            token(&[1; 32], 1, b"a", b"b"),
            token(&[1; 32], 0, b"b", b"a"),
            token(&[2; 32], 0, b"a", b"b"),
            token(&[1; 32], 0, b"", b"ab"),
        ];
        let different: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!(different.len(), tokens.len());
    }

    #[test]
    fn a_token_tells_its_generation_if_that_is_near() {
        let made = |generation| token(&[1; 32], generation, b"a", b"b");
        for (its, known) in [(20, true), (4, true), (36, true), (3, false), (37, false)] {
            let told = generation_of(&[1; 32], 20, (b"a", b"b"), &made(its));
            assert_eq!(told, known.then_some(its));
        }
        assert_eq!(generation_of(&[1; 32], 0, (b"a", b"b"), &made(1)), Some(1));
        assert_eq!(generation_of(&[1; 32], 20, (b"b", b"a"), &made(20)), None, "the other way");
        assert_eq!(generation_of(&[2; 32], 20, (b"a", b"b"), &made(20)), None, "another key");
    }
}
