//! The steps of a large pipeline, kept in the cache under a digest of all that they were made from: the text of the
//! file and where it lies, what the command line asks of it, the kinds, and this very program. A run that has nothing
//! to do then reads steps instead of making them, which takes most of its time. Only a memory: damaged, or of anything
//! else, it costs loading the file. What is out of the ordinary is not kept: warnings, axes that grow, sources that
//! are no paths or are missing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use plumb_cache::{Digest, Store};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Selection, parse_text, unreadable};
use crate::canonical::Value;
use crate::diagnostic::Diagnostics;
use crate::graph::{Address, Graph, Input, Output, Publication, Skip, Source, Step, StepId};
use crate::settings::RunSettings;
use crate::source::{Include, Place};
use crate::stage::Registry;

/// What memos of steps are called.
const MEMO: &str = "steps";
/// Fewer steps are made as fast as they are read.
const WORTH_KEEPING: usize = 200;
/// Steps that one thread reads at a time.
const PIECE: usize = 256;

/// `load`, remembering what it made, and remembered where nothing has changed.
pub fn load_kept(file: &Path, registry: &Registry, selection: &Selection, store: &Store) -> Result<Graph, Diagnostics> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let Some((place, key)) = key(file, &text, registry, selection) else {
        return parse_text(file, &text, registry, selection);
    };
    if let Some(bytes) = store.memo(MEMO, &place)
        && let Some(graph) = bytes.strip_prefix(key.as_bytes()).and_then(|bytes| decode(bytes, file, registry))
    {
        return Ok(graph);
    }
    let graph = parse_text(file, &text, registry, selection)?;
    if store.writable()
        && let Some(bytes) = encode(&graph)
        && let Err(error) = store.keep_memo(MEMO, &place, &[key.as_bytes(), &bytes[..]].concat())
    {
        tracing::warn!("{error}");
    }
    Ok(graph)
}

/// What the memo is of, one a file, and the digest of all that the steps are made from. `None` where it cannot be told
/// what this program is.
fn key(file: &Path, text: &str, registry: &Registry, selection: &Selection) -> Option<(String, Digest)> {
    let program = std::env::current_exe().and_then(std::fs::metadata).ok()?;
    let place = std::path::absolute(file).ok()?;
    let place = place.display().to_string();
    let kinds = registry.kinds().map(|kind| {
        let declaration = kind.declaration();
        format!("{} {}\n", declaration.kind, declaration.version)
    });
    let made_from = [
        format!("{} {} {} {}", program.ino(), program.len(), program.mtime(), program.mtime_nsec()),
        format!("{place}\n{}", file.display()),
        format!("{selection:?}"),
        kinds.collect(),
        Digest::of(text.as_bytes()).to_string(),
    ];
    Some((place, Digest::of(made_from.join("\n\n").as_bytes())))
}

#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    name: Cow<'a, str>,
    sources: Vec<KeptSource<'a>>,
    goals: Cow<'a, [StepId]>,
    from: Cow<'a, [StepId]>,
    publish: Cow<'a, [Publication]>,
    skips: Cow<'a, [Skip]>,
    replicates: Cow<'a, [String]>,
    #[serde(borrow)]
    pieces: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct KeptSource<'a> {
    name: Cow<'a, str>,
    path: Cow<'a, Path>,
    written: Cow<'a, str>,
    span: Range<usize>,
}

#[derive(Serialize, Deserialize)]
struct KeptStep<'a> {
    address: Cow<'a, Address>,
    kind: Cow<'a, str>,
    params: Cow<'a, str>,
    axes: Cow<'a, BTreeMap<String, String>>,
    code: Cow<'a, Option<String>>,
    inputs: Cow<'a, BTreeMap<String, Input>>,
    outputs: Cow<'a, [Output]>,
    salt: Cow<'a, Option<String>>,
    run: Cow<'a, RunSettings>,
    span: Range<usize>,
}

/// `None` of a graph that is not kept.
fn encode(graph: &Graph) -> Option<Vec<u8>> {
    if graph.steps.len() < WORTH_KEEPING || !graph.warnings.is_empty() || graph.growing.is_some() {
        return None;
    }
    let sources = graph.sources.iter().map(KeptSource::new).collect::<Option<_>>()?;
    let pieces = graph.steps.par_chunks(PIECE).map(|steps| {
        let steps: Vec<KeptStep<'_>> = steps.iter().map(KeptStep::new).collect();
        postcard::to_stdvec(&steps).ok()
    });
    let pieces: Vec<Vec<u8>> = pieces.collect::<Option<_>>()?;
    let Graph { name, goals, from, publish, skips, replicates, file: _, steps: _, sources: _, growing: _, warnings: _ } =
        graph;
    let kept = Kept {
        name: Cow::Borrowed(name),
        sources,
        goals: Cow::Borrowed(goals),
        from: Cow::Borrowed(from),
        publish: Cow::Borrowed(publish),
        skips: Cow::Borrowed(skips),
        replicates: Cow::Borrowed(replicates),
        pieces: pieces.iter().map(Vec::as_slice).collect(),
    };
    postcard::to_stdvec(&kept).ok()
}

