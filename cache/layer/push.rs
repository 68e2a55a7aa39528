//! Pushing: blobs first, then the records that stand on them, and last the catalogue that lists those. A reader so never
//! finds a record without its bytes, wherever a push is killed; what is there already is not sent again, so a push that
//! is typed once more goes on.
//!
//! A push that is asked to end sends no further blob, and publishes the records whose blobs are all there by then. The
//! small ones go first, together: most results are small, and are there when a large one is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::catalogue::{Catalogue, Entry};
use super::packs::SMALL;
use super::{Layer, Parcel, Published};
use crate::store::{Store, lock};
use crate::{ActionKey, Artifact, CacheError, Digest, Progress, RecipeKey, Repair, SignedRecord};

/// A pack is closed when it has this many bytes.
const PACK: u64 = 32 << 20;

/// So many large blobs are sent at once.
const AT_ONCE: usize = 4;

/// Small blobs are looked for in so many packs that came with other actions: each costs a request, once.
const OTHER_PACKS: usize = 64;

/// What is sent, and how.
#[derive(Clone, Copy)]
pub struct Shipment<'a> {
    /// The records.
    pub parcel: &'a Parcel,
    /// To repair, the bytes that the layer has of these records are read, and sent again where they are wrong.
    pub repair: Repair,
    /// So many large blobs at once: each takes some memory.
    pub at_once: usize,
    /// Is told the bytes in all, then those of blobs that are there by now, sent or not.
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Whether to go on: asked before each blob or pack but the first.
    pub go_on: &'a (dyn Fn() -> bool + Sync),
}

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

/// What came of a shipment.
#[derive(Debug, Default)]
pub struct Shipped {
    /// What it did.
    pub pushed: Pushed,
    /// The results that the layer has now with all their bytes.
    pub there: BTreeSet<(RecipeKey, ActionKey)>,
    /// Why others could not be sent: bytes that this cache has lost.
    pub lost: Vec<CacheError>,
}

/// The blobs that a record stands on.
pub(crate) type Blobs = Vec<(Digest, u64)>;

/// The state of a push: which blobs are there by now.
struct Cargo<'a> {
    layer: &'a Layer,
    store: &'a Store,
    shipment: Shipment<'a>,
    /// Where small blobs are.
    places: BTreeMap<Digest, Digest>,
    /// Large ones that are there.
    large: BTreeSet<Digest>,
    /// Whether anything was begun.
    begun: bool,
    shipped: Shipped,
}

