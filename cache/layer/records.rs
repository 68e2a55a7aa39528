//! Records of a layer: the first of an action stays what it was, and what others say of the action stands beside it. A
//! record is what its signature says, wherever it lies: one in a wrong place, or that does not prove itself, is none.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path as Name;

use super::place::Access;
use super::{Inner, Layer, names};
use crate::signed::LONGEST;
use crate::{ActionKey, CacheError, SignedRecord};

/// More witnesses of one action are not looked at: each costs a request, and anybody may add some.
const MOST_WITNESSES: usize = 100;

/// So many records are published at once.
const AT_ONCE: usize = 16;

/// What became of a record that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is the record of its action.
    First,
    /// This very record was there.
    Known,
    /// The action has a record with the same result; this one stands beside it.
    Confirmed,
    /// The action has a record with another result, or one that proves nothing; this one stands beside it.
    Beside,
}

impl Layer {
    /// Publishes a record whose blobs are all in the layer.
    pub fn publish(&self, signed: &SignedRecord) -> Result<Published, CacheError> {
        let (inner, signed) = (Arc::clone(&self.inner), signed.clone());
        self.wait(async move { inner.publish(&signed).await })
    }

    /// The same for many, some at once; in their order.
    pub(super) fn publish_all(&self, signed: Vec<SignedRecord>) -> Result<Vec<Published>, CacheError> {
        let inner = Arc::clone(&self.inner);
        self.wait(async move {
            let publish = |signed: SignedRecord| {
                let inner = Arc::clone(&inner);
                async move { inner.publish(&signed).await }
            };
            stream::iter(signed).map(publish).buffered(AT_ONCE).try_collect().await
        })
    }

    /// Everything that is said of an action and proves itself, the first record first; of a layer that lists nothing,
    /// only that. Whom to believe is another
    /// question.
    pub fn records(&self, action: &ActionKey) -> Result<Vec<SignedRecord>, CacheError> {
        let (inner, action) = (Arc::clone(&self.inner), *action);
        self.wait(async move { inner.records(&action).await })
    }
}

impl Inner {
    async fn publish(&self, signed: &SignedRecord) -> Result<Published, CacheError> {
        let record = signed.record();
        let (key, bytes) = (record.action, signed.encode());
        if self.create(&names::action(&key), bytes.clone()).await? {
            return Ok(Published::First);
        }
        let first = self.record(&names::action(&key), &key).await?;
        if first.as_ref() == Some(signed) {
            return Ok(Published::Known);
        }
        let new = self.create(&names::witness(&key, &record.result_digest(), &signed.signer()), bytes).await?;
        let same = first.is_some_and(|first| first.record().result_digest() == record.result_digest());
        Ok(match (new, same) {
            (false, _) => Published::Known,
            (true, true) => Published::Confirmed,
            (true, false) => Published::Beside,
        })
    }

    async fn records(&self, action: &ActionKey) -> Result<Vec<SignedRecord>, CacheError> {
        let mut records: Vec<SignedRecord> = self.record(&names::action(action), action).await?.into_iter().collect();
        if self.place.access == Access::ReadOnly {
            return Ok(records);
        }
        let listed = self.list(&names::witnesses(action)).await?;
        let mut names: Vec<Name> = listed.into_iter().map(|found| found.location).collect();
        names.sort();
        for name in names.iter().take(MOST_WITNESSES) {
            records.extend(self.record(name, action).await?);
        }
        Ok(records)
    }

    /// The record in an object, if it is one of this action.
    async fn record(&self, name: &Name, action: &ActionKey) -> Result<Option<SignedRecord>, CacheError> {
        let bytes = match self.get(name, LONGEST as u64).await {
            Err(CacheError::LayerLied { why, .. }) => return Ok(self.refuse(name, &why)),
            bytes => bytes?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        match SignedRecord::decode(&bytes) {
            Ok(signed) if signed.record().action == *action => Ok(Some(signed)),
            Ok(_) => Ok(self.refuse(name, "it is the record of another action")),
            Err(why) => Ok(self.refuse(name, &why)),
        }
    }

    fn refuse(&self, name: &Name, why: &str) -> Option<SignedRecord> {
        tracing::warn!("the record `{name}` of the layer `{}` is not used: {why}", self.name);
        None
    }
}
