//! Marks in a layer: the lists of disowned results that people have shared. One request lists them; each that is new is
//! read once and kept in the cache. A list that is not what its name says is none, and is complained of.

use std::sync::Arc;

use object_store::path::Path as Name;

use super::place::Access;
use super::{Inner, Layer, names};
use crate::marks::LONGEST;
use crate::store::Store;
use crate::{CacheError, Digest, Policy, PublicKey, SignedMarks};

/// Of people who are not trusted no more new lists are read at a time: they change nothing, and anybody may add some.
const MOST_OF_STRANGERS: usize = 20;

impl Layer {
    /// Publishes a list.
    pub fn publish_marks(&self, marks: &SignedMarks) -> Result<(), CacheError> {
        let (inner, name) = (Arc::clone(&self.inner), names::marks(&marks.signer(), &Digest::of(marks.encode())));
        let text = marks.encode().to_vec();
        self.wait(async move {
            inner.put(&name, text).await?;
            // For those who cannot list. Of two at once the later may leave out the earlier's; the next one adds it.
            let names = inner.listed_marks().await?;
            let lines: String = names.iter().map(|name| format!("{name}\n")).collect();
            inner.put(&names::list_of_marks(), lines.into_bytes()).await
        })
    }

    /// Brings the lists that are new, and says what is wrong with some of them.
    pub fn read_marks(&self, store: &Store) -> Result<Vec<String>, CacheError> {
        let (inner, held) = (Arc::clone(&self.inner), store.clone());
        self.wait(async move { inner.read_marks(&held).await })
    }
}

impl Inner {
    async fn read_marks(&self, store: &Store) -> Result<Vec<String>, CacheError> {
        let named = match self.place.access {
            Access::Full => self.listed_marks().await?,
            Access::ReadOnly => self.told_marks().await?,
        };
        let named = named.into_iter().filter_map(|name| names::marks_named(&name));
        let named = named.map(|(signer, digest)| (names::marks(&signer, &digest), (signer, digest)));
        let mut new: Vec<(Name, (PublicKey, Digest))> =
            named.filter(|(_, (signer, digest))| !store.keeps_marks(signer, digest)).collect();
        new.sort();
        let (mut complaints, mut strangers) = (Vec::new(), 0);
        for (name, (signer, digest)) in new {
            if !store.people().is_some_and(|people: &Policy| people.knows_and_trusts(&signer)) {
                strangers += 1;
                if strangers > MOST_OF_STRANGERS {
                    continue;
                }
            }
            match self.marks(&name, &signer, &digest).await? {
                Ok(Some(marks)) if store.writable() => drop(store.keep_marks(&marks)?),
                Ok(_) => {}
                Err(why) => complaints.push(format!("marks in the layer `{}` are not obeyed: {why}", self.name)),
            }
        }
        Ok(complaints)
    }

    async fn listed_marks(&self) -> Result<Vec<Name>, CacheError> {
        let listed = self.list(&names::all_marks()).await?;
        Ok(listed.into_iter().map(|found| found.location).filter(|name| names::marks_named(name).is_some()).collect())
    }

    async fn told_marks(&self) -> Result<Vec<Name>, CacheError> {
        let text = self.get(&names::list_of_marks(), LONGEST as u64).await?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().map(Name::from).collect())
    }

    async fn marks(
        &self,
        name: &Name,
        signer: &PublicKey,
        digest: &Digest,
    ) -> Result<Result<Option<SignedMarks>, String>, CacheError> {
        let bytes = match self.get(name, LONGEST as u64).await {
            Err(CacheError::LayerLied { why, .. }) => return Ok(Err(why)),
            bytes => bytes?,
        };
        let Some(bytes) = bytes else { return Ok(Ok(None)) };
        if Digest::of(&bytes) != *digest {
            return Ok(Err("they have another digest than their name says".into()));
        }
        Ok(match SignedMarks::decode(&bytes) {
            Ok(marks) if marks.signer() == *signer => Ok(Some(marks)),
            Ok(marks) => Err(format!("they stand among those of `{signer}`, and `{}` signed them", marks.signer())),
            Err(why) => Err(why),
        })
    }
}
