//! What settings say, and what is wrong with them.

use std::fs;

use expect_test::{Expect, expect};

use super::*;

const ALICE: &str = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const CI: &str = "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

fn home(folder: &Path) -> Home {
    Home(folder.join("config"))
}

/// Writes both files and tells who is trusted, or what is wrong.
fn told(person: &str, project: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    fs::create_dir_all(folder.path().join("project/deep")).unwrap();
    fs::create_dir_all(folder.path().join("config")).unwrap();
    fs::write(home.settings(), person).unwrap();
    fs::write(folder.path().join("project/plumb.toml"), project).unwrap();
    match Config::read(Some(&home), &folder.path().join("project/deep")) {
        Ok(config) => config.trusted.into_iter().collect::<Vec<_>>().join(" "),
        Err(wrong) => wrong.render().replace(&*folder.path().to_string_lossy(), "[FOLDER]"),
    }
}

fn keys() -> String {
    format!("[keys]\nalice = \"{ALICE}\"\nci = \"{CI}\"\n")
}

fn check(person: &str, project: &str, expect: Expect) {
    expect.assert_eq(&told(person, project));
}

#[test]
fn every_known_key_is_trusted_unless_a_file_names_fewer() {
    assert_eq!(told(&keys(), ""), "alice ci");
    assert_eq!(told(&format!("trust = [\"ci\"]\n{}", keys()), ""), "ci");
    assert_eq!(told(&keys(), "trust = [\"alice\"]\n"), "alice", "a project above the folder narrows");
    assert_eq!(
        told(&format!("trust = [\"ci\"]\n{}", keys()), "trust = [\"alice\", \"ci\"]\n"),
        "ci",
        "and never widens"
    );
    assert_eq!(told(&keys(), "trust = [\"mallory\"]\n"), "", "nor brings somebody in");
    assert_eq!(told("", ""), "");
}

#[test]
fn a_project_says_no_keys() {
    check(
        &keys(),
        &format!("[keys]\nmallory = \"{CI}\"\n"),
        expect![[r#"
            error: a project must not say whose key `mallory` is
             --> [FOLDER]/project/plumb.toml:2:1
              |
            2 | mallory = "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
              | ^^^^^^^
            hint: ask its owner for the key, and type `plumb key trust NAME KEY`
        "#]],
    );
}

#[test]
fn a_project_adds_layers_and_takes_none_over() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    fs::create_dir_all(folder.path().join("config")).unwrap();
    fs::write(home.settings(), "write = \"lab\"\n[layer.lab]\nurl = \"/nfs/lab\"\n").unwrap();
    let project = "[layer.lab]\nurl = \"s3://mallory\"\n[layer.public]\nurl = \"s3://public\"\n";
    fs::write(folder.path().join("plumb.toml"), project).unwrap();
    let config = Config::read(Some(&home), folder.path()).unwrap();
    assert_eq!(config.write.as_deref(), Some("lab"));
    let layers: Vec<(&str, &str)> = config.layers.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    assert_eq!(layers, [("lab", "/nfs/lab"), ("public", "s3://public")]);
    check(
        "write = \"lba\"\n[layer.lab]\nurl = \"/nfs/lab\"\nulr = 3\n[layer.other]\n",
        "",
        expect![[r#"
            error: unknown layer `lba`
             --> [FOLDER]/config/config.toml:1:9
              |
            1 | write = "lba"
              |         ^^^^^
            hint: did you mean `lab`?

            error: unknown layer key `ulr`
             --> [FOLDER]/config/config.toml:4:1
              |
            4 | ulr = 3
              | ^^^
            hint: did you mean `url`?

            error: the layer `other` has no `url`
             --> [FOLDER]/config/config.toml:5:8
              |
            5 | [layer.other]
              |        ^^^^^
        "#]],
    );
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_the_nearest_name() {
    check(
        &format!("trsut = []\ntrust = [\"alcie\", \"bob\"]\n{}Bob = 3\nbob = \"ed25519:00\"\n", keys()),
        "",
        expect![[r#"
            error: unknown top-level key `trsut`
             --> [FOLDER]/config/config.toml:1:1
              |
            1 | trsut = []
              | ^^^^^
            hint: did you mean `trust`?

            error: no key of `alcie` is known
             --> [FOLDER]/config/config.toml:2:10
              |
            2 | trust = ["alcie", "bob"]
              |          ^^^^^^^
            hint: did you mean `alice`?

            error: no key of `bob` is known
             --> [FOLDER]/config/config.toml:2:19
              |
            2 | trust = ["alcie", "bob"]
              |                   ^^^^^
            hint: type `plumb key trust bob KEY`

            error: key `Bob`: names are lowercase letters, digits and `-`
             --> [FOLDER]/config/config.toml:6:1
              |
            6 | Bob = 3
              | ^^^
            hint: write `bob`

            error: a key must be text, not a whole number
             --> [FOLDER]/config/config.toml:6:7
              |
            6 | Bob = 3
              |       ^

            error: `ed25519:00` is no public key: expected `ed25519:` and 64 lowercase hex digits, as `plumb key show` prints them
             --> [FOLDER]/config/config.toml:7:7
              |
            7 | bob = "ed25519:00"
              |       ^^^^^^^^^^^^
        "#]],
    );
    check(
        "keys = [",
        "",
        expect![[r#"
            error: unclosed array, expected `]`
             --> [FOLDER]/config/config.toml:1:9
              |
            1 | keys = [
              |         ^
        "#]],
    );
}

#[test]
fn trusting_a_key_adds_a_line_and_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let home = home(folder.path());
    let [alice, ci]: [PublicKey; 2] = [ALICE, CI].map(|key| key.parse().unwrap());
    assert_eq!(trust_key(&home, "alice", &alice).unwrap(), Added::New);
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), format!("[keys]\nalice = \"{ALICE}\"\n"));
    let text = format!("# mine\ntrust = [\"alice\"] # only her\n\n[keys]\nalice = \"{ALICE}\" # met in person\n");
    fs::write(home.settings(), &text).unwrap();
    assert_eq!(trust_key(&home, "alice", &alice).unwrap(), Added::Known);
    assert_eq!(trust_key(&home, "alice", &ci).unwrap(), Added::Taken(alice));
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), text);
    assert_eq!(trust_key(&home, "ci", &ci).unwrap(), Added::New);
    let now = text.replace("[\"alice\"]", "[\"alice\", \"ci\"]") + &format!("ci = \"{CI}\"\n");
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), now);
    assert!(trust_key(&home, "Bad Name", &ci).is_err());
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), now, "a name that could not be read again is not written");
}
