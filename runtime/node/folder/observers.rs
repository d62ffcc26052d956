//! What the folder of a space says that this node only observes.

use super::{Folder, FolderError, Found, make, write_json};
use crate::hex::{fixed, hex};
use serde::{Deserialize, Serialize};
use synod_core::apply::Chain;
use synod_core::group::Place;
use synod_core::log::Position;

/// The file that says so.
pub(super) const OBSERVER: &str = "observer.json";

/// What a node knows that follows a space without being a member of it. It holds what only observers know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObserverFile {
    /// The key of the space's observers, in hexadecimal.
    pub(crate) key: String,
    /// The place of the space at which these voted, and by which its log goes.
    pub(crate) at: PlaceText,
    /// The voters' ids in the network, in hexadecimal.
    pub(crate) voters: Vec<String>,
}

/// A place, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlaceText {
    /// Raft's position.
    pub(crate) term: u64,
    pub(crate) entry: u64,
    /// The space's.
    pub(crate) index: u64,
    pub(crate) time: u64,
    /// The chain there, in hexadecimal.
    pub(crate) chain: String,
}

impl PlaceText {
    pub(crate) fn of(place: &Place) -> Self {
        let Place { at, chain } = place;
        let (term, entry) = (at.term, at.index);
        Self { term, entry, index: chain.index, time: chain.time, chain: hex(&chain.hash) }
    }

    /// The place, if it is one.
    pub(crate) fn read(&self) -> Option<Place> {
        let at = Position { term: self.term, index: self.entry };
        let chain = Chain { index: self.index, time: self.time, hash: fixed(&self.chain)? };
        Some(Place { at, chain })
    }
}

impl Folder {
    /// The spaces that this node observes, by name.
    pub(crate) fn observations(&self) -> Result<Vec<Found<ObserverFile>>, FolderError> {
        self.with(OBSERVER)
    }

    /// Notes that this node observes a space: the last step of that.
    pub(crate) fn become_observer(
        &self,
        name: &str,
        observer: &ObserverFile,
    ) -> Result<(), FolderError> {
        let folder = self.root.join("spaces").join(name);
        make(&folder)?;
        write_json(&folder.join(OBSERVER), observer).map(drop)
    }
}
