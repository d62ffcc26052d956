//! CBOR items as every format of this project writes them: deterministic (RFC 8949 §4.2.1), with
//! definite lengths and shortest heads, and read back strictly. Floats, simple values and the names of
//! what is wrong come from `ciborium-ll`; this module adds the strictness, the bounds and the borrowing.
//!
//! What it does not know: terms, commands, records. Those are layers above it.

use ciborium_ll::{Decoder, Encoder, Header};
use std::fmt;

/// What was wrong with some bytes, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct Error {
    /// Offset of the item at fault, in bytes from the start of the input.
    pub at: usize,
    /// What is wrong with it.
    pub what: What,
}

/// The ways in which an item can be refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The input ended inside an item.
    #[error("the input ends inside an item")]
    Truncated,
    /// Bytes follow the last item.
    #[error("bytes follow the last item")]
    Trailing,
    /// The head is reserved or malformed.
    #[error("not a well-formed CBOR head")]
    Malformed,
    /// The head is longer than it need be, or the length is indefinite.
    #[error("not in deterministic form (RFC 8949 §4.2.1)")]
    NotDeterministic,
    /// Another kind of item stands there than the reader wants.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the reader wanted.
        expected: &'static str,
        /// What stands there.
        found: &'static str,
    },
    /// A text string is not UTF-8.
    #[error("a text string is not UTF-8")]
    NotUtf8,
    /// The value is of the right kind and means nothing here.
    #[error("{0}")]
    Invalid(&'static str),
    /// A named bound is passed.
    #[error("more than {bound} {of}")]
    TooMany {
        /// The bound.
        bound: usize,
        /// What it counts.
        of: &'static str,
    },
}

/// Appends items to a buffer. Nothing here can fail.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends to what `out` holds.
    pub fn onto(out: Vec<u8>) -> Self {
        Self { out }
    }

    /// An unsigned integer.
    pub fn uint(&mut self, n: u64) -> &mut Self {
        self.argument(0, n)
    }

    /// A signed integer.
    pub fn int(&mut self, n: i64) -> &mut Self {
        match u64::try_from(n) {
            Ok(n) => self.uint(n),
            // RFC 8949 §3.1: major type 1 holds -1 - n, which is the complement's magnitude.
            Err(_) => self.negative((!n) as u64),
        }
    }

    /// The integer -1 - `n`.
    pub fn negative(&mut self, n: u64) -> &mut Self {
        self.argument(1, n)
    }

    /// A float in the shortest of the three widths that holds it exactly.
    pub fn float(&mut self, f: f64) -> &mut Self {
        self.head(Header::Float(f))
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.argument(2, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    /// A text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.argument(3, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// The head of an array of `len` items, which the caller appends next.
    pub fn array(&mut self, len: usize) -> &mut Self {
        self.argument(4, len as u64)
    }

    /// The head of a map of `len` pairs, which the caller appends next, ordered by encoded key.
    pub fn map(&mut self, len: usize) -> &mut Self {
        self.argument(5, len as u64)
    }

    /// A tag; the caller appends what it is on next.
    pub fn tag(&mut self, tag: u64) -> &mut Self {
        self.argument(6, tag)
    }

    /// A simple value (`false` is 20, `true` 21, `null` 22, `undefined` 23).
    pub fn simple(&mut self, n: u8) -> &mut Self {
        self.head(Header::Simple(n))
    }

    /// `null`.
    pub fn null(&mut self) -> &mut Self {
        self.simple(ciborium_ll::simple::NULL)
    }

    /// `true` or `false`.
    pub fn bool(&mut self, b: bool) -> &mut Self {
        self.simple(if b { ciborium_ll::simple::TRUE } else { ciborium_ll::simple::FALSE })
    }

    /// Items that are encoded already.
    pub fn raw(&mut self, items: &[u8]) -> &mut Self {
        self.out.extend_from_slice(items);
        self
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What has been written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// The bytes.
    pub fn into_vec(self) -> Vec<u8> {
        self.out
    }

    /// A head of a major type below 7, in the shortest of its five forms.
    #[inline]
    fn argument(&mut self, major: u8, n: u64) -> &mut Self {
        let major = major << 5;
        match n {
            0..24 => self.out.push(major | n as u8),
            24..=0xff => self.out.extend_from_slice(&[major | 24, n as u8]),
            0x100..=0xffff => self.long_argument::<3>(major | 25, n),
            0x1_0000..=0xffff_ffff => self.long_argument::<5>(major | 26, n),
            _ => self.long_argument::<9>(major | 27, n),
        }
        self
    }

    #[inline]
    fn long_argument<const N: usize>(&mut self, first: u8, n: u64) {
        let mut head = [first; N];
        head[1..].copy_from_slice(&n.to_be_bytes()[9 - N..]);
        self.out.extend_from_slice(&head);
    }

    fn head(&mut self, header: Header) -> &mut Self {
        let Ok(()) = Encoder::from(&mut self.out).push(header);
        self
    }
}

/// One head of an item, as the reader found it. Lengths are checked against what is left of the
/// input only when the content is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// A non-negative integer.
    Uint(u64),
    /// The integer -1 - n.
    Negative(u64),
    /// A float.
    Float(f64),
    /// A byte string of so many bytes; take them with [`Reader::take`].
    Bytes(usize),
    /// A text string of so many bytes; take them with [`Reader::take_text`].
    Text(usize),
    /// An array of so many items, which follow.
    Array(usize),
    /// A map of so many pairs, which follow.
    Map(usize),
    /// A tag on the item that follows.
    Tag(u64),
    /// A simple value.
    Simple(u8),
}

impl Head {
    /// Of a major type below 7; none if memory could hold no such length.
    #[inline]
    fn new(major: u8, n: u64) -> Option<Self> {
        let len = usize::try_from(n).ok();
        match major {
            0 => Some(Self::Uint(n)),
            1 => Some(Self::Negative(n)),
            2 => len.map(Self::Bytes),
            3 => len.map(Self::Text),
            4 => len.map(Self::Array),
            5 => len.map(Self::Map),
            _ => Some(Self::Tag(n)),
        }
    }

    /// What the head begins, in words for an error.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Uint(_) => "an unsigned integer",
            Self::Negative(_) => "a negative integer",
            Self::Float(_) => "a float",
            Self::Bytes(_) => "a byte string",
            Self::Text(_) => "a text string",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Tag(_) => "a tag",
            Self::Simple(_) => "a simple value",
        }
    }
}

