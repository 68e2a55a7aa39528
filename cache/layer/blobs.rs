//! Blobs of a layer: sent in parts where they are large, and received with every byte hashed on the way. A blob that
//! comes wrong, short or long is none. What came of a blob before the line was cut is kept, and the rest is asked for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Name;
use object_store::{Error, GetOptions, GetRange, ObjectStoreExt, WriteMultipart};

use super::asking::{Attempts, LEAST, Patience, Pulse, SILENCE, within};
use super::passage::{Passage, Teller};
use super::uploads::PART;
use super::{Inner, Layer, names};
use crate::blobs::Look;
use crate::files;
use crate::hash::finish;
use crate::store::Store;
use crate::{CacheError, Digest, Repair};

/// So many parts of a layer that are sent are in memory at once, of all blobs together.
pub(super) const AT_ONCE: usize = 8;

/// Large blobs are asked for in an eighth each, and at most in so many parts' length: some stores do as much for a short
/// range of an object as for all of it.
const LONG: u64 = 8;

/// Of what comes, so many parts' length is in memory at once.
pub(super) const COMING: usize = 32;

/// Where a part stands in a blob, and of which length the blob is.
struct Part<'a> {
    name: &'a Name,
    range: Range<u64>,
    /// `None` where that is not known.
    whole: Option<u64>,
}

/// What came of asking for a part.
enum Came {
    All,
    /// There is no such object.
    Nothing,
    /// The store gives whole objects only.
    OnlyWhole,
}

/// The length of the ranges in which a blob of this size is asked for: whole parts.
fn range_length(size: u64) -> u64 {
    PART * (size / (LONG * PART)).clamp(1, LONG)
}

impl Layer {
    /// Sends a blob of this store; `false` where the layer has it. An object of another length than the blob's is no
    /// blob, and is replaced.
    pub fn send_blob(&self, store: &Store, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        self.send_looking(store, digest, size, Repair::No, &|_| {})
    }

