//! A node's data folder: whose it is, which version wrote it, and where things are in it.
//!
//! ```text
//! DATA/version        the format's number
//! DATA/lock           locked by the process that runs the node, and says which
//! DATA/tunnels.json   the tunnels, and DATA/network what they have put into the kernel (`tunnels`)
//! DATA/node.json      the node's name
//! DATA/control.sock   the control API
//! DATA/spaces/NAME/   genesis.json, member.json or observer.json and heard.json (but for `local`), log/, snapshots/, as-of/
//! DATA/left/          spaces that the node is a member of no longer, or whose logs were damaged: the newest 16, of 8 GiB
//! DATA/joining/       spaces that are about to take the place of those
//! DATA/identity.json  who it is in the network; beside it the address book and the ports it listens on
//! DATA/agents/NAME/   agent.json (started with the node), log, modules/
//! DATA/cli/           what the command line remembers: last indexes, the history of the toplevel
//! ```

mod left;
mod observers;

use crate::node::LOCAL;
use crate::space::hex;
pub(crate) use observers::{ObserverFile, PlaceText};
use rustix::fs::{FlockOperation, Mode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use synod_core::datagrams::RESERVED;

/// The format that this version writes.
pub const VERSION: u32 = 4;

/// A data folder that this process holds.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// The node's name.
    pub(crate) name: String,
    /// Locked as long as it is open.
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process runs a node on it.
    #[error(
        "{} is held by {holder}: stop that node with `synod down --data {}`, or use another folder \
         with --data", .folder.display(), .folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// It was written by a later version.
    #[error("{} is of format {}, and this Synod knows {VERSION}: use the Synod that wrote it", .0.display(), .1)]
    OtherVersion(PathBuf, String),
    /// No node can have the name.
    #[error(
        "{0:?} is no name for a node: give it 1 to {MAX_NAME_BYTES} bytes without control characters that do not \
         begin with {RESERVED}"
    )]
    Name(String),
    /// A file of it is not what it should be.
    #[error("{}: {}", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// The operating system refused.
    #[error("{}: {}{}", .0.display(), .1, advice(.1))]
    Io(PathBuf, io::Error),
}

/// Bytes of a node's name, at most.
const MAX_NAME_BYTES: usize = 128;

#[derive(Serialize, Deserialize)]
struct NodeFile {
    name: String,
}

/// The file in a space's folder that says who this node is in it.
const MEMBER: &str = "member.json";
/// Where folders are made that take the place of others.
const JOINING: &str = "joining";

/// Who this node is in a space. It holds what only members know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberFile {
    /// Its Raft id.
    pub(crate) member: u64,
    /// Which of its joinings this is, in hexadecimal.
    pub(crate) nonce: String,
    /// The space's key, in hexadecimal.
    pub(crate) key: String,
    /// How often the space was recovered by hand.
    pub(crate) generation: u64,
    /// Members' ids in the network, by Raft id: those that it was told of when it joined, and later those
    /// of the log.
    #[serde(default)]
    pub(crate) contacts: BTreeMap<u64, String>,
}

/// The name of a space, and a file of its folder.
pub(crate) type Found<T> = (String, Result<T, FolderError>);

/// What a space is made of, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Genesis {
    /// Made here: the space's id is the hash of this.
    Made { name: String, creator: String, nonce: String },
    /// Taken over with a log that was imported: the chain of a space starts from its id, so the space
    /// is the one that was exported, and this is its id, in hexadecimal.
    Imported { name: String, imported: String },
}

impl Folder {
    /// Takes a folder for this process; makes it if it is not there.
    pub(crate) fn open(root: &Path, name: Option<&str>) -> Result<Self, FolderError> {
        make(root)?;
        let root = root.canonicalize().map_err(|e| FolderError::Io(root.to_path_buf(), e))?;
        let lock = lock(&root)?;
        check_version(&root)?;
        make(&root.join("spaces"))?;
        make(&root.join("agents"))?;
        end_replacing(&root)?;
        let path = root.join("node.json");
        let name = match fs::read(&path) {
            Ok(bytes) => {
                let file: NodeFile = serde_json::from_slice(&bytes)
                    .map_err(|e| FolderError::Damaged(path.clone(), e.to_string()))?;
                file.name
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let name = name.map_or_else(default_name, check_name)?;
                write_json(&path, &NodeFile { name: name.clone() })?;
                name
            }
            Err(e) => return Err(FolderError::Io(path, e)),
        };
        Ok(Self { root, name, _lock: lock })
    }

    /// The folder's absolute path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there ever was a space of this name here: the agents and clients of the first one have
    /// left traces.
    fn has_had(&self, name: &str) -> bool {
        let traces = |folder: &str| fs::read_dir(self.root.join(folder)).into_iter().flatten();
        name == LOCAL && traces("agents").chain(traces("cli")).next().is_some()
    }

