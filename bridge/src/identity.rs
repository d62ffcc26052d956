//! A node's key, and the file that holds it: the JSON form of js-libp2p's `peer-id`.

use data_encoding::BASE64;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The file's name in a data folder.
pub const IDENTITY_FILE: &str = "identity.json";
/// No identity file is longer.
const MAX_BYTES: u64 = 64 << 10;

/// Who a node is: an Ed25519 key pair.
#[derive(Clone, Debug)]
pub struct Identity(Keypair);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
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
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Json {
    id: String,
    #[serde(rename = "privKey")]
    private: String,
    #[serde(rename = "pubKey", skip_serializing_if = "Option::is_none", default)]
    public: Option<String>,
}

/// Whether a peer has signed a message: its id holds its public key, as that of an Ed25519 key does.
pub fn is_signed_by(peer: &PeerId, message: &[u8], signature: &[u8]) -> bool {
    // A multihash of code 0 is what it is of.
    let id = peer.to_bytes();
    let Some(key) = id.strip_prefix(&[0]).and_then(|rest| rest.get(1..)) else { return false };
    PublicKey::try_decode_protobuf(key).is_ok_and(|key| key.verify(message, signature))
}

impl Identity {
    /// A new one, in memory only.
    pub fn generate() -> Self {
        Self(Keypair::generate_ed25519())
    }

    /// The identity of a data folder. It is made if there is none.
    ///
    /// # Errors
    /// Where the file cannot be read, is open to others, or holds no key that is usable.
    pub fn of_folder(folder: &Path) -> Result<Self, IdentityError> {
        let path = folder.join(IDENTITY_FILE);
        match File::open(&path) {
            Ok(file) => Self::read(&path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(&path),
            Err(source) => Err(IdentityError::Io { path, source }),
        }
    }

    /// The peer id that others know the node by.
    pub fn id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    /// The node's signature of a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        // Ed25519 keys always sign.
        self.0.sign(message).unwrap_or_default()
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.0
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let json: Json = serde_json::from_str(text).map_err(|error| {
            format!("this is no identity of the form {{\"id\", \"privKey\", \"pubKey\"}}: {error}")
        })?;
        let bytes = base64("privKey", &json.private)?;
        let key = Keypair::from_protobuf_encoding(&ed25519(&bytes)?)
            .map_err(|error| format!("privKey holds no Ed25519 key: {error}"))?;
        if let Some(public) = &json.public {
            let public = PublicKey::try_decode_protobuf(&base64("pubKey", public)?)
                .map_err(|error| format!("pubKey holds no public key: {error}"))?;
            if public != key.public() {
                return Err("pubKey does not belong to privKey: put the file back as it was".into());
            }
        }
        let id = key.public().to_peer_id();
        if json.id != id.to_string() {
            return Err(format!(
                "its id is {} but its key is that of {id}: put the file back as it was",
                json.id
            ));
        }
        Ok(Self(key))
    }

    /// Writes the JSON form. It holds the private key.
    pub fn to_json(&self) -> String {
        // Ed25519 keys always have an encoding.
        let private = self.0.to_protobuf_encoding().unwrap_or_default();
        let public = self.0.public().encode_protobuf();
        let json = Json {
            id: self.id().to_string(),
            private: BASE64.encode(&private),
            public: Some(BASE64.encode(&public)),
        };
        let mut text = serde_json::to_string_pretty(&json).unwrap_or_default();
        text.push('\n');
        text
    }

    fn read(path: &Path, file: File) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.into(), source };
        let mode = file.metadata().map_err(io)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Mode { path: path.into(), mode });
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
        Self::from_json(&text).map_err(|why| IdentityError::Content { path: path.into(), why })
    }

    /// Written aside and linked into place, so that a crash leaves a whole file or none, and of two
    /// that start at once one makes the identity and the other reads it.
    fn create(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { path: path.into(), source };
        let identity = Self::generate();
        let aside = path.with_extension(format!("json.{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(identity.to_json().as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&aside, path)
        })();
        let removed = std::fs::remove_file(&aside);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::read(path, File::open(path).map_err(io)?)
            }
            Err(error) => Err(io(error)),
            Ok(()) => {
                removed.map_err(io)?;
                if let Some(folder) = path.parent().filter(|folder| *folder != Path::new("")) {
                    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
                }
                Ok(identity)
            }
        }
    }
}

