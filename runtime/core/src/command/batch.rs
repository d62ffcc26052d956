//! What one record of the log holds: commands that were put in order together.

use super::codec::array_up_to;
use crate::cbor::{Error, Reader, Writer};
use bytes::Bytes;
use std::ops::Range;

/// Runs of commands in one batch that other members proposed, at most.
pub const MAX_TAGS: usize = 4096;

/// The payload of one log record: commands that a leader put in order together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The leader's clock when it did, in microseconds since 1970 (UTC).
    pub time: u64,
    /// Which commands other members proposed, in order: so that those know their own when they see
    /// them applied, whatever became of the leader that they gave them to.
    pub tags: Vec<Tag>,
    /// The commands, encoded.
    pub commands: Vec<Bytes>,
}

/// A run of commands in a batch that a member other than its leader proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The place of its first command in the batch.
    pub place: u32,
    /// How many there are.
    pub count: u32,
    /// The member.
    pub member: u64,
    /// Which start of that member.
    pub boot: u64,
    /// The number that it gave the first; the others follow.
    pub first: u64,
}

impl Batch {
    /// `[time, [* [place, count, member, boot, first]], command…]`.
    pub fn encode(&self) -> Bytes {
        let size: usize = self.commands.iter().map(Bytes::len).sum();
        let mut w = Writer::onto(Vec::with_capacity(size + 24 + 32 * self.tags.len()));
        w.array(2 + self.commands.len()).uint(self.time).array(self.tags.len());
        for tag in &self.tags {
            w.array(5).uint(u64::from(tag.place)).uint(u64::from(tag.count));
            w.uint(tag.member).uint(tag.boot).uint(tag.first);
        }
        for command in &self.commands {
            w.raw(command);
        }
        w.into_vec().into()
    }

    /// Reads the heads; the commands are left as slices of `payload`.
    pub fn decode(payload: &Bytes) -> Result<Self, Error> {
        let mut commands = Vec::new();
        let (time, tags) = Self::find(payload, |range| commands.push(payload.slice(range)))?;
        Ok(Self { time, tags, commands })
    }

    /// As [`Batch::decode`] for whoever needs no slice of each command: `command` is told where in
    /// `payload` one is. What it was told is of use only if this ends well.
    pub fn find(
        payload: &[u8],
        mut command: impl FnMut(Range<usize>),
    ) -> Result<(u64, Vec<Tag>), Error> {
        let mut r = Reader::new(payload);
        let len = r.array()?;
        if len < 2 {
            return Err(r.invalid("a batch without a time, or without its tags"));
        }
        let time = r.uint()?;
        let tags = read_tags(&mut r, len - 2)?;
        for _ in 2..len {
            let from = r.position();
            r.item()?;
            command(from..r.position());
        }
        r.end()?;
        Ok((time, tags))
    }
}

/// Tags as [`Batch::encode`] writes them: runs that neither touch nor pass the batch's `commands`.
fn read_tags(r: &mut Reader<'_>, commands: usize) -> Result<Vec<Tag>, Error> {
    let mut tags = Vec::new();
    let mut free = 0;
    for _ in 0..array_up_to(r, MAX_TAGS, "tags of a batch")? {
        r.array_of(5)?;
        let tag = Tag {
            place: r.uint32()?,
            count: r.uint32()?,
            member: r.uint()?,
            boot: r.uint()?,
            first: r.uint()?,
        };
        let end = u64::from(tag.place) + u64::from(tag.count);
        if tag.count == 0 || u64::from(tag.place) < free || end > commands as u64 {
            return Err(r.invalid("a tag of other commands than there are"));
        }
        free = end;
        tags.push(tag);
    }
    Ok(tags)
}
