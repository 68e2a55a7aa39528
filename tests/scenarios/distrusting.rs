//! Revocation: whom nobody believes any more, and what becomes of what came from them.

use serde_json::json;

use crate::scenarios::people::{SETTINGS, Shared};

#[test]
fn what_came_from_somebody_who_is_distrusted_is_made_again_with_all_that_was_made_from_it() {
    let lab = Shared::new();
    let (bob, alice) = (lab.maker(), lab.person());
    alice.trusts("bob", &bob);
    alice.scene.edit("word = \"lines\"", "word = \"rows\"");
    assert_eq!(alice.runs(), "report", "her own, from what bob has counted");
    let told = alice.scene.plumb("key distrust bob").exits(0).stderr;
    assert!(told.starts_with("nothing that `bob` alone has signed is used any more"), "{told}");
    assert!(alice.scene.read(SETTINGS).contains("distrust = [\"bob\"]"), "{}", alice.scene.read(SETTINGS));
    let keys = alice.scene.plumb("key list --json").exits(0).json();
    assert_eq!((&keys[1]["trusted"], &keys[1]["distrusted"]), (&json!(false), &json!(true)));
    let plan = alice.scene.plumb("plan p.toml").exits(0).raw;
    assert!(plan.contains("signed by bob, who is distrusted"), "{plan}");
    assert!(!alice.scene.plumb("open p.toml count.number").exits(1).raw.contains("cas"));
    let listed = alice.scene.plumb("cache ls --disowned --json").exits(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 2, "what came, and what was made from it: {listed}");

    assert_eq!(alice.scene.plumb("run p.toml --trust-any").exits(0).code, 0);
    assert_eq!(alice.scene.executed(), "count prep", "not even where anybody is believed; her own report stands again");
    assert_eq!(alice.runs(), "");
    assert_eq!(alice.scene.plumb("cache ls --disowned --json").exits(0).json(), json!([]));
    assert_eq!(alice.testimony("count")["not_counted"], json!(["bob"]));

    let other = lab.person();
    other.scene.plumb(&format!("key distrust bob {}", bob.key)).exits(0);
    assert_eq!(other.scene.plumb("run p.toml --trust-any").exits(0).code, 0);
    assert_eq!(other.scene.executed(), "count prep report");
}

#[test]
fn whoever_is_trusted_again_is_believed_again() {
    let lab = Shared::new();
    let (bob, alice) = (lab.maker(), lab.person());
    alice.trusts("bob", &bob);
    assert_eq!(alice.runs(), "");
    alice.scene.plumb("key distrust bob").exits(0);
    assert_eq!(alice.scene.plumb("key distrust bob").exits(0).stderr, "`bob` was distrusted already\n");
    assert!(!alice.scene.plumb("plan p.toml").exits(0).raw.contains(", 0 to run"));
    alice.trusts("bob", &bob);
    assert_eq!(alice.runs(), "");
    assert!(!alice.scene.read(SETTINGS).contains("\"bob\""), "{}", alice.scene.read(SETTINGS));
    assert!(alice.scene.plumb("key distrust bbo").exits(2).stderr.contains("no key of `bbo` is known"));
}

#[test]
fn what_somebody_else_who_is_trusted_has_made_too_stays() {
    let lab = Shared::new();
    let (bob, carol, alice) = (lab.maker(), lab.maker(), lab.person());
    alice.trusts("bob", &bob);
    assert_eq!(alice.runs(), "");
    alice.trusts("carol", &carol);
    alice.scene.plumb("key distrust bob").exits(0);
    assert_eq!(alice.runs(), "", "carol's same bytes are in the layer");
    assert_eq!(alice.testimony("report")["reproduced_by"], json!(["carol"]));
    assert_eq!(alice.testimony("report")["not_counted"], json!(["bob"]));
}

#[test]
fn a_name_that_is_only_left_out_of_trust_keeps_what_it_sent() {
    let lab = Shared::new();
    let (bob, alice) = (lab.maker(), lab.person());
    alice.trusts("bob", &bob);
    assert_eq!(alice.runs(), "");
    let settings = alice.scene.read(SETTINGS);
    alice.scene.write(SETTINGS, &format!("trust = []\n{settings}"));
    assert_eq!(alice.runs(), "");
    alice.scene.plumb("cache disown p.toml report --reason lost").exits(0);
    assert!(alice.runs().contains("report"), "nothing new of his is taken");
}
