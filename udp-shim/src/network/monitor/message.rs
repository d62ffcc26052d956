//! What node and monitor say to each other. Each message has one form: what is read is written as it was.
//!
//! ```text
//! message  = version kind …            numbers are big-endian, texts are behind their length
//! node:      0 restore    1 open    2 close    3 join
//! monitor: 128 more     129 opened 130 done  131 restored        255 failed
//! ```
//! Sockets come with an answer, or with `more` before it.

use crate::network::Mode;
use crate::network::open::table;
use crate::network::state::is_ours;
use crate::spec::JoinSpec;
use crate::tunnel::{Groups, MAX_NAME_BYTES, Ports, is_virtual};
use std::net::Ipv4Addr;

/// Of the protocol. Both sides are the same program, unless it was replaced while it ran.
pub const VERSION: u8 = 1;
/// Bytes of a message, at most.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Bytes of a text, at most; what is longer is cut.
const MAX_TEXT_BYTES: usize = 2048;
/// Texts of an answer, at most: what is told beyond is not.
const MAX_TEXTS: usize = 24;
/// Bytes of what is joined, as it is written.
const MAX_SPEC_BYTES: usize = 64;

/// What a node asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To take out what a killed node of this folder has left.
    Restore,
    /// A tunnel's part of this host.
    Open(Open),
    /// To take it out.
    Close(u32),
    /// A membership.
    Join(JoinSpec),
}

/// A tunnel's part of this host, as [`NetworkSpec`](crate::network::NetworkSpec) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The tunnel's name, and that of the file that says what was put in.
    pub name: String,
    /// What tells its rules from others.
    pub tag: String,
    /// What it carries.
    pub groups: Groups,
    /// The node's virtual address.
    pub address: Ipv4Addr,
    /// How to capture.
    pub capture: Option<Mode>,
}

/// What a monitor answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Sockets of the answer that follows.
    More,
    /// It is open under this number; the sockets are one for each destination, in order, and the raw one.
    Opened {
        /// Its number.
        id: u32,
        /// How it captures.
        mode: Mode,
        /// Whether there is a raw socket.
        has_raw: bool,
        /// What a person should know.
        remarks: Vec<String>,
    },
    /// It is done; the sockets are what was asked for.
    Done,
    /// Of each file that was found: whether what it says is taken out, or why not.
    Restored(Vec<Restored>),
    /// It is not done, and why.
    Failed(String),
}

/// A file that says what was put into the kernel, and whether that was there to be taken out; or why it was not.
pub type Restored = (String, Result<bool, String>);

/// A request or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Of the node.
    Request(Request),
    /// Of the monitor.
    Answer(Answer),
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// They are of another version.
    #[error("it speaks version {0}, and this is version {VERSION}: start the node again")]
    Version(u8),
    /// They end too early, go on too long, or say what no message says.
    #[error("it is no message of this version")]
    Malformed,
    /// They ask for what nobody may.
    #[error("{0}")]
    Forbidden(String),
}

impl Message {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = vec![VERSION];
        match self {
            Self::Request(request) => write_request(&mut w, request),
            Self::Answer(answer) => write_answer(&mut w, answer),
        }
        w
    }

    /// Reads them, if they are what [`encode`](Self::encode) gives for something that may be said.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refused> {
        let mut r = Reader(bytes);
        match r.byte()? {
            VERSION => {}
            other => return Err(Refused::Version(other)),
        }
        let message = match r.byte()? {
            kind @ ..128 => Self::Request(read_request(kind, &mut r)?),
            kind => Self::Answer(read_answer(kind, &mut r)?),
        };
        // Nothing is behind it, and nothing is written in two ways.
        if bytes.len() > MAX_MESSAGE_BYTES || message.encode() != bytes {
            return Err(Refused::Malformed);
        }
        Ok(message)
    }
}

fn write_request(w: &mut Vec<u8>, request: &Request) {
    match request {
        Request::Restore => w.push(0),
        Request::Open(Open { name, tag, groups, address, capture }) => {
            w.push(1);
            text(w, name);
            text(w, tag);
            // There are 64 of these and 256 of those at most, or there would be no `Groups`.
            w.push(groups.groups().len() as u8);
            groups.groups().iter().for_each(|group| w.extend(group.octets()));
            w.extend((groups.ports().len() as u16).to_be_bytes());
            for ports in groups.ports() {
                w.extend(ports.first().to_be_bytes());
                w.extend(ports.last().to_be_bytes());
            }
            w.extend(address.octets());
            text(w, capture.map_or("", Mode::name));
        }
        Request::Close(id) => {
            w.push(2);
            w.extend(id.to_be_bytes());
        }
        Request::Join(spec) => {
            w.push(3);
            text(w, &spec.to_string());
        }
    }
}

fn read_request(kind: u8, r: &mut Reader<'_>) -> Result<Request, Refused> {
    Ok(match kind {
        0 => Request::Restore,
        1 => Request::Open(read_open(r)?),
        2 => Request::Close(r.long()?),
        3 => {
            let spec = r.text(MAX_SPEC_BYTES)?;
            let spec: Result<JoinSpec, _> = spec.parse();
            Request::Join(spec.map_err(|e| Refused::Forbidden(e.to_string()))?)
        }
        _ => return Err(Refused::Malformed),
    })
}

