//! The chain: a hash for each index of all commands up to there, with their times.

use super::State;

/// Bytes before a command in what is hashed: the chain before, the index, the time.
const FIXED: usize = 32 + 8 + 8;
/// Commands up to this are hashed from one buffer, which is several times faster than a hasher.
const SMALL: usize = 512;

/// A place in a space's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The index of the last command.
    pub index: u64,
    /// Its time, in microseconds since 1970 (UTC).
    pub time: u64,
    /// The chain there.
    pub hash: [u8; 32],
}

impl Chain {
    /// Before a space's first command: the chain starts from the space's id.
    pub fn of_space(space: [u8; 32]) -> Self {
        Self { index: 0, time: 0, hash: space }
    }

    /// Goes on with the next command, stamped `stamp` by the leader: time never runs backwards.
    #[inline]
    pub fn follow(&mut self, stamp: u64, command: &[u8]) {
        self.index += 1;
        self.time = self.time.max(stamp);
        self.hash = link(&self.hash, self.index, self.time, command);
    }
}

impl State {
    /// Where the state stands.
    pub fn place(&self) -> Chain {
        Chain { index: self.index, time: self.time, hash: self.chain }
    }
}

/// One step of the chain.
pub fn link(chain: &[u8; 32], index: u64, time: u64, command: &[u8]) -> [u8; 32] {
    let mut block = [0u8; FIXED + SMALL];
    block[..32].copy_from_slice(chain);
    block[32..40].copy_from_slice(&index.to_le_bytes());
    block[40..FIXED].copy_from_slice(&time.to_le_bytes());
    if let Some(small) = block.get_mut(FIXED..FIXED + command.len()) {
        small.copy_from_slice(command);
        return *blake3::hash(&block[..FIXED + command.len()]).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    *hasher.update(&block[..FIXED]).update(command).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_the_hash_of_its_parts_whatever_the_length() {
        for len in [0, 1, 16, SMALL - 1, SMALL, SMALL + 1, 5000] {
            let command = vec![7; len];
            let mut parts = vec![9; 32];
            parts.extend_from_slice(&300u64.to_le_bytes());
            parts.extend_from_slice(&(1u64 << 50).to_le_bytes());
            parts.extend_from_slice(&command);
            let linked = link(&[9; 32], 300, 1 << 50, &command);
            assert_eq!(linked, *blake3::hash(&parts).as_bytes(), "{len}");
        }
    }
}
