//! Signed records: they come back as they were, and whoever changes anything is found out.

use plumb_cache::{ActionKey, ActionRecord, Artifact, Digest, SecretKey, SignedRecord};
use proptest::prelude::*;

use crate::support::{House, record};

fn made(text: &str) -> ActionRecord {
    let house = House::new();
    let artifact: Artifact = house.quick_store().ingest_bytes(text.as_bytes()).unwrap();
    let mut made = record(text, artifact);
    made.environment.insert("host".into(), "a \"quoted\" one\n".into());
    let ancestor = record("before", artifact);
    made.ancestry.insert(ancestor.recipe, ancestor.realisation());
    made
}

/// The bytes of a signed record with another body, under the old signature.
fn with_body(signed: &SignedRecord, body: &[u8]) -> Vec<u8> {
    let bytes = signed.encode();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    [&bytes[..=end], body].concat()
}

#[test]
fn a_signed_record_comes_back_with_its_signer_and_its_bytes() {
    let key = SecretKey::new().unwrap();
    let signed = SignedRecord::sign(made("one"), &key).unwrap();
    let back = SignedRecord::decode(&signed.encode()).unwrap();
    assert_eq!(back, signed);
    assert_eq!((back.signer(), back.record()), (key.public(), &made("one")));
    assert_eq!(back.encode(), signed.encode());
}

#[test]
fn a_record_under_anothers_signature_or_name_is_refused_with_the_reason() {
    let (alice, mallory) = (SecretKey::new().unwrap(), SecretKey::new().unwrap());
    let [one, two] = ["one", "two"].map(|text| SignedRecord::sign(made(text), &alice).unwrap());
    let why = |bytes: &[u8]| SignedRecord::decode(bytes).unwrap_err();
    let not_signed = format!("it was not signed so by `{}`", alice.public());
    assert_eq!(why(&with_body(&one, &two.record().encode().unwrap())), not_signed, "another record of hers");

    let mut forged = made("one");
    forged.made_by = "mallory".into();
    assert_eq!(why(&with_body(&one, &forged.encode().unwrap())), not_signed, "whole, but not what she signed");

    let by_mallory = String::from_utf8(SignedRecord::sign(forged, &mallory).unwrap().encode()).unwrap();
    let as_alice = by_mallory.replace(&mallory.public().hex(), &alice.public().hex());
    assert_eq!(why(as_alice.as_bytes()), not_signed, "mallory's own, in her name");
    assert_eq!(why(b"plumb-record 1 x\n"), "its header is not that of a signed record");
    assert_eq!(why(b""), "it has no header");
}

#[test]
fn what_a_signer_signed_must_still_prove_itself() {
    let key = SecretKey::new().unwrap();
    let mut wrong = made("one");
    wrong.action = ActionKey::of_document("another action");
    assert_eq!(
        SignedRecord::sign(wrong.clone(), &key).unwrap_err(),
        "its action document does not hash to its action key"
    );
    // A signer who does not check: the same key document under another key.
    let body = serde_json::to_string(&wrong).unwrap();
    let body = format!("plumb-record 1 {}\n{body}\n", Digest::of(format!("{body}\n").as_bytes()));
    let signature: String = key
        .sign(format!("plumb signed record v1\n{body}").as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let bytes = format!("plumb-signed 1 {} {signature}\n{body}", key.public().hex());
    assert_eq!(
        SignedRecord::decode(bytes.as_bytes()).unwrap_err(),
        "its action document does not hash to its action key"
    );
}

#[test]
fn a_signature_over_other_things_signs_no_record() {
    let key = SecretKey::new().unwrap();
    let body = made("one").encode().unwrap();
    let signature: String = key.sign(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let bytes = [format!("plumb-signed 1 {} {signature}\n", key.public().hex()).as_bytes(), &body].concat();
    assert!(SignedRecord::decode(&bytes).unwrap_err().starts_with("it was not signed so by"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let signed = SignedRecord::sign(made("one"), &SecretKey::new().unwrap()).unwrap();
        let whole = signed.encode();
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1 << bit;
        let why = SignedRecord::decode(&flipped).unwrap_err();
        prop_assert!(!why.is_empty());
        prop_assert!(SignedRecord::decode(&whole[..at.index(whole.len())]).is_err());
        prop_assert!(SignedRecord::decode(&[&whole, &b"\n"[..]].concat()).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let bytes = if head { [b"plumb-signed 1 ", bytes.as_slice()].concat() } else { bytes };
        prop_assert!(SignedRecord::decode(&bytes).is_err());
    }
}
