//! Making a bundle: the file is there once it is whole, and never in the place of another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::archive::Writer;
use super::{HEADER, Place, RESULTS, above, place_of, segment_name, segment_text};
use crate::blobs::Look;
use crate::hash::{copy_hashing, finish};
use crate::layer::{self, Entry, blobs_of, names};
use crate::store::Store;
use crate::{CacheError, Digest, SignedRecord};

/// Whose bytes are in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// The results' own: of what they were made from, the records.
    Records,
    /// Those of everything that they were made from too.
    Bytes,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records.
    pub records: usize,
    /// Blobs.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Results in the lineage that nothing is known of any more.
    pub missing: usize,
}

impl Store {
    /// Writes results into a new file, each as the last of its lineage (see `signed_lineage`). `progress` is told the
    /// bytes of blobs as they are written.
    pub fn export_bundle(
        &self,
        lineages: &[Vec<SignedRecord>],
        inputs: Inputs,
        file: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Exported, CacheError> {
        let results: BTreeSet<Place> = lineages.iter().filter_map(|lineage| lineage.last()).map(place_of).collect();
        let mut records = BTreeMap::new();
        for signed in lineages.iter().flatten() {
            let record = signed.record();
            records.insert((record.action, record.recipe, signed.signer()), signed);
        }
        let (mut entries, mut blobs) = (Vec::new(), BTreeMap::<Digest, u64>::new());
        for signed in records.values() {
            let whole = inputs == Inputs::Bytes || results.contains(&place_of(signed));
            if whole {
                blobs.extend(blobs_of(self, signed)?);
            }
            entries.push(Entry::new(signed, true, whole, Vec::new()));
        }
        let there: BTreeSet<Place> = records.values().map(|signed| place_of(signed)).collect();
        let missing: BTreeSet<Place> =
            records.values().flat_map(|signed| above(signed)).filter(|place| !there.contains(place)).collect();
        let text = segment_text(&entries).map_err(|error| failed(file, error.into()))?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temp = NamedTempFile::new_in(folder).map_err(|source| failed(file, source))?;
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, temp));
        let mut add = |name: &str, text: &[u8]| writer.add_text(name, text).map_err(|source| failed(file, source));
        add(RESULTS, results_text(&results).as_bytes())?;
        add(names::format().as_ref(), layer::FORMAT)?;
        add(&segment_name(&text), &text)?;
        for (digest, size) in &blobs {
            self.add_blob(&mut writer, digest, *size, file)?;
            progress(*size);
        }
        let temp =
            writer.finish().and_then(|buffer| Ok(buffer.into_inner()?)).map_err(|source| failed(file, source))?;
        temp.persist_noclobber(file).map_err(|error| failed(file, error.error))?;
        let bytes = blobs.values().sum();
        Ok(Exported { records: records.len(), blobs: blobs.len(), bytes, missing: missing.len() })
    }

    fn add_blob<W: Write>(
        &self,
        writer: &mut Writer<W>,
        digest: &Digest,
        size: u64,
        file: &Path,
    ) -> Result<(), CacheError> {
        let path = self.sound(digest, size, Look::Use)?;
        let from = File::open(&path).map_err(|source| CacheError::system("reading", &path, source))?;
        let mut hasher = blake3::Hasher::new();
        let name = names::blob(digest);
        let added = writer.add(name.as_ref(), size, |mut to| copy_hashing(from, &mut to, &mut hasher));
        match finish(&hasher) == *digest {
            true => added.map_err(|source| failed(file, source)),
            false => Err(CacheError::Changed { path }),
        }
    }
}

fn results_text(results: &BTreeSet<Place>) -> String {
    let line = |(recipe, made): &Place| format!("{recipe} {} {}\n", made.action, made.result);
    HEADER.to_owned() + &results.iter().map(line).collect::<String>()
}

fn failed(file: &Path, source: io::Error) -> CacheError {
    CacheError::placing("writing", file, source)
}
