//! What a collector takes: which results, and then which blobs nothing stands on any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::leftovers::{Leftover, LeftoverKind};
use super::roots::Roots;
use super::{CollectOptions, Collection, Evicted};
use crate::census::{Census, Reach};
use crate::store::Store;
use crate::{ActionKey, Artifact, ArtifactKind, CacheError, Digest};

/// A download takes about as long as its bytes at this rate (bytes a second).
const NETWORK: f64 = 10e6;

/// What somebody stands on: a result with its record, or a download with its note.
struct Owner {
    /// Removed first.
    path: PathBuf,
    told: Evicted,
    blobs: Vec<Digest>,
    rooted: bool,
    witness: bool,
}

/// What goes.
pub(super) struct Choice {
    owners: Vec<Owner>,
    /// Owners that go, in order.
    going: Vec<usize>,
    /// Blobs that go.
    unwanted: BTreeSet<Digest>,
    leftovers: Vec<Leftover>,
    /// Actions that are remembered from before.
    past: BTreeSet<ActionKey>,
    before: u64,
    after: u64,
    rooted: u64,
}

impl Choice {
    /// What is removed first; with the action of a record that is remembered.
    pub(super) fn evicted_files(&self) -> impl Iterator<Item = (&Path, Option<&ActionKey>)> {
        let owners = self.going.iter().map(|index| &self.owners[*index]);
        owners.map(|owner| (owner.path.as_path(), owner.told.action.as_ref().filter(|_| !owner.witness)))
    }

    pub(super) fn unwanted(&self) -> impl Iterator<Item = &Digest> {
        self.unwanted.iter()
    }

    pub(super) fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }

    /// The actions that are known afterwards: those with a result, and those that are remembered.
    pub(super) fn remaining(&self) -> BTreeSet<ActionKey> {
        let owners = self.owners.iter().filter_map(|owner| owner.told.action);
        owners.chain(self.past.iter().copied()).collect()
    }

    pub(super) fn told(&self) -> Collection {
        Collection {
            evicted: self.going.iter().map(|index| self.owners[*index].told.clone()).collect(),
            leftovers: self.leftovers.clone(),
            before: self.before,
            after: self.after,
            rooted: self.rooted,
        }
    }
}

impl Store {
    pub(super) fn choose(&self, options: &CollectOptions) -> Result<Choice, CacheError> {
        let census = self.census()?;
        let roots = self.roots(options.keep_runs)?;
        let owners = self.owners(&census, &roots)?;
        let rooted = self.rooted_blobs(&census, &roots, &owners);
        let live = self.live_blobs(&census, &roots);
        let mut refs: BTreeMap<Digest, u32> = BTreeMap::new();
        for digest in owners.iter().flat_map(|owner| &owner.blobs).chain(&rooted) {
            *refs.entry(*digest).or_default() += 1;
        }
        let mut unwanted: BTreeSet<Digest> =
            census.blobs.keys().filter(|digest| !refs.contains_key(digest)).copied().collect();
        let mut leftovers = self.leftovers(&census, &roots, options.forgotten, &|digest| refs.contains_key(digest))?;
        leftovers.extend(Leftover::of_blobs(LeftoverKind::Orphan, &census, &unwanted));
        let beside: u64 = self.beside()?.values().map(|share| share.bytes).sum();
        let before = census.blobs.values().sum::<u64>() + beside;
        let mut after = before.saturating_sub(leftovers.iter().map(|leftover| leftover.bytes).sum());
        let limit = options.max_size.unwrap_or(u64::MAX);
        if options.drop_whole || after > limit {
            let whole = restorable(&census, &live, &unwanted);
            after = after.saturating_sub(census.bytes(&whole));
            leftovers.extend(Leftover::of_blobs(LeftoverKind::Whole, &census, &whole));
            unwanted.extend(whole);
        }
        let past = census.past.iter().filter(|past| leftovers.iter().all(|leftover| leftover.path != past.path));
        let past = past.map(|past| past.action).collect();
        let (going, rooted) = (Vec::new(), census.bytes(&rooted));
        let mut choice = Choice { owners, going, unwanted, leftovers, past, before, after, rooted };
        choice.evict(&census, &mut refs, limit);
        Ok(choice)
    }

