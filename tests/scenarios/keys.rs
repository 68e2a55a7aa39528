//! `plumb key`: a key of one's own that nobody else can read, and the keys of others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect;

use crate::harness::Scene;

const ALICE: &str = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const KEY: &str = "home/.config/plumb/key";
const SETTINGS: &str = "home/.config/plumb/config.toml";

#[test]
fn a_new_key_is_open_to_its_owner_alone_and_shows_its_public_half() {
    let scene = Scene::new("");
    scene.plumb("key new").exits(0).says(expect![[r#"
        ed25519:[KEY]
        ---
        made the key `[ROOT]/home/.config/plumb/key`; its public half:
    "#]]);
    assert_eq!(fs::metadata(scene.path(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    let shown = scene.plumb("key show").exits(0).raw;
    let told = scene.plumb("key show --json").exits(0).json();
    assert_eq!(told["key"].as_str(), Some(shown.trim()));
    assert!(!scene.read(KEY).contains(shown.trim().trim_start_matches("ed25519:")), "the halves differ");
    let before = scene.read(KEY);
    scene.plumb("key new").exits(2).says(expect![[r#"
        ---
        error: there is a key already: `[ROOT]/home/.config/plumb/key`
        hint: what it signed is trusted by others: move `[ROOT]/home/.config/plumb/key` away if you mean it
    "#]]);
    assert_eq!(scene.read(KEY), before);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let scene = Scene::new("");
    scene.plumb("key new").exits(0);
    fs::set_permissions(scene.path(KEY), fs::Permissions::from_mode(0o644)).unwrap();
    scene.plumb("key show").exits(2).says(expect![[r#"
        ---
        error: the key `[ROOT]/home/.config/plumb/key` is open to others: its mode is 644
        hint: if nobody has read it, `chmod 600 [ROOT]/home/.config/plumb/key`; else remove it and type `plumb key new`
    "#]]);
    scene.plumb("key list").exits(2);
}

#[test]
fn whom_to_trust_is_told_once_and_listed() {
    let scene = Scene::new("");
    scene.plumb("key list").exits(0).says(expect![[r#"
        ---
        no keys are known
        hint: `plumb key new` makes one; `plumb key trust NAME PUBKEY` trusts somebody else's
    "#]]);
    scene.plumb(&format!("key trust alice {ALICE}")).exits(0).says(expect![[r#"
        ---
        results that `alice` has signed are used from now on
    "#]]);
    assert_eq!(scene.read(SETTINGS), format!("[keys]\nalice = \"{ALICE}\"\n"));
    scene.plumb(&format!("key trust alice {ALICE}")).exits(0);
    scene.plumb("key new").exits(0);
    scene.write("plumb.toml", "trust = []\n");
    expect![[r#"
        name   key
        (you)  ed25519:[KEY]  trusted
        alice  ed25519:[KEY]  not in `trust`
    "#]]
    .assert_eq(&scene.plumb("key list").exits(0).stdout);
    let own = scene.plumb("key show").exits(0).raw;
    let taken = scene.plumb(&format!("key trust alice {}", own.trim())).exits(2);
    expect![[r#"
        error: `alice` has another key: ed25519:[KEY]
        hint: if `alice` has a new key (ask, by another way than this one came), remove the old line from `[ROOT]/home/.config/plumb/config.toml` first
    "#]]
    .assert_eq(&taken.stderr);
}

#[test]
fn wrong_settings_and_wrong_keys_are_told_with_what_to_write() {
    let scene = Scene::new("");
    scene.plumb("key trust alice ed25519:12").exits(2).says(expect![[r#"
        ---
        error: `ed25519:12` is no public key: expected `ed25519:` and 64 lowercase hex digits, as `plumb key show` prints them
    "#]]);
    scene.write(SETTINGS, "turst = []\n");
    scene.plumb("key list").exits(2).says(expect![[r#"
        ---
        error: unknown top-level key `turst`
         --> [ROOT]/home/.config/plumb/config.toml:1:1
          |
        1 | turst = []
          | ^^^^^
        hint: did you mean `trust`?
    "#]]);
    let told = scene.plumb(&format!("key trust alice {ALICE}")).exits(2).stderr;
    assert!(told.contains("unknown top-level key `turst`"), "{told}");
    assert_eq!(scene.read(SETTINGS), "turst = []\n", "what does not read is not written");
}

#[test]
fn settings_follow_xdg_config_home() {
    let scene = Scene::new("");
    scene.export("XDG_CONFIG_HOME", &scene.path("elsewhere").to_string_lossy());
    scene.plumb("key new").exits(0);
    assert!(scene.path("elsewhere/plumb/key").exists() && !scene.path(KEY).exists());
}
