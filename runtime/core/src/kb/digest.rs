//! A digest of a set that can be changed one element at a time: the sum modulo 2^256 of the
//! elements' BLAKE3 hashes (Bellare and Micciancio, AdHash, EUROCRYPT 1997). The same set has the
//! same digest whatever the order in which it came about.

/// The sum of hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetDigest([u64; 4]);

impl SetDigest {
    /// Adds an element by its hash.
    pub fn add(&mut self, hash: blake3::Hash) {
        let mut carry = false;
        for (limb, n) in self.0.iter_mut().zip(limbs(hash)) {
            let (sum, over) = limb.overflowing_add(n);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = over | over_again;
        }
    }

    /// Takes an element away by its hash.
    pub fn remove(&mut self, hash: blake3::Hash) {
        let mut borrow = false;
        for (limb, n) in self.0.iter_mut().zip(limbs(hash)) {
            let (difference, under) = limb.overflowing_sub(n);
            let (difference, under_again) = difference.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = under | under_again;
        }
    }

    /// The digest, least significant byte first.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }
}

fn limbs(hash: blake3::Hash) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        *limb = u64::from_le_bytes(bytes);
    }
    limbs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let hashes: Vec<_> = (0..100u8).map(|n| blake3::hash(&[n])).collect();
        let mut up = SetDigest::default();
        let mut down = SetDigest::default();
        hashes.iter().for_each(|&h| up.add(h));
        hashes.iter().rev().for_each(|&h| down.add(h));
        assert_eq!(up, down);
        hashes.iter().for_each(|&h| up.remove(h));
        assert_eq!(up, SetDigest::default());
    }

    #[test]
    fn a_carry_runs_through_every_limb() {
        let mut digest = SetDigest([u64::MAX; 4]);
        let one = blake3::Hash::from_bytes({
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        });
        digest.add(one);
        assert_eq!(digest, SetDigest([0; 4]));
        digest.remove(one);
        assert_eq!(digest, SetDigest([u64::MAX; 4]));
    }
}
