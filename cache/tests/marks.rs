//! Shared marks: they come back as they were signed, and are nothing else than marks.

use plumb_cache::{ActionKey, Digest, Layer, Place, Policy, SecretKey, SignedMarks, SignedRecord, Statement};
use proptest::prelude::*;

use crate::layers::scene::Scene;
use crate::support::House;

fn statement(number: u64, taken_back: bool) -> Statement {
    Statement {
        action: ActionKey::of_document("one"),
        result: Digest::of(b"one"),
        number,
        taken_back,
        reason: "a broken\nGPU".into(),
        at: "2026-11-23T13:00:00Z".into(),
        step: "make".into(),
    }
}

#[test]
fn of_one_signers_words_the_highest_number_counts_in_whatever_order_they_come() {
    let key = SecretKey::new().unwrap();
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let scene = Scene::in_memory();
        for number in order {
            let marks = SignedMarks::sign(vec![statement(number, number % 2 == 0)], &key).unwrap();
            assert_eq!(SignedMarks::decode(marks.encode()).unwrap(), marks);
            assert!(scene.store.keep_marks(&marks).unwrap() && !scene.store.keep_marks(&marks).unwrap());
        }
        let last = scene.store.last_words().unwrap();
        assert_eq!(last.into_values().collect::<Vec<_>>(), [statement(3, false)]);
    }
}

#[test]
fn lists_are_read_once_and_of_strangers_only_some() {
    for scene in Scene::everywhere() {
        let (alice, house) = (SecretKey::new().unwrap(), House::new());
        let reader = house.quick_store();
        reader.set_people(Policy::new([(alice.public(), "alice".to_owned())], []));
        assert_eq!(scene.layer.read_marks(&reader).unwrap(), Vec::<String>::new(), "none is none");
        let marks = SignedMarks::sign(vec![statement(1, false)], &alice).unwrap();
        scene.layer.publish_marks(&marks).unwrap();
        for _ in 0..30 {
            let stranger = SecretKey::new().unwrap();
            scene.layer.publish_marks(&SignedMarks::sign(vec![statement(1, false)], &stranger).unwrap()).unwrap();
        }
        assert_eq!(scene.layer.read_marks(&reader).unwrap(), Vec::<String>::new());
        assert_eq!((reader.last_words().unwrap().len(), reader.marks_heard()), (21, 21), "alice's and 20 of strangers");
        assert!(reader.last_words().unwrap().contains_key(&(alice.public(), statement(1, false).made())));
        let all = reader.all_disowned().unwrap();
        assert_eq!((all.len(), all[0].mark.by.as_str()), (1, "shared by alice"), "hers alone is obeyed");
        assert_eq!(reader.mark_of(&statement(1, false).made()).unwrap().as_ref(), Some(&all[0]));
    }
}

#[test]
fn whoever_cannot_list_a_layer_is_told_of_its_marks() {
    let (scene, alice, house) = (Scene::in_memory(), SecretKey::new().unwrap(), House::new());
    let reader = house.quick_store();
    reader.set_people(Policy::new([(alice.public(), "alice".to_owned())], []));
    let web = Layer::at("web", Place::new(scene.objects.clone()).read_only());
    assert_eq!(web.read_marks(&reader).unwrap(), Vec::<String>::new());
    scene.layer.publish_marks(&SignedMarks::sign(vec![statement(1, false)], &alice).unwrap()).unwrap();
    assert_eq!(web.read_marks(&reader).unwrap(), Vec::<String>::new());
    assert_eq!(reader.all_disowned().unwrap().len(), 1);
    assert!(web.publish_marks(&SignedMarks::sign(vec![statement(2, true)], &alice).unwrap()).is_err());
}

#[test]
fn a_record_is_no_mark_and_a_mark_no_record() {
    let (scene, key) = (Scene::in_memory(), SecretKey::new().unwrap());
    let record = scene.signed("text", &key).encode();
    let marks = SignedMarks::sign(vec![statement(1, false)], &key).unwrap();
    let as_marks = [b"plumb-marks 1 ", &record[b"plumb-signed 1 ".len()..]].concat();
    assert!(SignedMarks::decode(&as_marks).unwrap_err().starts_with("it was not signed so by"));
    let as_record = [b"plumb-signed 1 ", &marks.encode()[b"plumb-marks 1 ".len()..]].concat();
    assert!(SignedRecord::decode(&as_record).unwrap_err().starts_with("it was not signed so by"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_flipped_bit_and_any_cut_of_a_mark_is_refused(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        let marks = SignedMarks::sign(vec![statement(1, false), statement(2, true)], &SecretKey::new().unwrap()).unwrap();
        let mut flipped = marks.encode().to_vec();
        flipped[at.index(marks.encode().len())] ^= 1 << bit;
        prop_assert!(SignedMarks::decode(&flipped).is_err());
        prop_assert!(SignedMarks::decode(&marks.encode()[..at.index(marks.encode().len())]).is_err());
    }
}
