//! Bundles: the same content is the same file; what comes out is what went in; whatever is changed in one is found out,
//! and a file that was made on purpose to look like one is refused with the reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use plumb_cache::{
    ActionRecord, Bundle, CacheError, Digest, Imported, Importing, Inputs, Policy, SecretKey, Store, Verdict,
};
use proptest::prelude::*;

use crate::support::{House, record};

/// A cache with a file, made into a folder, made into a file; and somebody with a key.
struct Maker {
    house: House,
    store: Store,
    key: SecretKey,
    chain: Vec<ActionRecord>,
}

impl Maker {
    fn new() -> Maker {
        let house = House::new();
        let store = house.quick_store();
        house.write("folder/a", "one");
        house.write("folder/deep/b", "two");
        let first = record("first", store.ingest_bytes(b"first").unwrap());
        let folder = store.ingest(&house.path("folder")).unwrap();
        let mut second = record("second", folder);
        second.ancestry.insert(first.recipe, first.realisation());
        let mut third = record("third", store.ingest_bytes(b"third").unwrap());
        third.ancestry.insert(second.recipe, second.realisation());
        let chain = vec![first, second, third];
        for record in &chain {
            store.publish(record).unwrap();
        }
        Maker { house, store, key: SecretKey::new().unwrap(), chain }
    }

    fn export(&self, name: &str, of: &[usize], inputs: Inputs) -> PathBuf {
        let path = self.house.path(name);
        let lineage = |at: &usize| self.store.signed_lineage(&self.chain[*at], &self.key).unwrap();
        let lineages: Vec<_> = of.iter().map(lineage).collect();
        self.store.export_bundle(&lineages, inputs, &path, &|_| {}).unwrap();
        path
    }

    fn trusting(&self) -> Policy {
        Policy::new([(self.key.public(), "maker".to_owned())], [])
    }

    /// What is said of a file with these bytes.
    fn refusal(&self, bytes: &[u8]) -> String {
        let path = self.house.write("changed.plumb", bytes);
        match Bundle::read(&path) {
            Err(CacheError::BadBundle { why, .. }) => why,
            read => panic!("{read:?}"),
        }
    }
}

/// The members of an archive: names and bytes.
type Members = Vec<(String, Vec<u8>)>;

fn members(archive: &[u8]) -> Members {
    let (mut at, mut found) = (0, Vec::new());
    while archive[at] != 0 {
        let name = String::from_utf8(archive[at..at + 100].to_vec()).unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&archive[at + 124..at + 135]).unwrap(), 8).unwrap();
        found.push((name.trim_end_matches('\0').to_owned(), archive[at + 512..at + 512 + size].to_vec()));
        at += 512 + size.next_multiple_of(512);
    }
    found
}