    /// To repair, what is there is read, and replaced where it is not the blob.
    pub(super) fn send_looking(
        &self,
        store: &Store,
        digest: &Digest,
        size: u64,
        repair: Repair,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<bool, CacheError> {
        self.inner.check_writable()?;
        let path = store.sound(digest, size, Look::Use)?;
        let (inner, store, digest) = (Arc::clone(&self.inner), store.clone(), *digest);
        let passage = Passage::default();
        let mut teller = Teller::new(&passage, size, progress);
        let work = async move {
            let name = names::blob(&digest);
            let there = inner.length(&name).await? == Some(size);
            if there && (repair == Repair::No || inner.holds_whole(&digest, size).await?) {
                inner.end_upload(&store, &name).await;
                return Ok(false);
            }
            let sent = match &inner.place.parts {
                _ if size <= PART => inner.send_whole(&name, &path, &digest).await?,
                Some(parts) => inner.send_resuming(&**parts, &store, &name, &path, (&digest, size, &passage)).await?,
                None => inner.send_parts(&name, &path, &digest).await?,
            };
            if sent { Ok(true) } else { Err(CacheError::Changed { path }) }
        };
        let sent = self.wait_meanwhile(work, || teller.tell());
        teller.done();
        sent
    }

    /// Receives a blob as a new file; `false` where the layer has none, and then nothing is there.
    pub fn fetch_blob(&self, digest: &Digest, size: u64, dest: &Path) -> Result<bool, CacheError> {
        files::create(dest).map_err(|source| CacheError::placing("making", dest, source))?;
        let fetched = self.fetch_rest(digest, size, dest, &|_| {});
        if !matches!(fetched, Ok(true)) {
            files::remove_file(dest)?;
        }
        fetched
    }

    /// Receives what a file has not got of a blob yet; `false` where the layer has none. What came stays in the file
    /// where the line was cut; of what turned out to be wrong nothing stays. `progress` is told the bytes as they come, and
    /// those that were there.
    pub(super) fn fetch_rest(
        &self,
        digest: &Digest,
        size: u64,
        dest: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<bool, CacheError> {
        let (inner, digest, dest) = (Arc::clone(&self.inner), *digest, dest.to_owned());
        let passage = Passage::default();
        let mut teller = Teller::new(&passage, size, progress);
        let work = async move {
            let failed = |source| CacheError::placing("writing", &dest, source);
            let mut file = File::options().read(true).write(true).open(&dest).map_err(failed)?;
            let have = file.metadata().map_err(failed)?.len();
            let resumed = (1..=size).contains(&have);
            if !resumed {
                file.set_len(0).map_err(failed)?;
            }
            let fetched = inner.fetch(&digest, size, &mut file, &dest, &passage).await;
            if !matches!(fetched, Err(CacheError::LayerLied { .. })) {
                return fetched;
            }
            file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
            // What was there may have been wrong, from a time or a layer of which nobody knows.
            let again = if resumed { inner.fetch(&digest, size, &mut file, &dest, &passage).await } else { fetched };
            if matches!(again, Err(CacheError::LayerLied { .. })) {
                file.set_len(0).map_err(failed)?;
            }
            again
        };
        let fetched = self.wait_meanwhile(work, || teller.tell());
        if matches!(fetched, Ok(true)) {
            teller.done();
        }
        fetched
    }
}

impl Inner {
    /// `false` where the file holds other bytes by now: nothing was sent.
    async fn send_whole(&self, name: &Name, path: &Path, digest: &Digest) -> Result<bool, CacheError> {
        let bytes = std::fs::read(path).map_err(|source| CacheError::system("reading", path, source))?;
        match Digest::of(&bytes) == *digest {
            true => self.put(name, bytes).await.map(|()| true),
            false => Ok(false),
        }
    }

    /// To a store that has its own way with parts: an upload that is cut starts anew.
    async fn send_parts(&self, name: &Name, path: &Path, digest: &Digest) -> Result<bool, CacheError> {
        let failed = |error: Error| self.failed("writing to it", &error);
        let unread = |source| CacheError::system("reading", path, source);
        let mut file = File::open(path).map_err(unread)?;
        let upload = self.objects.put_multipart(name).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART as usize);
        let mut hasher = blake3::Hasher::new();
        let sent = async {
            loop {
                let mut part = Vec::new();
                (&mut file).take(PART).read_to_end(&mut part).map_err(unread)?;
                if part.is_empty() {
                    return Ok(finish(&hasher) == *digest);
                }
                hasher.update_rayon(&part);
                upload.wait_for_capacity(AT_ONCE).await.map_err(failed)?;
                upload.put(part.into());
            }
        };
        match sent.await {
            Ok(true) => upload.finish().await.map(|_| true).map_err(failed),
            refused => {
                // What the store keeps of it costs its owner; why it was given up is told.
                let _ = upload.abort().await;
                refused
            }
        }
    }

    async fn holds_whole(&self, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        match self.fetch_onto(digest, size, (0, blake3::Hasher::new()), &mut io::sink(), Path::new("")).await {
            Err(CacheError::LayerLied { .. }) => Ok(false),
            held => held,
        }
    }

    /// What the file holds is read, to be hashed.
    async fn fetch(
        &self,
        digest: &Digest,
        size: u64,
        file: &mut File,
        dest: &Path,
        passage: &Passage,
    ) -> Result<bool, CacheError> {
        let failed = |source| CacheError::placing("reading", dest, source);
        let mut hasher = blake3::Hasher::new();
        file.rewind().map_err(failed)?;
        hasher.update_reader(&mut *file).map_err(failed)?;
        let have = file.seek(SeekFrom::End(0)).map_err(failed)?;
        passage.count(have);
        self.fetch_onto(digest, size, (have, hasher), &mut passage.counting(file), dest).await
    }

    async fn fetch_onto(
        &self,
        digest: &Digest,
        size: u64,
        (have, mut hasher): (u64, blake3::Hasher),
        file: &mut (impl Write + Send),
        dest: &Path,
    ) -> Result<bool, CacheError> {
        let name = names::blob(digest);
        let mut take = |bytes: &[u8]| {
            hasher.update_rayon(bytes);
            file.write_all(bytes).map_err(|source| CacheError::placing("writing", dest, source))
        };
        if size == 0 && self.length(&name).await?.is_none() {
            return Ok(false);
        }
        let found = match self.fetch_parts(&name, have..size, &mut take).await? {
            Came::OnlyWhole => self.fetch_stream(&name, have..size, &mut take).await?,
            found => found,
        };
        match found {
            Came::All if finish(&hasher) == *digest => Ok(true),
            Came::All => Err(self.lied(&name, "they have another digest".into())),
            Came::Nothing | Came::OnlyWhole => Ok(false),
        }
    }

    /// Several parts at once, taken in their order.
    async fn fetch_parts(
        &self,
        name: &Name,
        wanted: Range<u64>,
        take: &mut (impl FnMut(&[u8]) -> Result<(), CacheError> + Send),
    ) -> Result<Came, CacheError> {
        let (end, length) = (wanted.end, range_length(wanted.end));
        let parts = wanted.step_by(length as usize).map(|start| start..(start + length).min(end));
        // Permits come in the order of the parts, and go back once a part is taken: the first part that is waited for
        // always has one.
        let ask = |range: Range<u64>| async move {
            let long = range.end - range.start;
            let permit = self.coming.acquire_many(long.div_ceil(PART) as u32).await;
            let (mut bytes, part) = (Vec::with_capacity(long as usize), Part { name, range, whole: Some(end) });
            self.ask_part(&part, &mut bytes).await.map(|came| (came, bytes, permit))
        };
        let mut parts = stream::iter(parts).map(ask).buffered(AT_ONCE);
        while let Some((came, bytes, _permit)) = parts.try_next().await? {
            match came {
                Came::All => take(&bytes)?,
                other => return Ok(other),
            }
        }
        Ok(Came::All)
    }

    /// From a store that gives whole objects only: what comes before the wanted bytes is dropped.
    async fn fetch_stream(
        &self,
        name: &Name,
        wanted: Range<u64>,
        take: &mut (impl FnMut(&[u8]) -> Result<(), CacheError> + Send),
    ) -> Result<Came, CacheError> {
        let failed = |error: Error| self.failed("reading from it", &error);
        let found = match within(SILENCE, self.objects.get(name)).await {
            Err(Error::NotFound { .. }) => return Ok(Came::Nothing),
            found => found.map_err(failed)?,
        };
        if found.meta.size != wanted.end {
            return Err(self.lied(name, format!("it has {} bytes", found.meta.size)));
        }
        let (mut skip, mut left, mut stream) = (wanted.start, wanted.end - wanted.start, found.into_stream());
        let mut pulse = Pulse::default();
        while let Some(chunk) = within(SILENCE, stream.try_next()).await.map_err(failed)? {
            pulse.beat(chunk.len()).map_err(failed)?;
            let dropped = skip.min(chunk.len() as u64);
            skip -= dropped;
            let chunk = &chunk[dropped as usize..];
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| self.lied(name, "it is too long".into()))?;
            take(chunk)?;
        }
        match left {
            0 => Ok(Came::All),
            _ => Err(self.lied(name, "it is too short".into())),
        }
    }

