//! Uploads in parts that go on after a break. What was sent is noted in the cache until the upload is whole, so that a push
//! that was killed sends only the rest when it is typed again. An upload that the store forgot starts anew; one that
//! nobody went on with is given up at a later push. One that nobody ever pushes again stays with the store, where a rule
//! of the bucket ends it (`AbortIncompleteMultipartUpload`).
//!
//! ```text
//! v1/uploads/HEX        a line of JSON for the upload, then one for each part: its number, and what the store calls it
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Name;
use object_store::{Error, PutPayload};
use serde::{Deserialize, Serialize};

use super::asking::{Patience, SENDING, SILENCE, is_answer, persist};
use super::passage::Passage;
use super::{Inner, Layer};
use crate::files;
use crate::hash::finish;
use crate::lock::FileLock;
use crate::store::Store;
use crate::{CacheError, Digest};

/// Larger blobs are sent in parts of this length, and received so. S3 wants 5 MiB at least.
pub(super) const PART: u64 = 8 << 20;

/// More parts of one object no cloud takes.
const MOST_PARTS: u64 = 10_000;

/// An upload that nobody went on with for so long is given up. Azure forgets them after as long.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// An upload, as the first line of its note has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    layer: String,
    /// Which bucket or folder the layer was then.
    store: String,
    object: String,
    /// The length of each part but the last.
    part: u64,
    /// What the store calls it.
    id: String,
}

/// The note of an upload, held by one process.
struct Note {
    path: PathBuf,
    /// `None` where another process goes on with the same upload: then this one sends all of it, and notes nothing.
    lock: Option<FileLock>,
}

/// Why an upload ended before it was whole.
enum Cut {
    /// The file holds other bytes by now.
    Changed,
    File(io::Error),
    Store(Error),
}