/// `None` of bytes that are no graph of this program, and where a source is missing: loading the file says so.
fn decode(bytes: &[u8], file: &Path, registry: &Registry) -> Option<Graph> {
    let kept: Kept<'_> = postcard::from_bytes(bytes).ok()?;
    let sources: Vec<Source> = kept.sources.into_iter().map(KeptSource::source).collect();
    let there = |source: &Source| source.place.watched().is_some_and(Path::exists);
    if !sources.par_iter().with_min_len(64).all(there) {
        return None;
    }
    let steps = kept.pieces.par_iter().map(|piece| {
        let steps: Vec<KeptStep<'_>> = postcard::from_bytes(piece).ok()?;
        steps.into_iter().map(|step| step.step(registry)).collect::<Option<Vec<Step>>>()
    });
    Some(Graph {
        name: kept.name.into_owned(),
        file: file.to_path_buf(),
        steps: steps.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect(),
        sources,
        goals: kept.goals.into_owned(),
        from: kept.from.into_owned(),
        publish: kept.publish.into_owned(),
        skips: kept.skips.into_owned(),
        replicates: kept.replicates.into_owned(),
        growing: None,
        warnings: Vec::new(),
    })
}

impl<'a> KeptSource<'a> {
    /// `None` of what is no plain path.
    fn new(source: &'a Source) -> Option<Self> {
        let Source { name, place: Place::Path(path), written, include, sha256: None, secret: None, span } = source
        else {
            return None;
        };
        let (name, path, written) =
            (Cow::Borrowed(&name[..]), Cow::Borrowed(path.as_path()), Cow::Borrowed(&written[..]));
        include.is_everything().then(|| Self { name, path, written, span: span.clone() })
    }

    fn source(self) -> Source {
        Source {
            name: self.name.into_owned(),
            place: Place::Path(self.path.into_owned()),
            written: self.written.into_owned(),
            include: Include::default(),
            sha256: None,
            secret: None,
            span: self.span,
        }
    }
}

impl<'a> KeptStep<'a> {
    fn new(step: &'a Step) -> Self {
        let Step { address, kind, params, axes, code, inputs, outputs, salt, run, span } = step;
        Self {
            address: Cow::Borrowed(address),
            kind: Cow::Borrowed(kind.declaration().kind),
            params: Cow::Owned(params.canonical()),
            axes: Cow::Borrowed(axes),
            code: Cow::Borrowed(code),
            inputs: Cow::Borrowed(inputs),
            outputs: Cow::Borrowed(outputs),
            salt: Cow::Borrowed(salt),
            run: Cow::Borrowed(run),
            span: span.clone(),
        }
    }

    fn step(self, registry: &Registry) -> Option<Step> {
        Some(Step {
            address: self.address.into_owned(),
            kind: registry.find(&self.kind).map(Arc::clone)?,
            params: Value::parse(&self.params).ok()?,
            axes: Arc::new(self.axes.into_owned()),
            code: self.code.into_owned(),
            inputs: self.inputs.into_owned(),
            outputs: self.outputs.into_owned(),
            salt: self.salt.into_owned(),
            run: self.run.into_owned(),
            span: self.span,
        })
    }
}

#[cfg(test)]
mod tests {
    use plumb_cache::StoreOptions;

    use super::*;
    use crate::pipeline::fake_kinds::registry;
    use crate::pipeline::parse_text;

    const HEAD: &str = r#"
schema = 1
[pipeline]
name = "many"
goal = ["s1@rate=b"]
publish = { "out/x" = "s1.o" }
[axes]
rate = ["a", "b", "c"]
size = ["s", "l"]
seed = { replicate = 2 }
[[plan]]
mode = "cross"
skip = [{ rate = "c", size = "l" }]
[source.raw]
path = "raw.txt"
[stage.made]
uses = "data.make"
inputs.raw = "source.raw"
with = { rows = 12, seed = { axis = "seed" } }
[stage.trained]
uses = "model.train"
inputs.pairs = "made.pairs"
with = { steps = 3, learning_rate = 1e-5, penalty = { wrong = -0.5, long = [0.25, 1.0] } }
[stage.all]
uses = "stats.table"
inputs.items = { all = "s4.o", over = ["rate"] }
"#;