    /// Where the agents' folders are.
    pub(crate) fn agents(&self) -> PathBuf {
        self.root.join("agents")
    }

    /// The spaces besides `local` that this node is a member of, by name.
    pub(crate) fn memberships(&self) -> Result<Vec<(String, MemberFile)>, FolderError> {
        self.with(MEMBER)?.into_iter().map(|(name, file)| Ok((name, file?))).collect()
    }

    /// The spaces that have such a file, by name; or why a file cannot be read.
    fn with<T: DeserializeOwned>(&self, file: &str) -> Result<Vec<Found<T>>, FolderError> {
        let spaces = self.root.join("spaces");
        let io = |e| FolderError::Io(spaces.clone(), e);
        let mut all = Vec::new();
        for entry in fs::read_dir(&spaces).map_err(io)? {
            let folder = entry.map_err(io)?.path();
            let path = folder.join(file);
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            let read = match fs::read(&path) {
                Ok(bytes) => serde_json::from_slice(&bytes)
                    .map_err(|e| FolderError::Damaged(path, e.to_string())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => Err(FolderError::Io(path, e)),
            };
            all.push((name.to_owned(), read));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// Whether there is a space of this name here.
    pub(crate) fn has_space(&self, name: &str) -> bool {
        self.root.join("spaces").join(name).exists()
    }

    /// Notes who this node is in a space, which it founds or has joined: the last step of both.
    pub(crate) fn become_member(&self, name: &str, member: &MemberFile) -> Result<(), FolderError> {
        let folder = self.root.join("spaces").join(name);
        make(&folder)?;
        write_json(&folder.join(MEMBER), member).map(drop)
    }

    /// Makes the folder of a space that this node has joined.
    pub(crate) fn adopt_space(&self, name: &str, id: [u8; 32]) -> Result<PathBuf, FolderError> {
        let folder = self.root.join("spaces").join(name);
        make(&folder)?;
        write_imported(&folder, name, id)?;
        Ok(folder)
    }

    /// Puts a space's folder out of the way, and one in its place that has nothing of the space yet: this
    /// node is another member of it from here on. A crash leaves the one or the other. Returns where the
    /// first is now.
    pub(crate) fn begin_anew(
        &self,
        name: &str,
        id: [u8; 32],
        member: &MemberFile,
    ) -> Result<PathBuf, FolderError> {
        self.replace(name, id, MEMBER, member)
    }

    /// The same, for a space that this node goes on observing.
    pub(crate) fn observe_anew(
        &self,
        name: &str,
        id: [u8; 32],
        observer: &ObserverFile,
    ) -> Result<PathBuf, FolderError> {
        self.replace(name, id, observers::OBSERVER, observer)
    }

    fn replace(
        &self,
        name: &str,
        id: [u8; 32],
        file: &str,
        part: &impl Serialize,
    ) -> Result<PathBuf, FolderError> {
        let folder = self.root.join("spaces").join(name);
        let joining = self.root.join(JOINING);
        let fresh = joining.join(name);
        let made = self.make_fresh(&fresh, name, id, (file, part));
        let aside = made.and_then(|()| sync(&joining)).and_then(|()| self.set_aside(name));
        let aside = match aside {
            Ok(aside) => aside,
            Err(e) => {
                // The first is still in its place: nothing has begun.
                drop(fs::remove_dir_all(&fresh));
                return Err(e);
            }
        };
        fs::rename(&fresh, &folder).map_err(|e| FolderError::Io(fresh, e))?;
        sync(&self.root.join("spaces"))?;
        Ok(aside)
    }

    /// Makes a folder that is to take the place of a space's.
    fn make_fresh(
        &self,
        fresh: &Path,
        name: &str,
        id: [u8; 32],
        (file, part): (&str, &impl Serialize),
    ) -> Result<(), FolderError> {
        if fresh.exists() {
            fs::remove_dir_all(fresh).map_err(|e| FolderError::Io(fresh.to_path_buf(), e))?;
        }
        make(fresh)?;
        write_imported(fresh, name, id)?;
        write_json(&fresh.join(file), part)?;
        let retention = self.root.join("spaces").join(name).join(crate::space::RETENTION);
        match fs::read(&retention) {
            Ok(bytes) => write_new(&fresh.join(crate::space::RETENTION), &bytes),
            Err(_) => Ok(()),
        }
    }

    /// The folder and id of a space; made if they are not there.
    pub(crate) fn space(&self, name: &str) -> Result<(PathBuf, [u8; 32]), FolderError> {
        let folder = self.root.join("spaces").join(name);
        let path = folder.join("genesis.json");
        let is_there = |name: &str| folder.join(name).exists();
        if !path.exists() && (is_there("begun") || is_there("log") || self.has_had(name)) {
            let why = "it is gone, and this data folder has had the space: put it back, or start with \
                       another data folder";
            return Err(FolderError::Damaged(path, why.to_owned()));
        }
        make(&folder)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let nonce = hex(&random()?);
                let (name, creator) = (name.to_owned(), self.name.clone());
                write_json(&path, &Genesis::Made { name, creator, nonce })?
            }
            Err(e) => return Err(FolderError::Io(path, e)),
        };
        let id = id_of(&path, &bytes)?;
        Ok((folder, id))
    }
}

/// Ends what a crash has left of [`Folder::begin_anew`].
fn end_replacing(root: &Path) -> Result<(), FolderError> {
    let joining = root.join(JOINING);
    let io = |e| FolderError::Io(joining.clone(), e);
    let entries = match fs::read_dir(&joining) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    for entry in entries {
        let fresh = entry.map_err(io)?;
        let folder = root.join("spaces").join(fresh.file_name());
        // Where the first is still there, it is found damaged once more, and all of it begins again.
        let done = match folder.exists() {
            true => fs::remove_dir_all(fresh.path()),
            false => fs::rename(fresh.path(), &folder),
        };
        done.map_err(io)?;
    }
    sync(&root.join("spaces"))
}

/// The id of the space in a folder.
pub(crate) fn genesis_id(folder: &Path) -> Result<[u8; 32], FolderError> {
    let path = folder.join("genesis.json");
    let bytes = fs::read(&path).map_err(|e| FolderError::Io(path.clone(), e))?;
    id_of(&path, &bytes)
}

/// Makes the genesis of a space that is taken over, in a folder that is empty.
pub(crate) fn write_imported(folder: &Path, name: &str, id: [u8; 32]) -> Result<(), FolderError> {
    let genesis = Genesis::Imported { name: name.to_owned(), imported: hex(&id) };
    write_json(&folder.join("genesis.json"), &genesis).map(drop)
}

/// A space's id is the hash of its genesis, or what that says.
fn id_of(path: &Path, genesis: &[u8]) -> Result<[u8; 32], FolderError> {
    let damaged = |why: String| FolderError::Damaged(path.to_path_buf(), why);
    match serde_json::from_slice(genesis) {
        Ok(Genesis::Made { .. }) => Ok(*blake3::hash(genesis).as_bytes()),
        Ok(Genesis::Imported { imported, .. }) => match blake3::Hash::from_hex(&imported) {
            Ok(id) => Ok(*id.as_bytes()),
            Err(_) => Err(damaged(format!("{imported} is no space's id"))),
        },
        Err(e) => Err(damaged(e.to_string())),
    }
}

/// Sixteen bytes that nobody can guess.
pub(crate) fn random() -> Result<[u8; 16], FolderError> {
    let mut bytes = [0; 16];
    let path = Path::new("/dev/urandom");
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| FolderError::Io(path.to_path_buf(), e))?;
    Ok(bytes)
}

