//! Pushing: blobs first, folders after what is in them, then records, and last the catalogue that lists them. A reader
//! so never finds a record without its bytes, wherever a push is killed; what is there already is not sent again, so a
//! push that is typed once more goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::catalogue::Entry;
use super::packs::SMALL;
use super::{Layer, Published};
use crate::store::{Store, lock};
use crate::{Artifact, CacheError, Digest, Repair, SignedRecord};

/// A pack is closed when it has this many bytes.
const PACK: u64 = 32 << 20;

/// So many large blobs are sent at once.
const AT_ONCE: usize = 4;

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Records that the layer had not.
    pub records: usize,
    /// Blobs that it had not.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The store ignores conditional puts: of two that publish an action at once, the later takes the first one's place.
    pub unconditional: bool,
}

/// The blobs that a record stands on, files before folders.
type Blobs = Vec<(Digest, u64)>;

impl Layer {
    /// Pushes records with everything they stand on, and the mere records of `ancestors`, so that others can see what the
    /// first were made from. `progress` is told the bytes of blobs that are there by
    /// now, sent or not.
    pub fn push(
        &self,
        store: &Store,
        records: &[SignedRecord],
        ancestors: &[SignedRecord],
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Pushed, CacheError> {
        self.push_looking(store, records, ancestors, Repair::No, progress)
    }

    /// The same; to repair, the bytes that the layer has of these records are read, and sent again where they are wrong.
    pub fn push_looking(
        &self,
        store: &Store,
        records: &[SignedRecord],
        ancestors: &[SignedRecord],
        repair: Repair,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Pushed, CacheError> {
        let unconditional = !self.prepare()?;
        let catalogue = self.catalogue(store)?;
        let mut packed: BTreeSet<&Digest> = catalogue.entries().iter().flat_map(|entry| &entry.packs).collect();
        if repair == Repair::Yes {
            let of_these = records.iter().flat_map(|signed| catalogue.of_action(&signed.record().action));
            for pack in of_these.flat_map(|entry| &entry.packs) {
                if packed.contains(pack) && !self.is_whole_pack(pack)? {
                    packed.remove(pack);
                }
            }
        }
        let mut places = self.packed_blobs(&packed)?;
        let stands: Vec<Blobs> =
            records.iter().map(|signed| blobs_of(store, signed)).collect::<Result<_, CacheError>>()?;
        let mut seen = BTreeSet::new();
        let all = stands.iter().flatten().filter(|(digest, _)| seen.insert(*digest) && !places.contains_key(digest));
        let (small, large): (Blobs, Blobs) = all.partition(|(_, size)| *size <= SMALL);
        let mut pushed = Pushed { unconditional, ..Pushed::default() };
        pushed.note(&self.send_large(store, &large, repair, progress)?);
        for blobs in packs(&small) {
            let pack = self.send_pack(store, blobs)?;
            places.extend(blobs.iter().map(|(digest, _)| (*digest, pack)));
            progress(blobs.iter().map(|(_, size)| size).sum());
            pushed.note(blobs);
        }
        let all = ancestors.iter().map(|signed| (signed, None)).chain(records.iter().zip(stands.iter().map(Some)));
        let mut entries = Vec::new();
        for (signed, blobs) in all {
            let published = self.publish(signed)?;
            pushed.records += usize::from(published != Published::Known);
            let packs: BTreeSet<Digest> =
                blobs.into_iter().flatten().filter_map(|(digest, _)| places.get(digest).copied()).collect();
            let same = |entry: &&Entry| {
                entry.whole >= blobs.is_some()
                    && packs.iter().all(|pack| entry.packs.contains(pack))
                    && entry.record().as_ref() == Some(signed)
            };
            let listed = catalogue.of_action(&signed.record().action).iter().any(same);
            if published != Published::Known || !listed {
                entries.push(self.entry(signed, published, blobs.is_some(), packs)?);
            }
        }
        if !entries.is_empty() {
            self.write_segment(&entries)?;
        }
        Ok(pushed)
    }

    fn entry(
        &self,
        signed: &SignedRecord,
        published: Published,
        whole: bool,
        packs: BTreeSet<Digest>,
    ) -> Result<Entry, CacheError> {
        let first = match published {
            Published::First => true,
            Published::Known => self.records(&signed.record().action)?.first() == Some(signed),
            Published::Confirmed | Published::Beside => false,
        };
        Ok(Entry::new(signed, first, whole, packs.into_iter().collect()))
    }

    /// Where the small blobs are. A pack whose index is gone holds nothing: its blobs are sent again.
    fn packed_blobs(&self, packs: &BTreeSet<&Digest>) -> Result<BTreeMap<Digest, Digest>, CacheError> {
        let mut places = BTreeMap::new();
        for pack in packs {
            let held = self.packed(pack)?.unwrap_or_default();
            places.extend(held.into_iter().map(|(digest, _)| (digest, **pack)));
        }
        Ok(places)
    }

    /// Several at once; the first error ends it.
    fn send_large(
        &self,
        store: &Store,
        blobs: &Blobs,
        repair: Repair,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Blobs, CacheError> {
        let (next, sent) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
        let work = || {
            while let Some((digest, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let done = self.send_looking(store, digest, *size, repair);
                progress(*size);
                let mut sent = lock(&sent);
                match (&mut *sent, done) {
                    (Ok(sent), Ok(new)) => sent.extend(new.then_some((*digest, *size))),
                    (Ok(_), Err(error)) => *sent = Err(error),
                    (Err(_), _) => {}
                }
                if sent.is_err() {
                    next.store(blobs.len(), Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| (0..AT_ONCE.min(blobs.len())).for_each(|_| drop(scope.spawn(work))));
        sent.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Pushed {
    fn note(&mut self, blobs: &[(Digest, u64)]) {
        self.blobs += blobs.len();
        self.bytes += blobs.iter().map(|(_, size)| size).sum::<u64>();
    }
}

/// In their order, as many as fit.
fn packs(blobs: &Blobs) -> Vec<&[(Digest, u64)]> {
    let (mut packs, mut start, mut filled) = (Vec::new(), 0, 0);
    for (at, (_, size)) in blobs.iter().enumerate() {
        if at > start && filled + size > PACK {
            packs.push(&blobs[start..at]);
            (start, filled) = (at, 0);
        }
        filled += size;
    }
    packs.extend((start < blobs.len()).then(|| &blobs[start..]));
    packs
}

fn blobs_of(store: &Store, signed: &SignedRecord) -> Result<Blobs, CacheError> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<Artifact> = signed.record().outputs.values().map(|output| output.artifact).collect();
    while let Some(artifact) = waiting.pop() {
        if !seen.insert((artifact.digest, artifact.is_tree())) {
            continue;
        }
        if artifact.is_tree() {
            let tree = store.tree(&artifact.digest)?;
            folders.push((artifact.digest, tree.encode().len() as u64));
            waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact));
        } else {
            files.push((artifact.digest, artifact.size));
        }
    }
    files.extend(folders);
    Ok(files)
}
