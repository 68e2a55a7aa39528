//! Witnesses: who has made the same is told, each once and only those who are trusted; what somebody made otherwise is
//! told and never used.

use std::fs;

use serde_json::json;

use crate::harness::Scene;
use crate::scenarios::people::Shared;

/// One step whose result depends on a file that nobody declared.
const FLAVOURED: &str = r#"schema = 1

[stage.taste]
uses = "command"
with.argv = ["sh", "-c", "echo taste >> $HOME/ran; cat $HOME/flavour > {out:text}; echo same > {out:note}"]
outputs = { text = "text.txt", note = "note.txt" }
"#;

fn flavoured(flavour: &str) -> Scene {
    let scene = Scene::new(FLAVOURED);
    scene.write("home/flavour", flavour);
    scene
}

#[test]
fn a_result_that_a_second_person_made_is_reproduced_and_says_by_whom() {
    let lab = Shared::new();
    let alice = lab.maker();
    assert_eq!(alice.testimony("report")["reproduced_by"], json!(["you"]));
    assert!(!alice.why("report").contains("reproduced"));
    let carol = lab.person();
    assert_eq!(carol.runs(), "count prep report", "she trusts nobody, and makes it all");
    carol.scene.plumb("cache push p.toml prep count report").exits(0);

    assert_eq!(alice.testimony("report")["reproduced_by"], json!(["you"]), "carol's word does not count yet");
    assert_eq!(alice.testimony("report")["not_counted"], json!([carol.signature()]));
    let told = alice.why("report");
    let uncounted = format!("not trusted, and not counted, though the result is the same: {}", carol.signature());
    assert!(told.contains(&uncounted) && !told.contains("reproduced"), "{told}");
    assert!(!alice.scene.plumb("status p.toml").exits(0).raw.contains("reproduced"));

    alice.trusts("carol", &carol);
    assert!(alice.why("report").contains("\n  reproduced x2 (carol, you)\n"), "{}", alice.why("report"));
    let status = alice.scene.plumb("status p.toml").exits(0).raw;
    assert_eq!(status.matches("complete, reproduced x2 (carol, you)").count(), 3, "{status}");
    let stages = alice.scene.plumb("status p.toml --json").exits(0).json();
    assert_eq!(
        (&stages["stages"][0]["reproduced"], &stages["stages"][0]["reproduced_by"]),
        (&json!(1), &json!(["carol", "you"]))
    );
    let listed = alice.scene.plumb("cache ls --layers").exits(0).raw;
    assert_eq!(listed.matches("reproduced x2 (carol, you)").count(), 3, "{listed}");

    let bob = lab.person();
    bob.trusts("alice", &alice);
    bob.trusts("carol", &carol);
    assert_eq!(bob.runs(), "");
    assert_eq!(bob.testimony("report")["reproduced_by"], json!(["alice", "carol"]), "he has made nothing himself");
}

#[test]
fn one_signer_twice_is_one() {
    let lab = Shared::new();
    let (alice, elsewhere) = (lab.maker(), lab.person());
    for file in ["key", "config.toml"] {
        let file = format!("home/.config/plumb/{file}");
        fs::copy(alice.scene.path(&file), elsewhere.scene.path(&file)).unwrap();
    }
    elsewhere.scene.plumb("run p.toml --fresh prep --fresh count --fresh report").exits(0);
    assert_eq!(elsewhere.scene.executed(), "count prep report");
    elsewhere.scene.plumb("cache push p.toml prep count report").exits(0);
    assert!(lab.objects("witnesses").len() + lab.objects("segments").len() > 2, "the second record went there");
    assert_eq!(alice.testimony("report")["reproduced_by"], json!(["you"]));
    let bob = lab.person();
    bob.trusts("alice", &alice);
    assert_eq!(bob.runs(), "");
    assert_eq!(
        bob.testimony("report"),
        json!({ "reproduced_by": ["alice"], "not_counted": [], "others": [], "marks": [] })
    );
}

#[test]
fn what_came_from_another_and_is_made_again_here_is_reproduced_and_passed_on() {
    let lab = Shared::new();
    let (alice, bob) = (lab.maker(), lab.person());
    bob.trusts("alice", &alice);
    alice.trusts("bob", &bob);
    assert_eq!(bob.runs(), "");
    assert_eq!(bob.testimony("report")["reproduced_by"], json!(["alice"]), "what was only pulled is no second word");
    bob.scene.plumb("run p.toml --fresh report").exits(0);
    assert_eq!(bob.scene.executed(), "report");
    assert_eq!(bob.testimony("report")["reproduced_by"], json!(["alice", "you"]));
    let listed = bob.scene.plumb("cache ls report --json").exits(0).json();
    assert_eq!(listed[0]["reproduced_by"], json!(["alice", "you"]), "from the cache alone");
    bob.scene.plumb("cache push p.toml report").exits(0);
    assert_eq!(alice.testimony("report")["reproduced_by"], json!(["bob", "you"]));
}

#[test]
fn other_bytes_for_the_same_key_are_kept_and_shown_and_never_preferred() {
    let lab = Shared::new();
    let alice = lab.with(flavoured("sweet"));
    alice.scene.plumb("run p.toml").exits(0);
    alice.scene.plumb("cache push p.toml taste").exits(0);
    let carol = lab.with(flavoured("sour"));
    let pipeline = format!("{FLAVOURED}run = {{ cpu = 2 }}\n");
    carol.scene.write("p.toml", &pipeline);
    carol.scene.plumb("run p.toml").exits(0);
    carol.scene.plumb("cache push p.toml taste").exits(0);
    let carols: Vec<_> = lab.objects("witnesses");
    assert_eq!(carols.len(), 1, "hers is kept beside the first");

    let told = alice.why("taste");
    let by = format!("another result, not used: by {}, not trusted; `text` differs", carol.signature());
    assert!(told.contains(&by), "{told}");
    alice.trusts("carol", &carol);
    let told = alice.why("taste");
    assert!(told.contains("another result, not used: by carol; `text` differs"), "{told}");
    assert!(told.contains("resources: "), "what differs around it: {told}");
    let others = alice.testimony("taste")["others"].clone();
    assert_eq!((&others[0]["by"], &others[0]["outputs"]), (&json!(["carol"]), &json!(["text"])));
    assert!(others[0]["environment"]["resources"].is_array(), "{others}");
    assert!(alice.scene.plumb("status p.toml").exits(0).raw.contains("complete, 1 made otherwise too"));

    let bob = lab.with(flavoured("bitter"));
    bob.trusts("alice", &alice);
    bob.trusts("carol", &carol);
    assert_eq!((bob.runs().as_str(), bob.scene.result("taste.text").as_str()), ("", "sweet"), "the first one stays");
    let dave = lab.with(flavoured("bitter"));
    dave.scene.plumb("run p.toml").exits(0);
    dave.trusts("alice", &alice);
    dave.trusts("carol", &carol);
    dave.scene.plumb("run p.toml").exits(0);
    assert_eq!(dave.scene.result("taste.text"), "bitter", "however many say otherwise");
    assert_eq!(dave.testimony("taste")["others"].as_array().unwrap().len(), 2);
}
