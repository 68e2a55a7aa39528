//! Segments: the parts of a catalogue, as they lie in the layer. Each push adds one; whoever pushes and finds many small
//! ones puts them together, so that a reader who comes for the first time asks for few. Knows lines, not records.
//!
//! ```text
//! plumb-1/segments/DIGEST           lines: the records of one push
//! plumb-1/segments/DIGEST.merged    `plumb-merged 1 N`, N lines with the digests of segments, and all lines of those
//! plumb-1/list                      lines: the names of those that nothing stands for, and their lengths
//! v1/layers/DIGEST                  either, once it was read
//! ```
//!
//! Nothing is taken away, so a reader never misses what it was just told of; it skips what a merged one stands for. One
//! that lies about that hides records from those who believe it, who then make them again: a miss, as if somebody had
//! deleted the segments, until the records are listed anew, in another segment.
//!
//! A web server lists nothing: who reads from one asks for `list`, which each push writes anew. A stale one or one that
//! lies is a miss, too.
//!
//! The bound: eight segments of like length (of one power of eight) become one, up to 16 MiB. So a first reader asks for
//! the list (a request for each thousand pushes), for at most seven segments of each power of eight, that is
//! 40 or so, and for one more for each 16 MiB of records; later ones for the list and what is new in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::place::Access;
use super::{Inner, Layer, names};
use crate::files::{Durability, touch};
use crate::records::read_if_there;
use crate::store::Store;
use crate::{CacheError, Digest};

/// A longer segment is refused: a push of a hundred thousand records has some hundred MB.
const LONGEST: u64 = 1 << 30;

/// A longer list is refused: some hundred thousand names.
const LONGEST_LIST: u64 = 16 << 20;

/// Longer ones are left as they are.
const MERGED: u64 = 16 << 20;

/// So many of like length become one.
const MANY: usize = 8;

/// So many are read at once.
const AT_ONCE: usize = 8;

/// What the name of one that stands for others ends with.
const ENDING: &str = ".merged";

const HEADER: &str = "plumb-merged 1 ";

/// One segment, as the list names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) digest: Digest,
    merged: bool,
    size: u64,
}

/// Segments that nothing else stands for, with their texts, or what is wrong with them.
pub(super) type Segments = Vec<(Segment, Result<Vec<u8>, String>)>;

impl Segment {
    /// As the last part of its object's name says.
    fn named(name: &str, size: u64) -> Option<Segment> {
        let (digest, merged) = name.strip_suffix(ENDING).map_or((name, false), |digest| (digest, true));
        Some(Segment { digest: digest.parse().ok()?, merged, size })
    }

    pub(super) fn name(&self) -> object_store::path::Path {
        let ending = if self.merged { ENDING } else { "" };
        names::segments().join(format!("{}{ending}", self.digest))
    }

    /// Those of like length have the same one.
    fn tier(&self) -> u32 {
        self.size.max(1).ilog2() / 3
    }

    /// The lines of its text, and what it stands for.
    pub(super) fn parts<'t>(&self, text: &'t str) -> (Vec<Digest>, impl Iterator<Item = &'t str> + use<'t>) {
        let mut lines = text.lines();
        let mut covered = Vec::new();
        if self.merged {
            let count = lines.next().and_then(|head| head.strip_prefix(HEADER)?.parse().ok()).unwrap_or(0_usize);
            covered.extend(lines.by_ref().take(count).filter_map(|line| line.parse::<Digest>().ok()));
        }
        (covered, lines)
    }
}

impl Layer {
    /// What the layer lists now.
    pub(super) fn segments(&self, store: &Store) -> Result<Segments, CacheError> {
        let (inner, held) = (Arc::clone(&self.inner), store.clone());
        self.wait(async move { inner.segments(&held).await })
    }

