//! Damaged files: each truncation, flip and lie of a header is an error or other contents, never a panic.

use proptest::prelude::*;

use super::*;

fn whole() -> Vec<u8> {
    let tensors = [("one", Written::from_values(&[2, 3], &[1.0; 6])), ("other", Written::from_values(&[4], &[2.0; 4]))];
    let named: BTreeMap<String, Written> =
        tensors.into_iter().map(|(name, tensor)| (name.to_string(), tensor)).collect();
    safetensors::serialize(named.iter(), None).expect("serialises")
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, Result<Files, StageError>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(WHOLE);
    std::fs::write(&path, bytes).expect("writes");
    let files = Files::of(&path);
    (folder, files)
}

#[test]
fn a_file_that_ends_anywhere_is_an_error_that_names_it() {
    let whole = whole();
    assert!(file(&whole).1.is_ok());
    for length in 0..whole.len() {
        let (_folder, files) = file(&whole[..length]);
        let error = files.map(|_| ()).expect_err("is cut short");
        assert!(error.message.contains(WHOLE) && error.hint.is_some(), "{length} bytes: {error}");
    }
}

#[test]
fn a_header_that_lies_about_its_length_is_an_error() {
    for length in [u64::MAX, 1 << 40, 100_000_000, 0, 7] {
        let mut bytes = whole();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        assert!(file(&bytes).1.is_err(), "{length}");
    }
}

proptest! {
    #[test]
    fn flipped_bytes_are_an_error_or_other_contents_and_never_a_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = whole();
        for (place, value) in flips {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(files) = file(&bytes).1 {
            let _ = files.tensor("one", &[2, 3]);
            let _ = files.tensor("other", &[4]);
        }
    }

    #[test]
    fn any_index_is_an_error_or_names_files_beside_it(text in r#"\{"weight_map": ?\{("[a-z./]{0,6}": ?"[a-z./]{0,20}",?){0,3}\}\}|.{0,40}"#) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(INDEX), &text).expect("writes");
        let error = Files::open(folder.path()).map(|_| ()).expect_err("there are no shards");
        prop_assert!(error.message.contains(INDEX), "{}", error);
    }
}