/// What the system's tar makes of them, as bundles have it: mallory has tools.
fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, body) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        for (at, text) in [(100, "0000444"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (156, "0")] {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[329..336].copy_from_slice(b"0000000");
        header[337..344].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
        bytes.extend(summed(header));
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn summed(mut header: [u8; 512]) -> [u8; 512] {
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn place(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("plumb-1/cas/{}/{}", &hex[..2], &hex[2..])
}

#[test]
fn the_same_content_is_the_same_file_and_an_archive_that_everybody_can_unpack() {
    let maker = Maker::new();
    let one = fs::read(maker.export("one.plumb", &[1, 2], Inputs::Bytes)).unwrap();
    let other = fs::read(maker.export("other.plumb", &[2, 1], Inputs::Bytes)).unwrap();
    assert!(one == other);
    assert!(archive(&members(&one)) == one, "the forger of these tests writes what is read");
    let names: Vec<String> = members(&one).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["plumb-bundle", "plumb-1/format"]);
    assert!(names[2].starts_with("plumb-1/segments/"));
    let blobs: BTreeSet<&String> = names[3..].iter().collect();
    assert_eq!((blobs.len(), names.len()), (6, 9), "three files and a folder in a folder, and what came out of it");
    let again = maker.store.export_bundle(&[], Inputs::Bytes, &maker.house.path("one.plumb"), &|_| {});
    assert!(again.is_err(), "no file is written over");
}

#[test]
fn what_goes_in_comes_out_and_is_explained() {
    let maker = Maker::new();
    let path = maker.export("b.plumb", &[2], Inputs::Records);
    let bundle = Bundle::read(&path).unwrap();
    assert_eq!((bundle.records().len(), bundle.blobs(), bundle.missing()), (3, (1, 5), Vec::new()));
    let house = House::new();
    let store = house.quick_store();
    let Imported::Done(done) = store.import_bundle(&bundle, &maker.trusting(), &|_| {}).unwrap() else { panic!() };
    assert_eq!(
        done.iter().map(|(signed, became)| (signed.record().step.as_str(), *became)).collect::<Vec<_>>(),
        [("make@n=third", Importing::New)]
    );
    let third = &maker.chain[2];
    assert_eq!(store.recipe(&third.recipe).unwrap(), std::slice::from_ref(third));
    assert!(store.record(&maker.chain[1].action).unwrap().is_none(), "its bytes are not here");
    assert_eq!(store.remembered(&maker.chain[1].action).unwrap().as_ref(), Some(&maker.chain[1]));
    assert_eq!(store.collected_at(&maker.chain[1].action), None, "nobody took it away");
    let Imported::Done(again) = store.import_bundle(&bundle, &maker.trusting(), &|_| {}).unwrap() else { panic!() };
    assert_eq!(again[0].1, Importing::Here);

    // Whoever has it from a bundle can pass it on, in the words of who made it.
    let lineage = store.signed_lineage(third, &SecretKey::new().unwrap()).unwrap();
    assert!(lineage.iter().all(|signed| signed.signer() == maker.key.public()));
    let passed_on = house.path("again.plumb");
    store.export_bundle(&[lineage], Inputs::Records, &passed_on, &|_| {}).unwrap();
    assert!(fs::read(passed_on).unwrap() == fs::read(path).unwrap());
}

#[test]
fn a_bundle_with_its_inputs_brings_every_byte() {
    let maker = Maker::new();
    let bundle = Bundle::read(&maker.export("b.plumb", &[2], Inputs::Bytes)).unwrap();
    let house = House::new();
    let store = house.quick_store();
    store.import_bundle(&bundle, &maker.trusting(), &|_| {}).unwrap();
    for record in &maker.chain {
        assert_eq!(store.recipe(&record.recipe).unwrap(), std::slice::from_ref(record));
    }
    let folder = maker.chain[1].outputs["out"].artifact;
    let two = store.subpath(&folder, "deep/b").unwrap();
    assert_eq!(store.read(&two).unwrap(), b"two");
}

#[test]
fn a_stranger_is_refused_and_nothing_is_kept() {
    let maker = Maker::new();
    let bundle = Bundle::read(&maker.export("b.plumb", &[2], Inputs::Bytes)).unwrap();
    let house = House::new();
    let store = house.quick_store();
    let nobody = Policy::new([], [(maker.key.public(), "maker".to_owned())]);
    match store.import_bundle(&bundle, &nobody, &|_| {}).unwrap() {
        Imported::Refused(_, Verdict::Stranger { name, .. }) => assert_eq!(name.as_deref(), Some("maker")),
        other => panic!("{other:?}"),
    }
    assert!(store.census().unwrap().kept.is_empty());
    assert!(store.remembered(&maker.chain[0].action).unwrap().is_none());
    let imported = store.import_bundle(&bundle, &nobody.of_anybody(), &|_| {}).unwrap();
    assert!(matches!(imported, Imported::Done(_)));
}

#[test]
fn what_was_disowned_here_stays_out() {
    let maker = Maker::new();
    let bundle = Bundle::read(&maker.export("b.plumb", &[2], Inputs::Records)).unwrap();
    let third = &maker.chain[2];
    maker.store.disown(&third.action, "wrong").unwrap();
    let Imported::Done(done) = maker.store.import_bundle(&bundle, &maker.trusting(), &|_| {}).unwrap() else {
        panic!()
    };
    assert_eq!(done[0].1, Importing::Disowned);
    assert!(maker.store.recipe(&third.recipe).unwrap().is_empty());
}

#[test]
fn a_lineage_with_a_hole_is_told() {
    let maker = Maker::new();
    let mut lineage = maker.store.signed_lineage(&maker.chain[2], &maker.key).unwrap();
    lineage.retain(|signed| signed.record().stage != "none" && signed.record().recipe != maker.chain[1].recipe);
    lineage.retain(|signed| signed.record().recipe != maker.chain[0].recipe);
    let path = maker.house.path("hole.plumb");
    let exported = maker.store.export_bundle(&[lineage], Inputs::Records, &path, &|_| {}).unwrap();
    assert_eq!(exported.missing, 1);
    assert_eq!(Bundle::read(&path).unwrap().missing(), [maker.chain[1].recipe]);
}

#[test]
fn a_forged_bundle_is_refused_with_the_reason() {
    let maker = Maker::new();
    let path = maker.export("b.plumb", &[2], Inputs::Bytes);
    let whole = fs::read(&path).unwrap();
    let good = members(&whole);
    let with = |change: &dyn Fn(&mut Members)| {
        let mut members = good.clone();
        change(&mut members);
        maker.refusal(&archive(&members))
    };
    let ends = |why: String, end: &str| assert!(why.ends_with(end), "{why}");
    ends(with(&|all| all[3].1[0] ^= 1), "have another digest");
    ends(with(&|all| all.swap(3, 4)), "its blobs are not in their order, each once");
    let twice = |all: &mut Members| all.insert(4, all[3].clone());
    ends(with(&twice), "its blobs are not in their order, each once");
    ends(with(&|all| drop(all.pop())), "is missing");
    let stray = |all: &mut Members| {
        all.push((place(&Digest::of(b"stray")), b"stray".to_vec()));
        all[3..].sort();
    };
    assert!(with(&stray).starts_with("no record speaks of its blob"));
    for name in ["../outside", "/etc/passwd", "plumb-1/cas/../x", "plumb-1/actions/ab/cd", "x"] {
        let why = with(&|all| all[3].0 = name.into());
        assert_eq!(why, format!("`{name}` is nothing that a bundle holds"));
    }
    // The records of another bundle: each good, and nothing here was made from them.
    let other = Maker::new();
    let others = members(&fs::read(other.export("o.plumb", &[0], Inputs::Records)).unwrap());
    ends(with(&|all| all[2] = others[2].clone()), "does not hold a result that it says it was made for");
    assert!(with(&|all| all[0] = others[0].clone()).starts_with("nothing in it was made from its record of"));
    let two = members(&fs::read(maker.export("two.plumb", &[1, 2], Inputs::Bytes)).unwrap());
    assert_eq!(two[2], good[2]);
    let first = members(&fs::read(maker.export("first.plumb", &[0], Inputs::Bytes)).unwrap());
    assert!(with(&|all| all[0] = first[0].clone()).starts_with("nothing in it was made from its record of"));
    let text = String::from_utf8(good[2].1.clone()).unwrap();
    let renamed = |text: String| {
        let text = text.into_bytes();
        with(&|all| all[2] = (format!("plumb-1/segments/{}", Digest::of(&text)), text.clone()))
    };
    let forged = renamed(text.replacen("make@n=third", "make@n=turd!", 1));
    assert!(forged.starts_with("a record is not to be believed: it was not signed so by"), "{forged}");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(0, 1);
    ends(renamed(lines.join("\n")), "its records are not in their order, each once");
    ends(renamed(text.replacen("\"first\":true", "\"first\":false", 1)), "is not written as a bundle has it");
    ends(renamed(text.replacen("\"whole\":true", "\"whole\":false", 3)), "that it says it was made for");
    ends(with(&|all| all[2].0 = place(&Digest::of(b""))), "it is no archive of a bundle");
    let misnamed = |all: &mut Members| all[2].0 = format!("plumb-1/segments/{}", Digest::of(b"other"));
    ends(with(&misnamed), "its list of records has another digest");
    ends(with(&|all| all[1].1 = b"plumb-layer 2\n".to_vec()), "its layout is not one that is known here");
}

#[test]
fn hostile_archives_are_refused() {
    let maker = Maker::new();
    let whole = fs::read(maker.export("b.plumb", &[2], Inputs::Records)).unwrap();
    let header = |at: usize, text: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + text.len()].copy_from_slice(text);
        let summed = summed(bytes[..512].try_into().unwrap());
        bytes[..512].copy_from_slice(&summed);
        maker.refusal(&bytes)
    };
    for (flag, kind) in [(b'1', "a hard link"), (b'2', "a link"), (b'3', "a device"), (b'5', "a folder")] {
        assert_eq!(header(156, &[flag]), format!("`plumb-bundle` is {kind}, and a bundle holds files only"));
    }
    assert_eq!(header(136, b"00000000001"), "the header of `plumb-bundle` is not as a bundle has it", "a date");
    assert_eq!(header(100, b"0004755"), "the header of `plumb-bundle` is not as a bundle has it", "setuid");
    let absurd = "`plumb-bundle` is said to have 8589934591 bytes, and the file ends before";
    assert_eq!(header(124, b"77777777777"), absurd);
    let mut huge = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    huge[4..].copy_from_slice(&u64::MAX.to_be_bytes());
    assert!(header(124, &huge).ends_with("18446744073709551615 bytes, and the file ends before"));
    assert_eq!(maker.refusal(b""), "its end is missing");
    assert_eq!(maker.refusal(&[0; 1024]), "it is no archive of a bundle");
    assert_eq!(maker.refusal(&[&whole[..], &[0]].concat()), "something follows its end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8u32) {
        thread_local! {
            static MADE: (Maker, Vec<u8>) = {
                let maker = Maker::new();
                let bytes = fs::read(maker.export("b.plumb", &[2], Inputs::Bytes)).unwrap();
                (maker, bytes)
            };
        }
        MADE.with(|(maker, whole)| {
            let at = at.index(whole.len());
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            assert!(!maker.refusal(&flipped).is_empty());
            assert!(!maker.refusal(&whole[..at]).is_empty());
        });
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), like in any::<bool>()) {
        let house = House::new();
        let text = if like { archive(&[("plumb-bundle".into(), bytes)]) } else { bytes };
        prop_assert!(Bundle::read(&house.write("x.plumb", text)).is_err());
    }
}
