//! Whether what a space has on disk is what was written: every record of its log, the commands in
//! them, and that its snapshots lie on the same chain. Nothing is changed, and no node is needed.

use crate::folder::{FolderError, check_format_of, genesis_id};
use crate::past::{StreamError, batch_of, kb};
use crate::space::{closed_at, hex};
use crate::store::FsDisk;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use synod_core::apply::State;
use synod_core::command::Batch;
use synod_core::export::{Forged, Signed, SignedEnd};
use synod_core::log::disk::DiskError;
use synod_core::log::{self, OpenError, ReadError};
use synod_core::snapshot;

/// What a space's log holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The space's name, after its folder.
    pub space: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// Entries of Raft's log.
    pub entries: u64,
    /// Commands in them: the index that the log leads to, if it goes back to the beginning.
    pub commands: u64,
    /// The chain at that index, in hexadecimal.
    pub chain: String,
    /// Snapshots that are whole and lie on that chain, by index.
    pub snapshots: Vec<u64>,
    /// How far voters have signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedBy>,
    /// Whether the log was closed in order, so that its very end is proven too.
    pub closed: bool,
    /// What a crash left at the end, never acknowledged: the next start cuts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub torn: Option<String>,
}

/// What is wrong with a space on disk.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// The folder holds no space.
    #[error("{}: {}", .0.display(), .1)]
    NoSpace(PathBuf, String),
    /// The data folder is of another format.
    #[error(transparent)]
    Format(FolderError),
    /// The log is damaged, incomplete, or of another version or space.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// An entry cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk does not do its part.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A snapshot is damaged.
    #[error(transparent)]
    Snapshot(#[from] snapshot::SnapshotError),
    /// An entry is whole and holds no commands.
    #[error(
        "entry {entry} (index {index}) is not a batch of commands: {why}; `synod log export --to N` saves what is before it"
    )]
    Entry {
        /// Raft's index.
        entry: u64,
        /// The index of the first command that cannot be read.
        index: u64,
        /// Why.
        why: synod_core::cbor::Error,
    },
    /// The log holds signatures that are none.
    #[error("{0}: the log was changed by somebody who has not the voters' keys")]
    Forged(#[from] Forged),
    /// The log is shorter than it was.
    #[error(
        "{} ends at entry {last} (index {index}), and had come to entry {closed} when it was closed in \
         order: what was acknowledged behind that is lost; put the log back, if there is a copy", folder.display()
    )]
    Short {
        /// The log's folder.
        folder: PathBuf,
        /// The last entry.
        last: u64,
        /// The index that it leads to.
        index: u64,
        /// The last entry that there was.
        closed: u64,
    },
    /// A snapshot speaks of another history than the log.
    #[error("{} is of another history: its chain is not the log's at index {index}; move it away, and it is made again", file.display())]
    Chain {
        /// The snapshot.
        file: PathBuf,
        /// Its index.
        index: u64,
    },
    /// A snapshot is of an index that the log does not reach.
    #[error("{} is of index {index}, and the log ends at index {last}: put the log back that it was made of", file.display())]
    Ahead {
        /// The snapshot.
        file: PathBuf,
        /// Its index.
        index: u64,
        /// The last index of the log.
        last: u64,
    },
}

/// Verifies the space in `folder`.
pub fn verify(folder: &Path) -> Result<Verified, Wrong> {
    check_format_of(folder).map_err(Wrong::Format)?;
    let no_space = |why: String| Wrong::NoSpace(folder.to_path_buf(), why);
    let id = genesis_id(folder).map_err(|e| no_space(e.to_string()))?;
    let name = folder.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let disk = FsDisk::new(folder);
    let mut snapshots = BTreeMap::new();
    for (index, path) in snapshot::list(&disk, Path::new("snapshots"))? {
        let meta = snapshot::Reader::open(&disk, &path, Some(id))?.check()?;
        snapshots.insert(index, (path, meta.chain));
    }
    let (recovered, _, reader) = log::inspect(&disk, Path::new("log"), Some(id))?;
    let mut state = State::new(id);
    let (mut entries, mut last, mut proven) = (0, 0, Vec::new());
    let mut signed = Signed::behind(id, &state.place());
    for entry in reader.entries(recovered.first_index, u64::MAX)? {
        let entry = entry?;
        (entries, last) = (entries + 1, entry.index);
        let data = batch_of(&entry);
        if data.is_empty() {
            continue;
        }
        let index = state.index() + 1;
        let batch = Batch::decode(&data);
        let batch = batch.map_err(|why| Wrong::Entry { entry: entry.index, index, why })?;
        for command in &batch.commands {
            state.apply(batch.time, command);
            signed.follow(&state.place(), command, crate::net::is_signed_by)?;
            if let Some((path, chain)) = snapshots.get(&state.index()) {
                if *chain != state.chain() {
                    return Err(Wrong::Chain { file: path.clone(), index: state.index() });
                }
                proven.push(state.index());
            }
        }
    }
    let closed = closed_at(folder);
    if last < closed {
        let (folder, index) = (folder.join("log"), state.index());
        return Err(Wrong::Short { folder, last, index, closed });
    }
    if let Some((&index, (path, _))) = snapshots.range(state.index() + 1..).next() {
        return Err(Wrong::Ahead { file: path.clone(), index, last: state.index() });
    }
    Ok(Verified {
        space: name,
        id: hex(&id),
        entries,
        commands: state.index(),
        chain: hex(&state.chain()),
        snapshots: proven,
        signed: signed.end().cloned().map(SignedBy::from),
        closed: recovered.clean,
        torn: recovered.cut.map(|cut| cut.to_string()),
    })
}

/// What an export holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedExport {
    /// The space's name where it was exported.
    pub space: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// The first index, and the last.
    pub first: u64,
    /// As above.
    pub last: u64,
    /// The chain at the last, in hexadecimal.
    pub chain: String,
    /// How far voters have signed it. Without that, it says of itself alone that it is whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedBy>,
    /// What of its signatures does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forged: Option<String>,
}

/// How far voters have signed a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedBy {
    /// The last index that they signed the chain of.
    pub index: u64,
    /// The space's generation then.
    pub generation: u64,
    /// By whom: the nodes' names where the log tells them, else their ids in the network.
    pub by: Vec<String>,
    /// Whether the log shows that they were most of its voters.
    pub are_voters: bool,
}

impl From<SignedEnd> for SignedBy {
    fn from(end: SignedEnd) -> Self {
        let SignedEnd { index, generation, by, are_voters } = end;
        let peer = |peer: &[u8]| {
            synod_bridge::PeerId::from_bytes(peer)
                .map_or_else(|_| hex(peer), |peer| peer.to_string())
        };
        let by = by.into_iter().map(|signer| signer.node.unwrap_or_else(|| peer(&signer.peer)));
        Self { index, generation, by: by.collect(), are_voters }
    }
}

/// Verifies an export, which is read as a stream. `progress` is told the index now and then.
pub fn verify_export(
    source: impl Read + Send,
    progress: impl FnMut(u64),
) -> Result<VerifiedExport, StreamError> {
    let kb::Followed { header, end, signed } = kb::verify(source, progress)?;
    let (signed, forged) = match signed {
        Ok(signed) => (signed.map(SignedBy::from), None),
        Err(forged) => (None, Some(forged.to_string())),
    };
    Ok(VerifiedExport {
        space: header.name,
        id: hex(&header.space),
        first: header.first,
        last: end.index,
        chain: hex(&end.chain),
        signed,
        forged,
    })
}
