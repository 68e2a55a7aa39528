//! `plumb watch`: runs what is missing, and again after each change of the pipeline file, a source or a listed file.
//! A change while steps run is told at once: steps that it touches are stopped, the others go on to their end, and then
//! the rest is planned anew. A pipeline that is wrong is told, and watching goes on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use plumb_cache::RecipeKey;
use plumb_engine::courier::{Courier, Parting};
use plumb_engine::error::EngineError;
use plumb_engine::execute::Stop;
use plumb_engine::graph::Graph;
use plumb_engine::plan;
use plumb_engine::source::lock::LockFile;
use serde::Serialize;

use crate::allowance::AllowanceArgs;
use crate::args::{Form, Pipeline, RunArgs};
use crate::choice::Choice;
use crate::context::Context;
use crate::display::Manner;
use crate::exit::Exit;
use crate::resources::ResourceArgs;
use crate::run;
use crate::signals::Requests;
use crate::trouble::Trouble;

/// Help after the options.
pub const EXAMPLES: &str = "\
Examples:
  plumb watch r-align.toml                  run, and again after each change
  plumb watch r-align.toml score --json     only this stage and what it needs; one event a line

Watched are the pipeline file, its sources and the files under `with.files`. After a change while steps run
nothing new starts: running steps that it touches are stopped, the others go on to their end, and then the
rest is planned anew. A pipeline that is wrong stops nothing and is told. Ctrl-C ends it. Changes that another
machine makes on a network file system are not seen.";

/// `plumb watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Steps to build [default: the pipeline's goal]
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// What each run may use.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// When a step fails, go on with the steps that do not need it
    #[arg(short, long)]
    pub keep_going: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// So long nothing must change until a change is taken up: editors and copies write in several goes.
const QUIET: Duration = Duration::from_millis(200);

/// What is said beside the events of the runs.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
enum Told<'a> {
    /// Waits for a change of one of these.
    Watching { paths: &'a BTreeSet<PathBuf> },
    /// These have changed.
    Changed {
        paths: &'a BTreeSet<PathBuf>,
        /// What becomes of the steps that run; `None` where none does.
        #[serde(skip_serializing_if = "Option::is_none")]
        running: Option<Fate>,
    },
    /// The pipeline cannot be planned or run.
    Wrong { message: String },
}

/// What a change means for the steps that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    /// Those that it touches are stopped, the others go on; then the rest is planned anew.
    Sorted,
    /// It touches none of them, or the pipeline is wrong now: it is taken up when they are done.
    GoOn,
}

/// What wakes a watch.
enum Wake {
    Changed(PathBuf),
    /// The steps are done.
    Over,
    /// Ctrl-C, a request to terminate, or the end of the terminal.
    Asked,
}

impl Wake {
    /// A request to end, while what is under way is finished; `false` once that is over.
    fn hurries(&self, stop: &Stop) -> bool {
        if matches!(self, Wake::Asked) {
            stop.ask();
            stop.ask();
        }
        !matches!(self, Wake::Over)
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &WatchArgs) -> Result<Exit, Trouble> {
    let (send, wakes) = mpsc::channel();
    let cache = absolute(context.store()?.root());
    let mut watch = Watch::new(&args.pipeline.file, cache, send.clone())?;
    listen(send.clone())?;
    let mut wakes = Wakes { send, receive: wakes };
    let courier = context.courier(&args.pipeline.file)?;
    let ended = watching(context, args, &mut watch, &mut wakes, courier.as_ref());
    if let Some(courier) = &courier {
        let manner = if args.form.json { Manner::Json } else { Manner::People };
        let (stop, over, wakes) = (&Stop::default(), wakes.send.clone(), &mut wakes);
        std::thread::scope(|scope| {
            // The first request has ended the watch: another one ends what is under way too.
            scope.spawn(move || while wakes.receive.recv().is_ok_and(|wake| wake.hurries(stop)) {});
            run::leave(context, courier, manner, stop);
            drop(over.send(Wake::Over));
        });
    }
    ended
}

fn watching(
    context: &Context,
    args: &WatchArgs,
    watch: &mut Watch,
    wakes: &mut Wakes,
    courier: Option<&Courier>,
) -> Result<Exit, Trouble> {
    loop {
        let Some(meanwhile) = once(context, args, watch, wakes, courier)? else { return Ok(Exit::Stopped) };
        if meanwhile == Meanwhile::Changed {
            continue;
        }
        tell(context, args, &Told::Watching { paths: &watch.paths });
        let Next::Changed(changed) = wakes.next(&watch.paths) else { return Ok(Exit::Stopped) };
        tell(context, args, &Told::Changed { paths: &changed, running: None });
    }
}

/// Whether anything has changed while steps ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Changed,
    Nothing,
}

