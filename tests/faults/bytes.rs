//! Truncated, flipped, swapped and emptied files of the cache: blobs, records, indexes, whatever lies there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::{assert_sound, expected, files, random, rounds, thirty};

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

/// Damages one file in a random way, and says how.
fn damage(path: &Path, others: &[PathBuf], random: &mut StdRng) -> String {
    let mut bytes = fs::read(path).unwrap();
    let how = match random.random_range(0..5) {
        0 if !bytes.is_empty() => {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
            "flipped"
        }
        1 => {
            bytes.truncate(random.random_range(0..=bytes.len() / 2));
            "truncated"
        }
        2 => {
            bytes = fs::read(others.choose(random).unwrap()).unwrap();
            "swapped"
        }
        3 => {
            bytes.extend_from_slice(b"\0more");
            "extended"
        }
        _ => {
            fs::remove_file(path).unwrap();
            return format!("removed {}", path.display());
        }
    };
    overwrite(path, &bytes);
    format!("{how} {}", path.display())
}

fn damaged(folders: &[&str], seed: u64, times: usize) {
    let expected = expected();
    let mut random = random(seed);
    for round in 0..rounds(times) {
        let scene = thirty();
        scene.plumb("run p.toml").exits(0);
        let found: Vec<PathBuf> =
            folders.iter().flat_map(|folder| files(&scene.path("cache/v1").join(folder))).collect();
        assert!(!found.is_empty(), "nothing to damage in {folders:?}");
        let hit: Vec<&PathBuf> = found.choose_multiple(&mut random, 3).collect();
        let done: Vec<String> = hit.into_iter().map(|path| damage(path, &found, &mut random)).collect();
        assert_sound(&scene, &expected, &format!("round {round}: {}", done.join("; ")));
    }
    eprintln!("{} files of {folders:?} damaged", rounds(times) * 3);
}

#[test]
fn damaged_blobs_are_never_served() {
    damaged(&["cas"], 4, 6);
}

#[test]
fn damaged_records_are_misses() {
    damaged(&["actions"], 5, 6);
}

#[test]
fn damaged_indexes_cost_time_and_nothing_else() {
    damaged(&["recipes", "by_stage", "index"], 6, 6);
}

#[test]
fn records_that_changed_places_are_not_believed() {
    let expected = expected();
    let scene = thirty();
    scene.plumb("run p.toml").exits(0);
    let records = files(&scene.path("cache/v1/actions"));
    let texts: Vec<Vec<u8>> = records.iter().map(|path| fs::read(path).unwrap()).collect();
    for (place, text) in records.iter().zip(texts.iter().cycle().skip(1)) {
        overwrite(place, text);
    }
    assert_sound(&scene, &expected, "every record lies in the place of another");
}