    /// Some of all that a graph may hold, with so many stages in a chain.
    fn many(count: usize) -> String {
        let stage = |number: usize| {
            let input = if number == 0 { "trained.model".into() } else { format!("s{}.o", number - 1) };
            format!(
                r#"[stage.s{number}]
uses = "command"
inputs.one = "{input}"
outputs = {{ o = "o.txt" }}
salt = "x"
with = {{ argv = ["echo", {{ axis = "rate" }}, {{ axis = "size" }}, "{{in:one}}", "{{out:o}}"] }}
run = {{ mem = "1GiB", time = "1h", secrets = ["TOKEN"], retry = {{ max = 2, on = ["oom"] }} }}
"#
            )
        };
        HEAD.to_owned() + &(0..count).map(stage).collect::<String>()
    }

    struct Place {
        folder: tempfile::TempDir,
        store: Store,
        file: std::path::PathBuf,
    }

    fn place(text: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cache"), StoreOptions::default()).unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(folder.path().join("raw.txt"), "raw").unwrap();
        Place { folder, store, file }
    }

    impl Place {
        fn load(&self) -> Result<Graph, Diagnostics> {
            load_kept(&self.file, &registry(), &Selection::default(), &self.store)
        }

        /// What a look into the cache alone gives.
        fn kept(&self) -> Option<Graph> {
            let text = std::fs::read_to_string(&self.file).unwrap();
            let (place, key) = key(&self.file, &text, &registry(), &Selection::default()).unwrap();
            decode(self.store.memo(MEMO, &place)?.strip_prefix(key.as_bytes())?, &self.file, &registry())
        }
    }

    #[test]
    fn what_is_read_is_what_was_made() {
        let place = place(&many(60));
        let text = std::fs::read_to_string(&place.file).unwrap();
        let made = parse_text(&place.file, &text, &registry(), &Selection::default()).unwrap();
        assert!(made.steps.len() > 200 && !made.publish.is_empty() && !made.skips.is_empty());
        assert!(place.kept().is_none());
        place.load().unwrap();
        let kept = place.kept().unwrap();
        assert_eq!(encode(&kept).unwrap(), encode(&made).unwrap());
        assert_eq!(encode(&place.load().unwrap()).unwrap(), encode(&made).unwrap());
        for (kept, made) in kept.steps.iter().zip(&made.steps) {
            assert_eq!((&kept.params, &kept.run, &kept.inputs), (&made.params, &made.run, &made.inputs));
        }
    }

    #[test]
    fn all_that_steps_are_made_from_is_in_the_key() {
        let place = place(&many(60));
        let text = many(60);
        let of = |file: &Path, text: &str, registry: &Registry, selection: &Selection| {
            key(file, text, registry, selection).unwrap().1
        };
        let selection = Selection::default();
        let usual = of(&place.file, &text, &registry(), &selection);
        assert_eq!(usual, of(&place.file, &text, &registry(), &selection));
        let other = Selection { set: vec![("x".into(), "1".into())], ..Selection::default() };
        let others = [
            of(&place.file, &many(61), &registry(), &selection),
            of(&place.folder.path().join("q.toml"), &text, &registry(), &selection),
            of(&place.file, &text, &Registry::default(), &selection),
            of(&place.file, &text, &registry(), &other),
        ];
        assert!(!others.contains(&usual));
    }

    #[test]
    fn a_source_that_is_gone_is_told_as_ever() {
        let place = place(&many(60));
        place.load().unwrap();
        std::fs::remove_file(place.folder.path().join("raw.txt")).unwrap();
        assert!(place.kept().is_none());
        let told = place.load().err().unwrap().render();
        assert!(told.contains("raw.txt"), "{told}");
    }

    #[test]
    fn what_is_small_or_out_of_the_ordinary_is_not_kept() {
        let unused = format!("{}[source.idle]\npath = \"raw.txt\"\n", many(60));
        let fetched = many(60).replace("path = \"raw.txt\"", "url = \"https://example.org/raw.txt\"");
        let growing = many(60).replace("{ replicate = 2 }", "{ replicate = 2, until = \"width(f) < 1\", max = 3 }");
        let growing = growing.replace("o = \"o.txt\"", "o = \"metrics.json\"");
        for text in [many(5), unused, fetched, growing] {
            let place = place(&text);
            place.load().unwrap_or_else(|told| panic!("{}", told.render()));
            assert!(place.kept().is_none(), "{text}");
        }
    }
}
