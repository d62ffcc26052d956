//! The Scryer machine: its streams, our libraries, and the one query that it runs.

use super::exit;
use super::host::Host;
use scryer_prolog::{LeafAnswer, MachineBuilder, OutputStreamConfig, StreamConfig};
use std::io::Read;

/// Our libraries. They are loaded from their text, each after those it uses: `use_module(library(N))`
/// finds a module that is there under that name. `synod` comes last, for it hooks into the loader.
const LIBRARIES: [(&str, &str); 12] = [
    ("synod_host", include_str!("../../lib/synod_host.pl")),
    ("synod_copies", include_str!("../../lib/synod_copies.pl")),
    // They hold copies of facts, and nothing that could have the name of one.
    ("synod_copy", ":- module(synod_copy, [])."),
    ("synod_single", ":- module(synod_single, [])."),
    ("synod_keyed", ":- module(synod_keyed, [])."),
    ("synod_text", ":- module(synod_text, [])."),
    ("cbor", include_str!("../../lib/cbor.pl")),
    ("synod_calls", include_str!("../../lib/synod_calls.pl")),
    ("synod_check", include_str!("../../lib/synod_check.pl")),
    ("synod_engine", include_str!("../../lib/synod_engine.pl")),
    ("synod_names", include_str!("../../lib/synod_names.pl")),
    ("synod", SYNOD),
];

/// `library(synod)`: one module, whose text is in parts, for a module of Scryer's cannot pass on what
/// another exports.
pub const SYNOD: &str = concat!(
    include_str!("../../lib/synod/module.pl"),
    include_str!("../../lib/synod/declarations.pl"),
    include_str!("../../lib/synod/facts.pl"),
    include_str!("../../lib/synod/transactions.pl"),
    include_str!("../../lib/synod/events.pl"),
    include_str!("../../lib/synod/remote.pl"),
    include_str!("../../lib/synod/udp.pl"),
    include_str!("../../lib/synod/timers.pl"),
    include_str!("../../lib/synod/places.pl"),
    include_str!("../../lib/synod/hooks.pl"),
);

/// Letters of the host call's key: short enough that the machine keeps no atom for it.
const KEY_LETTERS: usize = 6;

/// Runs the machine until its main query ends, which is when the node says so, or at a `halt`.
pub(super) fn run(mut host: Host) {
    let key = match random_key() {
        Ok(key) => key,
        Err(error) => exit::now(exit::SETUP, &format!("no random bytes: {error}")),
    };
    host.listen(&key);
    let call = format!("{key}(");
    let user_error = OutputStreamConfig::callback(Box::new(move |cursor| {
        let written = std::mem::take(cursor.get_mut());
        cursor.set_position(0);
        // What was put without a flush (a newline is) stands before the request.
        match written.windows(call.len()).position(|part| part == call.as_bytes()) {
            Some(at) => {
                if at > 0 {
                    host.logged(&written[..at]);
                }
                let request = &written[at + call.len()..];
                host.call(request.strip_suffix(b")").unwrap_or(request));
            }
            None => host.logged(&written),
        }
        // The buffer goes back, empty: the stream keeps it.
        let mut buffer = written;
        buffer.clear();
        *cursor.get_mut() = buffer;
    }));
    // Input stays the empty one that it is by default.
    let streams = StreamConfig::default()
        .with_user_output(OutputStreamConfig::stdout())
        .with_user_error(user_error);
    let mut machine = MachineBuilder::default().with_streams(streams).build();
    for (name, text) in LIBRARIES {
        machine.load_module_string(name, text.replace("@KEY@", &key));
    }
    // The text is ours; text from outside would make run_query panic where it does not parse.
    let mut main = machine.run_query("synod_engine:main.");
    match main.next() {
        Some(Ok(LeafAnswer::True)) | None => {}
        Some(Ok(other)) => exit::now(exit::PANIC, &format!("the main loop ended: {other:?}")),
        Some(Err(error)) => exit::now(exit::PANIC, &format!("the main loop threw: {error:?}")),
    }
    // Success is how `halt` looks too. Either way nothing more is to be run: asking for the next
    // answer would resume the loop, and dropping the machine takes time for nothing.
    exit::quietly();
}

fn random_key() -> std::io::Result<String> {
    let mut bytes = [0; KEY_LETTERS];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect())
}
