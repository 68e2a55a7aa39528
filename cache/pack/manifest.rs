//! The manifest of a file that is kept in pieces: their digests and lengths in order. The whole is their bytes one
//! after the other, whatever they mean; nothing of the file's own format is in it.
//!
//! ```text
//! plumb-pack 1 CHECKSUM
//! SIZE
//! DIGEST LENGTH        one a piece
//! ```

use std::fmt::Write as _;

use crate::Digest;

const HEADER: &str = "plumb-pack 1 ";

/// Some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
}

/// What a whole file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Bytes of the whole file: the lengths of its pieces together.
    pub(crate) size: u64,
    pub(crate) pieces: Vec<Piece>,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = format!("{}\n", self.size);
        for Piece { digest, length } in &self.pieces {
            writeln!(body, "{digest} {length}").expect("writing to a string does not fail");
        }
        format!("{HEADER}{}\n{body}", Digest::of(body.as_bytes())).into_bytes()
    }

    /// The manifest in these bytes, if they are whole and add up.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let (head, body) = text.split_once('\n').ok_or("it has no header")?;
        let sum = head.strip_prefix(HEADER).ok_or("its header is not that of a manifest")?;
        if sum.parse::<Digest>().ok() != Some(Digest::of(body.as_bytes())) {
            return Err("its checksum is wrong".into());
        }
        let (size, lines) = body.split_once('\n').ok_or("it has no size")?;
        let size: u64 = size.parse().map_err(|_| "its size does not read")?;
        let pieces = lines.lines().map(parse).collect::<Option<Vec<Piece>>>().ok_or("a piece does not read")?;
        let sum = pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.length));
        match sum == Some(size) {
            true => Ok(Manifest { size, pieces }),
            false => Err("its pieces do not add up to its size".into()),
        }
    }
}

fn parse(line: &str) -> Option<Piece> {
    let (digest, length) = line.split_once(' ')?;
    Some(Piece { digest: digest.parse().ok()?, length: length.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> impl Strategy<Value = Manifest> {
        prop::collection::vec((any::<[u8; 32]>(), 0..1u64 << 40), 0..6).prop_map(|pieces| Manifest {
            size: pieces.iter().map(|(_, length)| length).sum(),
            pieces: pieces
                .into_iter()
                .map(|(digest, length)| Piece { digest: Digest::from_bytes(digest), length })
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn a_manifest_reads_back_and_a_changed_one_does_not(
            manifest in manifest(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<prop::sample::Index>(),
        ) {
            let bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(Manifest::decode(&flipped).is_err());
            prop_assert!(Manifest::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(body in "[0-9a-f \n]{0,200}") {
            let text = format!("{HEADER}{}\n{body}", Digest::of(body.as_bytes()));
            if let Ok(manifest) = Manifest::decode(text.as_bytes()) {
                prop_assert!(manifest.pieces.len() <= body.len() / 66 + 1);
            }
        }
    }

    #[test]
    fn pieces_that_do_not_add_up_are_no_manifest() {
        let piece = |length| Piece { digest: Digest::of(b""), length };
        for manifest in [
            Manifest { size: 2, pieces: vec![piece(1)] },
            Manifest { size: u64::MAX, pieces: vec![piece(u64::MAX), piece(1)] },
        ] {
            assert!(Manifest::decode(&manifest.encode()).is_err());
        }
    }
}