    fn owners(&self, census: &Census, roots: &Roots) -> Result<Vec<Owner>, CacheError> {
        let results = census.kept.iter().map(|kept| {
            let mut reach = Reach::default();
            kept.outputs.iter().for_each(|(_, artifact, _)| self.reach(census, artifact, &mut reach));
            let told = Evicted {
                action: Some(kept.action),
                step: kept.step.clone(),
                pipeline: kept.pipeline.clone(),
                bytes: 0,
                seconds: kept.cost.wall_seconds.max(0.0),
            };
            let rooted = roots.actions.contains(&kept.action);
            let (path, witness) = (kept.path.clone(), kept.witness);
            Owner { path, told, blobs: reach.blobs.into_iter().collect(), rooted, witness }
        });
        let mut owners: Vec<Owner> = results.collect();
        for (path, name, artifact) in self.downloads()? {
            let mut reach = Reach::default();
            self.reach(census, &artifact, &mut reach);
            let seconds = artifact.size as f64 / NETWORK;
            let told = Evicted { action: None, step: name, pipeline: String::new(), bytes: 0, seconds };
            let rooted = roots.digests.contains(&artifact.digest);
            owners.push(Owner { path, told, blobs: reach.blobs.into_iter().collect(), rooted, witness: false });
        }
        Ok(owners)
    }

    fn rooted_blobs(&self, census: &Census, roots: &Roots, owners: &[Owner]) -> BTreeSet<Digest> {
        let mut reach = Reach::default();
        self.reach_all(census, &roots.digests, &mut reach);
        let of_owners = owners.iter().filter(|owner| owner.rooted).flat_map(|owner| &owner.blobs);
        reach.blobs.into_iter().chain(of_owners.copied()).collect()
    }

    fn live_blobs(&self, census: &Census, roots: &Roots) -> BTreeSet<Digest> {
        let mut reach = Reach::default();
        let live = census.kept.iter().filter(|kept| roots.live.contains(&kept.action));
        live.flat_map(|kept| &kept.outputs).for_each(|(_, artifact, _)| self.reach(census, artifact, &mut reach));
        self.reach_all(census, &roots.live_sources, &mut reach);
        reach.blobs
    }

    /// Of sources only the digest is known: what they are is looked up.
    fn reach_all(&self, census: &Census, digests: &BTreeSet<Digest>, into: &mut Reach) {
        for digest in digests.iter().filter(|digest| census.holds(digest)) {
            let kind = if self.starts_as_tree(digest) { ArtifactKind::Tree } else { ArtifactKind::File };
            self.reach(census, &Artifact { digest: *digest, kind, size: 0, files: 0 }, into);
        }
    }
}

/// Whole files that can be put together again and that no running step may be about to read.
fn restorable(census: &Census, live: &BTreeSet<Digest>, unwanted: &BTreeSet<Digest>) -> BTreeSet<Digest> {
    let whole = census.packs.iter().filter(|(digest, manifest)| {
        let there = |digest: &Digest| census.blobs.contains_key(digest) && !unwanted.contains(digest);
        there(digest)
            && !live.contains(digest)
            // A piece that is the whole file itself would be its own copy.
            && manifest.pieces.iter().all(|piece| there(&piece.digest) && piece.digest != **digest)
    });
    let pieces: BTreeSet<Digest> =
        census.packs.values().flat_map(|manifest| &manifest.pieces).map(|piece| piece.digest).collect();
    whole.map(|(digest, _)| *digest).filter(|digest| !pieces.contains(digest)).collect()
}

impl Choice {
    /// The cheapest to make again for the bytes it holds goes first. Bytes that several results share count for each in
    /// part, and are free only once the last of them has gone.
    fn evict(&mut self, census: &Census, refs: &mut BTreeMap<Digest, u32>, limit: u64) {
        if self.after <= limit {
            return;
        }
        let rooted: BTreeSet<Digest> =
            self.owners.iter().filter(|owner| owner.rooted).flat_map(|owner| &owner.blobs).copied().collect();
        let size = |digest: &Digest| {
            if self.unwanted.contains(digest) { 0 } else { census.blobs.get(digest).copied().unwrap_or(0) }
        };
        let share = |owner: &Owner| -> f64 {
            let own = owner.blobs.iter().filter(|digest| !rooted.contains(digest));
            own.map(|digest| size(digest) as f64 / f64::from(refs[digest])).sum()
        };
        let mut order: Vec<(f64, usize)> = (0..self.owners.len())
            .filter(|index| !self.owners[*index].rooted)
            .map(|index| (share(&self.owners[index]), index))
            .filter(|(bytes, _)| *bytes > 0.0)
            .map(|(bytes, index)| (self.owners[index].told.seconds / bytes, index))
            .collect();
        order.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        for (_, index) in order {
            if self.after <= limit {
                break;
            }
            let owner = &mut self.owners[index];
            for digest in &owner.blobs {
                let left = refs.get_mut(digest).map_or(0, |count| {
                    *count -= 1;
                    *count
                });
                if left == 0
                    && let Some(bytes) = census.blobs.get(digest)
                    && self.unwanted.insert(*digest)
                {
                    owner.told.bytes += bytes;
                }
            }
            self.after = self.after.saturating_sub(owner.told.bytes);
            self.going.push(index);
        }
    }
}
