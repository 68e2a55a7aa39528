//! Packing: looks at every safetensors file of the cache, finds the tensors that more than one place has, and stores
//! the files in pieces where that saves something. Takes no whole file away: the collector does, when nobody reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rayon::prelude::*;

use super::safetensors;
use super::{Manifest, Piece};
use crate::blobs::{Look, Temp, settle};
use crate::files;
use crate::hash::{LARGE, finish};
use crate::records::read_if_there;
use crate::store::Store;
use crate::{CacheError, Digest, Progress};

/// Smaller files are left whole.
const SMALLEST: u64 = 64 << 10;

/// A file is kept in pieces if at least one byte in so many is shared.
const WORTH: u64 = 10;

/// What packing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files that are kept in pieces now and were not before.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes of the pieces that were not in the cache before.
    pub stored: u64,
}

impl Store {
    /// Stores in pieces what shares tensors. `progress` is told the bytes to look at, then those that were.
    pub fn pack(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<Packed, CacheError> {
        self.must_write("packing")?;
        let known = self.all_packs()?;
        let mut candidates: Vec<(Digest, u64)> = self.all_blobs()?.into_iter().collect();
        candidates.retain(|(digest, size)| *size >= SMALLEST && !known.contains_key(digest));
        progress(Progress::Total(candidates.iter().map(|(_, size)| size).sum()));
        let split = candidates.par_iter().map(|(digest, size)| {
            let split = self.split(digest, *size)?;
            progress(Progress::Hashed(*size));
            Ok((*digest, split))
        });
        let split: Vec<(Digest, Option<Manifest>)> = split.collect::<Result<_, CacheError>>()?;
        let split: BTreeMap<Digest, Manifest> =
            split.into_iter().filter_map(|(digest, manifest)| Some((digest, manifest?))).collect();
        let mut places: BTreeMap<Digest, usize> = BTreeMap::new();
        for piece in split.values().chain(known.values()).flat_map(|manifest| &manifest.pieces) {
            *places.entry(piece.digest).or_default() += 1;
        }
        let mut packed = Packed::default();
        for (digest, manifest) in &split {
            let shared = manifest.pieces.iter().filter(|piece| places[&piece.digest] > 1);
            if shared.map(|piece| piece.length).sum::<u64>() >= manifest.size.div_ceil(WORTH) {
                packed.stored += self.pack_one(digest, manifest)?;
                packed.bytes += manifest.size;
                packed.files += 1;
            }
        }
        Ok(packed)
    }

    /// The pieces of a blob, if it is a safetensors file and whole. Remembered, so that it is read once.
    fn split(&self, digest: &Digest, size: u64) -> Result<Option<Manifest>, CacheError> {
        let path = self.inner.layout.blob(digest);
        let failed = |source| CacheError::system("reading", &path, source);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let Some(lengths) = safetensors::pieces(&file, size).map_err(failed)? else { return Ok(None) };
        let index = self.inner.layout.split(digest);
        let known = read_if_there(&index)?.and_then(|bytes| Manifest::decode(&bytes).ok());
        let same = |known: &Manifest| known.pieces.iter().map(|piece| piece.length).eq(lengths.iter().copied());
        if let Some(known) = known.filter(same) {
            return Ok(Some(known));
        }
        let mut whole = blake3::Hasher::new();
        let mut pieces = Vec::new();
        let mut at = 0;
        for length in lengths {
            let mut hasher = blake3::Hasher::new();
            let read = range(&file, at, length, |bytes| {
                hasher.update_rayon(bytes);
                whole.update_rayon(bytes);
                Ok(())
            });
            read.map_err(failed)?;
            at += length;
            pieces.push(Piece { digest: finish(&hasher), length });
        }
        if finish(&whole) != *digest {
            // Looked at closely, it is moved aside.
            let looked = self.sound_whole(digest, size, Look::Use);
            return looked.map(|_| None).or_else(|error| if error.is_miss() { Ok(None) } else { Err(error) });
        }
        let manifest = Manifest { size, pieces };
        self.keep_manifest(&index, &manifest)?;
        Ok(Some(manifest))
    }

    /// Stores the pieces, then the manifest; answers how many bytes were new.
    fn pack_one(&self, digest: &Digest, manifest: &Manifest) -> Result<u64, CacheError> {
        let _hold = self.hold()?;
        let path = self.sound_whole(digest, manifest.size, Look::Glance)?;
        let file = File::open(&path).map_err(|source| CacheError::system("reading", &path, source))?;
        let (mut at, mut new) = (0, 0);
        for piece in &manifest.pieces {
            if !self.holds(&piece.digest, piece.length)? {
                self.store_piece(&file, &path, at, piece)?;
                new += piece.length;
            }
            at += piece.length;
        }
        self.keep_manifest(&self.inner.layout.pack(digest), manifest)?;
        Ok(new)
    }

    fn store_piece(&self, file: &File, path: &Path, at: u64, piece: &Piece) -> Result<(), CacheError> {
        let temp = Temp::new(self)?;
        let mut hasher = blake3::Hasher::new();
        let mut copy = || -> io::Result<()> {
            let mut to = files::create(&temp.path)?;
            range(file, at, piece.length, |bytes| {
                hasher.update_rayon(bytes);
                to.write_all(bytes)
            })?;
            settle(&to, self.durability())
        };
        copy().map_err(|source| CacheError::writing("storing", &temp.path, source))?;
        match finish(&hasher) == piece.digest {
            true => self.place(&temp.path, &piece.digest, piece.length),
            false => Err(CacheError::Changed { path: path.to_owned() }),
        }
    }

    fn keep_manifest(&self, place: &Path, manifest: &Manifest) -> Result<(), CacheError> {
        self.replace(place, &manifest.encode(), self.durability(), "writing")
    }
}

/// Hands out a range of a file in bits.
fn range(file: &File, start: u64, length: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; LARGE.min(length) as usize];
    let mut done = 0;
    while done < length {
        let part = (length - done).min(LARGE) as usize;
        file.read_exact_at(&mut buffer[..part], start + done)?;
        take(&buffer[..part])?;
        done += part as u64;
    }
    Ok(())
}