fn lock(root: &Path) -> Result<File, FolderError> {
    let path = root.join("lock");
    let io = |e| FolderError::Io(path.clone(), e);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // What it says is a courtesy; the lock itself is what counts.
            drop(file.read_to_string(&mut holder));
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(FolderError::Held { folder: root.to_path_buf(), holder });
        }
        Err(e) => return Err(io(e.into())),
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// Refuses the folder of a space, `DATA/spaces/NAME`, if its data folder is of another format. One that lies
/// elsewhere says nothing of that.
pub(crate) fn check_format_of(space: &Path) -> Result<(), FolderError> {
    let space = fs::canonicalize(space).map_err(|e| FolderError::Io(space.to_path_buf(), e))?;
    match space.parent().and_then(Path::parent) {
        Some(root) if root.join("version").exists() => check_version(root),
        _ => Ok(()),
    }
}

fn check_version(root: &Path) -> Result<(), FolderError> {
    let path = root.join("version");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(VERSION) => Ok(()),
            Ok(_) => Err(FolderError::OtherVersion(root.to_path_buf(), text.trim().to_owned())),
            Err(_) => Err(FolderError::Damaged(path, "it does not hold a version".to_owned())),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            write_new(&path, format!("{VERSION}\n").as_bytes())
        }
        Err(e) => Err(FolderError::Io(path, e)),
    }
}

pub(crate) fn make(folder: &Path) -> Result<(), FolderError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| FolderError::Io(folder.to_path_buf(), e))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<Vec<u8>, FolderError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| FolderError::Damaged(path.to_path_buf(), e.to_string()))?;
    bytes.push(b'\n');
    write_new(path, &bytes)?;
    Ok(bytes)
}

/// Writes a file that is there whole or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let aside = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        sync_folder(path.parent().unwrap_or(Path::new("/")))
    };
    write().map_err(|e| FolderError::Io(path.to_path_buf(), e))
}

