//! A 64-bit digest of what has to arrive unchanged.

/// Digests fields one after the other, each with its length, so that bytes that move from one
/// field to the next are noticed. It finds accidents; it is no protection against forgery.
///
/// The same fields give the same digest in every version of this crate (FNV-1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;

    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(Self::OFFSET)
    }

    /// Takes in a field.
    #[must_use]
    pub fn field(self, bytes: &[u8]) -> Self {
        self.raw(&(bytes.len() as u64).to_le_bytes()).raw(bytes)
    }

    /// Takes in a field that may be missing, which is not the same as empty.
    #[must_use]
    pub fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.raw(&[1]).field(bytes),
            None => self.raw(&[0]),
        }
    }

    /// The digest.
    pub const fn finish(self) -> u64 {
        self.0
    }

    fn raw(self, bytes: &[u8]) -> Self {
        let taken = bytes
            .iter()
            .fold(self.0, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(Self::PRIME));
        Self(taken)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_every_border_counts() {
        let of = |fields: &[&str]| {
            fields.iter().fold(Digest::new(), |d, field| d.field(field.as_bytes())).finish()
        };
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab", "c"]), of(&["ab", "C"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        let optional = |field| Digest::new().optional(field).finish();
        assert_ne!(optional(None), optional(Some(b"")));
    }
}
