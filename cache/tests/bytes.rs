//! Bytes in, bytes out: files and folders come back as they were, moved in or copied, linked or private.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use expect_test::expect;
use plumb_cache::{ArtifactKind, CacheError, Digest, Materialise, Method, Store, StoreOptions};

use crate::support::{House, blob, files};

/// A folder with everything a tree can hold.
fn model(house: &House) -> std::path::PathBuf {
    house.write("model/config.json", "{}");
    house.write("model/weights/one.bin", [7; 100]);
    let tool = house.write("model/bin/tool", "#!/bin/sh\n");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(house.path("model/empty")).unwrap();
    symlink("../weights/one.bin", house.path("model/bin/weights")).unwrap();
    house.path("model")
}

/// What a folder looks like: kinds, modes that matter and contents.
fn look(folder: &Path) -> String {
    let mut lines = Vec::new();
    for file in files(folder) {
        let path = folder.join(&file);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = match fs::read_link(&path) {
            Ok(target) => format!("-> {}", target.display()),
            Err(_) => format!("{:o} {}", metadata.mode() & 0o777, Digest::of(&fs::read(&path).unwrap()).short()),
        };
        lines.push(format!("{file} {what}"));
    }
    lines.join("\n")
}

#[test]
fn a_file_comes_back_as_it_was() {
    let house = House::new();
    let store = house.store();
    for length in [0, 1, 5000, 3 << 20] {
        let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let artifact = store.ingest(&house.write("file", &bytes)).unwrap();
        assert_eq!((artifact.digest, artifact.size, artifact.files), (Digest::of(&bytes), length as u64, 1));
        assert_eq!(store.read(&artifact).unwrap(), bytes);
        assert!(store.present(&artifact));
        assert_eq!(fs::read(store.path_of(&artifact).unwrap()).unwrap(), bytes);
    }
    assert_eq!(store.ingest_bytes(b"").unwrap(), store.ingest(&house.write("file", "")).unwrap());
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest(&model(&house)).unwrap();
    assert_eq!((artifact.kind, artifact.size, artifact.files), (ArtifactKind::Tree, 112, 3));
    store.materialise(&artifact, &house.path("shared"), Materialise::Shared).unwrap();
    expect![[r#"
        bin/tool 555 bc1f407a11c9
        bin/weights -> ../weights/one.bin
        config.json 444 6e46dd10defc
        weights/one.bin 444 065e9dc90a3e"#]]
    .assert_eq(&look(&house.path("shared")));
    assert!(house.path("shared/empty").is_dir());
    store.materialise(&artifact, &house.path("private"), Materialise::Private).unwrap();
    expect![[r#"
        bin/tool 755 bc1f407a11c9
        bin/weights -> ../weights/one.bin
        config.json 644 6e46dd10defc
        weights/one.bin 644 065e9dc90a3e"#]]
    .assert_eq(&look(&house.path("private")));
    assert_eq!(store.digest_source(&house.path("private")).unwrap(), artifact, "what came back is the same tree");
}

#[test]
fn a_source_has_the_digest_it_would_be_stored_under_but_is_not_stored() {
    let house = House::new();
    let store = house.store();
    let artifact = store.digest_source(&model(&house)).unwrap();
    assert!(!store.present(&artifact));
    assert_eq!(files(&house.cache().join("v1/cas")), [] as [&str; 0]);
    assert_eq!(store.ingest(&house.path("model")).unwrap(), artifact);
}

#[test]
fn times_and_owners_do_not_move_a_digest_but_an_x_bit_in_a_tree_does() {
    let house = House::new();
    let store = house.store();
    let before = store.digest_source(&model(&house)).unwrap();
    let config = house.path("model/config.json");
    fs::File::open(&config).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(store.digest_source(&house.path("model")).unwrap(), before);
    fs::set_permissions(&config, fs::Permissions::from_mode(0o700)).unwrap();
    assert_ne!(store.digest_source(&house.path("model")).unwrap().digest, before.digest);
}

#[test]
fn a_lone_program_stays_one_and_its_x_bit_moves_no_key() {
    let house = House::new();
    let store = house.store();
    let path = house.write("tool", "#!/bin/sh\n");
    let plain = store.ingest(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let tool = store.ingest(&path).unwrap();
    assert_eq!(tool.kind, ArtifactKind::Executable);
    assert_eq!(tool.identity(), plain.identity());
    let mode = |name: &str| fs::metadata(house.path(name)).unwrap().mode() & 0o777;
    store.materialise(&tool, &house.path("shared"), Materialise::Shared).unwrap();
    store.materialise(&tool, &house.path("private"), Materialise::Private).unwrap();
    store.materialise(&plain, &house.path("plain"), Materialise::Shared).unwrap();
    assert_eq!((mode("shared"), mode("private"), mode("plain")), (0o555, 0o755, 0o444));
    assert_eq!(fs::metadata(blob(&store, &tool)).unwrap().mode() & 0o777, 0o444);
}

#[test]
fn what_a_step_wrote_in_its_scratch_is_moved_in_and_anything_else_is_copied() {
    let house = House::new();
    let store = house.store();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let scratch = store.scratch_folder().unwrap();
    let made = scratch.path().join("out.bin");
    fs::write(&made, vec![1; 2 << 20]).unwrap();
    let artifact = store.ingest(&made).unwrap();
    assert_eq!(inode(&made), inode(&blob(&store, &artifact)));

    let outside = house.write("outside.bin", vec![2; 2 << 20]);
    let artifact = store.ingest(&outside).unwrap();
    assert_ne!(inode(&outside), inode(&blob(&store, &artifact)));
    fs::write(&outside, "written again").unwrap();
    assert_eq!(store.read(&artifact).unwrap(), vec![2; 2 << 20]);

    let other = scratch.path().join("other.bin");
    fs::hard_link(&outside, &other).unwrap();
    let artifact = store.ingest(&other).unwrap();
    assert_ne!(inode(&other), inode(&blob(&store, &artifact)), "a file with another name has another owner");
    symlink(&outside, scratch.path().join("link")).unwrap();
    let through_link = store.ingest(&scratch.path().join("link")).unwrap();
    assert_eq!(through_link, artifact);
    assert_eq!(fs::metadata(&outside).unwrap().mode() & 0o222, 0o200, "the file behind the link is left alone");
}

#[test]
fn readers_share_the_blob_and_writers_do_not() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest_bytes(b"shared bytes").unwrap();
    let shared = store.materialise(&artifact, &house.path("a/b/shared"), Materialise::Shared).unwrap();
    assert!(shared <= Method::HardLink, "{shared:?}");
    store.materialise(&artifact, &house.path("mine"), Materialise::Private).unwrap();
    fs::write(house.path("mine"), "other bytes!").unwrap();
    assert_eq!(store.read(&artifact).unwrap(), b"shared bytes");
    let again = store.materialise(&artifact, &house.path("mine"), Materialise::Private);
    assert!(again.is_err(), "what is there is never overwritten");
    assert_eq!(fs::read(house.path("mine")).unwrap(), b"other bytes!");
}

#[test]
fn symlinks_that_lead_out_stand_for_their_file_or_are_refused() {
    let house = House::new();
    let store = house.store();
    house.write("blobs/weights", "w");
    house.write("snapshot/config.json", "{}");
    symlink("../blobs/weights", house.path("snapshot/model.safetensors")).unwrap();
    let artifact = store.ingest(&house.path("snapshot")).unwrap();
    let weights = store.subpath(&artifact, "model.safetensors").unwrap();
    assert_eq!(store.read(&weights).unwrap(), b"w");

    for (name, target) in [("to-folder", "../blobs"), ("to-nothing", "/nowhere"), ("sly", "./inner/../../x")] {
        symlink(target, house.path("snapshot").join(name)).unwrap();
        let error = store.ingest(&house.path("snapshot")).unwrap_err();
        assert!(matches!(&error, CacheError::BadTree { path, .. } if path == name), "{error}");
        fs::remove_file(house.path("snapshot").join(name)).unwrap();
    }
}

#[test]
fn a_fifo_is_no_output() {
    let house = House::new();
    let store = house.store();
    fs::create_dir(house.path("out")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(house.path("out/pipe")).status().unwrap();
    assert!(made.success());
    let error = store.ingest(&house.path("out")).unwrap_err();
    expect!["`pipe` cannot be kept in a tree: it is neither a file nor a folder"].assert_eq(&error.to_string());
}

#[test]
fn a_path_within_a_tree_is_an_artifact_of_its_own() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest(&model(&house)).unwrap();
    let at = |path: &str| store.subpath(&artifact, path);
    assert_eq!(at("").unwrap(), artifact);
    assert_eq!(store.read(&at("config.json").unwrap()).unwrap(), b"{}");
    assert_eq!(at("weights").unwrap(), store.digest_source(&house.path("model/weights")).unwrap());
    assert_eq!(at("bin/weights").unwrap(), at("weights/one.bin").unwrap(), "a symlink is followed");
    assert_eq!(at("bin/tool").unwrap().kind, ArtifactKind::Executable);
    for wrong in ["nothing", "config.json/x", "../model", "weights/../.."] {
        assert!(matches!(at(wrong), Err(CacheError::NoSuchPath { .. })), "{wrong}");
    }
    let error = store.materialise(&at("bin").unwrap(), &house.path("bin"), Materialise::Shared).unwrap_err();
    expect!["`weights` cannot be kept in a tree: it leads out of the tree, to `../weights/one.bin`"]
        .assert_eq(&error.to_string());
}

#[test]
fn a_view_is_made_once_and_again_when_somebody_changed_it() {
    let house = House::new();
    let store = house.store();
    let artifact = store.ingest(&model(&house)).unwrap();
    let view = store.open_tree(&artifact).unwrap();
    let before = look(&view);
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let first = inode(&view);
    assert_eq!(inode(&store.open_tree(&artifact).unwrap()), first);
    fs::write(view.join("note.txt"), "mine").unwrap();
    let view = store.open_tree(&artifact).unwrap();
    assert_ne!(inode(&view), first);
    fs::remove_file(view.join("weights/one.bin")).unwrap();
    assert_eq!(look(&store.open_tree(&artifact).unwrap()), before);
    assert!(matches!(store.open_tree(&store.ingest_bytes(b"").unwrap()), Err(CacheError::WrongKind { .. })));
}

#[test]
fn an_unchanged_source_is_not_read_again() {
    let house = House::new();
    // The index trusts only files older than the clock's granularity: this crate's own manifest is.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let truth = house.store().digest_source(&source).unwrap();
    let index = house.cache().join("v1/index/stat");
    let line = fs::read_to_string(&index).unwrap();
    house.store().digest_source(&source).unwrap();
    assert_eq!(fs::read_to_string(&index).unwrap(), line, "hashed once, noted once");

    // Put another digest into the index: only who does not read the file can believe it.
    let fields: Vec<&str> = line.split(' ').collect();
    let lie = Digest::of(b"another");
    let body = format!("{} {lie}", fields[..5].join(" "));
    fs::write(&index, format!("{body} {}\n", Digest::of(body.as_bytes()).short())).unwrap();
    assert_eq!(house.store().digest_source(&source).unwrap().digest, lie);
    let paranoid = Store::open(&house.cache(), StoreOptions { paranoid: true, ..StoreOptions::default() }).unwrap();
    assert_eq!(paranoid.digest_source(&source).unwrap(), truth);

    fs::write(&index, format!("{body} 000000000000\n{line}torn")).unwrap();
    assert_eq!(house.store().digest_source(&source).unwrap(), truth, "a damaged line is no line");
}

#[test]
fn a_source_that_changed_just_now_is_read_again() {
    let house = House::new();
    let store = house.store();
    for bytes in ["one", "two", "six"] {
        let path = house.write("source", bytes);
        assert_eq!(store.digest_source(&path).unwrap().digest, Digest::of(bytes.as_bytes()));
        assert_eq!(store.digest_source(&path).unwrap().digest, Digest::of(bytes.as_bytes()));
    }
}

#[test]
fn a_seal_tells_which_file_of_a_source_changed() {
    let house = House::new();
    let before = plumb_cache::seal_of(&model(&house)).unwrap();
    let again = || plumb_cache::seal_of(&house.path("model")).unwrap();
    assert_eq!(before.changed(&again()), None);
    house.write("model/weights/one.bin", [7; 101]);
    assert_eq!(before.changed(&again()).as_deref(), Some("/bin/weights"), "the symlink to it comes first");
    house.write("model/added", "");
    assert_eq!(before.changed(&again()).as_deref(), Some("/added"));
    assert_ne!(plumb_cache::stat_of(&house.path("model/added")).unwrap().inode, 0);
}