fn sync(folder: &Path) -> Result<(), FolderError> {
    sync_folder(folder).map_err(|e| FolderError::Io(folder.to_path_buf(), e))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = rustix::fs::open(folder, rustix::fs::OFlags::DIRECTORY, Mode::empty())?;
    Ok(rustix::fs::fsync(folder)?)
}

/// What a node emits bears its name, and is not to pass for what a tunnel has captured.
fn check_name(name: &str) -> Result<String, FolderError> {
    let is_long = name.is_empty() || name.len() > MAX_NAME_BYTES;
    match is_long || name.contains(char::is_control) || name.starts_with(RESERVED) {
        true => Err(FolderError::Name(name.to_owned())),
        false => Ok(name.to_owned()),
    }
}

/// The host's name and four digits: nodes of one space are told apart by their names, and several of
/// them may run on one host.
fn default_name() -> Result<String, FolderError> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = if host.is_empty() { "node" } else { &host };
    let digits = hex(&random()?);
    Ok(format!("{host}-{}", digits.get(..4).unwrap_or_default()))
}

fn advice(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::PermissionDenied => ": give this user the right to it, or use --data",
        io::ErrorKind::StorageFull => ": make room",
        io::ErrorKind::ReadOnlyFilesystem => ": it is on a read-only file system; use --data",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_node_can_have_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        for name in ["", "a\nb", "tunnel:prices", &long] {
            let refused = Folder::open(root.path(), Some(name)).unwrap_err();
            assert!(matches!(refused, FolderError::Name(_)), "{refused}");
        }
        assert_eq!(Folder::open(root.path(), Some("tünnel 1")).unwrap().name, "tünnel 1");
    }

    #[test]
    fn a_folder_has_one_holder_and_keeps_its_identity() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::open(root.path(), Some("one")).unwrap();
        let (_, id) = first.space("local").unwrap();
        let second = Folder::open(root.path(), Some("two"));
        let said = second.unwrap_err().to_string();
        assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
        drop(first);
        let again = Folder::open(root.path(), Some("two")).unwrap();
        assert_eq!(again.name, "one");
        assert_eq!(again.space("local").unwrap().1, id);
    }

    #[test]
    fn a_space_that_is_begun_anew_is_the_one_or_the_other_after_a_crash() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), Some("one")).unwrap();
        let member = |member| MemberFile {
            member,
            nonce: String::new(),
            key: String::new(),
            generation: 0,
            contacts: BTreeMap::new(),
        };
        let (space, id) = folder.space("s").unwrap();
        folder.become_member("s", &member(2)).unwrap();
        fs::write(space.join("log"), "damaged").unwrap();
        fs::write(space.join(crate::space::RETENTION), "7d").unwrap();
        let aside = folder.begin_anew("s", id, &member(4)).unwrap();
        assert_eq!(fs::read_to_string(aside.join("log")).unwrap(), "damaged");
        assert_eq!(folder.space("s").unwrap(), (space.clone(), id));
        assert_eq!(folder.memberships().unwrap(), [("s".to_owned(), member(4))]);
        assert!(!space.join("log").exists());
        assert_eq!(fs::read_to_string(space.join(crate::space::RETENTION)).unwrap(), "7d");

        // Between the two renames, and before the first.
        let joining = root.path().join(JOINING).join("s");
        fs::rename(&space, &joining).unwrap();
        drop(folder);
        let folder = Folder::open(root.path(), None).unwrap();
        assert_eq!(folder.memberships().unwrap(), [("s".to_owned(), member(4))]);
        make(&joining).unwrap();
        write_json(&joining.join(MEMBER), &member(5)).unwrap();
        drop(folder);
        let folder = Folder::open(root.path(), None).unwrap();
        assert_eq!(folder.memberships().unwrap(), [("s".to_owned(), member(4))]);
        assert!(!joining.exists());
    }

    #[test]
    fn what_cannot_be_begun_anew_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), Some("one")).unwrap();
        let (space, id) = folder.space("s").unwrap();
        fs::write(root.path().join("left"), "no folder").unwrap();
        let member = MemberFile {
            member: 1,
            nonce: String::new(),
            key: String::new(),
            generation: 0,
            contacts: BTreeMap::new(),
        };
        assert!(folder.begin_anew("s", id, &member).is_err());
        assert!(space.exists());
        assert!(!root.path().join(JOINING).join("s").exists());
    }

    #[test]
    fn a_folder_of_another_version_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        for version in [VERSION - 1, VERSION + 1] {
            fs::write(root.path().join("version"), format!("{version}\n")).unwrap();
            let said = Folder::open(root.path(), None).unwrap_err().to_string();
            assert!(said.contains(&format!("is of format {version}, and")), "{said}");
        }
    }
}
