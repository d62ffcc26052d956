//! The key of a private network, in the file format that all libp2p implementations share.

use libp2p::identity::ed25519::SecretKey;
use libp2p::pnet::PreSharedKey;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// No key file is longer.
const MAX_BYTES: u64 = 4 << 10;

/// What every node of a private network has, and nobody else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivateKey(PreSharedKey);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others than its owner may read the key.
    #[error("{}: its mode is {mode:04o}, so others may read the key: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not what it is to be.
    #[error("{}: {why}; `synod peer key` makes such a file", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        // Its secret keys are 32 bytes from the system's generator.
        bytes.copy_from_slice(SecretKey::generate().as_ref());
        Self(PreSharedKey::new(bytes))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// Where it cannot be read, is open to others, or holds no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.into(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Mode { path: path.into(), mode });
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
        Self::parse(&text).map_err(|why| KeyError::Content { path: path.into(), why })
    }

    /// Writes a key file that is not there yet, with mode 0600.
    ///
    /// # Errors
    /// Where it cannot be written; an existing file is not replaced.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let io = |source| KeyError::Io { path: path.into(), source };
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        file.write_all(self.0.to_key_file().as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        let [head, encoding, key] = *lines.get(..3).unwrap_or_default() else {
            return Err(
                "a key has three lines: /key/swarm/psk/1.0.0/, /base16/ and 64 digits".into()
            );
        };
        if head != "/key/swarm/psk/1.0.0/" {
            return Err("its first line is not /key/swarm/psk/1.0.0/".into());
        }
        if encoding != "/base16/" {
            return Err(format!("its key is in the encoding {encoding}, not /base16/"));
        }
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(key.as_bytes())
            .map_err(|error| format!("its third line is no hexadecimal number: {error}"))?;
        let bytes = <[u8; 32]>::try_from(bytes)
            .map_err(|bytes| format!("its key has {} bytes, not 32", bytes.len()))?;
        Ok(Self(PreSharedKey::new(bytes)))
    }

    /// What shows that two keys are the same without showing them.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint().to_string()
    }

    pub(crate) fn shared(self) -> PreSharedKey {
        self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const FILE: &str = "/key/swarm/psk/1.0.0/\n/base16/\n\
        0102030405060708091011121314151617181920212223242526272829303132\n";

    #[test]
    fn a_key_file_of_other_implementations_reads_in() {
        let key = PrivateKey::parse(FILE).unwrap();
        assert_eq!(key.0.to_key_file(), FILE);
        assert_eq!(PrivateKey::parse(&FILE.replace('\n', "\r\n")).unwrap(), key);
        assert!(!format!("{key:?}").contains("0102"), "it is not shown");
    }

    #[test]
    fn it_is_written_for_its_owner_only_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("swarm.key");
        let key = PrivateKey::generate();
        key.write(&path).unwrap();
        assert_eq!(PrivateKey::read(&path).unwrap(), key);
        assert!(PrivateKey::generate().write(&path).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(PrivateKey::read(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str| PrivateKey::parse(text).unwrap_err();
        assert!(wrong("").contains("three lines"));
        assert!(wrong(&FILE.replace("1.0.0", "2.0.0")).contains("first line"));
        assert!(wrong(&FILE.replace("base16", "base64")).contains("/base64/"));
        assert!(wrong(&FILE.replace("0102", "zz")).contains("hexadecimal"));
        assert!(wrong(&FILE.replace("0102", "")).contains("30 bytes"));
    }
}