    /// A whole object of this length; `None` where there is none.
    pub(super) async fn object(&self, name: &Name, size: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let mut bytes = Vec::new();
        let mut take = |part: &[u8]| {
            bytes.extend_from_slice(part);
            Ok(())
        };
        let came = match self.fetch_parts(name, 0..size, &mut take).await? {
            Came::OnlyWhole => self.fetch_stream(name, 0..size, &mut take).await?,
            came => came,
        };
        Ok(matches!(came, Came::All).then_some(bytes))
    }

    /// Some bytes of an object; `None` where there is no object. A store that gives whole objects only gives it all.
    pub(super) async fn part(&self, name: &Name, range: Range<u64>) -> Result<Option<Vec<u8>>, CacheError> {
        let (mut bytes, part) = (Vec::new(), Part { name, range: range.clone(), whole: None });
        match self.ask_part(&part, &mut bytes).await? {
            Came::All => Ok(Some(bytes)),
            Came::Nothing => Ok(None),
            Came::OnlyWhole => {
                let whole = self.get(name, range.end.max(super::packs::LONGEST)).await?;
                let slice = |whole: Vec<u8>| whole.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
                whole.map(|whole| slice(whole).ok_or_else(|| self.lied(name, "it is too short".into()))).transpose()
            }
        }
    }

    /// Asks again for what did not come, as long as something comes.
    async fn ask_part(&self, part: &Part<'_>, bytes: &mut Vec<u8>) -> Result<Came, CacheError> {
        let length = (part.range.end - part.range.start) as usize;
        let mut attempts = Attempts::new(Patience::Reader);
        loop {
            let before = bytes.len();
            let asked = self.ask_once(part, bytes).await;
            match asked {
                Ok(size) if part.whole.is_some_and(|whole| whole != size) || bytes.len() > length => {
                    return Err(self.lied(part.name, format!("it has {size} bytes")));
                }
                Ok(_) if bytes.len() == length => return Ok(Came::All),
                Ok(size) if size < part.range.end => {
                    return Err(self.lied(part.name, format!("it has {size} bytes")));
                }
                Ok(_) => {
                    let why = format!("{} bytes came where {length} were asked for", bytes.len());
                    return Err(self.lied(part.name, why));
                }
                Err(Error::NotFound { .. }) => return self.missing::<()>().map(|_| Came::Nothing),
                Err(Error::NotSupported { .. }) => return Ok(Came::OnlyWhole),
                Err(error) => {
                    if bytes.len() - before >= LEAST {
                        attempts.renew();
                    }
                    attempts.after(error).await.map_err(|error| self.failed("reading from it", &error))?;
                }
            }
        }
    }

    /// The length of the whole object. What came is in `bytes`, also where the rest did not.
    async fn ask_once(&self, part: &Part<'_>, bytes: &mut Vec<u8>) -> object_store::Result<u64> {
        let start = part.range.start + bytes.len() as u64;
        let range = Some(GetRange::Bounded(start..part.range.end));
        let found =
            within(SILENCE, self.objects.get_opts(part.name, GetOptions { range, ..GetOptions::default() })).await?;
        let (size, mut stream) = (found.meta.size, found.into_stream());
        let longest = (part.range.end - part.range.start) as usize;
        let mut pulse = Pulse::default();
        while let Some(chunk) = within(SILENCE, stream.try_next()).await? {
            pulse.beat(chunk.len())?;
            bytes.extend_from_slice(&chunk);
            if bytes.len() > longest {
                break;
            }
        }
        Ok(size)
    }
}
