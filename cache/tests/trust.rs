//! Trust: a record is used with everything it was made from, or not at all, and the reason is told.

use std::cell::Cell;
use std::collections::BTreeMap;

use plumb_cache::{
    ActionRecord, CacheError, Digest, Policy, PublicKey, Realisation, RecipeKey, SecretKey, SignedRecord, Verdict,
    Witnesses,
};

use crate::support::{House, record};

/// What everybody says, and what was made here.
#[derive(Default)]
struct World {
    signed: BTreeMap<RecipeKey, Vec<SignedRecord>>,
    own: Vec<ActionRecord>,
    asked: Cell<usize>,
}

impl Witnesses for World {
    fn records(&self, recipe: &RecipeKey) -> Result<Vec<SignedRecord>, CacheError> {
        self.asked.set(self.asked.get() + 1);
        Ok(self.signed.get(recipe).cloned().unwrap_or_default())
    }

    fn own(&self, recipe: &RecipeKey, made: &Realisation) -> Result<Option<ActionRecord>, CacheError> {
        let own = self.own.iter().find(|own| own.recipe == *recipe && own.realisation() == *made);
        Ok(own.cloned())
    }
}

impl World {
    fn says(&mut self, key: &SecretKey, record: &ActionRecord) -> SignedRecord {
        let signed = SignedRecord::sign(record.clone(), key).unwrap();
        self.signed.entry(record.recipe).or_default().push(signed.clone());
        signed
    }
}

/// A record of this name, made from these.
fn made(name: &str, from: &[&ActionRecord]) -> ActionRecord {
    let house = House::new();
    let mut made = record(name, house.quick_store().ingest_bytes(name.as_bytes()).unwrap());
    made.ancestry = from.iter().map(|from| (from.recipe, from.realisation())).collect();
    made
}

fn keys() -> [SecretKey; 3] {
    [(); 3].map(|()| SecretKey::new().unwrap())
}

fn named(key: &SecretKey, name: &str) -> (PublicKey, String) {
    (key.public(), name.to_owned())
}

#[test]
fn a_record_of_somebody_trusted_made_from_such_records_is_used() {
    let [alice, ci, mallory] = keys();
    let (prep, mut world) = (made("prep", &[]), World::default());
    let train = made("train", &[&prep]);
    world.says(&mallory, &prep);
    world.says(&ci, &prep);
    let signed = world.says(&alice, &train);
    let policy = Policy::new([named(&alice, "alice"), named(&ci, "ci")], []);
    assert_eq!(policy.judge(&signed, &world).unwrap(), Verdict::Trusted, "several say it, one of them is trusted");
}

#[test]
fn a_stranger_at_the_top_or_far_above_is_named() {
    let [alice, bob, mallory] = keys();
    let mut world = World::default();
    let prep = made("prep", &[]);
    let train = made("train", &[&prep]);
    let score = made("score", &[&train]);
    world.says(&bob, &prep);
    world.says(&alice, &train);
    let signed = world.says(&alice, &score);
    let policy = Policy::new([named(&alice, "alice")], [named(&bob, "bob")]);
    let stranger = Verdict::Stranger { step: prep.step.clone(), signer: bob.public(), name: Some("bob".into()) };
    assert_eq!(policy.judge(&signed, &world).unwrap(), stranger);
    let forged = SignedRecord::sign(score, &mallory).unwrap();
    let stranger = Verdict::Stranger { step: "make@n=score".into(), signer: mallory.public(), name: None };
    assert_eq!(policy.judge(&forged, &world).unwrap(), stranger);
    let policy = Policy::new([], []).of_anybody();
    assert_eq!(policy.judge(&forged, &world).unwrap(), Verdict::Trusted, "`--trust-any`");
}

#[test]
fn a_trusted_record_of_another_result_vouches_for_nothing() {
    let [alice, mallory, _] = keys();
    let mut world = World::default();
    let prep = made("prep", &[]);
    let mut other = prep.clone();
    other.outputs.values_mut().for_each(|output| output.artifact.digest = Digest::of(b"other bytes"));
    world.says(&alice, &prep);
    let signed = world.says(&alice, &made("train", &[&other]));
    let policy = Policy::new([named(&alice, "alice")], []);
    assert_eq!(policy.judge(&signed, &world).unwrap(), Verdict::Unvouched { recipe: prep.recipe });
    world.says(&mallory, &other);
    let stranger = Verdict::Stranger { step: other.step, signer: mallory.public(), name: None };
    assert_eq!(policy.judge(&signed, &world).unwrap(), stranger);
}

#[test]
fn what_was_made_here_needs_no_signature() {
    let [alice, _, _] = keys();
    let mut world = World::default();
    let prep = made("prep", &[]);
    let signed = world.says(&alice, &made("train", &[&prep]));
    let policy = Policy::new([named(&alice, "alice")], []);
    assert_eq!(policy.judge(&signed, &world).unwrap(), Verdict::Unvouched { recipe: prep.recipe });
    world.own.push(prep);
    assert_eq!(policy.judge(&signed, &world).unwrap(), Verdict::Trusted);
}

#[test]
fn a_chain_of_thousands_is_walked_once() {
    let [alice, _, _] = keys();
    let mut world = World::default();
    let artifact = made("0", &[]).outputs["out"].artifact;
    let mut chain = vec![record("0", artifact)];
    for number in 1..3000 {
        let mut next = record(&number.to_string(), artifact);
        let from = &chain[number - 1];
        next.ancestry.insert(from.recipe, from.realisation());
        chain.push(next);
    }
    let signed: Vec<SignedRecord> = chain.iter().map(|record| world.says(&alice, record)).collect();
    let policy = Policy::new([named(&alice, "alice")], []);
    for signed in signed.iter().rev() {
        assert_eq!(policy.judge(signed, &world).unwrap(), Verdict::Trusted);
    }
    assert_eq!(world.asked.get(), chain.len() - 1);
}