fn base64(field: &str, text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text.as_bytes()).map_err(|error| format!("{field} is no base64: {error}"))
}

/// The protobuf of a key, if it is an Ed25519 one: field 1 is the type, field 2 the key.
fn ed25519(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let kind = match bytes {
        [0x08, 1, ..] => return Ok(without_copy(bytes)),
        [0x08, 0, ..] => "RSA",
        [0x08, 2, ..] => "secp256k1",
        [0x08, 3, ..] => "ECDSA",
        _ => return Err("privKey holds no key in libp2p's encoding".into()),
    };
    Err(format!(
        "its key is of the kind {kind}, but nodes have Ed25519 keys: move the file away, and a new identity is made"
    ))
}

/// Early js-libp2p wrote the public key a second time behind the key pair.
fn without_copy(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [0x08, 1, 0x12, 96, key @ ..] if key.len() == 96 && key[32..64] == key[64..] => {
            [&[0x08, 1, 0x12, 64], &key[..64]].concat()
        }
        _ => bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Made by js-libp2p's `peer-id` for the seed of 32 bytes 1.
    fn known() -> Identity {
        let key = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        Identity(key)
    }

    #[test]
    fn it_is_made_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        let made = Identity::of_folder(folder.path()).unwrap();
        let read = Identity::of_folder(folder.path()).unwrap();
        assert_eq!(made.id(), read.id());
        let file = folder.path().join(IDENTITY_FILE);
        assert_eq!(std::fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn the_json_form_is_that_of_js_libp2p() {
        let json: serde_json::Value = serde_json::from_str(&known().to_json()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["id", "privKey", "pubKey"]);
        assert_eq!(json["id"], "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5");
        assert!(json["privKey"].as_str().unwrap().starts_with("CAESQAEBAQEB"));
        assert!(json["pubKey"].as_str().unwrap().starts_with("CAESI"));
        assert_eq!(Identity::from_json(&known().to_json()).unwrap().id(), known().id());
    }

    #[test]
    fn a_public_key_written_twice_and_one_left_out_are_read() {
        let json: Json = serde_json::from_str(&known().to_json()).unwrap();
        let mut bytes = BASE64.decode(json.private.as_bytes()).unwrap();
        bytes[3] = 96;
        bytes.extend_from_within(36..);
        let early = Json { private: BASE64.encode(&bytes), public: None, id: json.id };
        let read = Identity::from_json(&serde_json::to_string(&early).unwrap()).unwrap();
        assert_eq!(read.id(), known().id());
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let json = |change: &dyn Fn(&mut Json)| {
            let mut json: Json = serde_json::from_str(&known().to_json()).unwrap();
            change(&mut json);
            Identity::from_json(&serde_json::to_string(&json).unwrap()).unwrap_err()
        };
        let other = Identity::generate();
        let others: Json = serde_json::from_str(&other.to_json()).unwrap();
        assert!(json(&|json| json.id = other.id().to_string()).contains("but its key is that of"));
        assert!(json(&|json| json.public = others.public.clone()).contains("does not belong"));
        assert!(json(&|json| json.private = "%".into()).contains("no base64"));
        assert!(json(&|json| json.private = BASE64.encode(&[8, 0, 18, 0])).contains("kind RSA"));
        assert!(json(&|json| json.private = BASE64.encode(&[8, 2, 18, 0])).contains("secp256k1"));
        assert!(json(&|json| json.private = BASE64.encode(b"?")).contains("no key in libp2p"));
        assert!(Identity::from_json("{}").unwrap_err().contains("this is no identity"));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        Identity::of_folder(folder.path()).unwrap();
        let file = folder.path().join(IDENTITY_FILE);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::of_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", file.display())), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Identity::of_folder(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all/identity.json"), "{error}");
    }
}