/// Reads items strictly: anything that [`Writer`] would not have written is an error.
#[derive(Clone)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `input` from its start.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// Offset of the next item, in bytes from the start of the input.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether all of the input has been read.
    pub fn is_at_end(&self) -> bool {
        self.at == self.input.len()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.input[self.at..]
    }

    /// Refuses anything after the last item.
    pub fn end(&self) -> Result<(), Error> {
        if self.is_at_end() { Ok(()) } else { Err(self.error(What::Trailing)) }
    }

    /// An error at the next item.
    pub fn error(&self, what: What) -> Error {
        Error { at: self.at, what }
    }

    /// An error of [`What::Invalid`] at the next item.
    pub fn invalid(&self, why: &'static str) -> Error {
        self.error(What::Invalid(why))
    }

    /// Reads one head. The content of strings, and the items of arrays, maps and tags, follow.
    #[inline]
    pub fn head(&mut self) -> Result<Head, Error> {
        if let [first, rest @ ..] = self.rest()
            && let major @ 0..7 = first >> 5
            && let Some((n, len)) = shortest(first & 31, rest)
            && let Some(head) = Head::new(major, n)
        {
            self.at += len;
            return Ok(head);
        }
        self.other_head()
    }

    /// A float or a simple value, or what is wrong.
    #[cold]
    fn other_head(&mut self) -> Result<Head, Error> {
        let rest = self.rest();
        let mut decoder = Decoder::from(rest);
        let header = decoder.pull().map_err(|e| match e {
            ciborium_ll::Error::Io(_) => self.error(What::Truncated),
            ciborium_ll::Error::Syntax(_) => self.error(What::Malformed),
        })?;
        let read = decoder.offset();
        let head = match header {
            Header::Float(f) => Head::Float(f),
            Header::Simple(n) => Head::Simple(n),
            // Whatever else is in its shortest form has been read.
            _ => return Err(self.error(What::NotDeterministic)),
        };
        let mut shortest = [0u8; 16];
        let mut left = &mut shortest[..];
        if Encoder::from(&mut left).push(header).is_err() {
            return Err(self.error(What::Malformed));
        }
        let len = 16 - left.len();
        if shortest.get(..len) != rest.get(..read) {
            return Err(self.error(What::NotDeterministic));
        }
        // RFC 8949 §3.3: two bytes do not encode a simple value below 32.
        if matches!(header, Header::Simple(24..32)) {
            return Err(self.error(What::Malformed));
        }
        self.at += read;
        Ok(head)
    }

    /// Takes `len` raw bytes: the content of a string whose head has just been read.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let taken = self.rest().get(..len).ok_or_else(|| self.error(What::Truncated))?;
        self.at += len;
        Ok(taken)
    }

    /// Takes `len` bytes that must be UTF-8.
    pub fn take_text(&mut self, len: usize) -> Result<&'a str, Error> {
        let at = self.at;
        std::str::from_utf8(self.take(len)?).map_err(|_| Error { at, what: What::NotUtf8 })
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, Error> {
        match self.next()? {
            (_, Head::Uint(n)) => Ok(n),
            (at, head) => Err(unexpected(at, "an unsigned integer", head)),
        }
    }

    /// An unsigned integer that fits 32 bits.
    pub fn uint32(&mut self) -> Result<u32, Error> {
        let at = self.at;
        let invalid = What::Invalid("does not fit 32 bits");
        u32::try_from(self.uint()?).map_err(|_| Error { at, what: invalid })
    }

    /// A signed integer of 64 bits.
    pub fn int(&mut self) -> Result<i64, Error> {
        let (at, head) = self.next()?;
        let wide = Error { at, what: What::Invalid("does not fit 64 bits") };
        match head {
            Head::Uint(n) => i64::try_from(n).map_err(|_| wide),
            Head::Negative(n) => i64::try_from(n).map(|n| !n).map_err(|_| wide),
            head => Err(unexpected(at, "an integer", head)),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        match self.next()? {
            (_, Head::Bytes(n)) => self.take(n),
            (at, head) => Err(unexpected(at, "a byte string", head)),
        }
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let at = self.at;
        let what = What::Invalid("a byte string of another length");
        self.bytes()?.try_into().map_err(|_| Error { at, what })
    }

    /// A text string.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        match self.next()? {
            (_, Head::Text(n)) => self.take_text(n),
            (at, head) => Err(unexpected(at, "a text string", head)),
        }
    }

    /// The head of an array; its items follow. The length is at most what the input could hold, so
    /// it may be used to reserve memory.
    pub fn array(&mut self) -> Result<usize, Error> {
        match self.next()? {
            (at, Head::Array(n)) if n > self.input.len() - self.at => {
                Err(Error { at, what: What::Truncated })
            }
            (_, Head::Array(n)) => Ok(n),
            (at, head) => Err(unexpected(at, "an array", head)),
        }
    }

    /// The head of an array of exactly `len` items.
    pub fn array_of(&mut self, len: usize) -> Result<(), Error> {
        let at = self.at;
        if self.array()? == len {
            Ok(())
        } else {
            Err(Error { at, what: What::Invalid("an array of another length") })
        }
    }

    /// A tag of exactly this number.
    pub fn tag(&mut self, tag: u64) -> Result<(), Error> {
        match self.next()? {
            (_, Head::Tag(n)) if n == tag => Ok(()),
            (at, Head::Tag(_)) => Err(Error { at, what: What::Invalid("another tag") }),
            (at, head) => Err(unexpected(at, "a tag", head)),
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool, Error> {
        match self.next()? {
            (_, Head::Simple(ciborium_ll::simple::TRUE)) => Ok(true),
            (_, Head::Simple(ciborium_ll::simple::FALSE)) => Ok(false),
            (at, head) => Err(unexpected(at, "a truth value", head)),
        }
    }

    /// Reads `null` if it stands next; says whether it did.
    pub fn null(&mut self) -> bool {
        const NULL: u8 = 7 << 5 | ciborium_ll::simple::NULL;
        let is_null = self.rest().first() == Some(&NULL);
        if is_null {
            self.at += 1;
        }
        is_null
    }

    /// The bytes of the next item, whole, which must be well-formed and deterministic in its heads.
    /// Iterative: any depth of nesting is read in constant stack.
    pub fn item(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at;
        let mut pending: usize = 1;
        while pending > 0 {
            pending -= 1;
            let at = self.at;
            let more = match self.head()? {
                Head::Bytes(n) => {
                    self.take(n)?;
                    0
                }
                Head::Text(n) => {
                    self.take_text(n)?;
                    0
                }
                Head::Array(n) => n,
                Head::Map(n) => n.saturating_mul(2),
                Head::Tag(_) => 1,
                Head::Uint(_) | Head::Negative(_) | Head::Float(_) | Head::Simple(_) => 0,
            };
            pending = pending.saturating_add(more);
            // Every item takes a byte at least: a head may not promise more than there is.
            if pending > self.input.len() - self.at {
                return Err(Error { at, what: What::Truncated });
            }
        }
        Ok(&self.input[start..self.at])
    }

    fn next(&mut self) -> Result<(usize, Head), Error> {
        let at = self.at;
        Ok((at, self.head()?))
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader at {} of {}", self.at, self.input.len())
    }
}

/// The argument of a head whose first byte ends in `minor`, if it is in the shortest form, and how long
/// the head is.
#[inline]
fn shortest(minor: u8, rest: &[u8]) -> Option<(u64, usize)> {
    let (n, len, least) = match minor {
        0..24 => return Some((u64::from(minor), 1)),
        24 => (u64::from(*rest.first()?), 2, 24),
        25 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 3, 1 << 8),
        26 => (u64::from(u32::from_be_bytes(*rest.first_chunk()?)), 5, 1 << 16),
        27 => (u64::from_be_bytes(*rest.first_chunk()?), 9, 1 << 32),
        _ => return None,
    };
    (n >= least).then_some((n, len))
}