impl Layer {
    /// Gives up the uploads to this layer that nobody went on with.
    pub(super) fn abandon_old_uploads(&self, store: &Store) -> Result<(), CacheError> {
        let folder = store.inner.layout.folder("uploads");
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_none()) {
            let note = Note::at(path);
            if !note.is_kept() || !is_abandoned(&note.path, &note.path.with_extension("lock")).unwrap_or(false) {
                continue;
            }
            let inner = Arc::clone(&self.inner);
            self.wait(async move {
                if let Some((upload, _)) = note.read().filter(|(upload, _)| inner.is_mine(upload)) {
                    inner.give_up(&upload).await;
                    note.forget();
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// By the clock of the file system: the lock that was just made is as old as now.
fn is_abandoned(note: &Path, lock: &Path) -> io::Result<bool> {
    let (changed, now) = (fs::metadata(note)?.modified()?, fs::metadata(lock)?.modified()?);
    Ok(now.duration_since(changed).is_ok_and(|age| age > ABANDONED))
}

impl Inner {
    /// `false` where the file holds other bytes by now. The object is there only once all parts are, and only if they
    /// are the blob.
    pub(super) async fn send_resuming(
        &self,
        parts: &dyn MultipartStore,
        store: &Store,
        name: &Name,
        path: &Path,
        (digest, size, passage): (&Digest, u64, &Passage),
    ) -> Result<bool, CacheError> {
        self.check_writable()?;
        let note = Note::of(store, self, name);
        let kept = note.read().filter(|(upload, _)| self.is_mine(upload) && upload.object == name.as_ref());
        let resumed = kept.is_some();
        let (mut upload, done) = match kept {
            Some(kept) => kept,
            None => (self.begin(parts, &note, name, size).await?, BTreeMap::new()),
        };
        if resumed {
            tracing::debug!("the upload of `{name}` goes on after {} parts", done.len());
        }
        let mut sent = self.send_rest(parts, &note, &upload, path, (digest, passage), done).await;
        let lost = resumed && matches!(&sent, Err(Cut::Store(error)) if is_answer(error));
        // The store forgot it, or has something else by that name; unless it ended it before its answer was lost.
        if lost && self.length(name).await? != Some(size) {
            let old = std::mem::replace(&mut upload, self.begin(parts, &note, name, size).await?);
            self.give_up(&old).await;
            sent = self.send_rest(parts, &note, &upload, path, (digest, passage), BTreeMap::new()).await;
        }
        match sent {
            Ok(()) => {
                note.forget();
                Ok(true)
            }
            Err(Cut::Changed) => {
                self.give_up(&upload).await;
                note.forget();
                Ok(false)
            }
            Err(Cut::File(source)) => Err(CacheError::system("reading", path, source)),
            // A whole one is forgotten by the store, so that the answer to a second attempt to end it is an error.
            Err(Cut::Store(_)) if self.length(name).await? == Some(size) => {
                note.forget();
                Ok(true)
            }
            Err(Cut::Store(error)) => {
                if !note.is_kept() {
                    self.give_up(&upload).await;
                }
                Err(self.failed("writing to it", &error))
            }
        }
    }

    async fn begin(
        &self,
        parts: &dyn MultipartStore,
        note: &Note,
        name: &Name,
        size: u64,
    ) -> Result<Upload, CacheError> {
        let id = persist(Patience::Writer, SILENCE, || parts.create_multipart(name)).await;
        let id = id.map_err(|error| self.failed("writing to it", &error))?;
        let (layer, store) = (self.name.clone(), self.objects.to_string());
        let upload = Upload { layer, store, object: name.to_string(), part: self.part_length(size), id };
        note.write(&upload)?;
        Ok(upload)
    }

    /// A folder takes any number of parts of one length.
    fn part_length(&self, size: u64) -> u64 {
        let mut part = PART;
        while self.place.root.is_none() && size.div_ceil(part) > MOST_PARTS {
            part *= 2;
        }
        part
    }

    /// Everything is read, to be hashed; what the store has is not sent again.
    async fn send_rest(
        &self,
        parts: &dyn MultipartStore,
        note: &Note,
        upload: &Upload,
        path: &Path,
        (digest, passage): (&Digest, &Passage),
        mut done: BTreeMap<usize, String>,
    ) -> Result<(), Cut> {
        let (mut file, name) = (File::open(path).map_err(Cut::File)?, name_of(upload));
        let (mut hasher, mut under_way) = (blake3::Hasher::new(), FuturesUnordered::new());
        let mut index = 0;
        loop {
            let permit = loop {
                // A part that is under way holds a permit: without polling it none would come back.
                tokio::select! {
                    biased;
                    Some(sent) = under_way.next() => {
                        keep(note, &mut done, sent)?;
                        passage.count(upload.part);
                    }
                    permit = self.parts.acquire() => break permit,
                }
            };
            let part = read_part(&mut file, upload.part).map_err(Cut::File)?;
            if part.is_empty() {
                break;
            }
            hasher.update_rayon(&part);
            if done.contains_key(&index) {
                passage.count(upload.part);
            } else {
                let name = &name;
                under_way.push(async move {
                    let _permit = permit;
                    let payload = PutPayload::from(part);
                    let send = || parts.put_part(name, &upload.id, index, payload.clone());
                    (index, persist(Patience::Writer, SENDING, send).await)
                });
            }
            index += 1;
        }
        while let Some(sent) = under_way.next().await {
            keep(note, &mut done, sent)?;
            passage.count(upload.part);
        }
        if finish(&hasher) != *digest {
            return Err(Cut::Changed);
        }
        let ids: Vec<PartId> =
            done.into_iter().take_while(|(at, _)| *at < index).map(|(_, id)| PartId { content_id: id }).collect();
        let end = || parts.complete_multipart(&name, &upload.id, ids.clone());
        persist(Patience::Writer, SENDING, end).await.map(drop).map_err(Cut::Store)
    }

    fn is_mine(&self, upload: &Upload) -> bool {
        upload.layer == self.name && upload.store == self.objects.to_string()
    }

    /// What the store keeps of it costs its owner; that it cannot be told so changes nothing.
    async fn give_up(&self, upload: &Upload) {
        let Some(parts) = &self.place.parts else { return };
        let name = name_of(upload);
        if let Err(error) = persist(Patience::Reader, SILENCE, || parts.abort_multipart(&name, &upload.id)).await {
            tracing::debug!("the upload of `{}` was not given up: {error}", upload.object);
        }
    }

    /// Ends an upload that is not needed any more: somebody else has sent the object.
    pub(super) async fn end_upload(&self, store: &Store, name: &Name) {
        let note = Note::of(store, self, name);
        if let Some((upload, _)) = note.read().filter(|(upload, _)| self.is_mine(upload)) {
            self.give_up(&upload).await;
            note.forget();
        }
    }
}

impl Note {
    fn of(store: &Store, layer: &Inner, object: &Name) -> Note {
        let whole = format!("{}\n{}\n{object}", layer.name, layer.objects);
        Note::at(store.inner.layout.upload(&Digest::of(whole.as_bytes())))
    }

    /// A note that cannot be kept, as in a cache that is read only, is none.
    fn at(path: PathBuf) -> Note {
        let taken = files::make_parent(&path).and_then(|()| FileLock::try_take(&path.with_extension("lock"), ""));
        Note { path, lock: taken.unwrap_or_default() }
    }

    fn is_kept(&self) -> bool {
        self.lock.is_some()
    }

    /// The upload and its parts. A line that was cut was never noted.
    fn read(&self) -> Option<(Upload, BTreeMap<usize, String>)> {
        self.lock.as_ref()?;
        let text = fs::read_to_string(&self.path).ok()?;
        let mut lines = text.lines();
        let upload = serde_json::from_str(lines.next()?).ok()?;
        Some((upload, lines.map_while(|line| serde_json::from_str(line).ok()).collect()))
    }

    fn write(&self, upload: &Upload) -> Result<(), CacheError> {
        if !self.is_kept() {
            return Ok(());
        }
        let line = serde_json::to_string(upload).map_err(io::Error::other);
        let written = line.and_then(|line| fs::write(&self.path, line + "\n"));
        written.map_err(|source| CacheError::writing("noting an upload in", &self.path, source))
    }

    /// A part that could not be noted is sent again after a break.
    fn add(&self, index: usize, id: &str) {
        if !self.is_kept() {
            return;
        }
        let line = serde_json::json!([index, id]);
        let file = OpenOptions::new().append(true).open(&self.path);
        if let Err(error) = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
            tracing::debug!("a part was not noted in `{}`: {error}", self.path.display());
        }
    }

    fn forget(&self) {
        match self.is_kept().then(|| fs::remove_file(&self.path)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                tracing::debug!("`{}` stays behind: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

fn keep(
    note: &Note,
    done: &mut BTreeMap<usize, String>,
    (index, sent): (usize, object_store::Result<PartId>),
) -> Result<(), Cut> {
    let id = sent.map_err(Cut::Store)?.content_id;
    note.add(index, &id);
    done.insert(index, id);
    Ok(())
}

fn name_of(upload: &Upload) -> Name {
    Name::from(upload.object.as_str())
}

/// The next part of a file, whole but for the last one; empty at the end.
fn read_part(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut part = Vec::new();
    file.take(length).read_to_end(&mut part)?;
    Ok(part)
}
