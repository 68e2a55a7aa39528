//! Blobs of a layer: sent in parts where they are large, and received with every byte hashed on the way. A blob that
//! comes wrong, short or long is none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use object_store::path::Path as Name;
use object_store::{Error, ObjectStoreExt, WriteMultipart};

use super::{Inner, Layer, names};
use crate::blobs::Look;
use crate::files;
use crate::hash::finish;
use crate::store::Store;
use crate::{CacheError, Digest, Repair};

/// Larger blobs are sent and received in parts of this length.
const PART: u64 = 16 << 20;

/// So many parts are under way at once.
const AT_ONCE: usize = 8;

/// A part that broke off is asked for again so many times.
const ATTEMPTS: usize = 3;

impl Layer {
    /// Sends a blob of this store; `false` where the layer has it. An object of another length than the blob's is no
    /// blob, and is replaced.
    pub fn send_blob(&self, store: &Store, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        self.send_looking(store, digest, size, Repair::No)
    }

    /// To repair, what is there is read, and replaced where it is not the blob.
    pub(super) fn send_looking(
        &self,
        store: &Store,
        digest: &Digest,
        size: u64,
        repair: Repair,
    ) -> Result<bool, CacheError> {
        let path = store.sound(digest, size, Look::Use)?;
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        self.wait(async move {
            let name = names::blob(&digest);
            let there = inner.length(&name).await? == Some(size);
            if there && (repair == Repair::No || inner.holds_whole(&digest, size).await?) {
                return Ok(false);
            }
            let file = File::open(&path).map_err(|source| CacheError::system("reading", &path, source))?;
            let sent = match size <= PART {
                true => inner.send_whole(&name, file, &digest).await?,
                false => inner.send_parts(&name, file, &digest).await?,
            };
            if sent { Ok(true) } else { Err(CacheError::Changed { path }) }
        })
    }

    /// Receives a blob as a new file; `false` where the layer has none, and then nothing is there.
    pub fn fetch_blob(&self, digest: &Digest, size: u64, dest: &Path) -> Result<bool, CacheError> {
        let (inner, digest, dest) = (Arc::clone(&self.inner), *digest, dest.to_owned());
        self.wait(async move {
            let mut file = files::create(&dest).map_err(|source| CacheError::placing("making", &dest, source))?;
            let fetched = inner.fetch(&digest, size, &mut file, &dest).await;
            if !matches!(fetched, Ok(true)) {
                files::remove_file(&dest)?;
            }
            fetched
        })
    }
}

impl Inner {
    /// `false` where the file holds other bytes by now: nothing was sent.
    async fn send_whole(&self, name: &Name, mut file: File, digest: &Digest) -> Result<bool, CacheError> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| self.failed("reading what is to be sent", &error))?;
        match Digest::of(&bytes) == *digest {
            true => self.put(name, bytes).await.map(|()| true),
            false => Ok(false),
        }
    }

    /// The object is there only once all parts are, and only if they are the blob.
    async fn send_parts(&self, name: &Name, mut file: File, digest: &Digest) -> Result<bool, CacheError> {
        let failed = |error: Error| self.failed("writing to it", &error);
        let upload = self.objects.put_multipart(name).await.map_err(failed)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART as usize);
        let mut hasher = blake3::Hasher::new();
        let sent = async {
            loop {
                let part = read_part(&mut file).map_err(|error| self.failed("reading what is to be sent", &error))?;
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
        match self.fetch(digest, size, &mut io::sink(), Path::new("")).await {
            Err(CacheError::LayerLied { .. }) => Ok(false),
            held => held,
        }
    }

    async fn fetch(
        &self,
        digest: &Digest,
        size: u64,
        file: &mut (impl Write + Send),
        dest: &Path,
    ) -> Result<bool, CacheError> {
        let name = names::blob(digest);
        let parts = (0..size.div_ceil(PART)).map(|part| part * PART..((part + 1) * PART).min(size));
        let mut parts = stream::iter(parts).map(|range| self.part(&name, range)).buffered(AT_ONCE);
        let mut hasher = blake3::Hasher::new();
        if size == 0 && self.length(&name).await?.is_none() {
            return Ok(false);
        }
        while let Some(part) = parts.next().await {
            let Some(part) = part? else { return Ok(false) };
            hasher.update_rayon(&part);
            file.write_all(&part).map_err(|source| CacheError::placing("writing", dest, source))?;
        }
        match finish(&hasher) == *digest {
            true => Ok(true),
            false => Err(self.lied(&name, "they have another digest".into())),
        }
    }

    /// Some bytes of an object; `None` where there is no object.
    pub(super) async fn part(&self, name: &Name, range: Range<u64>) -> Result<Option<Vec<u8>>, CacheError> {
        let length = range.end - range.start;
        let mut attempt = 1;
        loop {
            match self.objects.get_range(name, range.clone()).await {
                Ok(bytes) if bytes.len() as u64 == length => return Ok(Some(bytes.into())),
                Ok(bytes) => {
                    let why = format!("{} bytes came where {length} were asked for", bytes.len());
                    return Err(self.lied(name, why));
                }
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error) if attempt == ATTEMPTS => return Err(self.failed("reading from it", &error)),
                Err(error) => tracing::debug!("attempt {attempt} at `{name}`: {error}"),
            }
            attempt += 1;
        }
    }
}

/// The next part of a file, whole but for the last one; empty at the end.
fn read_part(file: &mut File) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(PART).read_to_end(&mut part)?;
    Ok(part)
}
