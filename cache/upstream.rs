//! Upstream: the layers that are asked for what this cache has not got. Offers records that the policy trusts with
//! their whole ancestry, and brings one with its bytes when somebody needs it; asks for nothing before the first
//! question, and never for single records (see `layer::catalogue`).
//!
//! A layer that fails or lies is sick: that is one warning, and from then on it has nothing.

mod voices;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;
use serde::Serialize;

use self::voices::Voices;
use crate::layer::{Catalogue, Entry, Layer};
use crate::store::{Store, lock};
use crate::{ActionKey, ActionRecord, CacheError, Policy, Realisation, RecipeKey, SignedRecord, Verdict};

/// More complaints about what layers list are not told: anybody who may write there can make some.
const MOST_WARNINGS: usize = 10;

/// Opens a layer, or says why it cannot.
pub type Opener = Box<dyn Fn() -> Result<Layer, String> + Send + Sync>;

/// Is told what people should know.
pub type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// Layers to read, the nearest first, and whom to believe.
pub struct Upstream {
    sources: Vec<Source>,
    policy: Policy,
    warn: Warn,
    known: Mutex<Known>,
    /// Once it is set, no layer is waited for any more.
    stopped: Arc<AtomicBool>,
}

struct Source {
    name: String,
    open: Opener,
    /// At the first question; `None` where it could not be opened or listed.
    opened: OnceLock<Option<Opened>>,
    sick: AtomicBool,
}

struct Opened {
    layer: Layer,
    catalogue: Catalogue,
}

/// What was found out so far.
#[derive(Default)]
struct Known {
    offers: BTreeMap<Realisation, Arc<Offer>>,
    refused: BTreeMap<RecipeKey, Refused>,
    lost: BTreeMap<Realisation, Loss>,
    /// What was told: once each.
    told: BTreeSet<String>,
}

/// A trusted record that lies in a layer, and not here.
struct Offer {
    source: usize,
    entry: Entry,
    signed: SignedRecord,
    /// Whoever brings it: others wait.
    gate: Mutex<()>,
}

/// Where a result would come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The name of the layer.
    pub layer: String,
    /// The name of who signed it, or the start of the key.
    pub signer: String,
    /// The bytes of its outputs.
    pub bytes: u64,
}

/// A result that lies in a layer and is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The name of the layer.
    pub layer: String,
    /// Whom the policy does not trust, by name or the start of the key; `None` where nobody who is trusted says how an
    /// ancestor was made.
    pub signer: Option<String>,
    /// The ancestor, where it is not the record itself that the stranger signed.
    pub ancestor: Option<String>,
}

/// A result whose bytes a layer turned out not to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    recipe: RecipeKey,
    /// The name of the layer.
    pub layer: String,
    /// The output that did not come.
    pub output: String,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources.iter().map(|source| &source.name)).finish()
    }
}

impl Upstream {
    /// Layers by name, the nearest first. Nothing is opened yet.
    pub fn new(layers: impl IntoIterator<Item = (String, Opener)>, policy: Policy, warn: Warn) -> Upstream {
        let source = |(name, open)| Source { name, open, opened: OnceLock::new(), sick: AtomicBool::new(false) };
        Upstream {
            sources: layers.into_iter().map(source).collect(),
            policy,
            warn,
            known: Mutex::default(),
            stopped: Arc::default(),
        }
    }

