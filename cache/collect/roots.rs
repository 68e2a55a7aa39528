//! The roots of the collector: what stays whatever it costs.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{listed, name_of};
use crate::lock::FileLock;
use crate::store::Store;
use crate::{ActionKey, CacheError, Digest};

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Roots {
    pub(super) actions: BTreeSet<ActionKey>,
    /// Those of runs that go on: not even a whole file that could be put together again is taken from them.
    pub(super) live: BTreeSet<ActionKey>,
    /// Sources that runs which go on read.
    pub(super) live_sources: BTreeSet<Digest>,
    /// Sources that stay: these, those of the last runs, and what lock files name.
    pub(super) digests: BTreeSet<Digest>,
    /// The folders of runs whose lists were read.
    pub(super) runs: BTreeSet<String>,
}

impl Store {
    pub(super) fn roots(&self, keep_runs: usize) -> Result<Roots, CacheError> {
        let mut roots = Roots::default();
        roots.actions.extend(self.pins()?.into_iter().map(|pin| pin.action));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for used in self.all_used()? {
            let runs = seen.entry(used.project).or_default();
            if used.live {
                roots.live.extend(used.actions);
                roots.live_sources.extend(used.sources);
            } else if *runs < keep_runs {
                roots.actions.extend(used.actions);
                roots.digests.extend(used.sources);
            } else {
                continue;
            }
            *runs += 1;
            roots.runs.insert(used.run);
        }
        roots.actions.extend(self.all_waiting()?);
        roots.live.extend(self.claimed()?);
        roots.actions.extend(&roots.live);
        roots.digests.extend(&roots.live_sources);
        roots.digests.extend(self.projects()?.into_iter().flat_map(|project| project.digests));
        Ok(roots)
    }

    /// The actions that somebody is running. A claim left by a dead process goes with this look.
    fn claimed(&self) -> Result<BTreeSet<ActionKey>, CacheError> {
        let mut claimed = BTreeSet::new();
        for path in listed(&self.inner.layout.folder("claims"))? {
            let Ok(action) = name_of(&path).parse() else { continue };
            // What cannot be asked is taken for held.
            if !matches!(FileLock::try_take(&path, ""), Ok(Some(_))) {
                claimed.insert(action);
            }
        }
        Ok(claimed)
    }
}
