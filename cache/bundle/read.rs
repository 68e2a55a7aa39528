//! Reading a bundle, which is checking it: from the first byte to the last, then what its records say of its blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::archive::Reader;
use super::{
    Bundle, Bundled, HEADER, LONGEST_SEGMENT, Place, RESULTS, Span, above, place_of, segment_name, segment_text,
};
use crate::hash::finish;
use crate::layer::{self, Entry, LONGEST_FOLDER, limits, names};
use crate::{Artifact, CacheError, Digest, Realisation, SignedRecord, Tree};

/// A longer list of results is refused: a hundred thousand have 20 MB.
const LONGEST_RESULTS: u64 = 1 << 28;

pub(super) fn read(path: &Path) -> Result<Bundle, CacheError> {
    let mut reader = Reader::open(path)?;
    let (_, text) = reader.text(|name| name == RESULTS, LONGEST_RESULTS)?;
    let results = results(&text).ok_or_else(|| reader.bad("its list of results does not read".into()))?;
    let format = names::format();
    if reader.text(|name| name == format.as_ref(), layer::FORMAT.len() as u64)?.1 != layer::FORMAT {
        return Err(reader.bad("its layout is not one that is known here".into()));
    }
    let is_segment = |name: &str| name.starts_with(names::segments().as_ref());
    let (named, text) = reader.text(is_segment, LONGEST_SEGMENT)?;
    if named != segment_name(&text) {
        return Err(reader.bad("its list of records has another digest".into()));
    }
    let records = records(&text).map_err(|why| reader.bad(why))?;
    let blobs = blobs(&mut reader)?;
    let bundle = Bundle { path: path.to_owned(), results, records, blobs };
    bundle.check_records()?;
    bundle.check_blobs().map(|()| bundle)
}

/// Sorted, each once, at least one.
fn results(text: &[u8]) -> Option<BTreeSet<Place>> {
    let body = std::str::from_utf8(text).ok()?.strip_prefix(HEADER)?.strip_suffix('\n')?;
    let mut results = BTreeSet::new();
    for line in body.split('\n') {
        let mut words = line.split(' ');
        let (recipe, action, result) = (words.next()?, words.next()?, words.next()?);
        let made = Realisation { action: action.parse().ok()?, result: result.parse().ok()? };
        let place = (recipe.parse().ok()?, made);
        if words.next().is_some() || results.last().is_some_and(|last| *last >= place) || !results.insert(place) {
            return None;
        }
    }
    Some(results)
}

/// Each signature is checked, and both keys of each record are computed again.
fn records(text: &[u8]) -> Result<Vec<Bundled>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "its list of records is no text")?;
    let mut records = Vec::new();
    for line in text.split('\n') {
        let entry: Entry = serde_json::from_str(line).map_err(|why| format!("a record does not read: {why}"))?;
        let signed = entry.read().map_err(|why| format!("a record is not to be believed: {why}"))?;
        let plain = Entry::new(&signed, true, entry.whole, Vec::new());
        if segment_text(&[plain]).ok().as_deref() != Some(line.as_bytes()) {
            return Err(format!("the record of `{}` is not written as a bundle has it", signed.record().step));
        }
        records.push(Bundled { signed, whole: entry.whole });
    }
    let order = |signed: &SignedRecord| (signed.record().action, signed.record().recipe, signed.signer());
    match records.is_sorted_by(|one, other| order(&one.signed) < order(&other.signed)) {
        true => Ok(records),
        false => Err("its records are not in their order, each once".into()),
    }
}

/// To the end of the file.
fn blobs(reader: &mut Reader) -> Result<BTreeMap<Digest, Span>, CacheError> {
    let mut blobs = BTreeMap::new();
    while let Some(member) = reader.next()? {
        let digest = member.name.rsplitn(3, '/').take(2).collect::<Vec<_>>();
        let digest = digest.iter().rev().copied().collect::<String>().parse::<Digest>().ok();
        let digest = digest.filter(|digest| names::blob(digest).as_ref() == member.name);
        let digest = digest.ok_or_else(|| reader.bad(format!("`{}` is nothing that a bundle holds", member.name)))?;
        let mut hasher = blake3::Hasher::new();
        reader.body(&member, |bytes| {
            hasher.update_rayon(bytes);
        })?;
        if finish(&hasher) != digest {
            return Err(reader.bad(format!("the bytes of `{digest}` have another digest")));
        }
        if blobs.last_key_value().is_some_and(|(last, _)| *last >= digest) {
            return Err(reader.bad("its blobs are not in their order, each once".into()));
        }
        blobs.insert(digest, Span { offset: member.offset, size: member.size });
    }
    Ok(blobs)
}

