//! Packs: many small blobs as one object, since a request costs the same for a byte as for a megabyte. A pack is named
//! by the digest of the whole; its index is the manifest of it, and each blob is checked against its own name.

use std::sync::Arc;

use super::{Inner, Layer, names};
use crate::pack::{Manifest, Piece};
use crate::store::{Store, lock};
use crate::{CacheError, Digest};

/// Blobs up to this length travel in packs.
pub(crate) const SMALL: u64 = 256 << 10;

/// A longer pack is read piece by piece.
pub(super) const LONGEST: u64 = 64 << 20;

/// Whoever wants more blobs of a pack than this wants most of them: it is read as a whole.
const MANY: usize = 4;

/// A longer index is none: a pack of a million blobs has one of 70 MB.
const LONGEST_INDEX: u64 = 128 << 20;

/// So many packs are kept in memory, the last ones that were asked for: steps that run at once read from several.
const KEPT: usize = 3;

/// A pack that is asked for just now.
pub(super) struct Whole {
    pack: Digest,
    /// How many of its blobs were asked for.
    asked: usize,
    /// All of it, once many were.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Layer {
    /// Sends blobs of this store together, the index last; the name of the pack.
    pub fn send_pack(&self, store: &Store, blobs: &[(Digest, u64)]) -> Result<Digest, CacheError> {
        let (mut bytes, mut pieces) = (Vec::new(), Vec::new());
        for (digest, size) in blobs {
            let blob = store.read_blob(digest, *size)?;
            pieces.push(Piece { digest: *digest, length: blob.len() as u64 });
            bytes.extend(blob);
        }
        let (inner, whole) = (Arc::clone(&self.inner), Digest::of(&bytes));
        let index = Manifest { size: bytes.len() as u64, pieces }.encode();
        self.wait(async move {
            inner.put(&names::pack(&whole), bytes).await?;
            inner.put(&names::pack_index(&whole), index).await.map(|()| whole)
        })
    }

    /// The blobs in a pack with their lengths; `None` where there is no such pack.
    pub fn packed(&self, pack: &Digest) -> Result<Option<Vec<(Digest, u64)>>, CacheError> {
        let (inner, pack) = (Arc::clone(&self.inner), *pack);
        let index = self.wait(async move { inner.index(&pack).await })?;
        Ok(index.map(|index| index.pieces.iter().map(|piece| (piece.digest, piece.length)).collect()))
    }

    /// Whether a pack and its index are what they should be, byte for byte.
    pub(super) fn is_whole_pack(&self, pack: &Digest) -> Result<bool, CacheError> {
        let (inner, pack) = (Arc::clone(&self.inner), *pack);
        lock(&inner.indexes).remove(&pack);
        let read = self.wait(async move {
            let Some(index) = inner.index(&pack).await? else { return Ok(false) };
            let bytes = inner.get(&names::pack(&pack), index.size).await?.unwrap_or_default();
            let mut rest = bytes.as_slice();
            let good = index.pieces.iter().all(|piece| {
                let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
                let Some((blob, after)) = rest.split_at_checked(length) else { return false };
                rest = after;
                Digest::of(blob) == piece.digest
            });
            Ok(good && rest.is_empty())
        });
        match read {
            Err(CacheError::LayerLied { .. }) => Ok(false),
            read => read,
        }
    }

    /// A blob out of a pack; `None` where it is not there.
    pub fn fetch_packed(&self, pack: &Digest, digest: &Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let (inner, pack, digest) = (Arc::clone(&self.inner), *pack, *digest);
        self.wait(async move {
            let Some(index) = inner.index(&pack).await? else { return Ok(None) };
            let mut at = 0;
            for piece in &index.pieces {
                if piece.digest == digest {
                    return inner.piece(&pack, at, piece, index.size).await;
                }
                at += piece.length;
            }
            Ok(None)
        })
    }
}

impl Inner {
    /// An index never changes: it is read once.
    async fn index(&self, pack: &Digest) -> Result<Option<Arc<Manifest>>, CacheError> {
        let known = lock(&self.indexes).get(pack).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let name = names::pack_index(pack);
        let Some(bytes) = self.get(&name, LONGEST_INDEX).await? else { return Ok(None) };
        let index = Arc::new(Manifest::decode(&bytes).map_err(|why| self.lied(&name, why))?);
        lock(&self.indexes).insert(*pack, Arc::clone(&index));
        Ok(Some(index))
    }

    async fn piece(&self, pack: &Digest, at: u64, piece: &Piece, size: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let name = names::pack(pack);
        if piece.length > SMALL {
            return Err(self.lied(&name, format!("its index tells of a blob of {} bytes", piece.length)));
        }
        let range = at..at + piece.length;
        // A range of no bytes cannot be asked for.
        let bytes = match piece.length {
            0 => Some(Vec::new()),
            _ => match self.whole_pack(pack, size).await? {
                Some(whole) => whole.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec),
                None => self.part(&name, range).await?,
            },
        };
        match bytes {
            Some(bytes) if Digest::of(&bytes) != piece.digest => {
                Err(self.lied(&name, format!("its blob `{}` has another digest", piece.digest)))
            }
            bytes => Ok(bytes),
        }
    }

    /// All of a pack of which many blobs are wanted: a request for each would cost more.
    async fn whole_pack(&self, pack: &Digest, size: u64) -> Result<Option<Arc<Vec<u8>>>, CacheError> {
        if size > LONGEST {
            return Ok(None);
        }
        {
            let mut kept = lock(&self.whole);
            let known = kept.iter().position(|whole| whole.pack == *pack).and_then(|at| kept.remove(at));
            let mut whole = known.unwrap_or(Whole { pack: *pack, asked: 0, bytes: None });
            whole.asked += 1;
            let (bytes, many) = (whole.bytes.clone(), whole.asked > MANY);
            kept.push_back(whole);
            if kept.len() > KEPT {
                kept.pop_front();
            }
            if bytes.is_some() || !many {
                return Ok(bytes);
            }
        }
        let name = names::pack(pack);
        // A single object, so that it comes in parts, several at once, and is tried again where it is cut.
        let Some(bytes) = self.object(&name, size).await? else { return Ok(None) };
        let bytes = Arc::new(bytes);
        if let Some(whole) = lock(&self.whole).iter_mut().find(|whole| whole.pack == *pack) {
            whole.bytes = Some(Arc::clone(&bytes));
        }
        Ok(Some(bytes))
    }
}