    /// Adds the lines of one push, and puts segments together where there are many; `known` are those that were there.
    pub(super) fn add_segment(
        &self,
        store: &Store,
        lines: &[String],
        mut known: Vec<Segment>,
    ) -> Result<(), CacheError> {
        known.push(self.write_segment(store, lines.join("\n"), false)?);
        if let Err(error) = self.merge(store, &mut known) {
            // What the push was about is there; the next one puts them together.
            tracing::debug!("segments were not put together: {error}");
        }
        self.tell(&known)
    }

    /// Tells those who cannot list which segments there are. Of two pushes at once the later may leave out the earlier's;
    /// the next one adds it.
    fn tell(&self, known: &[Segment]) -> Result<(), CacheError> {
        let line = |segment: &Segment| format!("{} {}\n", segment.name().filename().unwrap_or_default(), segment.size);
        let (inner, lines) = (Arc::clone(&self.inner), known.iter().map(line).collect::<String>());
        self.wait(async move { inner.put(&names::list(), lines.into_bytes()).await })
    }

    fn merge(&self, store: &Store, known: &mut Vec<Segment>) -> Result<(), CacheError> {
        while let Some(alike) = many_alike(known) {
            let (mut covered, mut lines) = (BTreeSet::new(), BTreeSet::new());
            for segment in &alike {
                let (inner, held, asked) = (Arc::clone(&self.inner), store.clone(), *segment);
                let text = self.wait(async move { inner.segment(&held, &asked).await })?;
                // One that is not what it should be covers nothing, and is not covered.
                let Some(Ok(text)) = text else { continue };
                let text = String::from_utf8_lossy(&text);
                let (also, its_lines) = segment.parts(&text);
                covered.extend(also.into_iter().chain([segment.digest]));
                lines.extend(its_lines.map(str::to_owned));
            }
            known.retain(|segment| !alike.contains(segment));
            let head = format!("{HEADER}{}\n", covered.len());
            let covered: String = covered.iter().map(|digest| format!("{digest}\n")).collect();
            let lines: Vec<String> = lines.into_iter().collect();
            known.push(self.write_segment(store, head + &covered + &lines.join("\n"), true)?);
        }
        Ok(())
    }

    /// It is kept here too: whoever wrote it need not read it.
    fn write_segment(&self, store: &Store, text: String, merged: bool) -> Result<Segment, CacheError> {
        let text = text.into_bytes();
        let segment = Segment { digest: Digest::of(&text), merged, size: text.len() as u64 };
        keep(store, &segment, &text)?;
        let inner = Arc::clone(&self.inner);
        self.wait(async move { inner.put(&segment.name(), text).await }).map(|()| segment)
    }
}

/// The smallest ones of which there are many; each is written once for every tier at most.
fn many_alike(known: &[Segment]) -> Option<Vec<Segment>> {
    let mut tiers: BTreeMap<u32, Vec<Segment>> = BTreeMap::new();
    for segment in known.iter().filter(|segment| segment.size < MERGED) {
        tiers.entry(segment.tier()).or_default().push(*segment);
    }
    tiers.into_values().find(|alike| alike.len() >= MANY)
}

fn keep(store: &Store, segment: &Segment, text: &[u8]) -> Result<(), CacheError> {
    if !store.writable() {
        return Ok(());
    }
    store.replace(&store.inner.layout.segment(&segment.digest), text, Durability::Memory, "keeping a catalogue in")
}