impl Bundle {
    /// Its results are there, and no record that is not of them and of what they were made from.
    fn check_records(&self) -> Result<(), CacheError> {
        let mut by_place: BTreeMap<Place, Vec<&Bundled>> = BTreeMap::new();
        for bundled in &self.records {
            by_place.entry(place_of(&bundled.signed)).or_default().push(bundled);
        }
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<Place> = self.results.iter().copied().collect();
        while let Some(place) = waiting.pop() {
            if seen.insert(place) {
                let of_it = by_place.get(&place).map(Vec::as_slice).unwrap_or_default();
                waiting.extend(of_it.iter().flat_map(|bundled| above(&bundled.signed)));
            }
        }
        let whole = |place| by_place.get(place).is_some_and(|of_it| of_it.iter().all(|bundled| bundled.whole));
        if !self.results.iter().all(whole) {
            return Err(self.bad("it does not hold a result that it says it was made for".into()));
        }
        match self.records.iter().find(|bundled| !seen.contains(&place_of(&bundled.signed))) {
            Some(Bundled { signed, .. }) => {
                Err(self.bad(format!("nothing in it was made from its record of `{}`", signed.record().step)))
            }
            None => Ok(()),
        }
    }

    /// Every byte that a whole record speaks of is there, folders can be made, and nothing else is there.
    fn check_blobs(&self) -> Result<(), CacheError> {
        let mut used = BTreeSet::new();
        for Bundled { signed, .. } in self.records.iter().filter(|bundled| bundled.whole) {
            for (name, output) in &signed.record().outputs {
                let checked = self.check_artifact(&output.artifact, &mut used)?;
                checked.map_err(|why| self.bad(format!("`{name}` of `{}`: {why}", signed.record().step)))?;
            }
        }
        match self.blobs.keys().find(|digest| !used.contains(*digest)) {
            Some(digest) => Err(self.bad(format!("no record speaks of its blob `{digest}`"))),
            None => Ok(()),
        }
    }

    fn check_artifact(
        &self,
        artifact: &Artifact,
        used: &mut BTreeSet<Digest>,
    ) -> Result<Result<(), String>, CacheError> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![*artifact];
        while let Some(artifact) = waiting.pop() {
            if !seen.insert(artifact) {
                continue;
            }
            let Some(span) = self.blobs.get(&artifact.digest) else {
                return Ok(Err(format!("its blob `{}` is missing", artifact.digest)));
            };
            used.insert(artifact.digest);
            if artifact.is_tree() {
                let tree = match self.tree(&artifact.digest) {
                    Err(error @ (CacheError::BadTree { .. } | CacheError::WrongKind { .. })) => {
                        return Ok(Err(error.to_string()));
                    }
                    tree => tree?,
                };
                if tree.artifact() != artifact {
                    return Ok(Err("a folder has other sizes than its record says".into()));
                }
                waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact));
            } else if span.size != artifact.size {
                return Ok(Err(format!("{} bytes are declared to be {}", span.size, artifact.size)));
            }
        }
        Ok(limits::unreasonable_in(&|digest| self.tree(digest).map(Arc::new), artifact)?.map_or(Ok(()), Err))
    }

    fn tree(&self, digest: &Digest) -> Result<Tree, CacheError> {
        let wrong = || CacheError::WrongKind { digest: *digest, expected: "folder" };
        let span = self.blobs.get(digest).filter(|span| span.size <= LONGEST_FOLDER).ok_or_else(wrong)?;
        let mut text = vec![0; usize::try_from(span.size).map_err(|_| wrong())?];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut text, span.offset));
        read.map_err(|source| CacheError::system("reading", &self.path, source))?;
        Tree::decode(std::str::from_utf8(&text).map_err(|_| wrong())?)
    }
}