fn read_open(r: &mut Reader<'_>) -> Result<Open, Refused> {
    let forbidden = |text: String| Err(Refused::Forbidden(text));
    let (name, tag) = (r.text(MAX_NAME_BYTES)?, r.text(MAX_NAME_BYTES)?);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(is_plain) {
        return forbidden(format!("{name:?} is no name for a tunnel"));
    }
    if !is_ours(&table(tag)) {
        return forbidden(format!("{tag:?} is nothing that rules of ours are called by"));
    }
    let groups = (0..r.byte()?).map(|_| r.address()).collect::<Result<Vec<_>, _>>()?;
    let mut ports = Vec::new();
    for _ in 0..r.short()? {
        let (first, last) = (r.short()?, r.short()?);
        ports.push(Ports::new(first, last).map_err(|e| Refused::Forbidden(e.to_string()))?);
    }
    let groups = Groups::new(groups, ports).map_err(|e| Refused::Forbidden(e.to_string()))?;
    let address = r.address()?;
    if !is_virtual(address) {
        return forbidden(format!("{address} is no node's virtual address"));
    }
    let capture = match r.text(MAX_NAME_BYTES)? {
        "" => None,
        mode => Some(mode.parse().map_err(Refused::Forbidden)?),
    };
    Ok(Open { name: name.to_owned(), tag: tag.to_owned(), groups, address, capture })
}

fn write_answer(w: &mut Vec<u8>, answer: &Answer) {
    match answer {
        Answer::More => w.push(128),
        Answer::Opened { id, mode, has_raw, remarks } => {
            w.push(129);
            w.extend(id.to_be_bytes());
            text(w, mode.name());
            w.push(u8::from(*has_raw));
            let told = remarks.len().min(MAX_TEXTS);
            w.push(told as u8);
            remarks.iter().take(told).for_each(|remark| text(w, remark));
        }
        Answer::Done => w.push(130),
        Answer::Restored(all) => {
            w.push(131);
            let told = all.len().min(MAX_TEXTS / 2);
            w.push(told as u8);
            for (file, restored) in all.iter().take(told) {
                text(w, file);
                w.push(match restored {
                    Ok(was_there) => u8::from(*was_there),
                    Err(_) => 2,
                });
                text(w, restored.as_ref().err().map_or("", String::as_str));
            }
        }
        Answer::Failed(why) => {
            w.push(255);
            text(w, why);
        }
    }
}

fn read_answer(kind: u8, r: &mut Reader<'_>) -> Result<Answer, Refused> {
    let flag = |byte| match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Refused::Malformed),
    };
    Ok(match kind {
        128 => Answer::More,
        129 => {
            let id = r.long()?;
            let mode = r.text(MAX_NAME_BYTES)?.parse().map_err(|_| Refused::Malformed)?;
            let has_raw = flag(r.byte()?)?;
            let count = r.byte()?;
            let remarks = (0..count).map(|_| Ok(r.text(MAX_TEXT_BYTES)?.to_owned()));
            Answer::Opened { id, mode, has_raw, remarks: remarks.collect::<Result<_, _>>()? }
        }
        130 => Answer::Done,
        131 => {
            let mut all = Vec::new();
            for _ in 0..r.byte()? {
                let file = r.text(MAX_TEXT_BYTES)?.to_owned();
                let (state, why) = (r.byte()?, r.text(MAX_TEXT_BYTES)?);
                let restored = if state == 2 { Err(why.to_owned()) } else { Ok(flag(state)?) };
                all.push((file, restored));
            }
            Answer::Restored(all)
        }
        255 => Answer::Failed(r.text(MAX_TEXT_BYTES)?.to_owned()),
        _ => return Err(Refused::Malformed),
    })
}

/// A text behind its length, cut where it is too long.
fn text(w: &mut Vec<u8>, text: &str) {
    let end = (0..=MAX_TEXT_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    let text = &text.as_bytes()[..end.unwrap_or(0)];
    w.extend((text.len() as u16).to_be_bytes());
    w.extend(text);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Refused> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Refused::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        self.take(N)?.try_into().map_err(|_| Refused::Malformed)
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        self.array().map(|[byte]| byte)
    }

    fn short(&mut self) -> Result<u16, Refused> {
        self.array().map(u16::from_be_bytes)
    }

    fn long(&mut self) -> Result<u32, Refused> {
        self.array().map(u32::from_be_bytes)
    }

    fn address(&mut self) -> Result<Ipv4Addr, Refused> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    fn text(&mut self, most: usize) -> Result<&'a str, Refused> {
        let len = usize::from(self.short()?);
        let bytes = if len > most { Err(Refused::Malformed) } else { self.take(len) }?;
        std::str::from_utf8(bytes).map_err(|_| Refused::Malformed)
    }
}
