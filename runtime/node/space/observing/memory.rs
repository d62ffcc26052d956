//! What a node that follows a space has heard, in its folder: what was said before it started again is not taken for
//! new.

use crate::hex::{hex, unhex};
use crate::store::FsDisk;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use synod_core::group::observer::Memory;
use synod_core::log::disk::{Disk, DiskError, File as _};

const FILE: &str = "heard.json";

#[derive(Serialize, Deserialize)]
struct Heard {
    /// The highest generation that a voter has spoken in.
    generation: u64,
    /// Up to when each voter's words are old, by its id in the network.
    said: BTreeMap<String, u64>,
}

/// What a space's folder says; nothing, if nothing was heard yet.
pub(in super::super) fn read(disk: &FsDisk) -> Memory {
    let path = disk.root().join(FILE);
    let heard: io::Result<Heard> =
        std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match heard {
        Ok(Heard { generation, said }) => {
            let known =
                said.into_iter().filter_map(|(voter, said)| Some((unhex(&voter)?.into(), said)));
            Memory { generation, said: known.collect() }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Memory::default(),
        Err(e) => {
            tracing::warn!("{}: {e}; what voters said before may be taken for new", path.display());
            Memory::default()
        }
    }
}

pub(super) fn write(disk: &FsDisk, memory: &Memory) -> Result<(), DiskError> {
    let said = memory.said.iter().map(|(voter, said)| (hex(voter), *said)).collect();
    let heard = Heard { generation: memory.generation, said };
    // Numbers and text always can be written.
    let bytes = serde_json::to_vec(&heard).unwrap_or_default();
    let aside = Path::new("heard.new");
    let file = disk.create(aside)?;
    file.write_at(0, &bytes)?;
    file.sync_data()?;
    drop(file);
    disk.rename(aside, Path::new(FILE))?;
    disk.sync_dir(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let disk = FsDisk::new(folder.path());
        assert_eq!(read(&disk), Memory::default());
        let said = [("one".into(), 5), ("two".into(), u64::MAX)].into();
        let memory = Memory { generation: 3, said };
        write(&disk, &memory).unwrap();
        assert_eq!(read(&disk), memory);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(read(&disk), Memory::default());
    }
}