impl Inner {
    /// In the order of their names, so that everybody sees the same.
    async fn segments(&self, store: &Store) -> Result<Segments, CacheError> {
        let named = match self.place.access {
            Access::Full => self.listed_segments().await?,
            Access::ReadOnly => self.told_segments().await?,
        };
        let (mut merged, mut single): (Vec<Segment>, Vec<Segment>) =
            named.into_iter().partition(|segment| segment.merged);
        // What stands for another is longer than it: the longest first.
        merged.sort_by_key(|segment| std::cmp::Reverse(segment.size));
        let (mut covered, mut read) = (BTreeSet::new(), Vec::new());
        for segment in merged {
            if covered.contains(&segment.digest) {
                continue;
            }
            let Some(text) = self.segment(store, &segment).await? else { continue };
            if let Ok(text) = &text {
                covered.extend(segment.parts(&String::from_utf8_lossy(text)).0);
            }
            read.push((segment, text));
        }
        single.retain(|segment| !covered.contains(&segment.digest));
        let rest = stream::iter(single).map(|segment| async move {
            let text = self.segment(store, &segment).await?;
            Ok::<_, CacheError>(text.map(|text| (segment, text)))
        });
        let rest: Vec<Option<_>> = rest.buffered(AT_ONCE).try_collect().await?;
        read.extend(rest.into_iter().flatten());
        read.sort_by_key(|(segment, _)| segment.digest);
        Ok(read)
    }

    async fn listed_segments(&self) -> Result<BTreeSet<Segment>, CacheError> {
        let listed = self.list(&names::segments()).await?;
        Ok(listed.iter().filter_map(|found| Segment::named(found.location.filename()?, found.size)).collect())
    }

    /// As `list` has them. One that it leaves out, or that is not there, is a miss.
    async fn told_segments(&self) -> Result<BTreeSet<Segment>, CacheError> {
        let Some(text) = self.get(&names::list(), LONGEST_LIST).await? else {
            let why = "there is no layer at its address, or nobody has pushed to it yet".to_owned();
            return Err(self.trouble("reading its list", why));
        };
        let named = |line: &str| line.split_once(' ').and_then(|(name, size)| Segment::named(name, size.parse().ok()?));
        Ok(String::from_utf8_lossy(&text).lines().filter_map(named).collect())
    }

    /// From the cache, where it was read before. Another text than that of the name is none.
    async fn segment(&self, store: &Store, segment: &Segment) -> Result<Option<Result<Vec<u8>, String>>, CacheError> {
        let kept = store.inner.layout.segment(&segment.digest);
        let whole = |text: &Vec<u8>| Digest::of(text) == segment.digest;
        if let Some(text) = read_if_there(&kept)?.filter(whole) {
            // One that cannot be touched is collected early, and asked for again.
            let _ = touch(&kept);
            return Ok(Some(Ok(text)));
        }
        let name = segment.name();
        let text = match self.get(&name, LONGEST).await {
            Err(error @ CacheError::LayerLied { .. }) => return Ok(Some(Err(error.to_string()))),
            text => text?,
        };
        match text {
            Some(text) if whole(&text) => {
                keep(store, segment, &text)?;
                Ok(Some(Ok(text)))
            }
            Some(_) => Ok(Some(Err(self.lied(&name, "they have another digest".into()).to_string()))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, size: u64) -> Segment {
        Segment { digest: Digest::of(&number.to_le_bytes()), merged: false, size }
    }

    #[test]
    fn however_many_pushes_there_were_few_segments_are_live() {
        let (mut live, mut written): (Vec<Segment>, u64) = (Vec::new(), 0);
        for number in 0..10_000 {
            live.push(segment(number, 3000));
            while let Some(alike) = many_alike(&live) {
                live.retain(|segment| !alike.contains(segment));
                let size: u64 = alike.iter().map(|segment| segment.size).sum();
                written += size;
                live.push(Segment { merged: true, ..segment(1_000_000 + written, size) });
            }
            assert!(live.len() <= 7 * 6, "{} after {number}", live.len());
        }
        assert_eq!(live.iter().map(|segment| segment.size).sum::<u64>(), 10_000 * 3000);
        assert!(written < 6 * 10_000 * 3000, "each byte is written again once for every tier at most");
    }

    #[test]
    fn what_a_name_says_is_read_back() {
        for merged in [false, true] {
            let one = Segment { merged, ..segment(1, 5) };
            assert_eq!(Segment::named(one.name().filename().unwrap(), 5), Some(one));
        }
        assert_eq!(Segment::named("something else", 5), None);
    }
}