    fn offers(&self, store: &Store, find: impl Fn(&Catalogue) -> Vec<&Entry>) -> Result<Vec<ActionRecord>, CacheError> {
        let mut records = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            let Some(opened) = self.opened(store, source) else { continue };
            for entry in find(&opened.catalogue).into_iter().filter(|entry| entry.whole) {
                let Some(signed) = self.read(source, entry) else { continue };
                let (record, made) = (signed.record().clone(), signed.record().realisation());
                if lock(&self.known).lost.contains_key(&made) || store.is_disowned_by_people(&record)? {
                    continue;
                }
                match self.policy.judge(&signed, &Voices { upstream: self, store })? {
                    Verdict::Trusted => {
                        let offer = Offer {
                            source: at,
                            entry: opened.catalogue.with_all_packs(entry),
                            signed,
                            gate: Mutex::default(),
                        };
                        lock(&self.known).offers.entry(made).or_insert_with(|| Arc::new(offer));
                        records.push(record);
                    }
                    verdict => {
                        let refused = self.refused(source, &record, &signed, verdict);
                        lock(&self.known).refused.entry(record.recipe).or_insert(refused);
                    }
                }
            }
        }
        Ok(records)
    }

    fn refused(&self, source: &Source, record: &ActionRecord, signed: &SignedRecord, verdict: Verdict) -> Refused {
        let layer = source.name.clone();
        match verdict {
            Verdict::Stranger { step, signer, .. } => {
                let own = signer == signed.signer() && step == record.step;
                Refused { layer, signer: Some(self.name_of(&signer)), ancestor: (!own).then_some(step) }
            }
            Verdict::Unvouched { .. } | Verdict::Trusted => Refused { layer, signer: None, ancestor: None },
        }
    }

    fn name_of(&self, key: &crate::PublicKey) -> String {
        self.policy.called(key)
    }

    /// The layer and its list, if it is well.
    fn opened<'u>(&'u self, store: &Store, source: &'u Source) -> Option<&'u Opened> {
        let open = || {
            let layer = (source.open)().map_err(|why| self.sicken(source, &why)).ok()?.heeding(&self.stopped);
            let read = layer.catalogue(store).and_then(|catalogue| Ok((catalogue, layer.read_marks(store)?)));
            let (catalogue, marks) = match read {
                Err(CacheError::Stopped) => return None,
                read => read.map_err(|error| self.sicken(source, &error)).ok()?,
            };
            marks.iter().for_each(|complaint| self.tell(complaint));
            catalogue.complaints().iter().for_each(|complaint| self.tell(complaint));
            Some(Opened { layer, catalogue })
        };
        source.opened.get_or_init(open).as_ref().filter(|_| !source.is_sick())
    }

    /// The lists that were read, of layers that are well: asks nobody.
    fn loaded(&self) -> impl Iterator<Item = (&Source, &Catalogue)> {
        let well = self.sources.iter().filter(|source| !source.is_sick());
        well.filter_map(|source| Some((source, &source.opened.get()?.as_ref()?.catalogue)))
    }

    /// The record of an entry; one that proves nothing is told and is none.
    fn read(&self, source: &Source, entry: &Entry) -> Option<SignedRecord> {
        let bad = |why: &String| self.tell(&format!("a record in the layer `{}` is not used: {why}", source.name));
        entry.read().inspect_err(bad).ok()
    }

    fn tell(&self, complaint: &str) {
        let mut known = lock(&self.known);
        let new = known.told.len() < MOST_WARNINGS && known.told.insert(complaint.to_owned());
        drop(known);
        if new {
            (self.warn)(complaint);
        }
    }

    fn sicken(&self, source: &Source, why: &dyn fmt::Display) {
        if !source.sick.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!("the layer `{}` is left out: {why}", source.name));
        }
    }

    fn bring(&self, store: &Store, made: &Realisation, progress: &(dyn Fn(u64) + Sync)) -> Result<bool, CacheError> {
        let Some(offer) = self.offer(made) else { return Ok(!lock(&self.known).lost.contains_key(made)) };
        let _one_at_a_time = lock(&offer.gate);
        if self.offer(made).is_none() {
            return Ok(!lock(&self.known).lost.contains_key(made));
        }
        let source = &self.sources[offer.source];
        let pulled = match self.opened(store, source) {
            Some(opened) => opened.layer.pull(store, &offer.entry, &offer.signed, progress),
            None => Ok(None),
        };
        let pulled = match pulled {
            Err(error @ (CacheError::Layer { .. } | CacheError::LayerLied { .. } | CacheError::BadTree { .. })) => {
                self.sicken(source, &error);
                None
            }
            pulled => pulled?,
        };
        let record = offer.signed.record();
        let mut known = lock(&self.known);
        known.offers.remove(made);
        if pulled.is_none() {
            let lost = record.outputs.iter().find(|(_, output)| !store.present(&output.artifact));
            let output = lost.map(|(name, _)| name.clone()).unwrap_or_default();
            known.lost.insert(*made, Loss { recipe: record.recipe, layer: source.name.clone(), output });
        }
        Ok(pulled.is_some())
    }

    fn offer(&self, made: &Realisation) -> Option<Arc<Offer>> {
        lock(&self.known).offers.get(made).cloned()
    }
}