impl Layer {
    /// Pushes records with everything they stand on, and the mere records of `ancestors`, so that others can see what the
    /// first were made from. `progress` is told the bytes of blobs that are there by now, sent or not.
    pub fn push(
        &self,
        store: &Store,
        records: &[SignedRecord],
        ancestors: &[SignedRecord],
        progress: &(dyn Fn(Progress) + Sync),
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
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Pushed, CacheError> {
        let parcel = Parcel { records: records.to_vec(), ancestors: ancestors.to_vec() };
        let shipped = self.ship(store, Shipment { repair, progress, ..Shipment::of(&parcel) })?;
        shipped.lost.into_iter().next().map_or(Ok(shipped.pushed), Err)
    }

    /// Pushes what a parcel holds.
    pub fn ship(&self, store: &Store, shipment: Shipment<'_>) -> Result<Shipped, CacheError> {
        let unconditional = !self.prepare()?;
        self.abandon_old_uploads(store)?;
        let catalogue = self.catalogue(store)?;
        let pushed = Pushed { unconditional, ..Pushed::default() };
        let (places, large) = (self.packed_blobs(&catalogue, shipment)?, BTreeSet::new());
        let shipped = Shipped { pushed, ..Shipped::default() };
        Cargo { layer: self, store, shipment, places, large, begun: false, shipped }.send(catalogue)
    }

    /// Where small blobs are: in packs of the same actions, and in some of others, since models share their small files.
    /// A pack whose index is gone or damaged holds nothing: its blobs are sent again.
    fn packed_blobs(
        &self,
        catalogue: &Catalogue,
        Shipment { parcel, repair, .. }: Shipment<'_>,
    ) -> Result<BTreeMap<Digest, Digest>, CacheError> {
        let of_these = parcel.records.iter().flat_map(|signed| catalogue.of_action(&signed.record().action));
        let own: BTreeSet<Digest> = of_these.flat_map(|entry| entry.packs.iter().copied()).collect();
        let all: BTreeSet<Digest> = catalogue.entries().iter().flat_map(|entry| entry.packs.iter().copied()).collect();
        let mut places = BTreeMap::new();
        for pack in all.difference(&own).take(OTHER_PACKS) {
            places.extend(self.held(pack)?.into_iter().map(|digest| (digest, *pack)));
        }
        for pack in &own {
            if repair == Repair::Yes && !self.is_whole_pack(pack)? {
                // Whoever shares it is not helped by what is broken.
                places.retain(|_, place| place != pack);
                continue;
            }
            places.extend(self.held(pack)?.into_iter().map(|digest| (digest, *pack)));
        }
        Ok(places)
    }

    fn held(&self, pack: &Digest) -> Result<Vec<Digest>, CacheError> {
        match self.packed(pack) {
            Err(CacheError::LayerLied { .. }) => Ok(Vec::new()),
            held => Ok(held?.unwrap_or_default().into_iter().map(|(digest, _)| digest).collect()),
        }
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
}

impl<'a> Shipment<'a> {
    /// Everything in it, as fast as may be.
    pub fn of(parcel: &'a Parcel) -> Shipment<'a> {
        Shipment { parcel, repair: Repair::No, at_once: AT_ONCE, progress: &|_| {}, go_on: &|| true }
    }
}

impl Cargo<'_> {
    fn send(mut self, catalogue: Catalogue) -> Result<Shipped, CacheError> {
        let parcel = self.shipment.parcel;
        let stands = parcel.records.iter().map(|signed| self.stands_on(signed)).collect::<Result<Vec<_>, _>>()?;
        let mut seen = BTreeSet::new();
        let all: Blobs =
            stands.iter().flatten().flatten().filter(|(digest, _)| seen.insert(*digest)).copied().collect();
        (self.shipment.progress)(Progress::Total(all.iter().map(|(_, size)| size).sum()));
        let (there, rest): (Blobs, Blobs) = all.into_iter().partition(|(digest, _)| self.places.contains_key(digest));
        (self.shipment.progress)(Progress::Hashed(there.iter().map(|(_, size)| size).sum()));
        let (small, large): (Blobs, Blobs) = rest.into_iter().partition(|(_, size)| *size <= SMALL);
        self.send_small(&small)?;
        self.send_large(&large)?;
        let whole: Vec<Option<Blobs>> = stands.into_iter().map(|blobs| blobs.filter(|blobs| self.has(blobs))).collect();
        let ancestors = parcel.ancestors.iter().map(|signed| (signed, None));
        let records =
            parcel.records.iter().zip(&whole).filter_map(|(signed, blobs)| Some((signed, Some(blobs.as_ref()?))));
        self.publish(&ancestors.chain(records).collect::<Vec<_>>(), catalogue)?;
        Ok(self.shipped)
    }

    /// `None` where this cache has lost a folder of it.
    fn stands_on(&mut self, signed: &SignedRecord) -> Result<Option<Blobs>, CacheError> {
        match blobs_of(self.store, signed) {
            Ok(blobs) => Ok(Some(blobs)),
            Err(error) if error.is_miss() => {
                self.shipped.lost.push(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn has(&self, blobs: &Blobs) -> bool {
        blobs.iter().all(|(digest, _)| self.places.contains_key(digest) || self.large.contains(digest))
    }

    fn may_begin(&mut self) -> bool {
        let may = !self.begun || (self.shipment.go_on)();
        self.begun |= may;
        may
    }

    fn send_small(&mut self, blobs: &Blobs) -> Result<(), CacheError> {
        for blobs in packs(blobs) {
            if !self.may_begin() {
                return Ok(());
            }
            let pack = match self.layer.send_pack(self.store, blobs) {
                Ok(pack) => pack,
                Err(error) if error.is_miss() => {
                    self.shipped.lost.push(error);
                    self.send_one_by_one(blobs)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.packed(blobs, pack);
        }
        Ok(())
    }

    /// One of them is damaged here: the others go all the same.
    fn send_one_by_one(&mut self, blobs: &[(Digest, u64)]) -> Result<(), CacheError> {
        let sound = |(digest, size): &&(Digest, u64)| self.store.read_blob(digest, *size).is_ok();
        let sound: Blobs = blobs.iter().filter(sound).copied().collect();
        if !sound.is_empty() {
            let pack = self.layer.send_pack(self.store, &sound)?;
            self.packed(&sound, pack);
        }
        Ok(())
    }

    fn packed(&mut self, blobs: &[(Digest, u64)], pack: Digest) {
        self.places.extend(blobs.iter().map(|(digest, _)| (*digest, pack)));
        self.shipped.pushed.note(blobs);
        (self.shipment.progress)(Progress::Hashed(blobs.iter().map(|(_, size)| size).sum()));
    }

    /// Several at once; the first error of the layer ends it.
    fn send_large(&mut self, blobs: &Blobs) -> Result<(), CacheError> {
        if blobs.is_empty() || !self.may_begin() {
            return Ok(());
        }
        let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let Shipment { repair, progress, go_on, at_once, .. } = self.shipment;
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((digest, size)) = blobs.get(at).filter(|_| at == 0 || go_on()) else { return };
                let tell = |bytes| progress(Progress::Hashed(bytes));
                let sent = self.layer.send_looking(self.store, digest, *size, repair, &tell);
                if sent.as_ref().is_err_and(|error| !error.is_miss()) {
                    next.store(blobs.len(), Ordering::Relaxed);
                }
                lock(&ended).push(((*digest, *size), sent));
            }
        };
        thread::scope(|scope| (0..at_once.min(blobs.len())).for_each(|_| drop(scope.spawn(work))));
        for (blob, sent) in ended.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            match sent {
                Ok(new) => {
                    self.shipped.pushed.note(if new { std::slice::from_ref(&blob) } else { &[] });
                    self.large.insert(blob.0);
                }
                Err(error) if error.is_miss() => self.shipped.lost.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Publishes records, those with all their blobs there and mere ones, and lists them. What the layer lists so already
    /// is not asked for again.
    fn publish(&mut self, records: &[(&SignedRecord, Option<&Blobs>)], catalogue: Catalogue) -> Result<(), CacheError> {
        let mut new = Vec::new();
        for (signed, blobs) in records {
            let small = blobs.iter().flat_map(|blobs| blobs.iter());
            let packs: BTreeSet<Digest> = small.filter_map(|(digest, _)| self.places.get(digest).copied()).collect();
            let listed = catalogue.of_action(&signed.record().action).into_iter().any(|entry| {
                entry.whole >= blobs.is_some()
                    && packs.iter().all(|pack| entry.packs.contains(pack))
                    && entry.record().as_ref() == Some(*signed)
            });
            if !listed || self.shipment.repair == Repair::Yes {
                new.push(((*signed).clone(), blobs.is_some(), packs, listed));
            }
        }
        let published = self.layer.publish_all(new.iter().map(|(signed, ..)| signed.clone()).collect())?;
        let mut entries = Vec::new();
        for ((signed, whole, packs, listed), published) in new.into_iter().zip(published) {
            self.shipped.pushed.records += usize::from(published != Published::Known);
            if !listed || published != Published::Known {
                entries.push(self.layer.entry(&signed, published, whole, packs)?);
            }
        }
        if !entries.is_empty() {
            self.layer.list(self.store, &entries, catalogue)?;
        }
        let there = records.iter().filter(|(_, blobs)| blobs.is_some());
        self.shipped.there = there.map(|(signed, _)| (signed.record().recipe, signed.record().action)).collect();
        Ok(())
    }
}

impl Pushed {
    /// Both together.
    pub fn and(self, other: Pushed) -> Pushed {
        Pushed {
            records: self.records + other.records,
            blobs: self.blobs + other.blobs,
            bytes: self.bytes + other.bytes,
            unconditional: self.unconditional || other.unconditional,
        }
    }

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

/// Everything that a record stands on.
pub(crate) fn blobs_of(store: &Store, signed: &SignedRecord) -> Result<Blobs, CacheError> {
    let mut blobs = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting: Vec<Artifact> = signed.record().outputs.values().map(|output| output.artifact).collect();
    while let Some(artifact) = waiting.pop() {
        if !seen.insert((artifact.digest, artifact.is_tree())) {
            continue;
        }
        if artifact.is_tree() {
            let tree = store.tree(&artifact.digest)?;
            blobs.push((artifact.digest, tree.encode().len() as u64));
            waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact));
        } else {
            blobs.push((artifact.digest, artifact.size));
        }
    }
    Ok(blobs)
}