/// Loads and runs; what is wrong with the pipeline or its sources is told and survived. `None`: it shall end.
fn once(
    context: &Context,
    args: &WatchArgs,
    watch: &mut Watch,
    wakes: &mut Wakes,
    courier: Option<&Courier>,
) -> Result<Option<Meanwhile>, Trouble> {
    let asked = RunArgs {
        pipeline: args.pipeline.clone(),
        choice: Choice { steps: args.steps.clone(), ..Choice::default() },
        resources: args.resources.clone(),
        allowance: AllowanceArgs::default(),
        keep_going: args.keep_going,
        detach: false,
        detached: false,
        verbose: false,
        form: args.form,
    };
    let stop = Stop::default();
    let (ran, meanwhile) = std::thread::scope(|scope| {
        let over = wakes.send.clone();
        let followed = context.load(&args.pipeline, &args.steps).and_then(|graph| watch.follow(&graph));
        let (paths, stop) = (&watch.paths, &stop);
        let mind = scope.spawn(move || mind(context, args, wakes, paths, stop));
        let ran = followed
            .and_then(|()| run::run_until(context, &asked, stop, courier.map(|courier| (courier, Parting::Stay))));
        // Its receiver outlives this scope.
        drop(over.send(Wake::Over));
        (ran, mind.join())
    });
    let meanwhile = meanwhile.map_err(|_| EngineError::Bug("the watch ended before the run".into()))?;
    match ran {
        Err(trouble) if trouble.exit() == Exit::Wrong => {
            if args.form.json {
                tell(context, args, &Told::Wrong { message: trouble.to_string() });
            } else {
                trouble.tell(&context.printer);
            }
        }
        Err(trouble) => return Err(trouble),
        Ok(Exit::Stopped) if !stop.is_superseded() => return Ok(None),
        Ok(_) => {}
    }
    Ok(meanwhile.filter(|_| !stop.is_asked()))
}

/// While steps run: takes up changes, and says at once what they mean. `None`: the watch shall end.
fn mind(
    context: &Context,
    args: &WatchArgs,
    wakes: &Wakes,
    paths: &BTreeSet<PathBuf>,
    stop: &Stop,
) -> Option<Meanwhile> {
    let mut meanwhile = Meanwhile::Nothing;
    loop {
        match wakes.next(paths) {
            Next::Changed(changed) => {
                meanwhile = Meanwhile::Changed;
                let superseded = wanted(context, args).is_ok_and(|recipes| stop.supersede(recipes));
                let running = Some(if superseded { Fate::Sorted } else { Fate::GoOn });
                tell(context, args, &Told::Changed { paths: &changed, running });
            }
            Next::Over(changed) if changed => return Some(Meanwhile::Changed),
            Next::Over(_) => return Some(meanwhile),
            Next::Asked => {
                // The run hears the signal too, unless that came before the run listened.
                let over = matches!(wakes.receive.recv_timeout(QUIET), Ok(Wake::Over));
                if !over && !stop.is_asked() {
                    stop.ask();
                }
                return None;
            }
        }
    }
}

/// The recipes that the pipeline asks for now.
fn wanted(context: &Context, args: &WatchArgs) -> Result<BTreeSet<RecipeKey>, Trouble> {
    let graph = context.load(&args.pipeline, &args.steps)?;
    let facts = plan::facts(&graph, &context.store()?, &|_| {})?;
    Ok(facts.recipes())
}

fn tell(context: &Context, args: &WatchArgs, told: &Told<'_>) {
    if args.form.json {
        return context.printer.json_line(told);
    }
    match told {
        Told::Watching { paths } => {
            context.printer.note(&format!("watching {} paths; Ctrl-C ends it", paths.len()));
        }
        Told::Changed { paths, running } => {
            let listed: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            let means = match running {
                None => "",
                Some(Fate::Sorted) => "; running steps that this touches are stopped, the others go on, then the rest",
                Some(Fate::GoOn) => "; taken up when the running steps are done",
            };
            context.printer.note(&format!("changed: {}{means}", listed.join(", ")));
        }
        Told::Wrong { .. } => {}
    }
}