fn unexpected(at: usize, expected: &'static str, head: Head) -> Error {
    Error { at, what: What::Unexpected { expected, found: head.kind() } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_at_every_width() {
        for n in [0, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let bytes = Writer::new().uint(n).clone().into_vec();
            assert_eq!(Reader::new(&bytes).uint(), Ok(n));
        }
        for n in [0, -1, -24, -25, -256, -257, i64::MIN, i64::MAX] {
            let bytes = Writer::new().int(n).clone().into_vec();
            assert_eq!(Reader::new(&bytes).int(), Ok(n));
        }
    }

    #[test]
    fn a_head_longer_than_it_need_be_is_refused() {
        let (two, four) = ([0x1a, 0, 0, 0xff, 0xff], [0x5b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let float = [0xfb, 0, 0, 0, 0, 0, 0, 0, 0];
        for bytes in [&[0x18, 0x17][..], &[0x19, 0, 24], &two, &four, &float, &[0x9f], &[0xff]] {
            let refused = Reader::new(bytes).head();
            assert_eq!(refused, Err(Error { at: 0, what: What::NotDeterministic }), "{bytes:?}");
        }
    }

    #[test]
    fn heads_are_those_of_the_library_at_every_width() {
        let edges = [23, 24, 0xff, 0x100, 0xffff, 0x1_0000, 0xffff_ffff, 1 << 32, u64::MAX];
        for n in edges {
            let (mut w, len) = (Writer::new(), n as usize);
            w.uint(n).negative(n).tag(n).array(len).map(len);
            let heads = [
                (Head::Uint(n), Header::Positive(n)),
                (Head::Negative(n), Header::Negative(n)),
                (Head::Tag(n), Header::Tag(n)),
                (Head::Array(len), Header::Array(Some(len))),
                (Head::Map(len), Header::Map(Some(len))),
            ];
            let mut r = Reader::new(w.as_slice());
            for (head, header) in heads {
                let mut library = Vec::new();
                Encoder::from(&mut library).push(header).unwrap();
                assert!(r.rest().starts_with(&library), "{header:?}");
                assert_eq!(r.head(), Ok(head));
                for cut in 0..library.len() {
                    let cut = Reader::new(&library[..cut]).head();
                    assert_eq!(cut, Err(Error { at: 0, what: What::Truncated }));
                }
            }
            assert_eq!(r.end(), Ok(()));
        }
    }

    #[test]
    fn simple_values_have_one_form_too() {
        assert_eq!(Reader::new(&[0xf8, 32]).head(), Ok(Head::Simple(32)));
        let malformed = Err(Error { at: 0, what: What::Malformed });
        assert_eq!(Reader::new(&[0xf8, 31]).head(), malformed);
        assert_eq!(Reader::new(&[0x1c]).head(), malformed);
    }

    #[test]
    fn an_item_is_skipped_whole_and_never_past_the_end() {
        let mut w = Writer::new();
        w.array(3).uint(1).text("ab").tag(27).array(1).null();
        let bytes = w.into_vec();
        let mut r = Reader::new(&bytes);
        assert_eq!(r.item(), Ok(&bytes[..]));
        assert_eq!(r.end(), Ok(()));
        for cut in 0..bytes.len() {
            assert_eq!(Reader::new(&bytes[..cut]).item().map_err(|e| e.what), Err(What::Truncated));
        }
    }

    #[test]
    fn a_promise_of_many_items_reserves_nothing() {
        let bytes = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert!(Reader::new(&bytes).array().is_err());
        assert!(Reader::new(&bytes).item().is_err());
    }
}