impl Source {
    fn is_sick(&self) -> bool {
        self.sick.load(Ordering::Relaxed)
    }
}

/// What layers have; without an upstream all of this is nothing, at no cost.
impl Store {
    /// Asks these layers from now on for what is not here. A cache that cannot be written asks nobody; nor does one that
    /// asks others already.
    pub fn set_upstream(&self, upstream: Upstream) {
        if self.writable() {
            let _ = self.inner.upstream.set(upstream);
        }
    }

    /// Reads the lists of all layers now, for whoever wants to hear what others say; one request for each, and one for
    /// each part of it that is new.
    pub fn read_layers(&self) {
        let Some(upstream) = self.upstream() else { return };
        for source in &upstream.sources {
            let _ = upstream.opened(self, source);
        }
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.inner.upstream.get()
    }

    /// Waits for layers no longer, neither now nor later: what comes just now is dropped, and `bring` says so.
    pub fn ask_no_more(&self) {
        if let Some(upstream) = self.upstream() {
            upstream.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// The trusted records of a recipe that lie in layers, those of nearer layers first.
    pub fn offers(&self, recipe: &RecipeKey) -> Result<Vec<ActionRecord>, CacheError> {
        self.upstream().map_or(Ok(Vec::new()), |upstream| upstream.offers(self, |list| list.of_recipe(recipe)))
    }

    /// `offers`, for many recipes at once and in their order: each signature that is looked at takes its time.
    pub fn offers_of(&self, recipes: &[RecipeKey]) -> Result<Vec<Vec<ActionRecord>>, CacheError> {
        let Some(upstream) = self.upstream() else { return Ok(vec![Vec::new(); recipes.len()]) };
        if !recipes.is_empty() {
            // Before many threads ask for the lists at once, of which all but one would wait.
            upstream.sources.iter().for_each(|source| {
                upstream.opened(self, source);
            });
        }
        recipes.par_iter().with_min_len(16).map(|recipe| self.offers(recipe)).collect()
    }

    /// The first trusted record of an action that lies in a layer.
    pub fn offer_of(&self, action: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        let Some(upstream) = self.upstream() else { return Ok(None) };
        Ok(upstream.offers(self, |list| list.of_action(action))?.into_iter().next())
    }

    /// Where a result would come from that was offered and was not brought yet.
    pub fn origin(&self, record: &ActionRecord) -> Option<Origin> {
        let upstream = self.upstream()?;
        let offer = upstream.offer(&record.realisation())?;
        let (layer, signer) = (upstream.sources[offer.source].name.clone(), upstream.name_of(&offer.signed.signer()));
        let bytes = record.outputs.values().map(|output| output.artifact.size).sum();
        Some(Origin { layer, signer, bytes })
    }

    /// Whether a result was offered and was not brought yet.
    pub fn is_offered(&self, record: &ActionRecord) -> bool {
        self.upstream().is_some_and(|upstream| upstream.offer(&record.realisation()).is_some())
    }

    /// Brings a result that was offered; `false` where the layer turned out not to have it. Nothing to do for any other.
    /// `progress` is told the bytes of blobs as they come.
    pub fn bring(&self, record: &ActionRecord, progress: &(dyn Fn(u64) + Sync)) -> Result<bool, CacheError> {
        let Some(upstream) = self.upstream() else { return Ok(true) };
        upstream.bring(self, &record.realisation(), progress)
    }

    /// The result of a recipe that lies in a layer and is not trusted, as far as it was asked for.
    pub fn refused(&self, recipe: &RecipeKey) -> Option<Refused> {
        lock(&self.upstream()?.known).refused.get(recipe).cloned()
    }

    /// The result of a recipe that a layer turned out not to have.
    pub fn layer_lost(&self, recipe: &RecipeKey) -> Option<Loss> {
        lock(&self.upstream()?.known).lost.values().find(|loss| loss.recipe == *recipe).cloned()
    }
}
