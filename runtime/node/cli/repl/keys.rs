//! One key, as it is pressed. The terminal gives bytes at once and shows none while one is waited for;
//! a signal key is a byte too.

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use std::io::{self, stdin};

/// What a key says behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The next answer.
    Next,
    /// All of them.
    All,
    /// Up to the next multiple of five.
    Five,
    /// No further one.
    Stop,
    /// What the keys are.
    Help,
}

/// The terminal as long as keys are waited for. Dropping it puts it back as it was.
pub(super) struct Keys(Termios);

impl Keys {
    /// From now on what is pressed is a key, Ctrl-C too.
    pub(super) fn begin() -> io::Result<Self> {
        let usual = tcgetattr(stdin())?;
        let mut raw = usual.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(usual))
    }

    /// Waits for a key that means something. Blocks.
    pub(super) fn next(&self) -> io::Result<Key> {
        loop {
            let mut byte = [0];
            // Not through std's buffer: what is typed ahead is the editor's to read.
            match rustix::io::read(stdin(), &mut byte) {
                Ok(0) => return Ok(Key::Stop),
                Ok(_) => {
                    if let Some(key) = meaning(byte[0]) {
                        return Ok(key);
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

/// The keys of Scryer's toplevel; Ctrl-C and Ctrl-D stop too.
fn meaning(byte: u8) -> Option<Key> {
    match byte {
        b';' | b' ' | b'n' => Some(Key::Next),
        b'a' => Some(Key::All),
        b'f' => Some(Key::Five),
        b'.' | b'\n' | b'\r' | 3 | 4 => Some(Key::Stop),
        b'h' | b'?' => Some(Key::Help),
        _ => None,
    }
}
