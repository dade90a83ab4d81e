//! Tells states of memory apart by a number that can be brought forward page by page.

use twox_hash::XxHash3_128;

/// What memory holds that nothing was written to, a page of it.
pub const EMPTY: [u8; 4096] = [0; 4096];

/// A sum over pieces of memory of 128 bits for each, in which its address counts: two
/// states with one digest are the same for all that chance allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Adds what lies at an address.
    pub fn add(&mut self, address: u64, bytes: &[u8]) {
        let piece = XxHash3_128::oneshot_with_seed(address, bytes);
        self.0 = self.0.wrapping_add(piece);
    }

    /// Replaces what lies at an address. Zeros alone count for nothing, like memory that
    /// nothing was written to.
    pub fn replace(&mut self, address: u64, old: &[u8], new: &[u8]) {
        if !is_empty(new) {
            self.add(address, new);
        }
        if !is_empty(old) {
            let piece = XxHash3_128::oneshot_with_seed(address, old);
            self.0 = self.0.wrapping_sub(piece);
        }
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

fn is_empty(bytes: &[u8]) -> bool {
    bytes
        .chunks(EMPTY.len())
        .all(|part| part == &EMPTY[..part.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_has_the_digest_that_it_had() {
        let (old, new) = ([1; 64], [2; 64]);
        let mut digest = Digest::default();
        digest.replace(0x1000, &old, &new);
        let changed = digest;
        assert_ne!(changed, Digest::default());
        digest.replace(0x1000, &new, &old);
        assert_eq!(digest, Digest::default());
        digest.replace(0x2000, &old, &new);
        assert_ne!(digest, changed, "the address counts");
    }

    #[test]
    fn zeros_are_like_nothing_written() {
        let mut digest = Digest::default();
        digest.replace(0x1000, &[0; 64], &[1; 64]);
        digest.replace(0x2000, &[0; 64], &[0; 64]);
        digest.replace(0x1000, &[1; 64], &[0; 64]);
        assert_eq!(digest, Digest::default());
    }
}