/// Where wakes come from.
struct Wakes {
    send: mpsc::Sender<Wake>,
    receive: Receiver<Wake>,
}

/// What comes next.
enum Next {
    /// These have changed, and it is quiet again.
    Changed(BTreeSet<PathBuf>),
    /// The steps are done; whether something had just changed.
    Over(bool),
    /// The watch shall end.
    Asked,
}

impl Wakes {
    /// Waits for changes of what is watched, until it is quiet.
    fn next(&self, paths: &BTreeSet<PathBuf>) -> Next {
        let mut changed = BTreeSet::new();
        loop {
            let wake = if changed.is_empty() {
                self.receive.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.receive.recv_timeout(QUIET)
            };
            match wake {
                Ok(Wake::Changed(path)) => {
                    changed.extend(paths.iter().find(|watched| path.starts_with(watched)).cloned());
                }
                Ok(Wake::Over) => return Next::Over(!changed.is_empty()),
                Err(RecvTimeoutError::Timeout) => return Next::Changed(changed),
                Ok(Wake::Asked) | Err(RecvTimeoutError::Disconnected) => return Next::Asked,
            }
        }
    }
}

/// The watched paths, and the system's watch on the folders that hold them: editors replace files by new ones, which
/// only the folder sees.
struct Watch {
    file: PathBuf,
    paths: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
    system: RecommendedWatcher,
}

impl Watch {
    /// What happens inside the cache is our own doing, wherever the cache is.
    fn new(file: &Path, cache: PathBuf, send: mpsc::Sender<Wake>) -> Result<Self, Trouble> {
        let heed = move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if !matches!(event.kind, EventKind::Access(_)) {
                let outside = event.paths.into_iter().filter(|path| !path.starts_with(&cache));
                // The receiver is gone only when the command is.
                outside.for_each(|path| drop(send.send(Wake::Changed(path))));
            }
        };
        let system = notify::recommended_watcher(heed).map_err(|error| unwatchable(file, &error))?;
        let mut watch = Self { file: absolute(file), paths: BTreeSet::new(), folders: BTreeSet::new(), system };
        watch.add(&absolute(file))?;
        Ok(watch)
    }

    /// Watches what this graph reads from outside, and no longer what an earlier one read.
    fn follow(&mut self, graph: &Graph) -> Result<(), Trouble> {
        self.paths = BTreeSet::from([self.file.clone()]);
        let folder = absolute(&graph.file).parent().map(Path::to_owned).unwrap_or_default();
        let listed = graph.steps.iter().flat_map(|step| step.kind.observes(&step.params).files);
        let listed: BTreeSet<PathBuf> = listed.map(|name| folder.join(name)).collect();
        let sources = graph.sources.iter().filter_map(|source| source.place.watched().map(absolute));
        for path in sources.chain(listed).chain([LockFile::place(&self.file)]) {
            self.add(&path)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<(), Trouble> {
        self.paths.insert(path.to_owned());
        let mut watch = |folder: &Path, how| match self.folders.insert(folder.to_owned()) {
            true => self.system.watch(folder, how).map_err(|error| unwatchable(folder, &error)),
            false => Ok(()),
        };
        if path.is_dir() {
            watch(path, RecursiveMode::Recursive)?;
        }
        // What is not there yet may come.
        match path.ancestors().skip(1).find(|folder| folder.is_dir()) {
            Some(folder) => watch(folder, RecursiveMode::NonRecursive),
            None => Ok(()),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // The system tells real paths; a file that is not there yet has a real folder.
    let real =
        path.parent().zip(path.file_name()).and_then(|(folder, name)| Some(folder.canonicalize().ok()?.join(name)));
    real.unwrap_or(path)
}

fn unwatchable(path: &Path, error: &notify::Error) -> Trouble {
    let hint = "raise `fs.inotify.max_user_watches` if the system has run out of watches";
    Trouble::failed(format!("`{}` cannot be watched: {error}", path.display()), hint)
}

/// Wakes the watch at each request to end; while steps run, the run heeds it as well.
fn listen(send: mpsc::Sender<Wake>) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| Trouble::failed(format!("signals cannot be caught: {error}"), "try again");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let serve = move || {
        runtime.block_on(async {
            let Ok(mut requests) = Requests::catch() else { return };
            loop {
                requests.next().await;
                if send.send(Wake::Asked).is_err() {
                    return;
                }
            }
        });
    };
    std::thread::spawn(serve);
    Ok(())
}
