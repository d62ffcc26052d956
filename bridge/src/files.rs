//! The files of the address book in a data folder.

use crate::Error;
use crate::book::Book;
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// What a person writes: where to begin.
pub const SEEDS_FILE: &str = "peers.json";
/// What the node writes: what it has learned.
pub const BOOK_FILE: &str = "address-book.json";

/// The addresses that a person gave in [`SEEDS_FILE`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seeds {
    /// Nodes to connect with.
    pub(crate) peers: Vec<Multiaddr>,
    /// Relays that make introductions for those who cannot be dialed.
    pub(crate) signallers: Vec<Multiaddr>,
}

/// Reads the seeds, and leaves an empty form where there are none.
pub(crate) fn seeds(folder: &Path) -> Result<Seeds, Error> {
    let path = folder.join(SEEDS_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| Error::File {
            why: format!("{error}: it is to be {{\"peers\": [], \"signallers\": []}}"),
            path,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let empty = Seeds::default();
            let text = "{\"peers\": [], \"signallers\": []}\n";
            fs::write(&path, text).map_err(|error| Error::File { path, why: error.to_string() })?;
            Ok(empty)
        }
        Err(error) => Err(Error::File { path, why: error.to_string() }),
    }
}

/// Reads the book. One that is damaged is put aside: what it held can be learned again, and a node
/// that does not start for it would help nobody.
pub(crate) fn read(folder: &Path) -> Result<Book, Error> {
    let path = folder.join(BOOK_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Book::default()),
        Err(error) => return Err(Error::File { path, why: error.to_string() }),
    };
    match serde_json::from_slice(&text) {
        Ok(book) => Ok(book),
        Err(error) => {
            let aside = path.with_extension("json.damaged");
            tracing::warn!(
                "{}: {error}; it is now {} and the book begins anew",
                path.display(),
                aside.display()
            );
            fs::rename(&path, aside)
                .map_err(|error| Error::File { path, why: error.to_string() })?;
            Ok(Book::default())
        }
    }
}

/// Writes the book aside and puts it in place of the old one.
pub(crate) fn write(folder: &Path, book: &Book) -> io::Result<()> {
    let path = folder.join(BOOK_FILE);
    let aside = path.with_extension("json.new");
    let mut file = fs::File::create(&aside)?;
    file.write_all(&serde_json::to_vec_pretty(book)?)?;
    file.sync_all()?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::PeerId;

    #[test]
    fn a_book_survives_and_a_damaged_one_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut book = read(folder.path()).unwrap();
        book.learn(PeerId::random(), &"/ip4/10.0.0.1/tcp/1".parse().unwrap());
        write(folder.path(), &book).unwrap();
        assert_eq!(read(folder.path()).unwrap(), book);
        fs::write(folder.path().join(BOOK_FILE), "{").unwrap();
        assert_eq!(read(folder.path()).unwrap(), Book::default());
        assert!(folder.path().join("address-book.json.damaged").exists());
    }

    #[test]
    fn seeds_are_read_and_an_empty_form_is_left() {
        let folder = tempfile::tempdir().unwrap();
        assert!(seeds(folder.path()).unwrap().peers.is_empty());
        let file = folder.path().join(SEEDS_FILE);
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"peers\": [], \"signallers\": []}\n");
        fs::write(&file, "{\"peers\": [\"/ip4/10.0.0.1/tcp/1\"], \"signallers\": []}").unwrap();
        assert_eq!(seeds(folder.path()).unwrap().peers.len(), 1);
        fs::write(&file, "{\"peers\": [\"nonsense\"]}").unwrap();
        let error = seeds(folder.path()).unwrap_err().to_string();
        assert!(error.contains("peers.json"), "{error}");
    }
}
