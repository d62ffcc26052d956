//! What a simulated member answers those that follow, as `runtime/node/space/observing/serving.rs`.

use super::apply::{folder, kept};
use super::node::{Running, SPACE};
use super::watchers::{Watchers, place_of};
use synod_core::apply::{Restore, State};
use synod_core::group::Place;
use synod_core::group::observer::{Answer, Fetched, Found, Piece, Request};
use synod_core::log::Position;
use synod_core::snapshot::Reader;

pub(crate) fn answer_of(
    watchers: &mut Watchers,
    m: u64,
    run: &Running,
    request: Request,
) -> Fetched<Vec<u8>> {
    let last = place_of(run);
    match request {
        Request::Behind { before, chain } => {
            let mut others = places(run);
            let origin = State::new(SPACE).place();
            others.push(Place { at: Position::default(), chain: origin });
            let telling = watchers.telling.entry(m).or_default();
            let found = telling.places.find(&run.log.reader(), &others, (before, &chain), &last);
            match found {
                Ok(Found::Entries(entries, place)) => {
                    let head = watchers.head(m, run, place);
                    let before = place.at.index - entries.len() as u64;
                    Fetched::Answer(Answer::Piece(Piece { head, before, entries }))
                }
                Ok(Found::Gone) => Fetched::Answer(Answer::Gone),
                Ok(Found::Apart) => Fetched::Answer(Answer::Apart),
                Err(_) => Fetched::Answer(Answer::Busy),
            }
        }
        Request::Snapshot => {
            let Some(place) = places(run).into_iter().max_by_key(|place| place.at.index) else {
                return Fetched::Answer(Answer::Gone);
            };
            let all = synod_core::snapshot::list(&run.disk, folder()).unwrap_or_default();
            let path = all.iter().find(|(index, _)| *index == place.chain.index);
            let Some(file) = path.and_then(|(_, path)| run.disk.contents(path)) else {
                return Fetched::Answer(Answer::Gone);
            };
            Fetched::Snapshot(watchers.head(m, run, place), file)
        }
        Request::Index => Fetched::Answer(Answer::Index(run.apply.state.index())),
    }
}

/// Where a member's snapshots are.
fn places(run: &Running) -> Vec<Place> {
    let all = kept(&run.disk).unwrap_or_default();
    let paths = synod_core::snapshot::list(&run.disk, folder()).unwrap_or_default();
    let paths = paths.into_iter().filter(|(index, _)| all.iter().any(|kept| kept.index == *index));
    let place = |(_, path): (u64, std::path::PathBuf)| {
        let mut reader = Reader::open(&run.disk, &path, Some(SPACE)).ok()?;
        let at = reader.meta().at;
        let first = reader.next()?.ok()?;
        Some(Place { at, chain: Restore::place_of(&first.items).ok()? })
    };
    paths.filter_map(place).collect()
}
